"""Which character set the legacy server declared to its database (SET NAMES), guessed from what it has written.

Owns: the samples, and the rule by which one of CANDIDATES is chosen, or none.
Elsewhere: reading with a character set (importer.legacy), asking the operator (chatctl.import_legacy).
Fails: never; in doubt the guess says so.

The clients of the legacy server sent UTF-8. A server that declared something else had its database take these bytes for
texts in that character set. So they are UTF-8 again if they are read with the same declaration, and nonsense, though
valid, if they are read as UTF-8. Texts that were stored as what they were are hardly ever UTF-8 when they are read as
anything else: one name of two Chinese characters in fifty, and no three of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

PLAIN = "utf8mb4"
CANDIDATES = ("gbk", "latin1")
"""Declarations that legacy servers made besides UTF-8."""
CERTAIN = 3
"""So many texts are enough, if all agree."""
SHOWN = 5
"""Texts shown to the operator."""

Texts = Sequence[bytes]
"""The same texts, in the same order, whatever they are read as."""


class Guess(NamedTuple):
    """charset: "" = it is not certain. why: for the operator. samples: how some texts look, by the character set with
    which they are read."""

    charset: str
    why: str
    samples: dict[str, list[str]]


def guess(read: Callable[[str], Texts]) -> Guess:
    """read: the texts of some rows, as bytes, when the connection has this character set."""
    plain = read(PLAIN)
    places = [place for place, text in enumerate(plain) if not text.isascii()]
    samples = {PLAIN: [_shown(plain[place]) for place in places[:SHOWN]]}
    if not places:
        return Guess(PLAIN, "all texts are ASCII, which is the same in every character set", samples)
    hidden: dict[str, int] = {}
    for charset in CANDIDATES:
        texts = read(charset)
        hidden[charset] = sum(_is_utf8(texts[place]) for place in places if place < len(texts))
        samples[charset] = [_shown(texts[place]) for place in places[:SHOWN] if place < len(texts)]
    found = [charset for charset in CANDIDATES if hidden[charset]]
    if not found:
        return Guess(PLAIN, f"{_texts(len(places))} outside ASCII make sense only as they are", samples)
    best = max(found, key=lambda charset: hidden[charset])
    if hidden[best] == len(places) >= CERTAIN:
        return Guess(best, f"all {len(places)} texts outside ASCII are UTF-8 when they are read as {best}", samples)
    return Guess("", f"{hidden[best]} of {_texts(len(places))} outside ASCII are UTF-8 when read as {best}", samples)


def _texts(count: int) -> str:
    return f"{count} text" if count == 1 else f"{count} texts"


def _is_utf8(text: bytes) -> bool:
    """Of several bytes per character."""
    try:
        return not text.decode().isascii()
    except UnicodeDecodeError:
        return False


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")[:80]
