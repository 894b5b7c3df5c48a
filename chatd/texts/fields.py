"""The filter for texts that people see: names of groups, nicknames, descriptions, reasons.

Owns: the three classes of such texts, and what each accepts. A text with an unacceptable character is refused, never
repaired, so that nothing else than what was written is shown; only its form is normalized (NFC).
Elsewhere: names of accounts, which have to be unique (texts.names); which field has which class and length (core).
Message texts are not filtered, nor is anything that is read from a store: what a store has from before, or from a
legacy server, is delivered as it is.
Fails: Refused BAD_FIELD. Its text names the field and the character by its number, and never contains the character.

| class | line breaks, tabs | directional marks | may be empty |
|---|---|---|---|
| name | no | no | no |
| line | no | LRM, RLM, ALM | yes |
| paragraphs | yes | LRM, RLM, ALM | yes |

All classes refuse control characters, directional embeddings, overrides and isolates, lone surrogates, private use and
unassigned characters, more than MAX_MARKS combining marks on one character, and every invisible character that does not
do something visible where it stands: a joiner in an emoji or in a script that needs it, a variation selector after a
character that has variants.
"""

from __future__ import annotations

import re
import unicodedata

from chatd.errors import ErrorCode, Refused
from chatd.texts.unicode import is_ignorable, scripts_of

MAX_MARKS = 5
"""Combining marks on one character. Pointed Hebrew and Tibetan need up to four."""

_EXPANSION = 4
"""A text this many times longer than allowed is refused before it is normalized: normalizing makes no text that much
shorter."""
_MARKS = ("Mn", "Me")
_DIRECTIONAL_MARKS = "\u200e\u200f\u061c"
_JOINERS = "\u200c\u200d"
_ZWJ = "\u200d"
_EMOJI_VARIANTS = "\ufe0e\ufe0f"
_BLANK = "\u2800"
"""A braille pattern without a dot: a symbol that cannot be seen."""
_PREPENDED_MARKS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
"""Format characters that are visible: signs around numbers in Arabic, Syriac and Kaithi."""
_JOINING_SCRIPTS = frozenset(
    (
        *("Adlm", "Arab", "Beng", "Deva", "Gujr", "Guru", "Khmr", "Knda", "Mand", "Mlym", "Mong", "Mymr", "Nkoo"),
        *("Orya", "Rohg", "Sinh", "Sogd", "Syrc", "Taml", "Telu"),
    )
)
"""Scripts in which a joiner (ZWJ) or non-joiner (ZWNJ) changes the form of letters, or separates parts of a word."""
_TAGGED_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{1,8}\U000e007f")
"""The flag of a region: a black flag with invisible letters."""


def name(what: str, text: str, longest: int) -> str:
    """A name in the form in which it is stored: one line, without spaces around it, with something to see in it.
    what: the field, for the refusal. longest: in characters. Raises: Refused BAD_FIELD."""
    stripped = _measured(what, text, longest).strip(" ")
    _check(what, stripped, breaks="", spaces=" ", directional="")
    if not stripped:
        raise _refused(what, "is empty")
    return stripped


def line(what: str, text: str, longest: int) -> str:
    """One line in the form in which it is stored; it may be empty. Raises: Refused BAD_FIELD."""
    normal = _measured(what, text, longest)
    _check(what, normal, breaks="", spaces=None, directional=_DIRECTIONAL_MARKS)
    return normal


def paragraphs(what: str, text: str, longest: int) -> str:
    """Any number of lines in the form in which they are stored; they may be empty. Line breaks become U+000A. Raises:
    Refused BAD_FIELD."""
    normal = _measured(what, text.replace("\r\n", "\n"), longest)
    _check(what, normal, breaks="\n\t", spaces=None, directional=_DIRECTIONAL_MARKS)
    return normal


def too_many_marks(text: str) -> bool:
    """Whether more than MAX_MARKS combining marks are on one character."""
    run = 0
    for one in text:
        run = run + 1 if unicodedata.category(one) in _MARKS else 0
        if run > MAX_MARKS:
            return True
    return False


def shown(character: str) -> str:
    """A character by its number and name, for a message to a person: U+202E (RIGHT-TO-LEFT OVERRIDE)."""
    known = unicodedata.name(character, "")
    return f"U+{ord(character):04X} ({known})" if known else f"U+{ord(character):04X}"


# ---------------------------------------------------------------- rules


def _refused(what: str, why: str) -> Refused:
    return Refused(ErrorCode.BAD_FIELD, f"{what} {why}")


def _measured(what: str, text: str, longest: int) -> str:
    """Normalized, and not too long."""
    if len(text) <= _EXPANSION * longest:
        normal = text if text.isascii() else unicodedata.normalize("NFC", text)
        if len(normal) <= longest:
            return normal
    raise _refused(what, f"is longer than {longest} characters")


def _check(what: str, text: str, *, breaks: str, spaces: str | None, directional: str) -> None:
    """spaces: those allowed, None = all. Raises: Refused BAD_FIELD."""
    if text.isascii() and text.isprintable():
        return
    text = _TAGGED_FLAG.sub("\U0001f3f4", text)
    for at, one in enumerate(text):
        kind = unicodedata.category(one)
        if kind[0] in "LNPS" and not is_ignorable(one) and one != _BLANK:
            continue
        if one in breaks or one in directional or (kind == "Zs" and (spaces is None or one in spaces)):
            continue
        if kind[0] == "M" and not is_ignorable(one):
            if at and text[at - 1] not in "\n\t ":
                continue
            raise _refused(what, f"has {shown(one)} without a character before it")
        if not (one in _PREPENDED_MARKS or _is_future_emoji(one) or _is_legitimate(text, at)):
            raise _refused(what, f"must not contain {shown(one)} there")
    if too_many_marks(text):
        raise _refused(what, f"has more than {MAX_MARKS} combining marks on one character")


def _is_future_emoji(one: str) -> bool:
    """In the blocks that Unicode has set aside for pictographs: emoji that are newer than this Python's Unicode."""
    return "\U0001f000" <= one <= "\U0001faff" and unicodedata.category(one) == "Cn"


def _is_pictograph(one: str) -> bool:
    return unicodedata.category(one) in ("So", "Sk") or _is_future_emoji(one)


def _is_legitimate(text: str, at: int) -> bool:
    """Whether the invisible character at this place does something visible."""
    one = text[at]
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if not before:
        return False
    if one in _EMOJI_VARIANTS:
        return unicodedata.category(before)[0] in "SPN" or _is_future_emoji(before)
    if one in _JOINERS:
        if before in _JOINERS:
            return False
        if one == _ZWJ and after and (_is_pictograph(before) or before == _EMOJI_VARIANTS[1]):
            return _is_pictograph(after)
        return bool(_JOINING_SCRIPTS & _script_before(text, at))
    if "\u180b" <= one <= "\u180f":  # Mongolian variation selectors, and the vowel separator
        return "Mong" in scripts_of(before)
    if "\ufe00" <= one <= "\ufe0d" or "\U000e0100" <= one <= "\U000e01ef":
        return "Hani" in scripts_of(before)
    return False


def _script_before(text: str, at: int) -> frozenset[str]:
    """The scripts of the last letter before this place."""
    for one in reversed(text[:at]):
        if unicodedata.category(one)[0] != "M":
            return scripts_of(one)
    return frozenset()
