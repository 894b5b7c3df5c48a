"""The time of day, as the store and the clients are told it.

Owns: now_ms().
Elsewhere: the time within a worker, which no clock change moves (the loop's clock).
Fails: never.
"""

from __future__ import annotations

import time


def now_ms() -> int:
    """Milliseconds since the epoch. It jumps when the host's clock is set."""
    return time.time_ns() // 1_000_000
