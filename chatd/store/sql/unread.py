"""How much of a conversation a user has not read, in the SQL of both twins.

Owns: what counts as unread, and which mentions are.
Elsewhere: reading the rows of a conversation, which each twin does in its own way (store.sqlite.history,
store.mysql.history); the read mark (store.sql.history); writing mentions (store.sql.extras).
Fails: what the database raises passes through.

Unread is what lies beyond the read mark and was written by others, can be read, and still has its text: not what was
written before the user joined the group, not what the user has deleted from their own history, not what was recalled,
removed, erased or has expired. It is counted from the rows each time, so nothing can make the number wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from chatd.model import ConversationId, Message, Seq, UserId
from chatd.store.contract import Head, Unread
from chatd.store.revision_contract import HAS_TEXT
from chatd.store.sql.database import Database

MENTIONS_SHOWN = 20
"""Maximum unread mentions of one conversation that are given."""
_MENTIONS_READ = 500
"""Maximum rows looked at for them. Those of messages whose text is gone are not among them (store.sql.revisions), but
those of the user's own messages to all members are."""
COUNTED = (
    "m.sender_id <> ? AND m.state IN (0, 1) AND NOT EXISTS (SELECT 1 FROM hidden AS h WHERE h.user_id = ?"
    " AND h.conversation = m.conversation AND h.seq = m.seq)"
)
"""Whether a row of `message` counts as unread, if it is beyond the mark. Two values: the user, twice."""


class Window(NamedTuple):
    """The first messages beyond a mark: how many of them count, and the seq of the last one (0: there are none)."""

    counted: int
    last: Seq


class UnreadCounter:
    def __init__(
        self,
        db: Database,
        window: Callable[[UserId, ConversationId, Seq], Window],
        messages_at: Callable[[ConversationId, Collection[Seq]], list[Message]],
    ) -> None:
        """window: the first UNREAD_WINDOW messages after a seq. messages_at: see
        store.contract.HistoryTables.at()."""
        self._db = db
        self._window = window
        self._messages_at = messages_at

    def count(self, user_id: UserId, heads: Sequence[Head]) -> list[Unread]:
        """See store.contract.HistoryTables.unread."""
        behind = [head for head in heads if head.seen < head.last]
        floors = self._floors(user_id, [head.conversation for head in behind]) if behind else {}
        return [self._of(user_id, head, floors) if head.seen < head.last else Unread() for head in heads]

    def _of(self, user_id: UserId, head: Head, floors: dict[ConversationId, Seq]) -> Unread:
        conversation = head.conversation
        mark = max(head.seen, floors.get(conversation, 0))
        if mark >= head.last:
            return Unread()
        window = self._window(user_id, conversation, mark)
        mentioned = self._mentioned(user_id, conversation, mark) if conversation < 0 else ()
        return Unread(window.counted, 0 < window.last < head.last, mentioned)

    def _floors(self, user_id: UserId, conversations: list[ConversationId]) -> dict[ConversationId, Seq]:
        """Up to these seqs, nothing counts."""
        marks = ",".join("?" * len(conversations))
        floors: dict[ConversationId, Seq] = dict(
            self._db.execute(
                f"SELECT conversation, cleared FROM `cursor` WHERE user_id = ? AND conversation IN ({marks})"
                " AND cleared > 0",
                (user_id, *conversations),
            ).fetchall()
        )
        groups = [-conversation for conversation in conversations if conversation < 0]
        if groups:
            marks = ",".join("?" * len(groups))
            joined = self._db.execute(
                f"SELECT team_id, first_seq FROM member WHERE user_id = ? AND team_id IN ({marks})",
                (user_id, *groups),
            ).fetchall()
            for group_id, first_seq in joined:
                floors[-group_id] = max(floors.get(-group_id, 0), first_seq - 1)
        return floors

    def _mentioned(self, user_id: UserId, conversation: ConversationId, mark: Seq) -> tuple[Seq, ...]:
        rows = self._db.execute(
            "SELECT seq FROM mention AS x WHERE user_id IN (0, ?) AND conversation = ? AND seq > ? AND NOT EXISTS"
            " (SELECT 1 FROM hidden AS h WHERE h.user_id = ? AND h.conversation = x.conversation AND h.seq = x.seq)"
            " ORDER BY seq LIMIT ?",
            (user_id, conversation, mark, user_id, _MENTIONS_READ),
        ).fetchall()
        seqs = sorted({row[0] for row in rows})
        found: list[Seq] = []
        for at in range(0, len(seqs), MENTIONS_SHOWN):
            found += (
                message.seq
                for message in self._messages_at(conversation, seqs[at : at + MENTIONS_SHOWN])
                if message.state in HAS_TEXT and message.sender_id != user_id
            )
            if len(found) >= MENTIONS_SHOWN:
                break
        return tuple(found[:MENTIONS_SHOWN])
