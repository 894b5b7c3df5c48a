"""Reading conversations in SQLite: what is waiting, history and heads, with the rows that have no index entry yet.

Owns: merging the index tables and the unindexed rows.
Elsewhere: what both twins read alike (store.sql.history), a row as a message (store.sql.messages), the unindexed rows
(store.sqlite.unindexed).
Fails: sqlite3.Error passes through; Refused for a group that the user is not in.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence

from chatd.model import ConversationId, Group, Message, Seq, User, UserId
from chatd.store.contract import UNREAD_WINDOW, Head, Unread, Waiting
from chatd.store.sql.groups import SqlGroups
from chatd.store.sql.history import SqlHistory
from chatd.store.sql.messages import COLUMNS, MessageReader, MessageRow
from chatd.store.sql.unread import COUNTED, UnreadCounter, Window
from chatd.store.sqlite.backend import SqliteBackend


class SqliteHistory(SqlHistory):
    """store.contract.HistoryTables. Every method first learns what other connections have committed."""

    _backend: SqliteBackend

    def __init__(
        self, db: sqlite3.Connection, backend: SqliteBackend, groups: SqlGroups, reader: MessageReader
    ) -> None:
        super().__init__(db, backend, groups)
        self._unindexed = backend.unindexed
        self._reader = reader
        self._unread = UnreadCounter(db, self._window, self.at)

    def waiting(self, user_id: UserId, limit: int, cursors_of: Sequence[ConversationId] = ()) -> Waiting:
        self._backend.refresh()
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM (SELECT p.id AS id FROM cursor AS c CROSS JOIN place AS p"
            " ON p.conversation = c.conversation AND p.seq > c.delivered"
            " WHERE c.user_id = ? AND p.id <= ? ORDER BY p.id LIMIT ?) AS w CROSS JOIN message AS m ON m.id = w.id",
            (user_id, self._unindexed.merged, limit + 1),
        )
        found: dict[int, MessageRow] = {row[0]: row for row in rows}
        if len(found) <= limit:
            found |= self._rows(sorted(self._waiting_unindexed(user_id, limit + 1))[: limit + 1 - len(found)])
        numbers = sorted(found)
        delivered: dict[ConversationId, Seq] = {}
        for conversation in cursors_of:
            cursor = self._db.execute(
                "SELECT delivered FROM cursor WHERE user_id = ? AND conversation = ?", (user_id, conversation)
            ).fetchone()
            delivered[conversation] = int(cursor[0]) if cursor else 0
        messages = [self._reader.message(found[number]) for number in numbers[:limit]]
        return Waiting(messages, len(numbers) > limit, delivered)

    def _waiting_unindexed(self, user_id: UserId, limit: int) -> list[int]:
        if not self._unindexed:
            return []
        cursors = self._db.execute("SELECT conversation, delivered FROM cursor WHERE user_id = ?", (user_id,))
        return [
            number
            for conversation, delivered in cursors.fetchall()
            for number in self._unindexed.after(conversation, delivered, limit)
        ]

    def _rows(self, numbers: Collection[int]) -> dict[int, MessageRow]:
        """One statement, however many."""
        if not numbers:
            return {}
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM json_each(?) AS j CROSS JOIN message AS m ON m.id = j.value",
            (json.dumps(list(numbers)),),
        )
        return {row[0]: row for row in rows}

    # ---------------------------------------------------------------- history

    def _page(self, reader: UserId, conversation: ConversationId, after: Seq, before: Seq, limit: int) -> list[Message]:
        self._backend.refresh()
        floor = self.first_readable(reader, conversation) - 1
        after = max(after, floor)
        if before > 0:
            order, bounds = "DESC", (floor, before)
            unindexed = self._unindexed.before(conversation, before, limit, floor)
        else:
            order, bounds = "ASC", (after, 1 << 62)
            unindexed = self._unindexed.after(conversation, after, limit)
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM (SELECT id FROM place WHERE conversation = ? AND seq > ? AND seq < ?"
            f" ORDER BY seq {order} LIMIT ?) AS w CROSS JOIN message AS m ON m.id = w.id",
            (conversation, *bounds, limit),
        )
        found: dict[int, MessageRow] = {row[0]: row for row in rows}
        found |= self._rows(unindexed)
        numbers = sorted(found)
        chosen = numbers[-limit:] if before > 0 else numbers[:limit]
        return [self._reader.message(found[number]) for number in chosen]

    def at(self, conversation: ConversationId, seqs: Collection[Seq]) -> list[Message]:
        self._backend.refresh()
        numbers = (self._backend.message_id(conversation, seq) for seq in sorted(set(seqs)))
        found = self._rows([number for number in numbers if number is not None])
        return [self._reader.message(found[number]) for number in sorted(found)]

    def unread(self, user_id: UserId, heads: Sequence[Head]) -> list[Unread]:
        self._backend.refresh()
        return self._unread.count(user_id, heads)

    def _window(self, user_id: UserId, conversation: ConversationId, after: Seq) -> Window:
        indexed = self._db.execute(
            "SELECT id FROM place WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?",
            (conversation, after, UNREAD_WINDOW),
        )
        numbers = {row[0] for row in indexed} | set(self._unindexed.after(conversation, after, UNREAD_WINDOW))
        chosen = sorted(numbers)[:UNREAD_WINDOW]
        counted, last = self._db.execute(
            f"SELECT coalesce(sum({COUNTED}), 0), coalesce(max(m.seq), 0)"
            " FROM json_each(?) AS j CROSS JOIN message AS m ON m.id = j.value",
            (user_id, user_id, json.dumps(chosen)),
        ).fetchone()
        return Window(counted, last)

    def heads(self, user_id: UserId, after: ConversationId, limit: int) -> list[Head]:
        self._backend.refresh()
        rows = self._db.execute(
            "SELECT conversation, delivered, seen FROM `cursor` WHERE user_id = ? AND conversation > ?"
            " ORDER BY conversation LIMIT ?",
            (user_id, after, limit),
        ).fetchall()
        heads = []
        for conversation, delivered, seen in rows:
            other: User | Group | None
            if conversation > 0:
                other = self._backend.directory.user_or_deleted(self._backend.pairs.other(conversation, user_id))
            else:
                other = self._groups.find(-conversation)
            if other is not None:
                last = self._backend.last_seq(conversation)
                heads.append(Head(conversation=conversation, other=other, last=last, delivered=delivered, seen=seen))
        return heads
