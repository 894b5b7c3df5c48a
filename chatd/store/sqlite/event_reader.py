"""A connection to the file that only reads events, beside the commits.

Owns: SqliteEventReader.
Elsewhere: the SQL (store.sql.events), the connection (store.sqlite.file).
Fails: sqlite3.Error passes through.

In WAL mode it neither waits for a writer nor keeps one waiting. It does not hold the rows without an index entry: it
reads `message` by id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from chatd.model import ConversationId, Message, Seq
from chatd.store.sql.bridges import SqlOutgoing
from chatd.store.sql.directory import UserDirectory
from chatd.store.sql.event_log import EventLog
from chatd.store.sql.events import EventReading, SqlEvents
from chatd.store.sql.messages import MessageReader, MessageRow, Pairs
from chatd.store.sql.push import SqlMissed
from chatd.store.sqlite import file as sqlite_file

CLOCK = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"
"""Milliseconds since the epoch."""
IN_ORDER = "CROSS JOIN"
"""A join whose tables are read in the order in which they are written."""


class SqliteEventReader:
    """events, outgoing, missed: to read. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._db = db = sqlite_file.connect(path)
        db.execute("PRAGMA query_only = ON")
        self._directory = UserDirectory(db)
        self._reader = MessageReader(Pairs(db), self._directory.user_or_deleted)
        self._version = ""
        self.events = SqlEvents(
            db,
            EventReading(
                messages=self._messages,
                user=self._directory.user_or_deleted,
                message_id=_no_message,
                log=EventLog(db),
            ),
        )
        self.outgoing = SqlOutgoing(db, self._messages, IN_ORDER)
        self.missed = SqlMissed(db, IN_ORDER).missed

    def _messages(self, rows: Sequence[MessageRow]) -> list[Message]:
        (version,) = self._db.execute("SELECT value FROM meta WHERE key = 'directory'").fetchone()
        if version != self._version:  # accounts were deleted or erased
            self._version = version
            self._directory.clear()
        return [self._reader.message(row) for row in rows]

    def close(self) -> None:
        self._db.close()


def _no_message(conversation: ConversationId, seq: Seq) -> int | None:
    raise sqlite3.ProgrammingError("this connection only reads")
