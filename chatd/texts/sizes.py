"""How long a text is in bytes, as limits count it.

Owns: over().
Elsewhere: the limits (config.limit_options), the refusals (core, wire, http).
Fails: UnicodeEncodeError for a text with lone surrogates, which JSON that was decoded never has.
"""

from __future__ import annotations


def over(text: str, limit_bytes: int) -> bool:
    """Whether `text` takes more than `limit_bytes` in UTF-8."""
    return len(text) > limit_bytes or (not text.isascii() and len(text.encode()) > limit_bytes)
