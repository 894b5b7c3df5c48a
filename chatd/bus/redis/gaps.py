"""When something may have been missed: telling it here, and telling everybody else.

Owns: that causes which come together are told as one, and that a debt to the others is paid when it can be.
Not here: the causes (bus.redis.node, bus.redis.membership); catching up (core.delivery).
Fails: never.

A node of a Redis Cluster that is away for good, without a replica, is a loss that goes on: whoever publishes to its
topics owes a gap each time. A gap makes every session read the store, so losses of that kind are told ever less often,
up to LASTING_S apart, however many owe them: it is the hearing worker that waits. OWED_APART_S and LASTING_S together
are how late a message may be; the rest of P5's 5 s is for reading. Each worker waits a little less than that, by
chance, so that they do not all read at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from chatd import log

APART_S = 0.5
"""Causes of a gap that come closer together are told as one."""
OWED_APART_S = 1.0
"""How often one worker tells all others of losses that go on, because a server of several is away."""
LASTING_S = 3.0
"""How far apart such losses of all the others are told here in the end."""
_SPREAD = 0.8
"""Each pause is as long as this part of it, at least."""

logger = log.get()


class Gaps:
    """on_gap: of the bus. pay: tells all others, and is True if that was possible. whole: no server is away."""

    def __init__(self, on_gap: Callable[[], None], pay: Callable[[], bool], whole: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_gap = on_gap
        self._pay = pay
        self._whole = whole
        self._owed = False
        self._told_at = self._paid_at = self._lasting_at = float("-inf")
        self._lasting_s = APART_S
        self._telling: asyncio.Handle | None = None
        self._tell_at = 0.0
        """Kept here: uvloop's handle of a call that is due at once does not know when."""
        self._paying: asyncio.Handle | None = None
        self._open = False

    def open(self) -> None:
        self._open = True

    def close(self) -> None:
        self._open = False
        for timer in (self._telling, self._paying):
            if timer is not None:
                timer.cancel()

    def tell(self, lasting: bool = False) -> None:
        """Something may have been missed here. lasting: by a loss that goes on. Never calls on_gap inside."""
        if not self._open:
            return
        pause_s = self._pause_s() if lasting else APART_S
        if self._telling is not None:
            if lasting or self._tell_at <= self._told_at + pause_s:
                return
            self._telling.cancel()
        self._tell_at = max(self._told_at + pause_s, self._loop.time())
        self._telling = self._loop.call_at(self._tell_at, self._call)

    def _pause_s(self) -> float:
        """Twice as long each time, as long as it goes on."""
        now = self._loop.time()
        if now > self._lasting_at + 2 * LASTING_S:
            self._lasting_s = APART_S
        elif self._telling is None:
            self._lasting_s = min(2 * self._lasting_s, LASTING_S)
        self._lasting_at = now
        return self._lasting_s * random.uniform(_SPREAD, 1.0)

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
