"""A takeover from its first question to the last row: the stages, and going on after an interruption.

Owns: the order, what is one transaction, hashing passwords in threads, the count at the end.
Elsewhere: the rules (takeover.people, takeover.groups, takeover.waiting), the destination (store.copy).
Fails: NotACopy when the destination has users of its own, BootError 70 when what is there in the end is not what was
decided. Ended at any moment, the same command goes on: accounts in batches, because a password takes long, everything
else in one transaction each. The rules are applied again from the start each time, so that the report is whole.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from chatd.errors import BootError, Exit
from chatd.importer.groups import Groups
from chatd.importer.people import People, friends
from chatd.importer.report import Report
from chatd.importer.source import OldTables
from chatd.importer.waiting import Waiting
from chatd.store.copy import BY_NAME, Far, Row, Side, Watch, batches, claim, note_far, release, transaction

_HASHED = 100
"""Accounts of one transaction."""
_STAGES = ("accounts", "friends", "groups", "messages", "end")
Part = tuple[str, Iterable[Row]]


class Settings(NamedTuple):
    """longest: a name, in characters. hash: a password's hash; called in several threads."""

    longest: int
    hash: Callable[[str], str]
    now_ms: int


def take_over(old: OldTables, target: Side | None, settings: Settings, report: Report, watch: Watch) -> None:
    """target None: apply the rules and count, write nothing."""
    stages = _Stages(target, f"chatctl import-chatserver from {old.name}", watch)
    people, groups = People(settings.longest), Groups(settings.longest)
    people.survey(old, report)
    groups.survey(old, people, report)
    waiting = Waiting(people, groups, report, settings.now_ms)
    report.taken["accounts"] = len(people.ids)
    stages.accounts(old, people, settings)
    stages.load("friends", old.count("friend"), ("friend", friends(old, people, report, settings.now_ms)))
    stages.load(
        "groups",
        old.count("groupuser"),
        ("team", groups.teams(report, settings.now_ms)),
        ("member", groups.memberships(report, settings.now_ms)),
    )
    stages.load(
        "messages",
        old.count("offlinemessage"),
        ("message", waiting.messages(old)),
        ("pair", waiting.pairs()),
        ("cursor", waiting.cursors()),
        ("friend", _requests(old, waiting)),
    )
    stages.finish({"user": old.counter("user"), "team": old.counter("allgroup")})


def _requests(old: OldTables, waiting: Waiting) -> Iterator[Row]:
    """Begun only when the messages have been read."""
    asked, known = waiting.asked(), set()
    for one in old.friends() if asked else ():
        if one.low is not None and one.high is not None:
            known |= {(one.low, one.high), (one.high, one.low)} & asked
    yield from waiting.requests(known)


class _Stages:
    """Loads what is not loaded yet; reads the rest all the same."""

    def __init__(self, target: Side | None, label: str, watch: Watch) -> None:
        self._target, self._watch = target, watch
        self._far = claim(target, label, Far(_STAGES[0], [])) if target is not None else Far(_STAGES[-1], [])
        self._counts: dict[str, int] = {}

    def accounts(self, old: OldTables, people: People, settings: Settings) -> None:
        self._counts["user"] = total = len(people.ids)
        target = self._target
        if target is None or self._far.table != "accounts":
            return
        after = int(self._far.after[0] or 0) if self._far.after else None
        self._watch("accounts", 0, total)
        self._watch("accounts", target.count(BY_NAME["user"]), total)
        wanted = _once(one for one in old.users(after) if one[0] in people.ids)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            while some := list(itertools.islice(wanted, _HASHED)):
                hashes = pool.map(lambda secret: settings.hash(secret) if secret else "", [one[2] for one in some])
                rows = [
                    people.row(number, name, hashed, settings.now_ms)
                    for (number, name, _), hashed in zip(some, hashes, strict=True)
                ]
                with transaction(target):
                    target.load(BY_NAME["user"], rows)
                    note_far(target, Far("accounts", [some[-1][0]]))
                self._watch("accounts", len(rows), total)
        with transaction(target):
            self._next("accounts", target)

    def load(self, stage: str, total: int, *parts: Part) -> None:
        """All parts are one transaction. total: old rows, about."""
        target = self._target
        if target is None or self._far.table != stage:
            for table, rows in parts:
                self._count(table, sum(1 for _ in rows))
            return
        self._watch(stage, 0, total)
        with transaction(target):
            for table, rows in parts:
                for batch in batches(rows):
                    target.load(BY_NAME[table], batch)
                    self._count(table, len(batch))
                    if table == BY_NAME[parts[0][0]].name:
                        self._watch(stage, len(batch), total)
            self._next(stage, target)

    def _count(self, table: str, more: int) -> None:
        self._counts[table] = self._counts.get(table, 0) + more

    def _next(self, stage: str, target: Side) -> None:
        self._far = Far(_STAGES[_STAGES.index(stage) + 1], [])
        note_far(target, self._far)

    def finish(self, counters: dict[str, int]) -> None:
        target = self._target
        if target is None:
            return
        target.raise_counters(counters)
        target.view()
        for name, wanted in self._counts.items():
            found = target.count(BY_NAME[name])
            if found != wanted:
                text = f"{target.name}: the table {name} has {found} rows and not {wanted}: did the old tables change?"
                raise BootError(f"{text} Empty the destination and begin again", Exit.TRY_AGAIN)
        release(target)


def _once(users: Iterable[tuple[int, str | None, str | None]]) -> Iterator[tuple[int, str | None, str | None]]:
    """The first of each id; they are sorted."""
    return (next(same) for _, same in itertools.groupby(users, key=lambda one: one[0]))
