"""What waits for users, read from SQLite.

Owns: SqliteCursors: reading and moving cursors for store.sql.mailboxes, with the rows that have no index entry yet.
Elsewhere: the quotas (store.sql.mailboxes), moving cursors for acknowledgements (store.sqlite.tables).
Fails: sqlite3.Error passes through.
"""

from __future__ import annotations

import json
import sqlite3

from chatd.model import ConversationId, Seq, UserId
from chatd.store.sql.mailboxes import COUNTED_CONVERSATIONS, LONGEST, Behind, Count
from chatd.store.sqlite.backend import SqliteBackend

_DELIVERED = "SELECT delivered FROM cursor WHERE user_id = ? AND conversation = ?"
_MAILBOX = (
    "SELECT c.conversation, c.delivered, (SELECT max(seq) FROM place WHERE conversation = c.conversation)"
    " FROM cursor AS c WHERE c.user_id = ? AND c.conversation > 0 ORDER BY c.conversation DESC LIMIT ?"
)
_BEYOND = (
    "SELECT p.seq, m.sender_id FROM place AS p CROSS JOIN message AS m ON m.id = p.id"
    " WHERE p.conversation = ? AND p.seq > ? ORDER BY p.seq LIMIT ?"
)
_FRIEND = "SELECT 1 FROM friend WHERE user_id = ? AND friend_id = ? AND accepted = 1"
_UNINDEXED = "SELECT m.seq, m.sender_id FROM json_each(?) AS j CROSS JOIN message AS m ON m.id = j.value"


class SqliteCursors:
    """store.sql.mailboxes.Cursors."""

    def __init__(self, db: sqlite3.Connection, backend: SqliteBackend) -> None:
        self._db = db
        self._backend = backend
        self._unindexed = backend.unindexed

    def delivered(self, user: UserId, conversation: ConversationId) -> Seq | None:
        found = self._db.execute(_DELIVERED, (user, conversation)).fetchone()
        return found[0] if found else None

    def count(self, user: UserId) -> Count:
        found = self._mailbox(user)
        return Count(sum(max(0, one.last - one.delivered) for one in found), len(found))

    def longest(self, user: UserId) -> list[Behind]:
        found = [one for one in self._mailbox(user) if one.last > one.delivered]
        return sorted(found, key=lambda one: one.delivered - one.last)[:LONGEST]

    def _mailbox(self, user: UserId) -> list[Behind]:
        known, unindexed = self._backend.last_seqs, self._unindexed
        rows = self._db.execute(_MAILBOX, (user, COUNTED_CONVERSATIONS)).fetchall()
        return [
            Behind(number, delivered, known.get(number) or unindexed.last_seq(number) or indexed or 0)
            for number, delivered, indexed in rows
        ]

    def beyond(self, conversation: ConversationId, seq: Seq, limit: int) -> list[tuple[Seq, UserId]]:
        rows = self._db.execute(_BEYOND, (conversation, seq, limit)).fetchall()
        numbers = self._unindexed.after(conversation, seq, limit)
        young = self._db.execute(_UNINDEXED, (json.dumps(numbers),)).fetchall() if numbers else []
        found = sorted(dict(rows + young).items())[:limit]
        if len(young) < len(numbers) and len(found) < limit:  # the others are inserted at the end of the append
            found.append((found[-1][0] + 1 if found else seq + 1, 0))
        return found

    def advance(self, user: UserId, conversation: ConversationId, seq: Seq) -> None:
        self._db.execute(
            "UPDATE cursor SET delivered = ? WHERE user_id = ? AND conversation = ? AND delivered < ?",
            (seq, user, conversation, seq),
        )

    def is_friend(self, user: UserId, other: UserId) -> bool:
        return self._db.execute(_FRIEND, (user, other)).fetchone() is not None
