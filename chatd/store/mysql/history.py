"""Reading conversations in MySQL: what is waiting, history and heads.

Owns: the statements, which never read a conversation from its beginning.
Elsewhere: what both twins read alike (store.sql.history), a row as a message (store.sql.messages), names and pairs read
in one statement (store.mysql.backend).
Fails: Refused for a group that the user is not in; Again and Unavailable as store.mysql.connection.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from chatd.model import ConversationId, Group, Message, Seq, User, UserId
from chatd.store.contract import UNREAD_WINDOW, Head, Unread, Waiting
from chatd.store.mysql.backend import MysqlBackend
from chatd.store.mysql.connection import MysqlConnection
from chatd.store.sql.groups import SqlGroups
from chatd.store.sql.history import SqlHistory
from chatd.store.sql.messages import COLUMNS
from chatd.store.sql.unread import COUNTED, UnreadCounter, Window

_UNION = 100
"""Maximum parts of one UNION."""


class MysqlHistory(SqlHistory):
    """store.contract.HistoryTables."""

    _db: MysqlConnection
    _backend: MysqlBackend

    def __init__(self, db: MysqlConnection, backend: MysqlBackend, groups: SqlGroups) -> None:
        super().__init__(db, backend, groups)
        self._unread = UnreadCounter(db, self._window, self.at)

    def waiting(self, user_id: UserId, limit: int, cursors_of: Sequence[ConversationId] = ()) -> Waiting:
        """Cost: the user's conversations, and up to `limit` rows of each in which something is waiting."""
        behind = self._db.execute(
            "SELECT c.conversation, c.delivered FROM `cursor` AS c JOIN conversation AS v ON v.id = c.conversation"
            " WHERE c.user_id = ? AND c.delivered < v.last",
            (user_id,),
        ).fetchall()
        numbers = self._beyond(behind, limit + 1)
        rows = self._backend.select_in(f"SELECT {COLUMNS} FROM message AS m WHERE m.id IN", numbers[:limit])
        delivered = dict.fromkeys(cursors_of, 0)
        if delivered:
            marks = ",".join("?" * len(delivered))
            asked = f"SELECT conversation, delivered FROM `cursor` WHERE user_id = ? AND conversation IN ({marks})"
            delivered.update(self._db.execute(asked, (user_id, *delivered)).fetchall())
        return Waiting(self._backend.messages(sorted(rows)), len(numbers) > limit, delivered)

    def _beyond(self, cursors: list[tuple[ConversationId, Seq]], most: int) -> list[int]:
        """The first message ids beyond the cursors. Each conversation has its own SELECT: in one join, the server would
        read every conversation from its beginning."""
        numbers: list[int] = []
        one = "(SELECT id FROM message FORCE INDEX (place) WHERE conversation = %d AND seq > %d ORDER BY seq LIMIT %d)"
        while cursors:
            part, cursors = cursors[:_UNION], cursors[_UNION:]
            union = " UNION ALL ".join(one % (*cursor, most) for cursor in part)
            rows = self._db.query(f"SELECT id FROM ({union}) AS w ORDER BY id LIMIT {most}".encode())
            numbers += (row[0] for row in rows)
        return sorted(numbers)[:most]

    def _page(self, reader: UserId, conversation: ConversationId, after: Seq, before: Seq, limit: int) -> list[Message]:
        floor = self.first_readable(reader, conversation) - 1
        order, bounds = ("DESC", (floor, before)) if before > 0 else ("ASC", (max(after, floor), 1 << 62))
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM message AS m FORCE INDEX (place) WHERE m.conversation = ? AND m.seq > ?"
            f" AND m.seq < ? ORDER BY m.seq {order} LIMIT ?",
            (conversation, *bounds, limit),
        ).fetchall()
        return self._backend.messages(rows[::-1] if before > 0 else rows)

    def at(self, conversation: ConversationId, seqs: Collection[Seq]) -> list[Message]:
        if not seqs:
            return []
        marks = ",".join("?" * len(seqs))
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM message AS m FORCE INDEX (place) WHERE m.conversation = ? AND m.seq IN ({marks})"
            " ORDER BY m.seq",
            (conversation, *seqs),
        ).fetchall()
        return self._backend.messages(rows)

    def unread(self, user_id: UserId, heads: Sequence[Head]) -> list[Unread]:
        return self._unread.count(user_id, heads)

    def _window(self, user_id: UserId, conversation: ConversationId, after: Seq) -> Window:
        counted, last = self._db.execute(
            f"SELECT coalesce(sum({COUNTED}), 0), coalesce(max(m.seq), 0) FROM (SELECT conversation, seq, sender_id,"
            " state FROM message FORCE INDEX (place) WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?) AS m",
            (user_id, user_id, conversation, after, UNREAD_WINDOW),
        ).fetchone()
        return Window(int(counted), int(last))

    def heads(self, user_id: UserId, after: ConversationId, limit: int) -> list[Head]:
        rows = self._db.execute(
            "SELECT c.conversation, v.last, c.delivered, c.seen, t.name, t.description FROM `cursor` AS c"
            " JOIN conversation AS v ON v.id = c.conversation LEFT JOIN team AS t ON t.id = -c.conversation"
            " WHERE c.user_id = ? AND c.conversation > ? AND (c.conversation < 0 OR v.last > 0)"
            " ORDER BY c.conversation LIMIT ?",
            (user_id, after, limit),
        ).fetchall()  # without the pairs that a refused message has left without messages
        self._backend.prefetch([row[0] for row in rows], ())
        heads = []
        for conversation, last, delivered, seen, name, description in rows:
            if conversation > 0:
                other: User | Group = self._backend.user_or_deleted(self._backend.pairs.other(conversation, user_id))
            elif name is not None:
                other = Group(-conversation, name, description)
            else:
                continue
            heads.append(Head(conversation=conversation, other=other, last=last, delivered=delivered, seen=seen))
        return heads
