"""Times as an operator writes them: 90s, 30m, 1h, 7d, 1d12h.

Owns: reading them.
Elsewhere: showing them (chatctl.render.duration).
Fails: ValueError, with a text for the operator.
"""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_PART = re.compile(r"(\d{1,9})([smhdw])")
LONGEST_S = 100 * 365 * 86_400


def seconds(text: str) -> int:
    """Raises ValueError."""
    parts = _PART.findall(text)
    total = sum(int(number) * _UNITS[unit] for number, unit in parts)
    if not parts or "".join(map("".join, parts)) != text or not 0 < total <= LONGEST_S:
        raise ValueError(f"{text!r} is not a time: write a number and s, m, h, d or w, such as 30m, 12h or 7d")
    return total
