"""When something may have been missed: telling it here, and telling everybody else.

Owns: that causes which come together are told as one, and that a debt to the others is paid when it can be.
Not here: the causes (bus.redis_node, bus.redis_roster); catching up (core.delivery).
Fails: never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chatd import log

APART_S = 0.5
"""Causes of a gap that come closer together are told as one."""
OWED_APART_S = 2.0
"""How often all are told of losses that go on, because a server of several is away."""

logger = log.get()


class Gaps:
    """on_gap: of the bus. pay: tells all others, and is True if that was possible. whole: no server is away."""

    def __init__(self, on_gap: Callable[[], None], pay: Callable[[], bool], whole: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_gap = on_gap
        self._pay = pay
        self._whole = whole
        self._owed = False
        self._told_at = self._paid_at = float("-inf")
        self._telling: asyncio.TimerHandle | None = None
        self._paying: asyncio.TimerHandle | None = None
        self._open = False

    def open(self) -> None:
        self._open = True

    def close(self) -> None:
        self._open = False
        for timer in (self._telling, self._paying):
            if timer is not None:
                timer.cancel()

    def tell(self) -> None:
        """Something may have been missed here. Never calls on_gap inside."""
        if self._open and self._telling is None:
            wait_s = max(0.0, self._told_at + APART_S - self._loop.time())
            self._telling = self._loop.call_later(wait_s, self._call)

    def _call(self) -> None:
        self._telling = None
        self._told_at = self._loop.time()
        try:
            self._on_gap()
        except Exception:
            logger.exception("bus: catching up after a gap failed")

    def owe(self) -> None:
        """Something published here was lost: all are to be told, as soon as that is possible."""
        self._owed = True
        if self._open and self._paying is None:
            apart_s = APART_S if self._whole() else OWED_APART_S
            wait_s = max(0.0, self._paid_at + apart_s - self._loop.time())
            self._paying = self._loop.call_later(wait_s, self.settle)

    def settle(self) -> None:
        """Tell them now, if something is owed. What cannot be told stays owed until the next call."""
        if self._paying is not None:
            self._paying.cancel()
        self._paying = None
        if self._owed:
            self._owed = False
            if self._pay():
                self._paid_at = self._loop.time()
            else:
                self._owed = True
