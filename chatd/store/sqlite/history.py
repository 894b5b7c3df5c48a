"""Reading conversations in SQLite: what waits and history, with the rows that have no index entry yet.

Owns: reading messages, the cache of numbers and of members, and dropping those when others have written.
Elsewhere: what both twins read alike (store.sql.history), writing and transactions (store.sqlite.tables), the rows
without an index entry (store.sqlite.unindexed).
Fails: sqlite3.Error passes through; Refused for a group one is not in.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence

from chatd.model import ConversationId, Group, GroupId, Message, Seq, User, UserId
from chatd.store.contract import Head, Waiting
from chatd.store.sql.history import CACHE, COLUMNS, Found
from chatd.store.sql.send_keys import Answers
from chatd.store.sqlite.unindexed import Tail


class SqliteArchive(Answers):
    """The part of Tables that reads messages; a base of SqliteTables."""

    _db: sqlite3.Connection

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(db)
        self._tail = Tail(db)
        self._last: dict[ConversationId, Seq] = {}
        self._directory = ""
        self._members: dict[tuple[GroupId, UserId], bool] = {}
        """Who is a member of what, as far as it was asked."""
        self._members_versions: dict[GroupId, int] = {}
        """Of groups, as far as it was asked. Forgotten with _members."""

    def _forget_members(self, group_id: GroupId | None = None, user_id: UserId = 0) -> None:
        if group_id is None:
            self._members.clear()
            self._members_versions.clear()
        else:
            self._members.pop((group_id, user_id), None)
            self._members_versions.pop(group_id, None)

    def _forget_what_others_changed(self) -> None:
        if not self._tail.refresh():
            return
        self._last.clear()
        self._forget_members()
        directory = self._meta("directory")
        if directory != self._directory:
            self._directory = directory
            self.forget_users()

    def _last_seq(self, conversation: ConversationId) -> Seq:
        if len(self._last) > CACHE:
            self._last.clear()
        young = self._tail.last_seq(conversation)
        if young is not None:
            return young
        found = self._db.execute("SELECT max(seq) FROM place WHERE conversation = ?", (conversation,)).fetchone()
        return int(found[0] or 0)

    def waiting(self, user_id: UserId, limit: int, cursors_of: Sequence[ConversationId] = ()) -> Waiting:
        self._forget_what_others_changed()
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM (SELECT p.id AS id FROM cursor AS c CROSS JOIN place AS p"
            " ON p.conversation = c.conversation AND p.seq > c.delivered"
            " WHERE c.user_id = ? AND p.id <= ? ORDER BY p.id LIMIT ?) AS w CROSS JOIN message AS m ON m.id = w.id",
            (user_id, self._tail.mark, limit + 1),
        )
        found: dict[int, Found] = {row[0]: row for row in rows}
        if len(found) <= limit:
            found |= self._rows(sorted(self._waiting_in_tail(user_id, limit + 1))[: limit + 1 - len(found)])
        numbers = sorted(found)
        delivered: dict[ConversationId, Seq] = {}
        for conversation in cursors_of:
            cursor = self._db.execute(
                "SELECT delivered FROM cursor WHERE user_id = ? AND conversation = ?", (user_id, conversation)
            ).fetchone()
            delivered[conversation] = int(cursor[0]) if cursor else 0
        messages = [self._message(found[number]) for number in numbers[:limit]]
        return Waiting(messages, len(numbers) > limit, delivered)

    def _waiting_in_tail(self, user_id: UserId, limit: int) -> list[int]:
        if not self._tail:
            return []
        cursors = self._db.execute("SELECT conversation, delivered FROM cursor WHERE user_id = ?", (user_id,))
        return [
            number
            for conversation, delivered in cursors.fetchall()
            for number in self._tail.after(conversation, delivered, limit)
        ]

    def _rows(self, numbers: Collection[int]) -> dict[int, Found]:
        """One statement, however many."""
        if not numbers:
            return {}
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM json_each(?) AS j CROSS JOIN message AS m ON m.id = j.value",
            (json.dumps(list(numbers)),),
        )
        return {row[0]: row for row in rows}

    # ---------------------------------------------------------------- history

    def messages(self, conversation: ConversationId, after: Seq, before: Seq, limit: int) -> list[Message]:
        self._forget_what_others_changed()
        if before > 0:
            order, bounds = "DESC", (0, before)
            young = self._tail.before(conversation, before, limit)
        else:
            order, bounds = "ASC", (after, 1 << 62)
            young = self._tail.after(conversation, after, limit)
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM (SELECT id FROM place WHERE conversation = ? AND seq > ? AND seq < ?"
            f" ORDER BY seq {order} LIMIT ?) AS w CROSS JOIN message AS m ON m.id = w.id",
            (conversation, *bounds, limit),
        )
        found: dict[int, Found] = {row[0]: row for row in rows}
        found |= self._rows(young)
        numbers = sorted(found)
        chosen = numbers[-limit:] if before > 0 else numbers[:limit]
        return [self._message(found[number]) for number in chosen]

    def heads(self, user_id: UserId, after: ConversationId, limit: int) -> list[Head]:
        self._forget_what_others_changed()
        rows = self._db.execute(
            "SELECT conversation, delivered, seen FROM `cursor` WHERE user_id = ? AND conversation > ?"
            " ORDER BY conversation LIMIT ?",
            (user_id, after, limit),
        ).fetchall()
        heads = []
        for conversation, delivered, seen in rows:
            other: User | Group | None
            if conversation > 0:
                low, high = self._pair_of(conversation)
                other = self.user_or_ghost(high if user_id == low else low)
            else:
                other = self.group(-conversation)
            if other is not None:
                heads.append(Head(conversation, other, self._last_seq(conversation), delivered, seen))
        return heads
