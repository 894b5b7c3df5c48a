"""Where a server is, and how it is reached.

Owns: ServerAddress, reading one from a URL or from HOST:PORT, and the TLS that it stands for.
Elsewhere: connecting (stream_link, websocket_link).
Fails: ValueError for a text that is no address; OSError for a file of authorities that cannot be used.
"""

from __future__ import annotations

import os
import ssl
import urllib.parse

import msgspec

TLS_SCHEME = "tls://"
DEFAULT_PORTS = {"tcp": 8901, "tls": 8901, "ws": 3000, "wss": 3000}
"""Of the mobileimsdk wire, by the schemes that there are."""
DEFAULT_PATH = "/websocket"


class ServerAddress(msgspec.Struct, frozen=True):
    """tls: the connection is encrypted, and the server must prove to be `host`. authorities: file of the certificates
    that may have signed the server's, "" = those of this system. path: of a WebSocket, "" = a plain stream."""

    host: str
    port: int
    tls: bool = False
    authorities: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Of a WebSocket."""
        return f"{'wss' if self.tls else 'ws'}://{self}{self.path}"

    @property
    def origin(self) -> str:
        """Of the web server that has the WebSocket; "" = it is a plain stream."""
        return f"{'https' if self.tls else 'http'}://{self}" if self.path else ""


def parse_url(url: str) -> ServerAddress:
    """tcp://HOST:PORT, tls://HOST:PORT, ws://HOST:PORT/PATH or wss://HOST:PORT/PATH; without a port or a path, those of
    a stock server. Raises ValueError."""
    allowed = ", ".join(f"{scheme}://" for scheme in DEFAULT_PORTS)
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError(f"{url!r} is not the address of a server: it begins with one of {allowed}")
    web = parts.scheme in ("ws", "wss")
    if parts.username is not None or parts.fragment or (not web and (parts.path.strip("/") or parts.query)):
        raise ValueError(f"{url!r} is more than the address of a server: {parts.scheme}://HOST:PORT")
    try:
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not parts.hostname or not port:
        raise ValueError(f"{url!r} has no host, or its port is not a number from 1 to 65535")
    query = f"?{parts.query}" if parts.query else ""
    path = (parts.path if parts.path not in ("", "/") else DEFAULT_PATH) + query if web else ""
    return ServerAddress(parts.hostname, port, parts.scheme in ("tls", "wss"), path=path)


def parse_address(text: str) -> ServerAddress:
    """HOST:PORT or [IPV6]:PORT, with TLS_SCHEME before it for TLS. Raises ValueError."""
    host, colon, port = text.removeprefix(TLS_SCHEME).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 65536:
        raise ValueError(f"{text!r} is not HOST:PORT or {TLS_SCHEME}HOST:PORT")
    return ServerAddress(host, int(port), text.startswith(TLS_SCHEME))


def make_context(address: ServerAddress) -> ssl.SSLContext | None:
    """None = without TLS. Raises OSError for a file of authorities that cannot be used."""
    if not address.tls:
        return None
    if address.authorities and not os.path.exists(address.authorities):
        raise FileNotFoundError(2, "no such file", address.authorities)
    try:
        context = ssl.create_default_context(cafile=address.authorities or None)
    except ssl.SSLError:
        raise OSError(f"{address.authorities} has no certificate in PEM") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
