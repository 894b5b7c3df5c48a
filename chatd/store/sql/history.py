"""Conversations as their users see them, in the SQL of both twins.

Owns: finding the conversation of two users or a group, and read marks.
Elsewhere: waiting messages, history and heads, which each twin reads in its own way (store.sqlite.history,
store.mysql.history); moving the cursors of delivery (store.sqlite.tables, store.mysql.tables).
Fails: Refused for a group that the user is not in; what the database raises passes through.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatd.model import ConversationId, GroupId, Message, MessageState, Seq, UserId
from chatd.store.contract import Position
from chatd.store.sql.database import Backend, Database
from chatd.store.sql.groups import SqlGroups
from chatd.store.sql.messages import pair_of

_TOGETHER = 50
"""Rows of one statement."""


class SqlHistory:
    """The part of store.contract.HistoryTables that is the same in both twins; their base."""

    def __init__(self, db: Database, backend: Backend, groups: SqlGroups) -> None:
        self._db = db
        self._backend = backend
        self._groups = groups

    def conversation_of(self, user_id: UserId, other: UserId, group_id: GroupId) -> ConversationId:
        if group_id:
            self._groups.role(group_id, user_id)
            return -group_id
        pair = pair_of(user_id, other)
        found = self._db.execute("SELECT id FROM pair WHERE low = ? AND high = ?", pair).fetchone()
        return int(found[0]) if found else 0

    def users_of(self, conversation: ConversationId) -> tuple[UserId, UserId] | None:
        found = self._db.execute("SELECT low, high FROM pair WHERE id = ?", (conversation,)).fetchone()
        return (int(found[0]), int(found[1])) if found else None

    def first_readable(self, reader: UserId, conversation: ConversationId) -> Seq:
        return 1 if conversation > 0 else self._groups.first_readable(-conversation, reader)

    def messages(
        self, reader: UserId, conversation: ConversationId, after: Seq, before: Seq, limit: int
    ) -> list[Message]:
        """Expired messages, which keep their number for a while, are left out: they are the oldest ones."""
        kept: list[Message] = []
        while True:
            room = limit - len(kept)
            page = self._page(reader, conversation, after, before, room)
            shown = [message for message in page if message.state is not MessageState.EXPIRED]
            kept = shown + kept if before > 0 else kept + shown
            if len(shown) == len(page) or len(page) < room:
                return kept
            if before > 0:
                before = page[0].seq
            else:
                after = page[-1].seq

    def _page(self, reader: UserId, conversation: ConversationId, after: Seq, before: Seq, limit: int) -> list[Message]:
        """As messages(), with those that have expired."""
        raise NotImplementedError

    def seen(self, user_id: UserId, conversation: ConversationId) -> Seq:
        where = (user_id, conversation)
        row = self._db.execute("SELECT seen FROM `cursor` WHERE user_id = ? AND conversation = ?", where).fetchone()
        return int(row[0]) if row else 0

    def positions(self, of: Sequence[tuple[UserId, ConversationId]]) -> dict[ConversationId, Position]:
        found: dict[ConversationId, Position] = {}
        one = "SELECT conversation, delivered, seen FROM `cursor` WHERE user_id = ? AND conversation = ?"
        for at in range(0, len(of), _TOGETHER):
            part = of[at : at + _TOGETHER]
            values = [value for pair in part for value in pair]
            for conversation, *position in self._db.execute(" UNION ALL ".join([one] * len(part)), values):
                found[conversation] = Position(*position)
        return found

    def mark_seen(self, user_id: UserId, conversation: ConversationId, seq: Seq) -> Seq:
        where = (user_id, conversation)
        seq = min(seq, self._backend.last_seq(conversation))
        self._db.execute(
            "UPDATE `cursor` SET seen = ? WHERE user_id = ? AND conversation = ? AND seen < ?", (seq, *where, seq)
        )
        return self.seen(user_id, conversation)
