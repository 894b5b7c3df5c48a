"""Events on their way to the program. They are not stored anywhere, and a program need not read them.

Owns: the queue; with too many, the oldest are dropped, and the program is told how many.
Elsewhere: the events (events).
Fails: the error that ended the session, from next(), once there is nothing more to give.
"""

from __future__ import annotations

import asyncio
from collections import deque

from chatd_client.errors import ChatError
from chatd_client.events import AnyEvent, EventsLost


class Feed:
    def __init__(self, limit: int) -> None:
        """limit: maximum events that wait."""
        self._waiting: deque[AnyEvent] = deque(maxlen=limit)
        self._lost = 0
        self._news = asyncio.Event()
        self._end: ChatError | None = None

    def put(self, event: AnyEvent) -> None:
        self._lost += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(event)
        self._news.set()

    async def next(self) -> AnyEvent:
        """Raises the error given to end()."""
        while not self._waiting:
            if self._end is not None:
                raise self._end
            self._news.clear()
            await self._news.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(lost)
        return self._waiting.popleft()

    def end(self, why: ChatError) -> None:
        self._end = why
        self._news.set()
