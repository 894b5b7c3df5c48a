"""One connection to the server, TCP or TLS: frames in, bytes out.

Owns: the socket and its options, TLS and what its failures mean to a person, splitting on NUL.
Elsewhere: the meaning of a frame (frames), when to connect again (session).
Fails: OSError from open and frames; the connection is then of no further use. Untrusted from open: the server could
not prove that it is the one asked for, and nothing was sent to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator

import msgspec

from chatd.client.frames import MAX_FRAME_BYTES

READ_BYTES = 65536
KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""This wire has no heartbeat: the kernel finds out that the other side is gone, after 30 s."""
UNANSWERED_MS = 20_000
"""Bytes the server's kernel does not acknowledge for this long end the connection."""


class ServerAddress(msgspec.Struct, frozen=True):
    """tls: the connection is encrypted, and the server must prove to be `host`. authorities: file of the certificates
    that may have signed the server's, "" = those of this system."""

    host: str
    port: int
    tls: bool = False
    authorities: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


TLS_SCHEME = "tls://"


def parse_address(text: str) -> ServerAddress:
    """HOST:PORT or [IPV6]:PORT, with TLS_SCHEME before it for TLS. Raises ValueError."""
    host, colon, port = text.removeprefix(TLS_SCHEME).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 65536:
        raise ValueError(f"{text!r} is not HOST:PORT or {TLS_SCHEME}HOST:PORT")
    return ServerAddress(host, int(port), text.startswith(TLS_SCHEME))


class Untrusted(OSError):
    """The server's certificate does not prove that it is the server asked for. str() says what to do."""


def _reason(error: ssl.SSLCertVerificationError, address: ServerAddress) -> str:
    """By OpenSSL's codes of a failed verification (x509_vfy.h)."""
    match error.verify_code:
        case 10:
            return "its certificate has expired; its operator must renew it"
        case 9:
            return "its certificate is not valid yet; check the clock of this machine"
        case 18 | 19:
            return "its certificate is signed by itself; if it is the right one, name its file with --ca"
        case 20 | 21:
            return "its certificate is signed by an authority that this system does not know; name one with --ca"
        case 62 | 64:
            return f"its certificate is not for {address.host}; connect by the name that it is for"
    return f"its certificate is not accepted: {error.verify_message}"


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


class ServerConnection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: ServerAddress, timeout_s: float) -> ServerConnection:
        """Raises Untrusted, OSError (a TimeoutError is one)."""
        context = make_context(address)
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, happy_eyeballs_delay=0.25, ssl=context
                )
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(_reason(error, address)) from None
        except ssl.SSLError as error:
            raise OSError(f"no TLS with this server: {error.reason or 'it closed the connection'}") from None
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (*KEEPALIVE, (socket.TCP_USER_TIMEOUT, UNANSWERED_MS), (socket.TCP_NODELAY, 1)):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        return cls(reader, writer)

    async def frames(self) -> AsyncIterator[bytes]:
        """Frames without their NUL until the server closes. Raises OSError.

        Reads everything at once: for the server, a message is delivered when our kernel has it."""
        buffer = bytearray()
        while data := await self._reader.read(READ_BYTES):
            searched = len(buffer)
            buffer += data
            while (end := buffer.find(0, searched)) >= 0:
                frame = bytes(buffer[:end])
                del buffer[: end + 1]
                searched = 0
                if frame:
                    yield frame
            if len(buffer) > MAX_FRAME_BYTES:
                raise ConnectionAbortedError("the server sent a frame without an end")

    def send(self, data: bytes) -> None:
        """Never blocks. The callers bound what waits here: one message, and requests typed by hand."""
        self._writer.write(data)

    def finish(self) -> None:
        """Say that nothing more comes; the server answers what it has and closes. TLS has no half-closed connection:
        there the connection is closed, after everything written."""
        with contextlib.suppress(OSError):
            if self._writer.can_write_eof():
                self._writer.write_eof()
            else:
                self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()
