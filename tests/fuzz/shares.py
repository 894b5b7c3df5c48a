"""How long each part is fuzzed, and the random numbers of a round.

Every run takes other numbers. A failure names its seed; with CHATD_FUZZ_SEED=<seed> the first round of every part is
that one.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

LEAST_S = 60.0
SECONDS = {
    "chatserver": 6.0,
    "chatserver with requests": 3.0,
    "mobileimsdk": 6.0,
    "mobileimsdk with numbers": 3.0,
    "websocket": 4.0,
    "requests": 13.0,
    "daemon": 19.0,
    "bus": 3.0,
    "penalties": 3.0,
    "parsers": 3.0,
    "certificates": 1.5,
    "trail": 2.0,
}
"""By part; the sum is at least LEAST_S."""


def rounds(part: str, play: Callable[[random.Random], None]) -> int:
    """Play rounds for the part's share of time; how many there were. AssertionError names the seed."""
    ends = time.monotonic() + SECONDS[part]
    seed = int(os.environ.get("CHATD_FUZZ_SEED", time.time_ns() % 10**9))
    count = 0
    while time.monotonic() < ends:
        try:
            play(random.Random(seed))
        except Exception as error:
            raise AssertionError(f"CHATD_FUZZ_SEED={seed}: {type(error).__name__}: {error}") from error
        seed += 1
        count += 1
    return count
