"""How long a text is in bytes, as limits count it.

Owns: over().
Elsewhere: the limits (config.limit_options), the refusals (core, wire, http).
Fails: UnicodeEncodeError for a text with lone surrogates, which JSON that was decoded never has.
"""

from __future__ import annotations


def over(text: str, limit_bytes: int) -> bool:
    """Whether `text` takes more than `limit_bytes` in UTF-8."""
    return len(text) > limit_bytes or (not text.isascii() and len(text.encode()) > limit_bytes)


_UNITS = ("B", "kB", "MB", "GB")


def size_text(size: int) -> str:
    """A number of bytes for people, such as "1.2 MB"."""
    value, at = float(size), 0
    while value >= 999.5 and at < len(_UNITS) - 1:
        value, at = value / 1000, at + 1
    return f"{size} B" if not at else f"{value:.1f} {_UNITS[at]}" if value < 9.95 else f"{value:.0f} {_UNITS[at]}"
