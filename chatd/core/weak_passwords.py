"""Passwords that attackers try first.

Owns: the rules that recognise them: a common word with a few digits or signs around it, also written twice or with
digits for letters; neighbouring keys; the same few characters repeated; a date.
Elsewhere: the words (weak_passwords.txt beside this file), what is refused for other reasons (core.password_policy).
Fails: never. The words are read when they are first needed.

The rules cover what a list of leaked passwords has at its top, and its many variants, which such a list lacks:
"P@ssw0rd!", "qwerty2024", "iloveyou99".
"""

from __future__ import annotations

import functools
import re
import unicodedata
from importlib.resources import files

_LONGEST = 40
"""Characters; a longer password is not common."""
_AROUND = 8
"""Maximum digits and signs around a common word; with more of them it is not common any more."""
_LEAST_WALK = 3
_MOST_WALKS = 3
"""A password is made of neighbouring keys if it consists of at most this many walks, of at least _LEAST_WALK keys."""
_LEAST_WALK_AS_WORD = 4
"""Neighbouring keys of this length count as a common word: "qwerty2024" is one with digits."""
_LONGEST_BLOCK = 4
"""Characters that are repeated."""

_LEET = str.maketrans("@4830!157$9", "aabeoiistsg")
_LEET_L = str.maketrans("@4830!157$9", "aabeollstsg")
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "`1234567890-=",
    "!@#$%^&*()_+",
    "qwertyuiop[]",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "azertyuiop",
    "qsdfghjklm",
    "qwertzuiop",
    "yxcvbnm",
    "qazwsxedcrfvtgbyhnujmikolp",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "1q2w3e4r5t6y7u8i9o0p",
    "q1w2e3r4t5y6u7i8o9p0",
    "a1b2c3d4e5f6g7h8i9j0",
    "qweasdzxc",
    "147258369",
    "13579",
    "00112233445566778899",
    "24680",
)
_WALKS = tuple(walk for row in _ROWS for walk in (row, row[::-1]))
_DATE = re.compile(
    r"(?:0?[1-9]|[12]\d|3[01])[-./]?(?:0?[1-9]|1[0-2])[-./]?(?:(?:19|20)\d\d|\d\d)"  # 24.12.1999
    r"|(?:0?[1-9]|1[0-2])[-./]?(?:0?[1-9]|[12]\d|3[01])[-./]?(?:19|20)\d\d"  # 12/24/1999
    r"|(?:19|20)\d\d[-./]?(?:0?[1-9]|1[0-2])[-./]?(?:0?[1-9]|[12]\d|3[01])"  # 1999-12-24
    r"|(?:19|20)\d\d(?:19|20)\d\d"
)


def is_common(secret: str) -> bool:
    """Whether attackers try this password early. Cost: microseconds, whatever its length."""
    if not secret or len(secret) > _LONGEST:
        return not secret
    folded = unicodedata.normalize("NFKC", secret).casefold()
    return bool(
        _DATE.fullmatch(folded) or _is_repeated(folded) or _is_walk(folded, _MOST_WALKS) or _has_common_word(folded)
    )


@functools.cache
def _words() -> frozenset[str]:
    text = (files("chatd.core") / "weak_passwords.txt").read_text(encoding="utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())


def _is_repeated(text: str) -> bool:
    """The same few characters again and again, or something that repeats itself and is common."""
    return (
        any(text == (text[:size] * (len(text) // size + 1))[: len(text)] for size in range(1, _LONGEST_BLOCK + 1))
        and len(text) > _LONGEST_BLOCK
    )


def _is_walk(text: str, walks: int) -> bool:
    if not text:
        return True
    if not walks:
        return False
    longest = next((size for size in range(len(text), _LEAST_WALK - 1, -1) if _is_one_walk(text[:size])), 0)
    return any(_is_walk(text[size:], walks - 1) for size in range(longest, _LEAST_WALK - 1, -1))


def _is_one_walk(text: str) -> bool:
    return any(text in walk for walk in _WALKS) or text == text[0] * len(text)


def _has_common_word(text: str) -> bool:
    """Digits and signs around it do not count; and those inside may stand for letters."""
    return any(
        _is_word(core) for form in {text, text.translate(_LEET), text.translate(_LEET_L)} for core in _cores(text, form)
    )


def _cores(text: str, form: str) -> set[str]:
    """form: the text with letters for digits. Without the digits and signs around it: those of the text, because
    "password1" has a 1 and not an i at its end; and those of the form."""
    found = {form}
    for shape in (text, form):
        first = next((place for place, one in enumerate(shape) if one.isalpha()), len(shape))
        last = next((place for place in range(len(shape), 0, -1) if shape[place - 1].isalpha()), first)
        if first + len(shape) - last <= _AROUND:
            found |= {form[first:last], form[:last], form[first:]}
    return {re.sub(r"[\s_.-]+", "", core) for core in found}


def _is_word(core: str) -> bool:
    words, half = _words(), len(core) // 2
    if core in words or core[::-1] in words or (core[:half] == core[half:] and core[:half] in words):
        return True
    return len(core) >= _LEAST_WALK_AS_WORD and _is_walk(core, _MOST_WALKS)
