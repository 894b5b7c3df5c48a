"""One TCP connection to the server: frames in, bytes out.

Owns: the socket and its options, splitting on NUL.
Elsewhere: the meaning of a frame (frames), when to connect again (session).
Fails: OSError from open and frames; the connection is then of no further use.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import msgspec

from chatd.client.frames import MAX_FRAME_BYTES

READ_BYTES = 65536
KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""This wire has no heartbeat: the kernel finds out that the other side is gone, after 30 s."""
UNANSWERED_MS = 20_000
"""Bytes the server's kernel does not acknowledge for this long end the connection."""


class ServerAddress(msgspec.Struct, frozen=True):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> ServerAddress:
    """HOST:PORT or [IPV6]:PORT. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 65536:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return ServerAddress(host, int(port))


class ServerConnection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: ServerAddress, timeout_s: float) -> ServerConnection:
        """Raises OSError (a TimeoutError is one)."""
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(address.host, address.port, happy_eyeballs_delay=0.25)
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
        """Say that nothing more comes; the server answers what it has and closes."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def abort(self) -> None:
        self._writer.transport.abort()
