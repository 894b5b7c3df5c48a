"""The embedded store: one SQLite file, many worker processes.

Owns: SqliteTables: the write lock, transactions, and putting the parts together; moving cursors.
Elsewhere: the file (store.sqlite.file), storing messages (store.sqlite.messages), reading them (store.sqlite.history),
accounts, friends and groups (store.sql), batching (store.group_commit), the tables (store.sqlite.schema).
Fails: Unavailable for anything SQLite reports (disk full, I/O error); the transaction is rolled back first.

Writers of different workers take turns by a flock that blocks, so that none of them sees SQLITE_BUSY. The file is in
WAL mode with synchronous=FULL, so commit() returns after the log is on disk (P1).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from chatd.errors import ErrorCode, Unavailable
from chatd.model import UserId
from chatd.store.contract import ANYTHING, Advance, Draft, SendingRules, Stored
from chatd.store.sql.accounts import SqlAccounts
from chatd.store.sql.address_bans import SqlAddressBans
from chatd.store.sql.administrators import SqlAdministrators
from chatd.store.sql.api_keys import SqlApiKeys
from chatd.store.sql.bridges import SqlBridges, SqlOutgoing
from chatd.store.sql.consent import SqlConsent
from chatd.store.sql.erasure import SqlErasure
from chatd.store.sql.events import EventReading, SqlEvents
from chatd.store.sql.files import SqlFiles
from chatd.store.sql.friends import SqlFriends
from chatd.store.sql.group_admission import SqlGroupAdmission
from chatd.store.sql.groups import SqlGroups
from chatd.store.sql.invites import SqlInvites
from chatd.store.sql.known_sources import SqlKnownSources
from chatd.store.sql.messages import MessageReader
from chatd.store.sql.person import SqlPerson
from chatd.store.sql.push import SqlMissed, SqlPush
from chatd.store.sql.request_log import SqlRequestLog
from chatd.store.sql.revisions import SqlRevisions
from chatd.store.sql.webhooks import SqlWebhooks
from chatd.store.sqlite import file as sqlite_file
from chatd.store.sqlite.backend import SqliteBackend
from chatd.store.sqlite.checkpoint import EVERY_PAGES, Checkpointer
from chatd.store.sqlite.event_reader import CLOCK, IN_ORDER
from chatd.store.sqlite.history import SqliteHistory
from chatd.store.sqlite.messages import SqliteMessages
from chatd.store.sqlite.retention import SqliteRetention

_ADVANCE = (
    "UPDATE cursor SET delivered = n.seq FROM (SELECT json_extract(value, '$[0]') AS user_id,"
    " json_extract(value, '$[1]') AS conversation, json_extract(value, '$[2]') AS seq FROM json_each(?)) AS n"
    " WHERE cursor.user_id = n.user_id AND cursor.conversation = n.conversation AND cursor.delivered < n.seq"
)
_UPDATE_LAST_SEEN = (
    "UPDATE user SET seen_at_ms = n.at_ms FROM (SELECT json_extract(value, '$[0]') AS id,"
    " json_extract(value, '$[1]') AS at_ms FROM json_each(?)) AS n WHERE user.id = n.id AND user.seen_at_ms < n.at_ms"
)
_PAGES_OF_A_COMMIT = 5
"""About as many as one commit adds to the log."""


class SqliteTables:
    """store.contract.Tables on one SQLite connection. Made by open_tables()."""

    gather_s = 0.002

    def __init__(self, db: sqlite3.Connection, lock_fd: int, path: Path) -> None:
        """lock_fd: of the file whose flock is the write lock; not held."""
        self._db = db
        self._lock_fd = lock_fd
        self._backend = backend = SqliteBackend(db)
        reader = MessageReader(backend.pairs, backend.directory.user_or_deleted)
        self.groups = SqlGroups(db, backend)
        self.files = SqlFiles(db, backend)
        self._messages = SqliteMessages(db, backend, self.groups, self.files, reader)
        self.accounts = SqlAccounts(db, backend, backend.directory, self.groups)
        self.invites = SqlInvites(db, backend)
        self.friends = friends = SqlFriends(db, backend, backend.directory, backend.permissions)
        self.consent = SqlConsent(db, backend, backend.permissions, friends)
        self.admission = SqlGroupAdmission(db, backend, backend.directory, self.groups, self.consent)
        self.history = SqliteHistory(db, backend, self.groups, reader)
        self.request_log = SqlRequestLog(db, backend)
        self.revisions = SqlRevisions(db, backend, self.groups, self.history.at)
        self.known_sources = SqlKnownSources(db, backend)
        self.address_bans = SqlAddressBans(db)
        self.api_keys = SqlApiKeys(db, backend)
        self.administrators = SqlAdministrators(db, backend)
        self.retention = SqliteRetention(db, backend)
        self.person = SqlPerson(db, lambda rows: [reader.message(row) for row in rows])
        self.erasure = SqlErasure(db, on_end=self._want_empty_log)
        self.events = SqlEvents(
            db,
            EventReading(
                messages=lambda rows: [reader.message(row) for row in rows],
                user=backend.directory.user_or_deleted,
                message_id=backend.message_id,
                log=backend.events,
            ),
        )
        self.webhooks = SqlWebhooks(db, CLOCK)
        self.bridges = SqlBridges(db, backend, backend.permissions)
        self.outgoing = SqlOutgoing(db, lambda rows: [reader.message(row) for row in rows], IN_ORDER)
        self.push = SqlPush(db, backend, SqlMissed(db, IN_ORDER), self.history.at)
        self._checkpointer = Checkpointer(path)
        self._commits = 0
        """Since the last checkpoint."""
        self._empties_log = False
        """The log still has pages with texts that were erased."""

    # ---------------------------------------------------------------- transactions

    def begin(self) -> None:
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._backend.refresh()
        except sqlite3.Error as error:
            self.rollback()
            raise Unavailable(f"sqlite: {error}") from error

    def commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self.rollback()
            raise Unavailable(f"sqlite: {error}") from error
        self._checkpoint()
        fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _checkpoint(self) -> None:
        """Now and then, with the write lock held: have the log copied, or restart it when that is done."""
        self._commits += 1
        if self._empties_log:
            self._empty_log()
        elif self._checkpointer.ready:
            self._checkpointer.ready = False
            self._commits = 0
            with contextlib.suppress(sqlite3.Error):  # another process is reading: the next checkpoint restarts it
                self._db.execute("PRAGMA wal_checkpoint(RESTART)")
        elif self._commits * _PAGES_OF_A_COMMIT >= EVERY_PAGES:
            self._commits = 0
            self._checkpointer.want()

    def _want_empty_log(self) -> None:
        self._empties_log = True

    def _empty_log(self) -> None:
        """Cut the log to length 0. Tried again at the next commit if another process is reading."""
        with contextlib.suppress(sqlite3.Error):
            busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._empties_log = bool(busy)

    def rollback(self) -> None:
        """Also clears every cache, because its entries may not be in the file."""
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        finally:
            self._backend.clear()
            self.retention.transaction_lost()
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def close(self) -> None:
        self._checkpointer.close()
        self._db.close()
        os.close(self._lock_fd)

    # ---------------------------------------------------------------- the operations of a batch

    def append(self, drafts: Sequence[Draft], now_ms: int, rules: SendingRules = ANYTHING) -> list[Stored | ErrorCode]:
        return self._messages.append(drafts, now_ms, rules)

    def advance(self, advances: Sequence[Advance]) -> None:
        highest = {(user_id, conversation): seq for user_id, conversation, seq in sorted(advances)}
        self._db.execute(_ADVANCE, (json.dumps([(*key, seq) for key, seq in highest.items()]),))

    def update_last_seen(self, seen: Sequence[tuple[UserId, int]]) -> None:
        self._db.execute(_UPDATE_LAST_SEEN, (json.dumps(list(dict(sorted(seen)).items())),))


def open_tables(path: Path, *, create: bool) -> SqliteTables:
    """create: a missing file is created, and an empty one gets its tables, under the write lock.

    Raises: BootError 69 if the file does not exist or cannot be used, 78 if its schema is not this program's or it is
    being filled."""
    with sqlite_file.opening(path, create=create, exclusive=False) as file:
        sqlite_file.make_ready(file.db, path, create=create)
        tables = SqliteTables(file.db, file.lock_fd, path)
        file.unlock()
    return tables
