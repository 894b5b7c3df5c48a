"""A message to ourselves, once a second: the proof that what is published comes back.

Owns: the numbers, the time it took, whether that was long ago. Not here: sending and hearing it (bus.redis.bus).
"""

from __future__ import annotations

import asyncio
import time

HEALTHY_S = 5.0


class Canary:
    """round_trip_us: of the last one that came back. back: the first one did. The loop's own clock moves in steps of
    1 ms, longer than a round trip."""

    def __init__(self) -> None:
        self._number = 0
        self._sent_at = 0.0
        self._heard_at = float("-inf")
        self._out = False
        self.round_trip_us = 0
        self.back = asyncio.Event()

    def sent(self) -> int:
        """The number to send. One that is still out is given up."""
        self._number += 1
        self._sent_at = time.monotonic()
        self._out = True
        return self._number

    def heard(self, number: int) -> None:
        """In a cluster it comes back from every node; the first counts."""
        if number != self._number or not self._out:
            return
        self._out = False
        self._heard_at = time.monotonic()
        self.round_trip_us = max(1, int((self._heard_at - self._sent_at) * 1e6))
        self.back.set()

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self._heard_at < HEALTHY_S
