"""What was refused as forged: counted, and reported to the security trail.

Owns: the counts, and how often a record is written.
Elsewhere: finding out (bus.redis.envelope, bus.redis.membership); the trail (security_log).
Fails: never.
"""

from __future__ import annotations

import time

from chatd import security_log
from chatd.bus.redis.envelope import Forgery
from chatd.security_log import SecurityEvent

REPORTED_S = 60.0
"""The shortest time between two records with the same reason."""


class Refusals:
    def __init__(self) -> None:
        self.count = 0
        """Refused since the start."""
        self._held_back: dict[Forgery, int] = {}
        """Refused since the last record, by reason."""
        self._reported_at: dict[Forgery, float] = {}
        """By time.monotonic()."""

    def add(self, reason: Forgery, place: bytes) -> None:
        """One more. place: the channel or key where it was found."""
        self.count += 1
        times = self._held_back.get(reason, 0) + 1
        now = time.monotonic()
        if now - self._reported_at.get(reason, float("-inf")) < REPORTED_S:
            self._held_back[reason] = times
            return
        self._held_back[reason] = 0
        self._reported_at[reason] = now
        where = place.decode("utf-8", "backslashreplace")
        security_log.record(SecurityEvent.BUS_FORGERY, reason=reason.value, place=where, times=times)
