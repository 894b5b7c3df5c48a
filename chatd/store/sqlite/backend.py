"""The caches of one connection to the file, and the parts of the shared SQL that differ in this twin.

Owns: the caches of users, pairs, members and last numbers, and dropping them when another connection has written or a
transaction was rolled back.
Elsewhere: the rows without an index entry (store.sqlite.unindexed), transactions (store.sqlite.tables).
Fails: sqlite3.Error passes through; then clear() must be called.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from chatd.model import ConversationId, GroupId, Seq, UserId
from chatd.store.event_contract import EventKind
from chatd.store.sql.directory import UserDirectory
from chatd.store.sql.event_log import EventLog
from chatd.store.sql.groups import Standing
from chatd.store.sql.messages import CACHED, Pairs
from chatd.store.sql.verdicts import Permissions
from chatd.store.sqlite.unindexed import UnindexedRows

_PAIRS = "(SELECT json_extract(value, '$[0]') AS actor, json_extract(value, '$[1]') AS subject FROM json_each(?)) AS p"
_VERSIONS = "SELECT key, value FROM meta WHERE key IN ('consent', 'directory') ORDER BY key"


class SqliteBackend:
    """store.sql.database.Backend. It locks nothing: only one transaction at a time writes to the file."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.unindexed = UnindexedRows(db)
        self.directory = UserDirectory(db)
        self.pairs = Pairs(db)
        self.permissions = Permissions(db, _PAIRS)
        self.events = EventLog(db)
        self.last_seqs: dict[ConversationId, Seq] = {}
        """Of conversations that this connection has appended to."""
        self.members: dict[tuple[GroupId, UserId], Standing] = {}
        """Whether the user may write to the group."""
        self.members_versions: dict[GroupId, int] = {}
        """Cleared together with `members`."""
        self.member_counts: dict[GroupId, int] = {}
        """Cleared together with `members`."""
        self._directory_version = ""

    def refresh(self) -> None:
        """Learn what other connections have committed. Called before reading, and at the start of a transaction."""
        if not self.unindexed.refresh():
            return
        self.last_seqs.clear()
        self.clear_members()
        (_, consent), (_, version) = self._db.execute(_VERSIONS).fetchall()
        self.permissions.learn(consent)
        if version != self._directory_version:
            self._directory_version = version
            self.directory.clear()

    def clear(self) -> None:
        """Forget everything: after a rollback, it may not be in the file."""
        self.unindexed.reset()
        self.pairs.clear()
        self.permissions.clear()
        self.last_seqs.clear()
        self.clear_members()
        self.directory.clear()

    def clear_members(self) -> None:
        self.members.clear()
        self.members_versions.clear()
        self.member_counts.clear()

    # ---------------------------------------------------------------- for the shared SQL

    def last_seq(self, conversation: ConversationId) -> Seq:
        if len(self.last_seqs) > CACHED:
            self.last_seqs.clear()
        seq = self.unindexed.last_seq(conversation)
        if seq is not None:
            return seq
        found = self._db.execute("SELECT max(seq) FROM place WHERE conversation = ?", (conversation,)).fetchone()
        return int(found[0] or 0)

    def record(self, kind: EventKind, details: Mapping[str, object], message_id: int = 0) -> None:
        self.events.record(kind, details, message_id)

    def membership_changed(self, group_id: GroupId, user_id: UserId) -> None:
        self.members.pop((group_id, user_id), None)
        self.members_versions.pop(group_id, None)
        self.member_counts.pop(group_id, None)

    def group_changed(self, group_id: GroupId) -> None:
        self.clear_members()

    def lock_users(self, *user_ids: UserId) -> None:
        pass

    def lock_names(self) -> None:
        pass

    def lock_invite(self, column: str, value: int | str) -> None:
        pass

    def lock_group(self, group_id: GroupId) -> None:
        pass

    def lock_conversation(self, conversation: ConversationId) -> None:
        pass

    def message_id(self, conversation: ConversationId, seq: Seq) -> int | None:
        number = self.unindexed.number_of(conversation, seq)
        if number is not None:
            return number
        found = self._db.execute("SELECT id FROM place WHERE conversation = ? AND seq = ?", (conversation, seq))
        row = found.fetchone()
        return row[0] if row else None

    def open_group(self, group_id: GroupId) -> None:
        pass

    def created(self, table: str, number: int) -> None:
        pass
