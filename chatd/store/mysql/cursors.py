"""What waits for users, read from MySQL.

Owns: MysqlCursors: reading and moving cursors for store.sql.mailboxes, many in one round trip where nothing is cached.
Elsewhere: the quotas (store.sql.mailboxes), moving cursors for acknowledgements (store.mysql.tables).
Fails: Again and Unavailable as store.mysql.connection.
"""

from __future__ import annotations

from collections.abc import Collection

from chatd.model import ConversationId, Seq, UserId
from chatd.store.mysql.connection import MysqlConnection
from chatd.store.mysql.statements import number_list, pair_list
from chatd.store.sql.mailboxes import COUNTED_CONVERSATIONS, LONGEST, Behind, Count, Mailboxes

_DELIVERED = b"SELECT conversation, user_id, delivered FROM `cursor` WHERE (conversation, user_id) IN (%s)"
_MAILBOX = (
    b"SELECT c.user_id, c.conversation, c.delivered, v.last, ROW_NUMBER() OVER (PARTITION BY c.user_id"
    b" ORDER BY c.conversation DESC) AS place FROM `cursor` AS c JOIN conversation AS v ON v.id = c.conversation"
    b" WHERE c.user_id IN (%s) AND c.conversation > 0"
)
_COUNT = (
    b"SELECT user_id, SUM(GREATEST(0, last - delivered)), COUNT(*) FROM (" + _MAILBOX + b") AS w WHERE place <= %d"
    b" GROUP BY user_id"
)
_LONGEST = (
    b"SELECT conversation, delivered, last FROM (" + _MAILBOX + b") AS w WHERE place <= %d AND last > delivered"
    b" ORDER BY last - delivered DESC LIMIT %d"
)
_BEYOND = (
    b"SELECT seq, sender_id FROM message FORCE INDEX (place) WHERE conversation = %d AND seq > %d ORDER BY seq LIMIT %d"
)
_LAST = b"SELECT last FROM conversation WHERE id = %d"
_FRIEND = b"SELECT 1 FROM friend WHERE user_id = %d AND friend_id = %d AND accepted = 1"
_ADVANCE = b"UPDATE `cursor` SET delivered = %d WHERE user_id = %d AND conversation = %d AND delivered < %d"


class MysqlCursors:
    """store.sql.mailboxes.Cursors. admitted: recipients of this batch's messages so far, which are not inserted yet and
    so not counted."""

    def __init__(self, db: MysqlConnection) -> None:
        self._db = db
        self.admitted: list[UserId] = []

    def learn(self, mailboxes: Mailboxes, places: Collection[tuple[ConversationId, UserId]]) -> None:
        """Everything of which nothing is known, in one round trip."""
        cursors, users = mailboxes.unknown(places)
        if not cursors:
            return
        asked = [_DELIVERED % pair_list(sorted(cursors))]
        if users:
            asked.append(_COUNT % (number_list(sorted(users)), COUNTED_CONVERSATIONS))
        found, *counts = (rows.fetchall() for rows in self._db.query_all(*asked))
        delivered = {(conversation, user): seq for conversation, user, seq in found}
        for key in cursors:
            mailboxes.learn_cursor(key, delivered.get(key))
        waiting = {row[0]: Count(int(row[1]), int(row[2])) for rows in counts for row in rows}
        for user in users:
            mailboxes.learn_count(user, waiting.get(user, Count(0, 0)))

    def delivered(self, user: UserId, conversation: ConversationId) -> Seq | None:
        found = self._db.query(_DELIVERED % pair_list([(conversation, user)])).fetchone()
        return found[2] if found else None

    def count(self, user: UserId) -> Count:
        found = self._db.query(_COUNT % (number_list([user]), COUNTED_CONVERSATIONS)).fetchone()
        waiting, conversations = (int(found[1]), int(found[2])) if found else (0, 0)
        return Count(waiting + self.admitted.count(user), conversations)

    def longest(self, user: UserId) -> list[Behind]:
        rows = self._db.query(_LONGEST % (number_list([user]), COUNTED_CONVERSATIONS, LONGEST)).fetchall()
        return [Behind(*row) for row in rows]

    def beyond(self, conversation: ConversationId, seq: Seq, limit: int) -> list[tuple[Seq, UserId]]:
        rows = self._db.query(_BEYOND % (conversation, seq, limit)).fetchall()
        if rows:
            return [(row[0], row[1]) for row in rows]
        (last,) = self._db.query(_LAST % conversation).fetchone()
        return [(last + 1, 0)]

    def advance(self, user: UserId, conversation: ConversationId, seq: Seq) -> None:
        self._db.query(_ADVANCE % (seq, user, conversation, seq))

    def is_friend(self, user: UserId, other: UserId) -> bool:
        return self._db.query(_FRIEND % (user, other)).fetchone() is not None
