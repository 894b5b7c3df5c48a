"""Messages on their way to the caller: each is given once, in order, and acknowledged after the caller has taken it.

Owns: the queue and its limit, and which message the caller has at the moment.
Elsewhere: what was given in earlier runs (memory), acknowledging (the function `taken`).
Fails: the error that ended the session, from next(), once there is nothing more to give.

A message counts as taken when the caller asks for the next one. So a caller that fails, or is killed, in the middle of
one is given it again by the next run.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable

from chatd_client.errors import ChatError
from chatd_client.model import Message


class Inbox:
    """has_room: not set while more messages wait than half the limit, after it was reached."""

    def __init__(self, limit: int, taken: Callable[[Hashable, Message], None]) -> None:
        """limit: maximum messages that wait. taken: is called with the key and the message when the caller has it."""
        self.has_room = asyncio.Event()
        self.has_room.set()
        self._limit = limit
        self._taken = taken
        self._waiting: OrderedDict[Hashable, Message] = OrderedDict()
        self._current: tuple[Hashable, Message] | None = None
        """What the caller has, and has not finished."""
        self._news = asyncio.Event()
        self._end: ChatError | None = None
        self._reading = False

    def __len__(self) -> int:
        return len(self._waiting)

    def holds(self, key: Hashable) -> bool:
        """The message waits, or the caller has it at the moment."""
        return key in self._waiting or (self._current is not None and self._current[0] == key)

    def put(self, key: Hashable, message: Message) -> bool:
        """False: the inbox is full, and the message is not in it."""
        if len(self._waiting) >= self._limit:
            self.has_room.clear()
            return False
        self._waiting[key] = message
        self._news.set()
        return True

    def finish(self) -> None:
        """The caller has taken the message that it was given last."""
        current, self._current = self._current, None
        if current is not None:
            self._taken(*current)

    async def next(self) -> Message:
        """Finishes the message before it. Raises the error given to end(), RuntimeError for a second caller."""
        if self._reading:
            raise RuntimeError("messages are read in two places at once: read them in one, and pass them on")
        self.finish()
        self._reading = True
        try:
            while not self._waiting:
                if self._end is not None:
                    raise self._end
                self._news.clear()
                await self._news.wait()
        finally:
            self._reading = False
        self._current = self._waiting.popitem(last=False)
        if len(self._waiting) <= self._limit // 2:
            self.has_room.set()
        return self._current[1]

    def end(self, why: ChatError) -> None:
        """Nothing more comes. What nobody has taken is dropped: the server still has it, for the next login."""
        self._end = why
        self._waiting.clear()
        self._news.set()
        self.has_room.set()
