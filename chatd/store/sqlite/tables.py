"""The embedded store: one SQLite file, many worker processes.

Owns: the write lock, transactions, and the messages' tables.
Elsewhere: opening and migrating the file (store.sqlite.file); accounts, friends and groups (store.sql.accounts,
store.sql.groups); batching (store.group_commit); the tables (store.sqlite.schema).
Fails: Unavailable for anything SQLite reports (disk full, I/O error); the transaction is rolled back first.

Writers of different workers take turns on a flock that blocks, so nobody meets SQLITE_BUSY; the file is in
WAL mode with synchronous=FULL, so commit() returns after the log is on disk (P1).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from chatd.errors import BootError, ErrorCode, Exit, Unavailable
from chatd.model import ConversationId, GroupId, Message, User, UserId
from chatd.protocol import SendMessage
from chatd.store.contract import Advance, Draft, Stored
from chatd.store.sql.history import CACHE, NOBODY, SELECT
from chatd.store.sqlite import file as sqlite_file
from chatd.store.sqlite.checkpoint import EVERY_PAGES, Checkpointer
from chatd.store.sqlite.history import SqliteArchive

_CHUNK = 64
"""Rows of one INSERT. SQLite gives the interpreter lock up once per statement, and has it back when the loop lets go:
up to a millisecond later. So what can be one statement is one (docs/decisions/0016)."""
_KEYS = (1, 4, 16, 64, 256)
"""Send keys of one question; it is filled up with the last one."""
_SENT = {size: f"SELECT send_key FROM sent WHERE send_key IN ({','.join('?' * size)})" for size in _KEYS}
_WIDTH = 10
_ADVANCE = (
    "UPDATE cursor SET delivered = n.seq FROM (SELECT json_extract(value, '$[0]') AS user_id,"
    " json_extract(value, '$[1]') AS conversation, json_extract(value, '$[2]') AS seq FROM json_each(?)) AS n"
    " WHERE cursor.user_id = n.user_id AND cursor.conversation = n.conversation AND cursor.delivered < n.seq"
)
_SAW = (
    "UPDATE user SET seen_at_ms = n.at_ms FROM (SELECT json_extract(value, '$[0]') AS id,"
    " json_extract(value, '$[1]') AS at_ms FROM json_each(?)) AS n WHERE user.id = n.id AND user.seen_at_ms < n.at_ms"
)
_PAGES_OF_A_COMMIT = 5


@functools.cache
def _insert_rows(size: int) -> str:
    return (
        "INSERT INTO message (id, conversation, seq, sender_id, send_key, fp, sent_at_ms, qos, typeu, body) VALUES "
        + ",".join(["(?,?,?,?,?,?,?,?,?,?)"] * size)
    )


class SqliteTables(SqliteArchive):
    """store.base.Tables on one SQLite connection. Build with open_tables()."""

    gather_s = 0.002

    def __init__(self, db: sqlite3.Connection, lock_fd: int, path: Path) -> None:
        super().__init__(db)
        self._checkpointer = Checkpointer(path)
        self._commits = 0
        self._lock_fd = lock_fd
        self._pairs: dict[tuple[UserId, UserId], ConversationId] = {}

    # ---------------------------------------------------------------- transactions

    def begin(self) -> None:
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._forget_what_others_changed()
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
        """Now and then, with the write lock held: have the log copied, or end it when that is done."""
        self._commits += 1
        if self._checkpointer.ready:
            self._checkpointer.ready = False
            self._commits = 0
            with contextlib.suppress(sqlite3.Error):  # somebody reads: the next round does it
                self._db.execute("PRAGMA wal_checkpoint(RESTART)")
        elif self._commits * _PAGES_OF_A_COMMIT >= EVERY_PAGES:
            self._commits = 0
            self._checkpointer.want()

    def rollback(self) -> None:
        """Also forgets every cached number: what they said may not be in the file."""
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        finally:
            self._tail.reset()
            self._pairs.clear()
            self._pair_members.clear()
            self._last.clear()
            self._forget_members()
            self.forget_users()
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def close(self) -> None:
        self._checkpointer.close()
        self._db.close()
        os.close(self._lock_fd)

    # ---------------------------------------------------------------- messages

    def append(self, drafts: Sequence[Draft], now_ms: int) -> list[Stored | ErrorCode]:
        """Cost: per draft one look-up of its send key and one appended row; now and then, a slice of a merge."""
        first = self._keys.first
        keys = [first(draft.sender.id, draft.command.fp) if draft.command.fp else None for draft in drafts]
        known = self._known(keys)
        results: list[Stored | ErrorCode] = []
        values: list[int | str | None] = []
        fresh: dict[int, Message] = {}
        tail, last = self._tail, self._last
        for draft, key in zip(drafts, keys, strict=True):
            sender, command = draft.sender, draft.command
            if key is not None and (key in known or key in fresh):
                key, found = self._probe(key, sender.id, command.fp, fresh)
                if key is None or found is not None:
                    results.append(ErrorCode.LIMIT_REACHED if found is None else self._repetition(found, command))
                    continue
            place = self._place(sender, command)
            if isinstance(place, ErrorCode):
                results.append(place)
                continue
            conversation, recipient = place
            version = self._members_version(command.to_group) if command.to_group else 0
            seq = last.get(conversation)
            seq = (self._last_seq(conversation) if seq is None else seq) + 1
            last[conversation] = seq
            number = tail.end + 1
            tail.add(number, conversation, seq, key)
            fp, body, qos, typeu = command.fp, command.body, command.qos, command.typeu
            values += (number, conversation, seq, sender.id, key, fp, now_ms, qos, typeu, body)
            message = Message(
                conversation, seq, sender.id, sender.name, recipient.id, recipient.name, command.to_group,
                body, fp, qos, typeu, now_ms,
            )  # fmt: skip
            if key is not None:
                fresh[key] = message
            results.append(Stored(message, True, version))
        self._insert(values)
        tail.merge(len(values) // _WIDTH)
        return results

    def _insert(self, values: list[int | str | None]) -> None:
        """Rows of _WIDTH values each, one after the other."""
        chunk = _CHUNK * _WIDTH
        for at in range(0, len(values), chunk):
            rows = values[at : at + chunk]
            self._db.execute(_insert_rows(len(rows) // _WIDTH), rows)

    def _known(self, keys: Sequence[int | None]) -> set[int]:
        """Those keys that messages have; nearly always none."""
        wanted = [key for key in keys if key is not None]
        known = self._tail.known(set(wanted))
        for at in range(0, len(wanted), _KEYS[-1]):
            asked = wanted[at : at + _KEYS[-1]]
            size = next(size for size in _KEYS if size >= len(asked))
            asked += asked[-1:] * (size - len(asked))
            known.update(row[0] for row in self._db.execute(_SENT[size], asked))
        return known

    def _sent(self, key: int) -> Message | None:
        number = self._tail.sent(key)
        if number is None:
            found = self._db.execute("SELECT id FROM sent WHERE send_key = ?", (key,)).fetchone()
            if found is None:
                return None
            number = found[0]
        return self._message(self._db.execute(f"{SELECT} WHERE m.id = ?", (number,)).fetchone())

    def _place(self, sender: User, command: SendMessage) -> tuple[ConversationId, User] | ErrorCode:
        """Conversation and recipient (User(0, "") for a group)."""
        if command.to_group:
            return self._group_place(sender.id, command.to_group)
        recipient = self.user(command.to_name, command.to_id)
        if recipient is None:
            return ErrorCode.UNKNOWN_RECIPIENT
        pair = (sender.id, recipient.id) if sender.id < recipient.id else (recipient.id, sender.id)
        conversation = self._pairs.get(pair)
        if conversation is None:
            conversation = self._pair(pair)
        return conversation, recipient

    def _group_place(self, user_id: UserId, group_id: int) -> tuple[ConversationId, User] | ErrorCode:
        member = self._members.get((group_id, user_id))
        if member is None:
            if len(self._members) > CACHE:
                self._forget_members()
            version, found = self.members_among(group_id, (user_id,))
            member = self._members[group_id, user_id] = user_id in found
            self._members_versions[group_id] = version
        if member:
            return -group_id, NOBODY
        return ErrorCode.NOT_A_MEMBER if self._members_version(group_id) else ErrorCode.UNKNOWN_GROUP

    def _members_version(self, group_id: GroupId) -> int:
        """From memory where possible; 0 for a group that does not exist."""
        version = self._members_versions.get(group_id)
        if version is None:
            version = self._members_versions[group_id] = self._version(group_id)
        return version

    def _pair(self, pair: tuple[UserId, UserId]) -> ConversationId:
        found = self._db.execute("SELECT id FROM pair WHERE low = ? AND high = ?", pair).fetchone()
        if found is None:
            made = self._db.execute("INSERT INTO pair (low, high) VALUES (?, ?)", pair).lastrowid
            assert made is not None
            found = (made,)
            self._db.executemany(
                "INSERT OR IGNORE INTO cursor (user_id, conversation, delivered) VALUES (?, ?, 0)",
                [(user, made) for user in pair],
            )
        if len(self._pairs) > CACHE:
            self._pairs.clear()
        self._pairs[pair] = int(found[0])
        return int(found[0])

    # ---------------------------------------------------------------- cursors

    def advance(self, advances: Sequence[Advance]) -> None:
        highest = {(user_id, conversation): seq for user_id, conversation, seq in sorted(advances)}
        self._db.execute(_ADVANCE, (json.dumps([(*key, seq) for key, seq in highest.items()]),))

    def update_last_seen(self, seen: Sequence[tuple[UserId, int]]) -> None:
        self._db.execute(_SAW, (json.dumps(list(dict(sorted(seen)).items())),))


def open_tables(path: Path) -> SqliteTables:
    """Open the file, and make the tables of an empty one under the write lock. BootError 69 if it cannot be used, 78 if
    its schema is another than this program's, or it is being filled."""
    with contextlib.ExitStack() as undo:
        try:
            lock_fd = sqlite_file.lock(path)
            undo.callback(os.close, lock_fd)
            fcntl.flock(lock_fd, fcntl.LOCK_EX)
            db = sqlite_file.connect(path)
            undo.callback(db.close)
            sqlite_file.make_ready(db, path)
            tables = SqliteTables(db, lock_fd, path)
            fcntl.flock(lock_fd, fcntl.LOCK_UN)
        except (OSError, sqlite3.Error) as error:
            raise BootError(f"store: sqlite:{path}: {error}", Exit.UNAVAILABLE) from error
        undo.pop_all()
        return tables
