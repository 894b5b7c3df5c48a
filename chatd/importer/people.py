"""The old accounts and friends: which come over, and under which names.

Owns: the rules for ids, names, passwords and friends. Ids stay: the old client logs in by its number.
Elsewhere: reading (takeover.source), what is told (takeover.report).
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator

from chatd.core.accounts import name_allowed
from chatd.importer.report import Report
from chatd.importer.source import OldTables
from chatd.store.copy import Row
from chatd.store.sql.directory import name_key

_HIGHEST = 1 << 53
"""Ids beyond are not exact in every client."""


class People:
    """ids: the accounts that come over. renamed: the new names of those that could not keep theirs."""

    def __init__(self, longest: int) -> None:
        self.ids: set[int] = set()
        self.renamed: dict[int, str] = {}
        self._longest = longest
        self._taken: set[str] = set()

    def survey(self, old: OldTables, report: Report) -> None:
        """Decide about every account. A name that may stay is never lost to one that is made up here."""
        changed: list[tuple[int, str, str]] = []
        for number, raw, has_password in old.names():
            if not 0 < number < _HIGHEST:
                report.reject("user", "the id is no positive number", {"id": number, "name": raw})
            elif number in self.ids:
                report.reject("user", "the id is there twice", {"id": number, "name": raw})
            else:
                self.ids.add(number)
                name, why = self._fit(raw)
                if not has_password:
                    report.change(
                        "user: has no password and cannot log in before it is given one", f"{number}: {raw!r}"
                    )
                if why or name_key(name) in self._taken:
                    changed.append((number, raw, why or "the name differs from another one only in case or form"))
                else:
                    self._taken.add(name_key(name))
        for number, raw, why in changed:
            name = self.renamed[number] = self._new_name(number, raw)
            report.change(f"user: {why}", f"{number}: {raw!r} is now {name!r}")
        self._taken.clear()

    def _fit(self, raw: str) -> tuple[str, str]:
        """(the name as near to the old one as is allowed, why it is not the old one)."""
        if name_allowed(raw, self._longest, digits=False):
            return raw, ""
        kept = "".join(one for one in raw if one == " " or unicodedata.category(one)[0] in "LMNPS")
        kept = kept.strip().lstrip("#").strip()
        if not kept:
            return "", "the name is empty"
        if name_allowed(kept, len(kept), digits=False) and len(kept) > self._longest:
            return kept[: self._longest].strip(), "the name is too long"
        if kept != raw:
            return kept[: self._longest].strip(), "the name has characters that are not allowed"
        return kept, "the name is a number, which would hide an id"

    def _new_name(self, number: int, raw: str) -> str:
        """The fitted name where it is free, else with the id behind it."""
        stem = self._fit(raw)[0]
        ends = itertools.chain((f"-{number}",), (f"-{number}-{more}" for more in itertools.count(2)))
        made = (f"{(stem or 'user')[: max(1, self._longest - len(end))]}{end}" for end in ends)
        for name in itertools.chain((stem,), made):
            if name_allowed(name, max(len(name), self._longest), digits=False) and name_key(name) not in self._taken:
                self._taken.add(name_key(name))
                return name
        raise AssertionError("one of them is free")

    def row(self, number: int, raw: str | None, hashed: str, now_ms: int) -> Row:
        name = self.renamed.get(number, raw or "")
        return (number, name, name_key(name), hashed, now_ms, 0, "{}")


def friends(old: OldTables, people: People, report: Report, now_ms: int) -> Iterator[Row]:
    """The old server listed one's friends from the rows with one's own id in `userid`, and wrote one row or two,
    depending on its version. Here, friends are always mutual."""
    for low, high, rows, both in old.friends():
        told: dict[str, int | str | None] = {"userid": low, "friendid": high}
        if low is None or high is None or low not in people.ids or high not in people.ids:
            report.reject("friend", "there is no such account", told)
            continue
        if low == high:
            report.reject("friend", "nobody is their own friend", told)
            continue
        if not both:
            report.change("friend: was in one list only, is now in both", f"{low} and {high}")
        if rows > 1 + both:
            report.change("friend: was there several times", f"{low} and {high}", rows - 1 - both)
        report.taken["friendships"] += 1
        yield (low, high, 1, now_ms)
        yield (high, low, 1, now_ms)
