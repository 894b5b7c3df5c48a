"""The youngest messages: written to the file, not yet to its index tables.

Owns: Tail, the memory of every row of `message` above the mark, and the merge that moves the mark.
Elsewhere: numbering and reading (store.sqlite), the tables (store.schema).
Fails: sqlite3.Error passes through; then reset() must be called, and the next refresh() reads the tail again.

Why: an index entry of a random key dirties a page of its own, and a commit writes whole pages. Rows appended
to `message` alone share their pages; `place` and `sent` get theirs sorted and MERGE rows at a time. A worker
knows the tail by reading the rows that others have appended (at most some thousands), so nothing depends on
memory that a crash can lose. docs/decisions/0002 has the figures.
"""

from __future__ import annotations

import sqlite3

from chatd.model import ConversationId, Seq

MERGE = 2000
"""Rows the tail may have before they are merged; a merge takes some 10 ms."""


class Tail:
    """keys: send_key -> message.id. places: conversation -> [(seq, message.id)], ascending."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._mark = 0
        self._version = -1
        self.end = 0
        self.keys: dict[int, int] = {}
        self.places: dict[ConversationId, list[tuple[Seq, int]]] = {}

    def __len__(self) -> int:
        return self.end - self._mark

    def reset(self) -> None:
        """Forget everything; what memory says may not be in the file."""
        self._version = -1
        self._mark = self.end = 0
        self.keys.clear()
        self.places.clear()

    def refresh(self) -> bool:
        """Learn what other connections have written; False if there was nothing. Cost: their rows."""
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            return False
        mark = int(self._db.execute("SELECT value FROM meta WHERE key = 'merged'").fetchone()[0])
        if mark != self._mark:
            self.keys.clear()
            self.places.clear()
            self._mark = self.end = mark
        rows = self._db.execute("SELECT id, conversation, seq, send_key FROM message WHERE id > ?", (self.end,))
        for number, conversation, seq, key in rows:
            self.add(number, conversation, seq, key)
        self._version = version  # last: a read that fails half-way is taken up where it ended
        return True

    def add(self, number: int, conversation: ConversationId, seq: Seq, key: int | None) -> None:
        self.end = number
        if key is not None:
            self.keys[key] = number
        places = self.places.get(conversation)
        if places is None:
            self.places[conversation] = [(seq, number)]
        else:
            places.append((seq, number))

    def merge(self) -> None:
        """Index the tail. Inside a transaction, under the write lock."""
        bounds = (self._mark, self.end)
        self._db.execute(
            "INSERT INTO place SELECT conversation, seq, id FROM message WHERE id > ? AND id <= ?"
            " ORDER BY conversation, seq",
            bounds,
        )
        self._db.execute(
            "INSERT INTO sent SELECT send_key, id FROM message WHERE id > ? AND id <= ? AND send_key IS NOT NULL"
            " ORDER BY send_key",
            bounds,
        )
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'merged'", (str(self.end),))
        self._mark = self.end
        self.keys.clear()
        self.places.clear()
