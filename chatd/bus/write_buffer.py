"""The write buffer of one connection of the bus: bounded, and flushed in one write at the end of a turn of the loop.

Owns: the queue, how much of it publishes may fill, and when it is written.
Elsewhere: framing, and reporting a dropped publish (bus.local.link, bus.redis.connection).
Fails: a publish that does not fit is dropped by the subclass, which sets `gap`. Control data is never dropped: once
twice the limit has piled up because the other end does not read, `_on_overflow` is called.
"""

from __future__ import annotations

import asyncio
from typing import cast


class WriteBuffer(asyncio.Protocol):
    """The sending half of a connection. Subclasses queue publishes themselves, because every call costs: they append to
    `_queue`, add to `_bytes`, call `_schedule_flush` unless `_flush_scheduled`, and compare with `_room` first."""

    def __init__(self, limit_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: list[bytes] = []
        self._bytes = 0
        """The sum of the sizes in `_queue`."""
        self._limit = limit_bytes
        """How much publishes may fill, here and in the transport together."""
        self._room = limit_bytes
        """The largest `_bytes` allowed with one more publish: the limit less what the transport has not sent yet. Below
        zero once the connection is lost."""
        self._flush_scheduled = False
        self._paused = False
        """The transport has asked not to be given more."""
        self._transport: asyncio.WriteTransport | None = None
        self.gap = False
        """A publish was dropped and the other end has not been told yet. All publishes are dropped until it is, so that
        one contiguous run is missing."""

    @property
    def queued_bytes(self) -> int:
        """Bytes waiting here and in the transport. For tests and diagnosis."""
        return self._bytes + (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    def send_control(self, data: bytes) -> None:
        """Queue data that must not be dropped."""
        self._queue.append(data)
        self._bytes += len(data)
        if not self._flush_scheduled:
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        self._flush_scheduled = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._transport is None or self._transport.is_closing():
            self._take_queue()
        elif not self._paused:
            self._write(self._transport)
        elif self._bytes > 2 * self._limit:
            self._on_overflow()

    def _take_queue(self) -> bytes:
        data = b"".join(self._queue)
        self._queue.clear()
        self._bytes = 0
        return data

    def _write(self, transport: asyncio.WriteTransport) -> None:
        """Write the whole queue, and what has to follow a gap."""
        raise NotImplementedError

    def _on_overflow(self) -> None:
        """The other end does not read, and data that may not be dropped piles up: give the connection up."""
        raise NotImplementedError

    # ------------------------------------------------------------ called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are not subclasses
        self._transport.set_write_buffer_limits(high=self._limit // 4)

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._paused = True
        self._room -= self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self._paused = False
        self._room = self._limit
        self._flush()
