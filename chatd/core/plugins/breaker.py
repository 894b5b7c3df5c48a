"""A circuit breaker: what fails again and again is left alone for a while.

Owns: three states. Closed: calls pass, `failures` of them in a row that fail open it. Open: for open_s no call passes.
Half open: one call passes and decides. The time is the caller's.
Fails: never.
"""

from __future__ import annotations

Turn = int
"""The state a call was admitted in; what a call of an earlier one reports is no news any more."""


class Breaker:
    def __init__(self, failures: int, open_s: float) -> None:
        self._most = failures
        self._open_s = open_s
        self._turn: Turn = 0
        self._failures = 0
        self._shut_until = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Also while the one call is under way that decides."""
        return self._failures >= self._most

    def admit(self, now: float) -> Turn | None:
        """May a call pass? It then reports how it went, once, with what is returned here."""
        if self._failures < self._most:
            return self._turn
        if self._trying or now < self._shut_until:
            return None
        self._trying = True
        self._turn += 1
        return self._turn

    def succeeded(self, turn: Turn) -> bool:
        """True: it was open, and is closed now."""
        if turn != self._turn:
            return False
        was_open, self._failures = self.is_open, 0
        if was_open:
            self._trying = False
            self._turn += 1
        return was_open

    def failed(self, turn: Turn, now: float) -> bool:
        """True: it has opened now."""
        if turn != self._turn:
            return False
        was_open = self.is_open
        self._failures += 1
        if self.is_open:
            self._shut_until = now + self._open_s
            self._trying = False
            self._turn += 1
        return self.is_open and not was_open
