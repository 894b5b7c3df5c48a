"""What was refused as forged.

Owns: the count, and what is told to the security trail.
Elsewhere: finding out (bus.redis.envelope, bus.redis.membership); holding back repeated records (security_log).
Fails: never.
"""

from __future__ import annotations

from chatd import security_log
from chatd.bus.redis.envelope import Forgery
from chatd.security_log import SecurityEvent


class Refusals:
    def __init__(self) -> None:
        self.count = 0
        """Since the start."""

    def add(self, reason: Forgery, place: bytes) -> None:
        """One more. place: the channel or key where it was found."""
        self.count += 1
        where = place.decode("utf-8", "backslashreplace")
        security_log.record(SecurityEvent.BUS_FORGERY, reason=reason.value, place=where)
