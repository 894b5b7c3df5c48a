"""A circuit breaker: calls that keep failing are stopped for a while.

Owns: Breaker, a state machine. CLOSED: calls pass; `failures` failures in a row open it. OPEN: for open_s seconds no
call passes. TRYING: one call passes, and its outcome closes it or opens it again.
Elsewhere: which calls share a breaker (core.plugins.guard); the time is a parameter.
Fails: never.
"""

from __future__ import annotations

import enum

Permit = int
"""The period in which a call was admitted. The report of a call from an earlier period changes nothing."""


class BreakerState(enum.Enum):
    CLOSED = enum.auto()
    OPEN = enum.auto()
    TRYING = enum.auto()


class Breaker:
    def __init__(self, failures: int, open_s: float) -> None:
        self._max_failures = failures
        self._open_s = open_s
        self._state = BreakerState.CLOSED
        self._permit: Permit = 0
        self._failures = 0
        """Failures in a row, in this period."""
        self._open_until = 0.0
        """When a call may try again."""

    @property
    def is_open(self) -> bool:
        """True also while the deciding call is under way."""
        return self._state is not BreakerState.CLOSED

    def is_due(self, now: float, after_s: float = 0.0) -> bool:
        """Whether it is open, and was due to be tried this long ago."""
        return self._state is BreakerState.OPEN and now >= self._open_until + after_s

    def admit(self, now: float) -> Permit | None:
        """May a call pass at this time? If so, it reports its outcome once, with the permit returned here."""
        if self._state is BreakerState.CLOSED:
            return self._permit
        if self._state is BreakerState.TRYING or now < self._open_until:
            return None
        self._enter(BreakerState.TRYING)
        return self._permit

    def succeeded(self, permit: Permit) -> bool:
        """True: this closes the breaker."""
        if permit != self._permit:
            return False
        self._failures = 0
        if self._state is BreakerState.CLOSED:
            return False
        self._enter(BreakerState.CLOSED)
        return True

    def failed(self, permit: Permit, now: float, *, may_open: bool = True) -> bool:
        """True: this opens the breaker, which was closed. may_open False: it is counted, but does not."""
        if permit != self._permit:
            return False
        self._failures += 1
        was_closed = self._state is BreakerState.CLOSED
        if was_closed and (self._failures < self._max_failures or not may_open):
            return False
        self._open_until = now + self._open_s
        self._enter(BreakerState.OPEN)
        return was_closed

    def _enter(self, state: BreakerState) -> None:
        """A new period begins."""
        self._state = state
        self._permit += 1
