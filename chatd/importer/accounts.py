"""The legacy accounts and friends: which are imported, and under which names.

Owns: the rules for ids, names, passwords and friends. Ids are kept, because legacy clients log in by id.
Elsewhere: reading (importer.legacy), counting (importer.report).
Fails: never by itself; a row that cannot be imported is reported.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator

from chatd.errors import Refused
from chatd.importer.legacy import LegacyDatabase
from chatd.importer.report import ImportReport
from chatd.store.copy import Row
from chatd.texts.names import OF_THE_WIRES, is_reserved, name_key, new_name, skeleton_hash

_MAX_ID = 1 << 53
"""Higher ids are not exact in every client."""


def _may_stay(name: str, longest: int) -> bool:
    """Whether an imported account keeps this name: printable, without surrounding spaces, not taken for a group or for
    the number of an account. More is allowed than to new accounts (texts.names.new_name)."""
    if not 0 < len(name) <= longest or name in OF_THE_WIRES or name[0] == "#" or name != name.strip():
        return False
    if unicodedata.normalize("NFKC", name).isdigit():
        return False
    return all(one == " " or unicodedata.category(one)[0] in "LMNPS" for one in name)


class ImportedAccounts:
    """The accounts that are imported. Filled by decide()."""

    def __init__(self, name_chars: int, reserved_names: tuple[str, ...] = ()) -> None:
        """name_chars: the longest name, in characters. reserved_names: as accounts.reserved_names."""
        self.ids: set[int] = set()
        self.renamed: dict[int, str] = {}
        """The new names of the accounts that cannot keep theirs."""
        self._name_chars = name_chars
        self._reserved_names = reserved_names
        self._keys_in_use: set[str] = set()
        """name_key of every name given so far; empty after decide()."""
        self._first_like: dict[int, int] = {}
        """By skeleton_hash, the first account whose name looks like this; empty after decide()."""

    def decide(self, legacy: LegacyDatabase, report: ImportReport) -> None:
        """Decide about every account. An allowed name is never lost to one that is made up here."""
        changed: list[tuple[int, str, str]] = []
        for number, raw, has_password in legacy.names():
            if not 0 < number < _MAX_ID:
                report.reject("user", "the id is not a positive number", {"id": number, "name": raw})
            elif number in self.ids:
                report.reject("user", "the id occurs twice", {"id": number, "name": raw})
            else:
                self.ids.add(number)
                name, why = self._fit(raw)
                if not has_password:
                    report.change(
                        "user: has no password and cannot log in before it is given one", f"{number}: {raw!r}"
                    )
                if why or name_key(name) in self._keys_in_use:
                    changed.append((number, raw, why or "the name differs from another one only in case or form"))
                else:
                    self._keys_in_use.add(name_key(name))
                    self._note_doubts(number, name, report)
        for number, raw, why in changed:
            name = self.renamed[number] = self._new_name(number, raw)
            report.change(f"user: {why}", f"{number}: {raw!r} is now {name!r}")
            self._note_doubts(number, name, report)
        self._keys_in_use.clear()
        self._first_like.clear()

    def _note_doubts(self, number: int, name: str, report: ImportReport) -> None:
        """About a name that is imported, although a new account could not have it."""
        like = self._first_like.setdefault(skeleton_hash(name), number)
        if like != number:
            report.keep("user: the name looks like another one", f"{number}: {name!r} looks like that of {like}")
        if is_reserved(name, self._reserved_names):
            report.keep("user: the name is reserved, or looks like a reserved one", f"{number}: {name!r}")
        try:
            new_name(name, max(len(name), self._name_chars), digits=False)
        except Refused as refused:
            report.keep("user: the name is not allowed to new accounts", f"{number}: {name!r}: {refused.text}")

    def _fit(self, raw: str) -> tuple[str, str]:
        """(the allowed name that is nearest to the legacy one, why it is not the same)."""
        if _may_stay(raw, self._name_chars):
            return raw, ""
        kept = "".join(one for one in raw if one == " " or unicodedata.category(one)[0] in "LMNPS")
        kept = kept.strip().lstrip("#").strip()
        if not kept:
            return "", "the name is empty"
        if _may_stay(kept, len(kept)) and len(kept) > self._name_chars:
            return kept[: self._name_chars].strip(), "the name is too long"
        if kept != raw:
            return kept[: self._name_chars].strip(), "the name has characters that are not allowed"
        return kept, "the name is a number, which would hide an id"

    def _new_name(self, number: int, raw: str) -> str:
        """The allowed name if it is free, else the name with the id appended."""
        stem = self._fit(raw)[0]
        ends = itertools.chain((f"-{number}",), (f"-{number}-{more}" for more in itertools.count(2)))
        made = (f"{(stem or 'user')[: max(1, self._name_chars - len(end))]}{end}" for end in ends)
        for name in itertools.chain((stem,), made):
            allowed = _may_stay(name, max(len(name), self._name_chars))
            if allowed and name_key(name) not in self._keys_in_use:
                self._keys_in_use.add(name_key(name))
                return name
        raise AssertionError("one of them is free")

    def row(self, number: int, raw: str | None, hashed: str, now_ms: int) -> Row:
        name = self.renamed.get(number, raw or "")
        return (number, name, name_key(name), hashed, now_ms, 0, "{}", 0, 0, "")


def friends(legacy: LegacyDatabase, accounts: ImportedAccounts, report: ImportReport, now_ms: int) -> Iterator[Row]:
    """The legacy server listed a user's friends from the rows with the user's id in `userid`, and wrote one row or two
    per friendship, depending on its version. Here, friends are always mutual."""
    for low, high, rows, both in legacy.friends():
        row: dict[str, int | str | None] = {"userid": low, "friendid": high}
        if low is None or high is None or low not in accounts.ids or high not in accounts.ids:
            report.reject("friend", "there is no such account", row)
            continue
        if low == high:
            report.reject("friend", "a user cannot be their own friend", row)
            continue
        if not both:
            report.change("friend: was in one list only, is now in both", f"{low} and {high}")
        if rows > 1 + both:
            report.change("friend: occurred several times", f"{low} and {high}", rows - 1 - both)
        report.imported["friendships"] += 1
        yield (low, high, 1, now_ms)
        yield (high, low, 1, now_ms)
