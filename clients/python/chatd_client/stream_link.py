"""A connection over TCP or TLS: a stream that is cut into frames.

Owns: the socket and its options, TLS, and the two ways in which frames are kept apart.
Elsewhere: the meaning of a frame (packets, chatserver.frames).
Fails: OSError from open and frames; the connection is then of no further use. Untrusted from open: the server could
not prove that it is the one asked for, and nothing was sent to it. BadFrame from frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec

from chatd_client.address import ServerAddress, make_context
from chatd_client.errors import BadFrame
from chatd_client.link import MAX_FRAME_BYTES, MAX_UNSENT_BYTES, untrusted

READ_BYTES = 65536
KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 20_000))
"""Seconds, a number of probes, milliseconds: the kernel finds out that the other side is gone within 30 s, and ends the
connection when bytes are not acknowledged for 20 s. Systems that do not have an option go without."""

_length = struct.Struct(">I")


class Framing(Protocol):
    """Keeps frames apart. Holds the bytes of an incomplete one."""

    def wrap(self, frame: bytes) -> bytes: ...

    def split(self, data: bytes) -> list[bytes]:
        """The frames that are complete now. Raises BadFrame."""
        ...


class NulFraming:
    """A NUL follows each frame (the chatserver wire)."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def wrap(self, frame: bytes) -> bytes:
        return frame + b"\0"

    def split(self, data: bytes) -> list[bytes]:
        if 0 not in data:
            self._rest += data
            if len(self._rest) > MAX_FRAME_BYTES:
                raise BadFrame("the server sent a frame without an end")
            return []
        first, *frames = data.split(b"\0")
        frames.insert(0, bytes(self._rest) + first)
        self._rest = bytearray(frames.pop())
        return [frame for frame in frames if frame]


class LengthFraming:
    """Its length precedes each frame: four bytes, big-endian (the mobileimsdk wire)."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def wrap(self, frame: bytes) -> bytes:
        return _length.pack(len(frame)) + frame

    def split(self, data: bytes) -> list[bytes]:
        rest = self._rest
        rest += data
        frames, at = [], 0
        while len(rest) - at >= _length.size:
            size = _length.unpack_from(rest, at)[0]
            if not 0 < size <= MAX_FRAME_BYTES:
                raise BadFrame(f"a packet of {size} bytes")
            stop = at + _length.size + size
            if stop > len(rest):
                break
            frames.append(bytes(rest[at + _length.size : stop]))
            at = stop
        del rest[:at]
        return frames


class StreamRoute(msgspec.Struct, frozen=True, kw_only=True):
    """How to connect. context: None = by the address; option: how a person names certificates to trust."""

    address: ServerAddress
    timeout_s: float
    context: ssl.SSLContext | None = None
    option: str = "Options(ca=…)"


class StreamLink:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, framing: Framing) -> None:
        self._reader = reader
        self._writer = writer
        self._framing = framing

    @classmethod
    async def open(cls, route: StreamRoute, framing: Framing) -> StreamLink:
        """Raises Untrusted, OSError (a TimeoutError is one)."""
        address = route.address
        context = route.context if address.tls and route.context else make_context(address)
        try:
            async with asyncio.timeout(route.timeout_s):
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, ssl=context, **_addresses_at_once()
                )
        except ssl.SSLCertVerificationError as error:
            raise untrusted(error, address, route.option) from None
        except ssl.SSLError as error:
            raise OSError(f"no TLS with this server: {error.reason or 'it closed the connection'}") from None
        set_options(writer.get_extra_info("socket"))
        return cls(reader, writer, framing)

    async def frames(self) -> AsyncIterator[bytes]:
        """See Link. Reads everything at once: for a server whose client does not acknowledge, a message is delivered
        when our kernel has it."""
        while data := await self._read():
            for frame in self._framing.split(data):
                yield frame

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except RuntimeError:  # uvloop, which does not resume a transport that was closed while it paused
            if not self._writer.transport.is_closing():
                raise
            raise ConnectionAbortedError("the connection broke") from None

    def send(self, frame: bytes) -> None:
        if self._writer.transport.is_closing():
            return
        self._writer.write(self._framing.wrap(frame))
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.abort()

    def finish(self) -> None:
        """TLS has no half-closed connection: there it is closed, after everything written."""
        if self._writer.transport.is_closing():
            return
        with contextlib.suppress(OSError):
            if self._writer.can_write_eof():
                self._writer.write_eof()
            else:
                self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()


def _addresses_at_once() -> dict[str, Any]:
    """Try the addresses of a name beside each other; not every loop can do that (uvloop)."""
    return {"happy_eyeballs_delay": 0.25} if isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop) else {}


def set_options(sock: socket.socket) -> None:
    """Of every connection, whatever runs over it. Raises ConnectionAbortedError if it was closed meanwhile."""
    try:
        _set_options(sock)
    except (OSError, RuntimeError):  # the latter from uvloop
        raise ConnectionAbortedError("the connection was closed at once") from None


def _set_options(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
