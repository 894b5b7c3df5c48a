"""What an import has made of a store, so that it can be undone while nothing else has happened to it.

Owns: the note that the import leaves in `meta`, and comparing the store with it.
Elsewhere: undoing (chatctl.import_legacy), digests (store.copy).
Fails: what the twins raise passes through.

The rule: an import may be undone as long as nothing would be lost that a person did afterwards. Logging in and
receiving messages do not count: when users were seen, from which networks they came, how their passwords are hashed,
and how far messages were delivered and read. A message, a friendship, a group, an account, a password or
a setting that is new, changed or gone does.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import msgspec

from chatd.store.copy import IMPORTED, TABLES, Digest, OnProgress, Row, StoreDump, Table, digest, transaction
from chatd.store.versions import FILLING as FILLING

_NOT_COUNTED = {
    "user": {"password", "seen_at_ms"},
    "cursor": {"delivered", "seen"},
}
"""Columns that do not count."""
_TABLES = tuple(table for table in TABLES if table.name not in ("known_source", "request"))


class ImportNote(msgspec.Struct, frozen=True, kw_only=True):
    """source: name of the legacy database. at_ms: epoch. tables: of each its rows, and their digest."""

    source: str
    at_ms: int
    tables: dict[str, tuple[int, str]]


class Change(NamedTuple):
    """A table that is not as the import left it: rows then and now."""

    table: str
    then: int
    now: int


def leave_note(store: StoreDump, source: str, at_ms: int, watch: OnProgress) -> None:
    """Cost: the whole store is read."""
    store.snapshot()
    tables = {name: (found.rows, str(found)) for name, found in _digests(store, watch)}
    with transaction(store):
        store.write_note(IMPORTED, msgspec.json.encode(ImportNote(source=source, at_ms=at_ms, tables=tables)).decode())


def read_note(store: StoreDump) -> ImportNote | None:
    """None: the store was not made by an import."""
    text = store.read_note(IMPORTED)
    return msgspec.json.decode(text, type=ImportNote) if text else None


def changes(store: StoreDump, note: ImportNote, watch: OnProgress) -> list[Change]:
    """What people have done since. Cost: the whole store is read."""
    store.snapshot()
    found = []
    for name, now in _digests(store, watch):
        rows, text = note.tables.get(name, (0, ""))
        if (now.rows, str(now)) != (rows, text):
            found.append(Change(name, rows, now.rows))
    return found


def _digests(store: StoreDump, watch: OnProgress) -> Iterator[tuple[str, Digest]]:
    for table in _TABLES:
        total = store.count(table)
        watch(f"compare {table.name}", 0, total)
        rows = _what_counts(table, store.rows(table, ()))
        yield table.name, digest(rows, partial(_more, watch, f"compare {table.name}", total))


def _more(watch: OnProgress, what: str, total: int, more: int) -> None:
    watch(what, more, total)


def _what_counts(table: Table, rows: Iterator[Row]) -> Iterator[Row]:
    left_out = _NOT_COUNTED.get(table.name)
    if not left_out:
        yield from rows
        return
    kept = [place for place, column in enumerate(table.columns) if column not in left_out]
    for row in rows:
        yield tuple(row[place] for place in kept)
