"""The caches of one connection to the database, and the parts of the shared SQL that differ in this twin.

Owns: row locks, the caches of users, pairs and names, reading many users and pairs in one statement, and the witness of
a transaction.
Elsewhere: transactions (store.mysql.tables), the connection (store.mysql.connection).
Fails: Again and Unavailable as store.mysql.connection.

A group is locked by the row of its conversation, which every append to the group locks too: a join, a kick and a
message happen one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from chatd.model import SYSTEM, ConversationId, GroupId, Message, Seq, User, UserId
from chatd.store.event_contract import EventKind
from chatd.store.mysql import barrier
from chatd.store.mysql.connection import MysqlConnection
from chatd.store.sql.directory import UserDirectory
from chatd.store.sql.event_log import EventLog
from chatd.store.sql.messages import CACHED, MessageReader, MessageRow, Pairs
from chatd.store.sql.verdicts import Permissions

_MANY = 1000
"""Maximum values of one IN (…)."""
_PAIRS = "JSON_TABLE(?, '$[*]' COLUMNS (actor BIGINT PATH '$[0]', subject BIGINT PATH '$[1]')) AS p"
_NAMES_S = 0.5
"""How long the name of a user who was erased elsewhere may still be shown."""


class MysqlBackend:
    """store.sql.database.Backend, with locks that other connections wait for."""

    def __init__(self, db: MysqlConnection) -> None:
        self._db = db
        self.directory = UserDirectory(db)
        self.pairs = Pairs(db)
        self.permissions = Permissions(db, _PAIRS)
        self._names: dict[UserId, str] = {}
        """Names by id, also of deleted users."""
        self._names_version = ""
        """meta.directory of `_names`: an erased user's name changes, and raises it."""
        self._names_until = 0.0
        """Until then (monotonic seconds) `_names` need not be compared with it."""
        self._reader = MessageReader(self.pairs, self.user_or_deleted)
        self.events = EventLog(db, self._enter_barrier)
        self.has_webhooks = False
        """Whether others wait for the end of transactions that store messages (store.mysql.barrier), as of the
        beginning of this one."""
        self.made_rows = False
        """Whether this transaction inserted rows that a cache may know of."""
        self.witness: tuple[str, int] | None = None
        """A row that this transaction inserted: table and number. If it is there afterwards, all of it is."""

    def begin_transaction(self) -> None:
        self.witness = None
        self.made_rows = False

    def transaction_lost(self) -> None:
        """It was rolled back, or may have been: rows that it made may not be in the store."""
        if self.made_rows:
            self.directory.clear()
            self.pairs.clear()
            self.permissions.clear()
            self._names.clear()

    # ---------------------------------------------------------------- for the shared SQL

    def lock_users(self, *user_ids: UserId) -> None:
        marks = ",".join("?" * len(user_ids))
        self._db.execute(f"SELECT id FROM user WHERE id IN ({marks}) ORDER BY id FOR UPDATE", user_ids)

    def lock_names(self) -> None:
        """Names that look the same have no unique key in common, so all who create accounts wait for one row."""
        self._db.execute("SELECT value FROM meta WHERE `key` = 'names' FOR UPDATE")

    def lock_invite(self, column: str, value: int | str) -> None:
        self._db.execute(f"SELECT id FROM invite WHERE {column} = ? FOR UPDATE", (value,))

    def lock_group(self, group_id: GroupId) -> None:
        self.lock_conversation(-group_id)

    def lock_conversation(self, conversation: ConversationId) -> None:
        self._db.execute("SELECT last FROM conversation WHERE id = ? FOR UPDATE", (conversation,))

    def message_id(self, conversation: ConversationId, seq: Seq) -> int | None:
        found = self._db.execute("SELECT id FROM message WHERE conversation = ? AND seq = ?", (conversation, seq))
        row = found.fetchone()
        return int(row[0]) if row else None

    def open_group(self, group_id: GroupId) -> None:
        self._db.execute("INSERT INTO conversation VALUES (?, 0)", (-group_id,))

    def last_seq(self, conversation: ConversationId) -> Seq:
        row = self._db.execute("SELECT last FROM conversation WHERE id = ?", (conversation,)).fetchone()
        return int(row[0]) if row else 0

    def _enter_barrier(self) -> None:
        self._db.execute(barrier.ENTER)

    def record(self, kind: EventKind, details: Mapping[str, object], message_id: int = 0) -> None:
        self.events.record(kind, details, message_id)

    def membership_changed(self, group_id: GroupId, user_id: UserId) -> None:
        pass  # members are read from the database for every batch

    def group_changed(self, group_id: GroupId) -> None:
        pass  # as membership_changed

    def created(self, table: str, number: int) -> None:
        self.made_rows = True
        self.witness = self.witness or (table, number)

    # ---------------------------------------------------------------- many at once

    def select_in(self, sql: str, numbers: Collection[int]) -> list[Any]:
        """sql ends with IN. The rows for all the numbers, in as few statements as possible."""
        rows: list[Any] = []
        left = sorted(numbers)
        while left:
            part, left = left[:_MANY], left[_MANY:]
            rows += self._db.query(f"{sql} ({','.join(map(str, part))})".encode()).fetchall()
        return rows

    def messages(self, rows: Sequence[MessageRow]) -> list[Message]:
        self.prefetch({row[1] for row in rows}, {row[3] for row in rows})
        return [self._reader.message(row) for row in rows]

    def prefetch(self, conversations: Iterable[ConversationId], users: Iterable[UserId]) -> None:
        """Read the pairs of the conversations, and the names of these users and those of the pairs."""
        self._check_names()
        users_of = self.pairs.users
        if len(users_of) + len(self._names) > CACHED:
            users_of.clear()
            self._names.clear()
        pairs = {number for number in conversations if number > 0}
        missing = pairs - users_of.keys()
        for number, low, high in self.select_in("SELECT id, low, high FROM pair WHERE id IN", missing):
            users_of[number] = low, high
        wanted = {*users, *(user for number in pairs for user in users_of[number])}
        for number, name in self.select_in("SELECT id, name FROM user WHERE id IN", wanted - self._names.keys()):
            self._names[number] = str(name)

    def forget_names(self) -> None:
        """Accounts were deleted or erased."""
        self._names.clear()
        self.directory.clear()

    def _check_names(self) -> None:
        """A connection that only reads has no transaction at whose beginning it would learn of changes."""
        now = time.monotonic()
        if now < self._names_until:
            return
        self._names_until = now + _NAMES_S
        (version,) = self._db.execute("SELECT value FROM meta WHERE `key` = 'directory'").fetchone()
        if version != self._names_version:
            self._names_version = version
            self.forget_names()

    def user_or_deleted(self, user_id: UserId) -> User:
        if user_id == SYSTEM.id:
            return SYSTEM
        self._check_names()
        if user_id not in self._names:
            self.prefetch((), (user_id,))
        return User(user_id, self._names.get(user_id, f"#{user_id}"))
