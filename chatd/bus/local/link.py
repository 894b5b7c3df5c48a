"""A one-way connection between two workers of a host: the connector sends, the other end reads.

Owns: the frames, and cutting a stream back into them.
Not here: the queue of what is to be sent (bus.write_buffer); who the peers are, subscriptions, when a gap is told
(bus.local.bus).
Fails: a publish that does not fit in the queue is dropped, and a GAP frame follows once the queue has drained.
A control frame is never dropped: where even those pile up, the link is cut and made anew when the peer is back.

A frame is HEADER (length of the body, kind, one number) and a body. Both ends are the same program on the
same host, so byte order and struct layout are the machine's.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from chatd import log
from chatd.bus.contract import Topic
from chatd.bus.write_buffer import WriteBuffer

HEADER = struct.Struct("=IBq")
MAX_BODY_BYTES = 16 * 1024 * 1024
TOPICS_PER_FRAME = 8192
VERSION = 1

logger = log.get()


class Kind(enum.IntEnum):
    """number and body of each frame."""

    HELLO = 1  # VERSION; the sender's name. First on every link
    SUBSCRIBE = 2  # batch, or 0 where more follow; topics, 8 bytes each
    SYNCED = 3  # batch; nothing. The whole set has been sent
    UNSUBSCRIBE = 4  # 0; topics
    CONFIRM = 5  # batch; nothing. Every subscription up to batch is in force here
    CONFIRM_LATE = 6  # as CONFIRM, and publishes may have started before it was in force
    PUBLISH = 7  # topic; data
    PING = 8  # 0; nothing
    GAP = 9  # 0; nothing. Publishes were dropped before this frame
    BYE = 10  # 0; nothing. The sender leaves, and everything it published came before


_PUBLISH = int(Kind.PUBLISH)


def frame(kind: int, number: int, body: bytes = b"") -> bytes:
    return HEADER.pack(len(body), kind, number) + body


_GAP = frame(Kind.GAP, 0)


class Link(WriteBuffer):
    """The sending end. Frames of one loop turn leave in one write."""

    def __init__(self, limit_bytes: int, on_lost: Callable[[Link], None]) -> None:
        super().__init__(min(limit_bytes, MAX_BODY_BYTES))
        self._on_lost = on_lost
        self._lost: asyncio.Future[None] = self._loop.create_future()

    def publish(self, data: bytes) -> None:
        """Queue a PUBLISH frame, or drop it: the first one dropped drops all until the queue has drained,
        so that what the peer sees has one hole, and the GAP is at its place."""
        size = len(data)
        if self.gap or self._bytes + size > self._room:
            self.gap = True
        else:
            self._queue.append(data)
            self._bytes += size
        if not self._armed:
            self._arm()

    def _write(self, transport: asyncio.WriteTransport, last: bytes = b"") -> None:
        if self.gap:
            self.gap = False
            self._queue.append(_GAP)
        self._queue.append(last)
        if data := self._take():
            transport.write(data)

    def _overflown(self) -> None:
        self.abort()

    def leave(self, data: bytes) -> asyncio.Future[None]:
        """Send what is queued and `data`, then close; done when the kernel has it all. Nothing can follow."""
        if self._transport is not None and not self._transport.is_closing():
            self._write(self._transport, data)
            self._transport.close()
        return self._lost

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._lost.done():
            self._lost.set_result(None)
        self._on_lost(self)


class Reader(Protocol):
    """What an Inbound calls. All in the order the frames were sent."""

    def began(self, inbound: Inbound) -> None: ...

    def deliver(self, topic: Topic, data: bytes) -> None: ...

    def heard(self, inbound: Inbound, kind: int, number: int, body: bytes) -> None: ...

    def caught_up(self, inbound: Inbound) -> None:
        """Every frame of one read was handed over."""
        ...

    def ended(self, inbound: Inbound) -> None: ...


class Inbound(asyncio.Protocol):
    """The reading end."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._rest = bytearray()
        self._need = 0
        self._closed = False
        self._transport: asyncio.BaseTransport | None = None

    def close(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.close()

    def refuse(self, why: str) -> None:
        """The peer is not what it should be (a bug, or another version): read no further."""
        logger.error("bus: a link is refused", why=why)
        self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._reader.began(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._reader.ended(self)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest = bytearray()
        at, end = 0, len(data)
        deliver = self._reader.deliver
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
                deliver(number, data[start:stop])
            else:
                self._reader.heard(self, kind, number, data[start:stop])
                if self._closed:
                    return
            at = stop
        if at < end:
            self._rest += memoryview(data)[at:]
            self._need = header if end - at < header else stop - at
        self._reader.caught_up(self)


def listen(path: Path) -> socket.socket:
    """A socket for links to us, which only our user may use."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


def pack_topics(kind: int, batch: int, topics: Collection[Topic]) -> bytes:
    """SUBSCRIBE or UNSUBSCRIBE frames for all of topics; the last one carries `batch`."""
    chosen = list(topics)
    pieces = [chosen[at : at + TOPICS_PER_FRAME] for at in range(0, len(chosen), TOPICS_PER_FRAME)]
    return b"".join(
        frame(kind, batch if piece is pieces[-1] else 0, struct.pack(f"={len(piece)}q", *piece)) for piece in pieces
    )


def unpack_topics(body: bytes) -> tuple[Topic, ...]:
    return struct.unpack(f"={len(body) // 8}q", body)
