"""Invite codes: their form, how a person may type them, and what is stored of them.

Owns: making a code, reading one that was typed, its hash, and finding one in front of a password.
Elsewhere: which codes are valid (the store), who needs one (core.registration), making one for somebody (chatctl).
Fails: never; a text that is not a code is read as "".

A code is CODE_SYMBOLS symbols of Crockford's base32 in groups of six, such as 4T9K2M-XJ70QW-8RBV5C: 85 random bits and
a check symbol. Lower case, spaces and missing hyphens do not matter, nor does O for 0 or I and L for 1.
"""

from __future__ import annotations

import secrets
from hashlib import sha256

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ = {symbol: symbol for symbol in _ALPHABET} | {"O": "0", "I": "1", "L": "1"}
_GROUP = 6
RANDOM_SYMBOLS = 17
"""Five random bits each."""
CODE_SYMBOLS = RANDOM_SYMBOLS + 1
"""With the check symbol."""
_LONGEST_TYPED = 64
"""Characters; a longer text is no code."""
SEPARATOR = ":"
"""Between a code and the password behind it."""


def new() -> str:
    """A new code, as it is shown to people."""
    symbols = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_SYMBOLS))
    symbols += _check_symbol(symbols)
    return "-".join(symbols[at : at + _GROUP] for at in range(0, CODE_SYMBOLS, _GROUP))


def read(typed: str) -> str:
    """The symbols of a code as somebody typed it; "" if it cannot be one, for instance after a slip of one key."""
    if len(typed) > _LONGEST_TYPED:
        return ""
    symbols = "".join(_READ.get(one, "?") for one in typed.upper() if one not in "- ")
    if len(symbols) != CODE_SYMBOLS or "?" in symbols or symbols[-1] != _check_symbol(symbols[:-1]):
        return ""
    return symbols


def hashed(symbols: str) -> str:
    """What is stored of a code, from what read() returned. A code has too many random bits to be guessed from its
    hash, so it needs no salt and no slow hash."""
    return sha256(f"chatd invite {symbols}".encode()).hexdigest()


def split(secret: str) -> tuple[str, str]:
    """(code, password) of a password with a code in front: CODE:PASSWORD. ("", secret) if there is no code."""
    typed, separator, rest = secret.partition(SEPARATOR)
    return (typed, rest) if separator and read(typed) else ("", secret)


def _check_symbol(symbols: str) -> str:
    """Weighted with odd numbers, so that no slip of one key keeps it."""
    total = sum((2 * place + 1) * _ALPHABET.index(symbol) for place, symbol in enumerate(symbols))
    return _ALPHABET[total % len(_ALPHABET)]
