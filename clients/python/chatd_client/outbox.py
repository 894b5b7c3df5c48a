"""Messages that were written and are not yet acknowledged, in the order in which they were written.

Owns: the queue and its limit.
Elsewhere: sending (sender), keeping it over a restart (journal).
Fails: never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from chatd_client.model import PendingMessage

LIMIT = 10_000
"""Maximum messages. When it is full, a script waits and a person is told."""


class Outbox:
    def __init__(self) -> None:
        self._pending: dict[str, PendingMessage] = {}
        self._moved = asyncio.Event()

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[PendingMessage]:
        return iter(self._pending.values())

    @property
    def full(self) -> bool:
        return len(self._pending) >= LIMIT

    def head(self) -> PendingMessage | None:
        return next(iter(self), None)

    def get(self, fp: str) -> PendingMessage | None:
        return self._pending.get(fp)

    def add(self, message: PendingMessage) -> None:
        self._pending[message.fp] = message

    def replace(self, messages: Iterable[PendingMessage]) -> None:
        self._pending = {message.fp: message for message in messages}
        self._moved.set()

    def remove(self, fp: str) -> PendingMessage | None:
        """None when it is not here: acknowledged twice."""
        message = self._pending.pop(fp, None)
        if message is not None:
            self._moved.set()
        return message

    async def shrink_to(self, count: int, patience_s: float) -> bool:
        """Wait until at most `count` are left; False after patience_s in which none left."""
        while len(self._pending) > count:
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), patience_s)
            except TimeoutError:
                return len(self._pending) <= count
        return True
