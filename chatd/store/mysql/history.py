"""Reading conversations in MySQL, and the small writes beside messages.

Owns: what waits, history, cursors, looking up many users and pairs in one statement, and which row is locked for what.
Elsewhere: what both twins do alike (store.sql.accounts, store.sql.groups, store.sql.history, store.sql.send_keys),
writing messages (store.mysql.tables).
Fails: Refused for a group one is not in; Again and Unavailable as store.mysql.connection.

A group is locked by the row of its conversation, which whoever writes to it locks too: a join, a kick and a message
happen one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from chatd.model import ConversationId, Group, GroupId, Message, Seq, User, UserId
from chatd.store.contract import Advance, Head, Waiting
from chatd.store.mysql.connection import MysqlConnection
from chatd.store.sql.history import CACHE, COLUMNS, Found
from chatd.store.sql.send_keys import Answers

_MANY = 1000
"""Values of one IN (…) at most."""
_UNION = 100
"""Parts of one UNION at most."""


class MysqlArchive(Answers):
    """The part of Tables that reads messages; a base of MysqlTables."""

    _db: MysqlConnection

    def __init__(self, db: MysqlConnection) -> None:
        super().__init__(db)
        self._names: dict[UserId, str] = {}
        """Also of deleted accounts: an id never gets another name."""

    # ---------------------------------------------------------------- locks

    def _hold_users(self, *user_ids: UserId) -> None:
        marks = ",".join("?" * len(user_ids))
        self._db.execute(f"SELECT id FROM user WHERE id IN ({marks}) ORDER BY id FOR UPDATE", user_ids)

    def _hold_group(self, group_id: GroupId) -> None:
        self._db.execute("SELECT last FROM conversation WHERE id = ? FOR UPDATE", (-group_id,))

    def _open_group(self, group_id: GroupId) -> None:
        self._db.execute("INSERT INTO conversation VALUES (?, 0)", (-group_id,))

    def _last_seq(self, conversation: ConversationId) -> Seq:
        row = self._db.execute("SELECT last FROM conversation WHERE id = ?", (conversation,)).fetchone()
        return int(row[0]) if row else 0

    # ---------------------------------------------------------------- many at once

    def _chosen(self, sql: str, numbers: Collection[int]) -> list[Any]:
        """sql ends with IN; the rows for all the numbers."""
        rows: list[Any] = []
        left = sorted(numbers)
        while left:
            part, left = left[:_MANY], left[_MANY:]
            rows += self._db.query(f"{sql} ({','.join(map(str, part))})".encode()).fetchall()
        return rows

    def _look_ahead(self, conversations: Iterable[ConversationId], users: Iterable[UserId]) -> None:
        if len(self._pair_members) + len(self._names) > CACHE:
            self._pair_members.clear()
            self._names.clear()
        pairs = {number for number in conversations if number > 0}
        for number, low, high in self._chosen(
            "SELECT id, low, high FROM pair WHERE id IN", pairs - self._pair_members.keys()
        ):
            self._pair_members[number] = low, high
        wanted = {*users, *(user for number in pairs for user in self._pair_members[number])}
        for number, name in self._chosen("SELECT id, name FROM user WHERE id IN", wanted - self._names.keys()):
            self._names[number] = str(name)

    def user_or_ghost(self, user_id: UserId) -> User:
        if user_id not in self._names:
            self._look_ahead((), (user_id,))
        return User(user_id, self._names.get(user_id, f"#{user_id}"))

    def _messages(self, rows: Sequence[Found]) -> list[Message]:
        self._look_ahead({row[1] for row in rows}, {row[3] for row in rows})
        return [self._message(row) for row in rows]

    # ---------------------------------------------------------------- reading

    def waiting(self, user_id: UserId, limit: int, cursors_of: Sequence[ConversationId] = ()) -> Waiting:
        """Cost: the user's conversations, and up to `limit` rows of each that has something; never its length."""
        behind = self._db.execute(
            "SELECT c.conversation, c.delivered FROM `cursor` AS c JOIN conversation AS v ON v.id = c.conversation"
            " WHERE c.user_id = ? AND c.delivered < v.last",
            (user_id,),
        ).fetchall()
        numbers = self._beyond(behind, limit + 1)
        rows = self._chosen(f"SELECT {COLUMNS} FROM message AS m WHERE m.id IN", numbers[:limit])
        delivered = dict.fromkeys(cursors_of, 0)
        if delivered:
            marks = ",".join("?" * len(delivered))
            asked = f"SELECT conversation, delivered FROM `cursor` WHERE user_id = ? AND conversation IN ({marks})"
            delivered.update(self._db.execute(asked, (user_id, *delivered)).fetchall())
        return Waiting(self._messages(sorted(rows)), len(numbers) > limit, delivered)

    def _beyond(self, cursors: list[tuple[ConversationId, Seq]], most: int) -> list[int]:
        """The first message ids beyond the cursors. Each conversation is a range of its own: written as one join, the
        server would read each of them from its beginning."""
        numbers: list[int] = []
        one = "(SELECT id FROM message FORCE INDEX (place) WHERE conversation = %d AND seq > %d ORDER BY seq LIMIT %d)"
        while cursors:
            part, cursors = cursors[:_UNION], cursors[_UNION:]
            union = " UNION ALL ".join(one % (*cursor, most) for cursor in part)
            rows = self._db.query(f"SELECT id FROM ({union}) AS w ORDER BY id LIMIT {most}".encode())
            numbers += (row[0] for row in rows)
        return sorted(numbers)[:most]

    def messages(self, conversation: ConversationId, after: Seq, before: Seq, limit: int) -> list[Message]:
        order, bounds = ("DESC", (0, before)) if before > 0 else ("ASC", (after, 1 << 62))
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM message AS m FORCE INDEX (place) WHERE m.conversation = ? AND m.seq > ?"
            f" AND m.seq < ? ORDER BY m.seq {order} LIMIT ?",
            (conversation, *bounds, limit),
        ).fetchall()
        return self._messages(rows[::-1] if before > 0 else rows)

    def heads(self, user_id: UserId, after: ConversationId, limit: int) -> list[Head]:
        rows = self._db.execute(
            "SELECT c.conversation, v.last, c.delivered, c.seen, t.name, t.description FROM `cursor` AS c"
            " JOIN conversation AS v ON v.id = c.conversation LEFT JOIN team AS t ON t.id = -c.conversation"
            " WHERE c.user_id = ? AND c.conversation > ? AND (c.conversation < 0 OR v.last > 0)"
            " ORDER BY c.conversation LIMIT ?",
            (user_id, after, limit),
        ).fetchall()  # a pair without messages is left behind by one that was refused
        self._look_ahead([row[0] for row in rows], ())
        heads = []
        for conversation, last, delivered, seen, name, description in rows:
            if conversation > 0:
                low, high = self._pair_of(conversation)
                other: User | Group = self.user_or_ghost(high if user_id == low else low)
            elif name is not None:
                other = Group(-conversation, name, description)
            else:
                continue
            heads.append(Head(conversation, other, last, delivered, seen))
        return heads

    # ---------------------------------------------------------------- marks

    def advance(self, advances: Sequence[Advance]) -> None:
        """In one order everywhere, and each row once, as the statement demands."""
        highest = {(user_id, conversation): seq for user_id, conversation, seq in sorted(advances)}
        self._db.execute(
            "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (user_id BIGINT PATH '$[0]', conversation BIGINT PATH '$[1]',"
            " seq BIGINT PATH '$[2]')) AS n STRAIGHT_JOIN `cursor` AS c"
            " ON c.user_id = n.user_id AND c.conversation = n.conversation"
            " SET c.delivered = n.seq WHERE c.delivered < n.seq",
            (json.dumps([(*key, seq) for key, seq in highest.items()]),),
        )

    def update_last_seen(self, seen: Sequence[tuple[UserId, int]]) -> None:
        """(user, epoch ms): was online until then."""
        latest = dict(sorted(seen))
        self._db.execute(
            "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$[0]', at_ms BIGINT PATH '$[1]')) AS n"
            " STRAIGHT_JOIN user AS u ON u.id = n.id SET u.seen_at_ms = n.at_ms WHERE u.seen_at_ms < n.at_ms",
            (json.dumps(list(latest.items())),),
        )
