"""The HTTP request with which a WebSocket begins, and the answer to it.

Owns: UpgradePolicy, what a listener requires of a request (path, Origin, subprotocol), is_same_host(), and the answers
to every other HTTP request.
Elsewhere: frames (net.websocket.frames), limits of time and size (net.websocket.connection).
Fails: never. A request that is not accepted is answered with a short HTTP error, after which the connection closes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

MAX_REQUEST_BYTES = 8192
SUBPROTOCOL = Subprotocol("mobileimsdk")
END_OF_REQUEST = b"\r\n\r\n"
ANY_ORIGIN = "*"

_NO_ORIGIN = None
"""In the library's list of origins: a request without one."""
_SHOWN_CHARS = 200


class HandshakeAnswer(NamedTuple):
    """data: the whole HTTP response. accepted: frames follow it; otherwise the connection is to be closed.
    refused_origin: the Origin, shortened for the log, if that is why the request was refused."""

    data: bytes
    accepted: bool
    refused_origin: str = ""


class _Handshake(ServerProtocol):
    """Given to ServerProtocol as an argument, select_subprotocol() would be part of a cycle of references."""

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """subprotocols: what the client offers."""
        if not subprotocols:
            return None
        if SUBPROTOCOL in subprotocols:
            return SUBPROTOCOL
        raise NegotiationError(f"the only subprotocol of this server is {SUBPROTOCOL}")


class UpgradePolicy:
    """One listener's. origins: pages whose scripts may connect, as in listen.origins. Only browsers name an origin;
    clients that name none are always accepted."""

    def __init__(self, path: str, origins: Sequence[str]) -> None:
        self._path = path
        self._origins = tuple(map(Origin, origins))

    def answer(self, request: bytes) -> HandshakeAnswer:
        """request: one complete request, END_OF_REQUEST included and nothing after it."""
        protocol = _Handshake(subprotocols=[SUBPROTOCOL])
        parser = protocol.parser
        try:
            return self._answer(protocol, request)
        finally:
            _break_cycles(protocol, [parser, protocol.parser])

    def _answer(self, protocol: ServerProtocol, request: bytes) -> HandshakeAnswer:
        protocol.receive_data(request)
        asked = next(iter(protocol.events_received()), None)
        if not isinstance(asked, Request):
            return refusal(HTTPStatus.BAD_REQUEST, "This is not an HTTP request.")
        if "Upgrade" not in asked.headers:
            return refusal(
                HTTPStatus.UPGRADE_REQUIRED, "Only WebSocket connections are accepted here.", "Upgrade: websocket"
            )
        if asked.path.partition("?")[0] != self._path:
            return refusal(HTTPStatus.NOT_FOUND, "Nothing is here.")
        protocol.origins = self._allowed(asked.headers)
        response: Response = protocol.accept(asked)
        accepted = response.status_code == HTTPStatus.SWITCHING_PROTOCOLS
        refused = "" if response.status_code != HTTPStatus.FORBIDDEN else ", ".join(asked.headers.get_all("Origin"))
        return HandshakeAnswer(response.serialize(), accepted, refused[:_SHOWN_CHARS])

    def _allowed(self, headers: Headers) -> list[Origin | None] | None:
        """The origins that this request may have; None = any."""
        if ANY_ORIGIN in self._origins:
            return None
        if self._origins:
            return [*self._origins, _NO_ORIGIN]
        named, hosts = headers.get_all("Origin"), headers.get_all("Host")
        if len(named) == 1 and len(hosts) == 1 and is_same_host(named[0], hosts[0]):
            return [Origin(named[0]), _NO_ORIGIN]
        return [_NO_ORIGIN]


def _break_cycles(protocol: ServerProtocol, parsers: Sequence[Generator[None]]) -> None:
    """What the protocol refers to refers to the protocol. Without cycles nothing is left for the garbage collector."""
    for parser in parsers:
        parser.close()
    failure: BaseException | None = protocol.handshake_exc
    protocol.handshake_exc = None
    while failure is not None:
        failure.__traceback__ = None
        failure = failure.__context__


def is_same_host(origin: str, host: str) -> bool:
    """Whether a page of this origin comes from the host that a request names in its Host header.

    Ports are not compared, because the pages of a chat are seldom served by the port of the chat. Origins that name no
    host ("null", file://), or are not web pages (extensions of browsers), are of no host.
    """
    try:
        page, asked = urlsplit(origin), urlsplit(f"//{host}")
        _ = page.port, asked.port  # raises ValueError for what is not a port
    except ValueError:
        return False
    is_bare = not (asked.path or asked.query or asked.fragment or asked.username is not None)
    return page.scheme in ("http", "https") and bool(page.hostname) and is_bare and page.hostname == asked.hostname


def refusal(status: HTTPStatus, text: str, *headers: str) -> HandshakeAnswer:
    """A response with one line of text."""
    body = f"{text}\n".encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Connection: close",
        "Content-Type: text/plain",
        f"Content-Length: {len(body)}",
        *headers,
        "",
        "",
    ]
    return HandshakeAnswer("\r\n".join(lines).encode() + body, False)
