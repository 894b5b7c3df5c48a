"""How long somebody must wait, in words.

Owns: in_words().
Elsewhere: durations in the output of chatctl (chatctl.render).
Fails: never.
"""

from __future__ import annotations

import math

_UNITS = (("days", 86_400), ("hours", 3600), ("minutes", 60))


def in_words(wait_s: float) -> str:
    """Rounded up, so that nobody comes back too early: "7 days", "2 minutes", "60 s"."""
    for unit, unit_s in _UNITS:
        if wait_s > unit_s:
            return f"{math.ceil(wait_s / unit_s)} {unit}"
    return f"{math.ceil(wait_s)} s"
