"""Properties of characters that Python's unicodedata does not have, from the file unicode.txt.

Owns: reading the file, once and when first needed; which characters look alike, the scripts of a character, which
characters are invisible by themselves (Default_Ignorable_Code_Point).
Elsewhere: what follows from them (texts.names, texts.fields); writing the file (docs/unicode_table.py).
Fails: never; the file is part of the program.

Cost: about 12 ms and 2 MB per process that needs it; a login does not.
"""

from __future__ import annotations

import functools
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FILE = Path(__file__).with_name("unicode.txt")
_COMMON = frozenset(("Zyyy",))


class _Table(NamedTuple):
    """prototypes: what str.translate() replaces a character with in a skeleton; invisible characters with nothing.
    starts, ends, scripts: one entry per range of characters with the same scripts, in the order of the ranges."""

    prototypes: dict[int, str]
    ignorable: frozenset[int]
    starts: list[int]
    ends: list[int]
    scripts: list[frozenset[str]]


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    for part in text.split():
        first, _, last = part.partition("-")
        yield int(first, 16), int(last or first, 16)


@functools.cache
def _table() -> _Table:
    prototypes: dict[int, str] = {}
    ignorable: set[int] = set()
    scripts: list[tuple[int, int, frozenset[str]]] = []
    for line in _FILE.read_text(encoding="ascii").splitlines():
        head, _, members = line.partition(":")
        match head[:1]:
            case "=":
                prototype = "".join(chr(int(one, 16)) for one in head[2:].split())
                prototypes.update((int(one, 16), prototype) for one in members.split())
            case "s":
                names = frozenset(head[2:].split())
                scripts += [(first, last, names) for first, last in _ranges(members)]
            case "i":
                for first, last in _ranges(members):
                    ignorable.update(range(first, last + 1))
    prototypes.update((number, "") for number in ignorable)
    scripts.sort(key=lambda one: one[:2])
    starts, ends, names_of = ([one[at] for one in scripts] for at in range(3))
    return _Table(prototypes, frozenset(ignorable), starts, ends, names_of)  # type: ignore[arg-type]


def prototype(text: str) -> str:
    """The skeleton of UTS #39 (without its reordering of bidirectional text): two texts with the same one look alike.
    Invisible characters are left out."""
    decomposed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFD", decomposed.translate(_table().prototypes))


def is_ignorable(character: str) -> bool:
    """Whether it is invisible by itself: joiners, variation selectors, directional controls, fillers, tags."""
    return ord(character) in _table().ignorable


def scripts_of(character: str) -> frozenset[str]:
    """The scripts it is used in, by their four-letter codes. {"Zyyy"} (common) and {"Zinh"} (takes that of the
    character before) stand for all; so does {"Zyyy"} for a character that the file does not know."""
    table, number = _table(), ord(character)
    at = bisect_right(table.starts, number) - 1
    return table.scripts[at] if at >= 0 and number <= table.ends[at] else _COMMON
