"""What waits to be written to one peer: joined to one write per turn of the loop, and bounded.

Owns: the queue, how much room publishes have in it, and what becomes of it when the peer reads slowly or not at all.
Not here: frames, and who is told of what was dropped (bus.local.link, bus.redis.connection).
Fails: a publish that does not fit is dropped by the subclass, which sets `gap`; what else piles up to twice the limit
ends in `_overflown`.
"""

from __future__ import annotations

import asyncio
from typing import cast


class WriteBuffer(asyncio.Protocol):
    """gap: a publish was dropped, and the peer has not been told yet. _room: what publishes may take, together with
    what the transport still holds; they do it themselves, for each call costs."""

    def __init__(self, limit_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: list[bytes] = []
        self._bytes = 0
        self._limit = self._room = limit_bytes
        self._armed = False
        self._paused = False
        self._transport: asyncio.WriteTransport | None = None
        self.gap = False

    def control(self, data: bytes) -> None:
        """Never dropped."""
        self._queue.append(data)
        self._bytes += len(data)
        if not self._armed:
            self._arm()

    def _arm(self) -> None:
        self._armed = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._armed = False
        if self._transport is None or self._transport.is_closing():
            self._take()
        elif not self._paused:
            self._write(self._transport)
        elif self._bytes > 2 * self._limit:
            self._overflown()

    def _take(self) -> bytes:
        data = b"".join(self._queue)
        self._queue.clear()
        self._bytes = 0
        return data

    def _write(self, transport: asyncio.WriteTransport) -> None:
        """All of the queue, and what is due after a gap."""
        raise NotImplementedError

    def _overflown(self) -> None:
        """The peer does not read, and what may not be dropped piles up."""
        raise NotImplementedError

    # ------------------------------------------------------------ the transport's calls

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
