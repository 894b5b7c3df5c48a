"""An import from its first question to the last row: the stages, and continuing after an interruption.

Owns: the order of the stages, what is one transaction, hashing passwords in threads, the count at the end.
Elsewhere: the rules (importer.accounts, importer.groups, importer.offline_messages), the destination (store.copy).
Fails: DestinationInUse when the destination already has users, BootError 75 when its rows differ from those decided on
at the end. After an interruption at any moment, the same command continues: accounts are loaded in batches, because
hashing a password takes long, every other stage in one transaction. The rules are applied from the start each time, so
that the report is complete.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from chatd.errors import BootError, Exit
from chatd.importer import traces
from chatd.importer.accounts import ImportedAccounts, friends
from chatd.importer.groups import ImportedGroups
from chatd.importer.legacy import LegacyDatabase, LegacyUser
from chatd.importer.offline_messages import OfflineMessages
from chatd.importer.report import ImportReport
from chatd.store.copy import (
    BY_NAME,
    OnProgress,
    Position,
    Row,
    StoreDump,
    batches,
    finish_filling,
    save_position,
    start_filling,
    transaction,
)

_HASHED = 100
"""Accounts loaded in one transaction."""
_STAGES = ("accounts", "friends", "groups", "messages", "end")
_UNKNOWN: dict[str, Row] = {"user": (0, 0, 0, 0), "message": (0, 0, None), "cursor": (0,)}
"""The last columns of a table that the legacy server knows nothing of, as for new rows."""
Part = tuple[str, Iterable[Row]]
"""A table, and the rows to be loaded into it."""


class ImportSettings(NamedTuple):
    """name_chars: the longest name, in characters. hash: makes the hash of a password; called in several threads.
    now_ms: the time of everything that has no time in the legacy tables. reserved_names: for the report."""

    name_chars: int
    hash: Callable[[str], str]
    now_ms: int
    reserved_names: tuple[str, ...] = ()


def run_import(
    legacy: LegacyDatabase,
    target: StoreDump | None,
    settings: ImportSettings,
    report: ImportReport,
    on_progress: OnProgress,
) -> None:
    """target None: apply the rules and count, write nothing. Raises: DestinationInUse, BootError."""
    stages = _Stages(target, legacy.name, settings.now_ms, on_progress)
    accounts, groups = (
        ImportedAccounts(settings.name_chars, settings.reserved_names),
        ImportedGroups(settings.name_chars),
    )
    accounts.decide(legacy, report)
    groups.decide(legacy, accounts, report)
    offline = OfflineMessages(accounts, groups, report, settings.now_ms)
    report.imported["accounts"] = len(accounts.ids)
    stages.load_accounts(legacy, accounts, settings)
    stages.load("friends", legacy.count("friend"), ("friend", friends(legacy, accounts, report, settings.now_ms)))
    stages.load(
        "groups",
        legacy.count("groupuser"),
        ("team", groups.teams(report, settings.now_ms)),
        ("member", groups.memberships(report, settings.now_ms)),
    )
    stages.load(
        "messages",
        legacy.count("offlinemessage"),
        ("message", offline.messages(legacy)),
        ("pair", offline.pairs()),
        ("cursor", offline.cursors()),
        ("friend", _requests(legacy, offline)),
    )
    stages.finish({"user": legacy.counter("user"), "team": legacy.counter("allgroup")})


def _requests(legacy: LegacyDatabase, offline: OfflineMessages) -> Iterator[Row]:
    """Begins when the messages have been read."""
    asked, known = offline.asked(), set()
    for one in legacy.friends() if asked else ():
        if one.low is not None and one.high is not None:
            known |= {(one.low, one.high), (one.high, one.low)} & asked
    yield from offline.requests(known)


def _complete(table: str, rows: list[Row]) -> list[Row]:
    """The rows with the columns that importer's rules leave out."""
    rest = _UNKNOWN.get(table)
    return rows if rest is None else [row + rest for row in rows]


class _Stages:
    """Loads what an interrupted run has not loaded; the rest is read too, so that it is counted."""

    def __init__(self, target: StoreDump | None, source: str, now_ms: int, on_progress: OnProgress) -> None:
        """source: name of the legacy database."""
        self._target, self._on_progress = target, on_progress
        self._source, self._now_ms = source, now_ms
        label = f"chatctl import-chatserver from {source}"
        if target is None:
            self._position = Position(_STAGES[-1], [])
        else:
            self._position = start_filling(target, label, Position(_STAGES[0], []))
        self._counts: dict[str, int] = {}
        """The number of rows that each table must have in the end."""

    def load_accounts(self, legacy: LegacyDatabase, accounts: ImportedAccounts, settings: ImportSettings) -> None:
        self._counts["user"] = total = len(accounts.ids)
        target = self._target
        if target is None or self._position.table != "accounts":
            return
        after = int(self._position.after[0] or 0) if self._position.after else None
        self._on_progress("accounts", 0, total)
        self._on_progress("accounts", target.count(BY_NAME["user"]), total)
        wanted = _first_of_each_id(one for one in legacy.users(after) if one[0] in accounts.ids)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            while some := list(itertools.islice(wanted, _HASHED)):
                hashes = pool.map(lambda secret: settings.hash(secret) if secret else "", [one[2] for one in some])
                rows = [
                    accounts.row(number, name, hashed, settings.now_ms)
                    for (number, name, _), hashed in zip(some, hashes, strict=True)
                ]
                with transaction(target):
                    target.load(BY_NAME["user"], _complete("user", rows))
                    save_position(target, Position("accounts", [some[-1][0]]))
                self._on_progress("accounts", len(rows), total)
        with transaction(target):
            self._enter_stage_after("accounts", target)

    def load(self, stage: str, total: int, *parts: Part) -> None:
        """All parts in one transaction. total: legacy rows, about, for the progress."""
        target = self._target
        if target is None or self._position.table != stage:
            for table, rows in parts:
                self._count(table, sum(1 for _ in rows))
            return
        self._on_progress(stage, 0, total)
        with transaction(target):
            for table, rows in parts:
                for batch in batches(rows):
                    target.load(BY_NAME[table], _complete(table, batch))
                    self._count(table, len(batch))
                    if table == parts[0][0]:
                        self._on_progress(stage, len(batch), total)
            self._enter_stage_after(stage, target)

    def _count(self, table: str, more: int) -> None:
        self._counts[table] = self._counts.get(table, 0) + more

    def _enter_stage_after(self, stage: str, target: StoreDump) -> None:
        self._position = Position(_STAGES[_STAGES.index(stage) + 1], [])
        save_position(target, self._position)

    def finish(self, counters: dict[str, int]) -> None:
        """Compare the counts, and mark the target as complete. Raises: BootError 75."""
        target = self._target
        if target is None:
            return
        target.raise_counters(counters)
        target.snapshot()
        for name, wanted in self._counts.items():
            found = target.count(BY_NAME[name])
            if found != wanted:
                text = f"the table {name} has {found} rows instead of {wanted}: did the legacy tables change meanwhile?"
                raise BootError(f"store {target.name}: {text} Empty the destination and start again", Exit.TRY_AGAIN)
        traces.leave_note(target, self._source, self._now_ms, self._on_progress)
        finish_filling(target)


def _first_of_each_id(users: Iterable[LegacyUser]) -> Iterator[LegacyUser]:
    """users: sorted by id."""
    return (next(same) for _, same in itertools.groupby(users, key=lambda one: one[0]))
