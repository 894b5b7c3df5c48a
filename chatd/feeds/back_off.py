"""How long to wait before the next attempt.

Owns: delay_s().
Elsewhere: attempts (webhooks.delivery, bridges.outgoing).
Fails: never.
"""

from __future__ import annotations

import random

FIRST_S = 1.0
LONGEST_S = 3600.0
_SPREAD = 0.25
"""Share by which a wait is longer, at random: receivers that were away are not asked by all at once."""


def delay_s(failures: int, wanted_s: float = 0.0, longest_s: float = LONGEST_S) -> float:
    """After so many failures in a row, at least one. wanted_s: what the receiver asked for (Retry-After)."""
    doubled: float = FIRST_S * 2 ** min(failures - 1, 30)
    return min(longest_s, max(doubled, wanted_s)) * random.uniform(1.0, 1.0 + _SPREAD)


def retry_after_s(text: str) -> float:
    """The value of a header Retry-After in seconds; 0 if it is missing or a date."""
    return float(min(int(text), LONGEST_S)) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
