"""Links: one-way connections between two workers of a host. The connecting end sends, the other end reads.

Owns: the sending and the reading end, and the listening socket.
Elsewhere: the frames (bus.local.frames); the queue (bus.write_buffer); who the peers are and what frames mean
(bus.local.peers).
Fails: a publish that does not fit in the queue is dropped, and a GAP frame follows when the queue has drained. A
control frame is never dropped: if control frames pile up too, the link is cut, and made again later. A peer that sends
invalid frames is refused: its link is closed and an error logged.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from chatd import log
from chatd.bus.contract import OnMessage
from chatd.bus.local.frames import HEADER, MAX_BODY_BYTES, FrameKind, frame
from chatd.bus.write_buffer import WriteBuffer

_CREDENTIALS = struct.Struct("=iII")
"""The kernel's struct ucred: pid, uid, gid."""
_PUBLISH = int(FrameKind.PUBLISH)
_GAP = frame(FrameKind.GAP, 0)

logger = log.get()


class OutgoingLink(WriteBuffer):
    """The sending end. on_lost is called once, from the loop, when the link has ended for any reason."""

    def __init__(self, limit_bytes: int, on_lost: Callable[[OutgoingLink], None]) -> None:
        super().__init__(min(limit_bytes, MAX_BODY_BYTES))
        self._on_lost = on_lost
        self._lost: asyncio.Future[None] = self._loop.create_future()

    def publish(self, framed: bytes) -> None:
        """Queue a PUBLISH frame, or drop it. Once one is dropped, all are until the queue has drained: the peer misses
        one contiguous run, and the GAP frame takes its place."""
        size = len(framed)
        if self.gap or self._bytes + size > self._room:
            self.gap = True
        else:
            self._queue.append(framed)
            self._bytes += size
        if not self._flush_scheduled:
            self._schedule_flush()

    def _write(self, transport: asyncio.WriteTransport, last: bytes = b"") -> None:
        if self.gap:
            self.gap = False
            self._queue.append(_GAP)
        self._queue.append(last)
        if data := self._take_queue():
            transport.write(data)

    def _on_overflow(self) -> None:
        self.abort()

    def finish(self, last: bytes) -> asyncio.Future[None]:
        """Send the queue and `last`, then close. Done when the kernel has everything. Nothing can be sent
        afterwards."""
        if self._transport is not None and not self._transport.is_closing():
            self._write(self._transport, last)
            self._transport.close()
        return self._lost

    def abort(self) -> None:
        """Close at once, without sending what is queued."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._lost.done():
            self._lost.set_result(None)
        self._on_lost(self)


class LinkListener(Protocol):
    """Called by an IncomingLink, in the order in which the peer sent. PUBLISH frames have a separate callback."""

    def link_opened(self, link: IncomingLink) -> None: ...

    def link_refused(self, what: str) -> None:
        """The other end is a process of another user; nothing of it was read, nor will be."""
        ...

    def control_frame(self, link: IncomingLink, kind: int, number: int, body: bytes) -> None: ...

    def read_done(self, link: IncomingLink) -> None:
        """All frames of one read from the socket have been handed over."""
        ...

    def link_closed(self, link: IncomingLink) -> None: ...


class IncomingLink(asyncio.Protocol):
    """The reading end. on_publish gets the topic and data of every PUBLISH frame; it must not raise."""

    def __init__(self, listener: LinkListener, on_publish: OnMessage) -> None:
        self._listener = listener
        self._on_publish = on_publish
        self._rest = bytearray()
        """The beginning of a frame that is not complete."""
        self._need = 0
        """Length that `_rest` must reach before the next header or frame is complete."""
        self._closed = False
        self.transport: asyncio.Transport | None = None
        """None before and after the connection."""

    def close(self) -> None:
        """Read no further. link_closed is called on a later turn of the loop."""
        self._closed = True
        if self.transport is not None:
            self.transport.close()

    def refuse(self, why: str) -> None:
        """Close because of what the peer sent: it has a bug, or another version."""
        logger.error("bus: refused the connection of another worker", why=why)
        self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's are not subclasses
        if is_ours(transport):
            self._listener.link_opened(self)
        else:
            self._closed = True
            transport.abort()  # type: ignore[attr-defined]
            self._listener.link_refused("a connection")

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._listener.link_closed(self)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest = bytearray()
        at, end = 0, len(data)
        on_publish = self._on_publish
        unpack, header = HEADER.unpack_from, HEADER.size
        while end - at >= header:
            size, kind, number = unpack(data, at)
            start = at + header
            stop = start + size
            if stop > end:
                if size > MAX_BODY_BYTES:
                    self.refuse(f"a frame of {size} bytes")
                    return
                break
            if kind == _PUBLISH:
                on_publish(number, data[start:stop])
            else:
                self._listener.control_frame(self, kind, number, data[start:stop])
                if self._closed:
                    return
            at = stop
        if at < end:
            self._rest += memoryview(data)[at:]
            self._need = header if end - at < header else stop - at
        self._listener.read_done(self)


def is_ours(transport: asyncio.BaseTransport) -> bool:
    """Whether the process at the other end of a Unix socket runs as our user, or as root."""
    sock = transport.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return uid in (0, os.geteuid())


def listen(path: Path) -> socket.socket:
    """A listening socket at `path` that only our user may connect to. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        os.fchmod(listener.fileno(), 0o600)  # of the file that bind() makes: a name could be another file's by now
        listener.bind(str(path))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener
