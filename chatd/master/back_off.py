"""How long a slot waits for its next worker after deaths.

Owns: the pauses of a slot that fails again and again, and the exception from them while no worker accepts.
Elsewhere: forking (master.workers).
Fails: never.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from chatd.master.worker_slot import Slot

FIRST_S, LONGEST_S = 0.1, 30.0
HEALTHY_S, STEADY_S = 60.0, 5.0
"""A worker that was ready for HEALTHY_S clears the back-off of its slot; for STEADY_S, it halves it."""
LONELY_S, LONELY_CALM_S = 2.0, 10.0
"""While no worker accepts or starts, one is forked at once, back-off or not: after that not before a pause that grows
to LONELY_S, so that a crash loop uses a fraction of one core. After LONELY_CALM_S the pauses begin anew."""


def forget(slot: Slot, lived_s: float) -> None:
    """The slot's worker has died after it was ready for this long."""
    if lived_s >= HEALTHY_S:
        slot.failures = 0
    elif lived_s >= STEADY_S:
        slot.failures //= 2


def wait(slot: Slot, now: float) -> float:
    """One more failure: set when the next worker is due. Returns the longest that this may take, in seconds."""
    slot.failures += 1
    delay_s = min(LONGEST_S, FIRST_S * 2.0 ** min(slot.failures - 1, 16))
    slot.fork_at = now + delay_s * random.uniform(0.5, 1.0)
    return delay_s


class LastResort:
    """Back-off must not leave nobody who accepts."""

    def __init__(self) -> None:
        self._next_at, self._pause_s = 0.0, FIRST_S
        """When a worker may be forked next, and the pause after it."""

    def advance(self, slots: Iterable[Slot], now: float) -> None:
        """No worker accepts and none starts: fork the one that is due first as soon as may be."""
        first = min((slot for slot in slots if slot.fork_at), key=lambda slot: slot.fork_at, default=None)
        if first is None:
            return
        first.fork_at = min(first.fork_at, max(self._next_at, now))
        if first.fork_at <= now:
            is_calm = now - self._next_at > LONELY_CALM_S
            self._pause_s = FIRST_S if is_calm else min(2 * self._pause_s, LONELY_S)
            self._next_at = now + self._pause_s
