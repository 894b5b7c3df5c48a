"""When gaps are reported: on_gap here, and a message to all other workers.

Owns: reporting causes that come together only once, and sending a report owed to the others as soon as it can be sent.
Elsewhere: the causes (bus.redis.node, bus.redis.membership, bus.redis.control); catching up (core.delivery).
Fails: never.

A node of a Redis Cluster that is gone for good, without a replica, is a lasting loss: every worker that publishes to
its topics owes a report each time. But every report makes every session of a worker read the store. So lasting losses
are reported ever less often, down to once in LASTING_S, however many workers owe them: the receiving worker waits.
OWED_APART_S and LASTING_S together bound how late a message may come; the rest of the 5 s promised in docs/promises.md
is for reading. Each pause is shortened by chance, so that workers do not all read at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from chatd import log
from chatd.bus.contract import OnGap

APART_S = 0.5
"""The shortest time between two reports; causes that come closer together are reported together."""
OWED_APART_S = 1.0
"""The same for reports to others, while a server is away and losses go on."""
LASTING_S = 3.0
"""The time between two reports of a loss that goes on, once it has gone on for a while."""
_SPREAD = 0.8
"""A pause is at least this part of its length."""

logger = log.get()


class GapReporter:
    def __init__(self, on_gap: OnGap, tell_others: Callable[[], bool], is_whole: Callable[[], bool]) -> None:
        """on_gap: the bus's. tell_others: sends a report to all other workers; False if that is not possible now.
        is_whole: no server is away."""
        self._loop = asyncio.get_running_loop()
        self._on_gap = on_gap
        self._tell_others = tell_others
        self._is_whole = is_whole
        self._is_open = False
        # Reports here. Times are loop times.
        self._report_timer: asyncio.Handle | None = None
        self._report_at = 0.0
        """Loop time at which the timer is due; the handle of uvloop does not say this of a call that is due at once."""
        self._reported_at = float("-inf")
        """When on_gap was called last."""
        self._lasting_heard_at = float("-inf")
        """When a lasting loss was heard of last."""
        self._lasting_pause_s = APART_S
        # Reports to others.
        self._owed = False
        """Something published here was lost, and the others have not been told."""
        self._owed_timer: asyncio.Handle | None = None
        self._told_others_at = float("-inf")
        """When the others were told last."""

    def open(self) -> None:
        """Before this nothing is reported, but what is owed is remembered."""
        self._is_open = True

    def close(self) -> None:
        self._is_open = False
        for timer in (self._report_timer, self._owed_timer):
            if timer is not None:
                timer.cancel()

    def report(self, lasting: bool = False) -> None:
        """Publishes may have been missed here. lasting: because of a loss that goes on. on_gap is called later, never
        inside this call."""
        if not self._is_open:
            return
        pause_s = self._next_lasting_pause_s() if lasting else APART_S
        if self._report_timer is not None:
            if lasting or self._report_at <= self._reported_at + pause_s:
                return
            self._report_timer.cancel()
        self._report_at = max(self._reported_at + pause_s, self._loop.time())
        self._report_timer = self._loop.call_at(self._report_at, self._call_on_gap)

    def _next_lasting_pause_s(self) -> float:
        """Twice as long each time, for as long as the loss goes on."""
        now = self._loop.time()
        if now > self._lasting_heard_at + 2 * LASTING_S:
            self._lasting_pause_s = APART_S
        elif self._report_timer is None:
            self._lasting_pause_s = min(2 * self._lasting_pause_s, LASTING_S)
        self._lasting_heard_at = now
        return self._lasting_pause_s * random.uniform(_SPREAD, 1.0)

    def _call_on_gap(self) -> None:
        self._report_timer = None
        self._reported_at = self._loop.time()
        try:
            self._on_gap()
        except Exception:
            logger.exception("bus: catching up after a gap failed")

    def owe(self) -> None:
        """Something published here was lost: tell all others as soon as that is possible."""
        self._owed = True
        if self._is_open and self._owed_timer is None:
            apart_s = APART_S if self._is_whole() else OWED_APART_S
            wait_s = max(0.0, self._told_others_at + apart_s - self._loop.time())
            self._owed_timer = self._loop.call_later(wait_s, self.tell_owed)

    def tell_owed(self) -> None:
        """Tell the others now, if that is owed. If it is not possible it stays owed until the next call."""
        if self._owed_timer is not None:
            self._owed_timer.cancel()
        self._owed_timer = None
        if self._owed:
            self._owed = False
            if self._tell_others():
                self._told_others_at = self._loop.time()
            else:
                self._owed = True
