"""Conversations as people see them, in the SQL of both twins.

Owns: which conversation is whose, a row of `message` as a Message, the marks of what was read.
Elsewhere: numbering, what waits, history, heads, each twin in its own way (store.sqlite.history, store.mysql.history).
Fails: Refused for a group one is not in; what the database raises passes through.
"""

from __future__ import annotations

import abc

from chatd.model import ConversationId, GroupId, Message, Seq, User, UserId
from chatd.store.sql.database import Database
from chatd.store.sql.groups import Teams

CACHE = 200_000
"""Entries a cache may have before it is emptied."""
NOBODY = User(0, "")
COLUMNS = "m.id, m.conversation, m.seq, m.sender_id, m.fp, m.sent_at_ms, m.qos, m.typeu, m.body"
SELECT = f"SELECT {COLUMNS} FROM message AS m"
Found = tuple[int, ConversationId, Seq, UserId, str, int, int, int, str]
Pair = tuple[UserId, UserId]


class Archive(Teams, abc.ABC):
    """The part of Tables about conversations; a base of every twin."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._pair_members: dict[ConversationId, Pair] = {}

    def _message(self, row: Found) -> Message:
        _, conversation, seq, sender_id, fp, sent_at_ms, qos, typeu, body = row
        recipient = NOBODY
        if conversation > 0:
            low, high = self._pair_of(conversation)
            recipient = self.user_or_ghost(high if sender_id == low else low)
        return Message(
            conversation, seq, sender_id, self.user_or_ghost(sender_id).name, recipient.id, recipient.name,
            max(0, -conversation), body, fp, bool(qos), typeu, sent_at_ms,
        )  # fmt: skip

    def _pair_of(self, conversation: ConversationId) -> Pair:
        pair = self._pair_members.get(conversation)
        if pair is None:
            if len(self._pair_members) > CACHE:
                self._pair_members.clear()
            pair = self._db.execute("SELECT low, high FROM pair WHERE id = ?", (conversation,)).fetchone()
            self._pair_members[conversation] = pair
        return pair

    def conversation_of(self, user_id: UserId, other: UserId, group_id: GroupId) -> ConversationId:
        if group_id:
            self.role(group_id, user_id)
            return -group_id
        pair = (min(user_id, other), max(user_id, other))
        found = self._db.execute("SELECT id FROM pair WHERE low = ? AND high = ?", pair).fetchone()
        return int(found[0]) if found else 0

    def mark_seen(self, user_id: UserId, conversation: ConversationId, seq: Seq) -> Seq:
        where = (user_id, conversation)
        seq = min(seq, self._last_seq(conversation))
        self._db.execute(
            "UPDATE `cursor` SET seen = ? WHERE user_id = ? AND conversation = ? AND seen < ?", (seq, *where, seq)
        )
        row = self._db.execute("SELECT seen FROM `cursor` WHERE user_id = ? AND conversation = ?", where).fetchone()
        return int(row[0]) if row else 0
