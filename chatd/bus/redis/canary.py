"""The canary: a message this worker publishes to itself once a second, to prove that what is published arrives.

Owns: the numbers, the last round trip, and how long ago it was.
Elsewhere: sending and receiving it (bus.redis.control).
Fails: never.
"""

from __future__ import annotations

import asyncio
import time

FRESH_S = 5.0
"""The bus is not healthy if no canary has come back for this long."""


class Canary:
    """Uses time.monotonic(): the loop's own clock moves in steps of 1 ms, longer than a round trip."""

    def __init__(self) -> None:
        self._number = 0
        """Of the last canary; 0 before the first."""
        self._outstanding = False
        """The canary with this number has been sent and has not come back."""
        self._sent_at = 0.0
        self._returned_at = float("-inf")
        """When the last canary came back."""
        self.round_trip_us = 0
        """Round trip of the last one that came back, at least 1; 0 before."""
        self.returned = asyncio.Event()
        """The first one has come back."""

    def next(self) -> int:
        """The number to send now. A canary that is still outstanding is given up."""
        self._number += 1
        self._sent_at = time.monotonic()
        self._outstanding = True
        return self._number

    def received(self, number: int) -> None:
        """In a Redis Cluster each comes back from every node; the first one counts."""
        if number != self._number or not self._outstanding:
            return
        self._outstanding = False
        self._returned_at = time.monotonic()
        self.round_trip_us = max(1, int((self._returned_at - self._sent_at) * 1e6))
        self.returned.set()

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self._returned_at < FRESH_S
