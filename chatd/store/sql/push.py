"""Where users want to be notified while they are away, in the SQL of both twins.

Owns: the table `push_subscription`.
Elsewhere: deleting a user's subscriptions with the account (store.sql.accounts), notifying (push).
Fails: Refused before anything is written; what the database raises passes through.

A subscription counts for the credentials that the user had when it was made: whoever had the account before its
password changed is not told anything afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from hashlib import sha256

from chatd.errors import ErrorCode, Refused
from chatd.model import ConversationId, Message, MessageState, Seq, User, UserId
from chatd.store.push_contract import DuePush, Missed, MissedPart, NewSubscription
from chatd.store.sql.database import Backend, Database

_SCANNED = 2000
"""Messages that are looked at, at most, by one read."""
_HAS_TEXT = (MessageState.SENT, MessageState.EDITED)
_OF_TEXT = f"m.state IN ({', '.join(str(int(state)) for state in _HAS_TEXT)})"
_WANTED = (
    f" WHERE m.id > ? AND m.id <= ? AND {_OF_TEXT} AND s.user_id <> m.sender_id AND NOT EXISTS"
    " (SELECT 1 FROM block AS b WHERE b.user_id = s.user_id AND b.blocked_id = m.sender_id)"
    " GROUP BY s.user_id, m.conversation"
)

At = Callable[[ConversationId, Collection[Seq]], list[Message]]


class SqlMissed:
    """PushTables.missed(). join: the twin's word for a join whose tables are read in the order in which they are
    written."""

    def __init__(self, db: Database, join: str) -> None:
        self._db = db
        self._queries = (
            f"SELECT s.user_id, m.conversation, max(m.seq), count(DISTINCT m.id) FROM message AS m {join} pair AS p"
            f" ON p.id = m.conversation {join} push_subscription AS s"
            f" ON s.user_id = CASE WHEN p.low = m.sender_id THEN p.high ELSE p.low END{_WANTED}",
            f"SELECT s.user_id, m.conversation, max(m.seq), count(DISTINCT m.id) FROM message AS m {join} member AS g"
            f" ON g.team_id = -m.conversation AND g.first_seq <= m.seq {join} push_subscription AS s"
            f" ON s.user_id = g.user_id{_WANTED}",
        )

    def missed(self, after: int, upto: int) -> MissedPart:
        upto = min(upto, after + _SCANNED)
        rows = [row for query in self._queries for row in self._db.execute(query, (after, upto)).fetchall()]
        return MissedPart([Missed(*map(int, row)) for row in rows], upto)


class SqlPush:
    """store.push_contract.PushTables. at: as HistoryTables.at(). for_update: appended to a SELECT whose row must not
    change until the commit."""

    def __init__(self, db: Database, backend: Backend, missed: SqlMissed, at: At, for_update: str = "") -> None:
        self._db = db
        self._backend = backend
        self._at = at
        self._for_update = for_update
        self.missed = missed.missed

    # ---------------------------------------------------------------- which there are

    def subscribe(self, new: NewSubscription, most: int, now_ms: int) -> None:
        self._backend.lock_users(new.user_id)
        place = _hash(new.gateway, new.endpoint)
        found = self._db.execute(
            f"SELECT id, user_id, p256dh, auth FROM push_subscription WHERE place = ?{self._for_update}", (place,)
        ).fetchone()
        if found is not None and found[1] != new.user_id and tuple(found[2:]) != (new.p256dh, new.auth):
            raise Refused(ErrorCode.NOT_ALLOWED, "this subscription belongs to somebody else")
        if found is not None:
            self._db.execute("DELETE FROM push_subscription WHERE id = ?", (found[0],))
        number = self._db.execute(
            "INSERT INTO push_subscription (user_id, place, gateway, endpoint, p256dh, auth, credentials,"
            " created_at_ms) SELECT id, ?, ?, ?, ?, ?, credentials, ? FROM user WHERE id = ?",
            (place, new.gateway, new.endpoint, new.p256dh, new.auth, now_ms, new.user_id),
        ).lastrowid
        assert number is not None
        self._backend.created("push_subscription", number)
        ids = self._db.execute(
            "SELECT id FROM push_subscription WHERE user_id = ? ORDER BY id DESC", (new.user_id,)
        ).fetchall()
        for (old,) in ids[most:]:
            self._db.execute("DELETE FROM push_subscription WHERE id = ?", (old,))

    def unsubscribe(self, user_id: UserId, gateway: str, endpoint: str) -> bool:
        place = _hash(gateway, endpoint)
        found = self._db.execute(
            f"SELECT id FROM push_subscription WHERE place = ? AND user_id = ?{self._for_update}", (place, user_id)
        ).fetchone()
        if found is None:
            return False
        self._db.execute("DELETE FROM push_subscription WHERE id = ?", (found[0],))
        return True

    def unsubscribe_all(self, user_id: UserId) -> bool:
        query = "SELECT 1 FROM push_subscription WHERE user_id = ? LIMIT 1"
        if self._db.execute(query, (user_id,)).fetchone() is None:
            return False
        self._db.execute("DELETE FROM push_subscription WHERE user_id = ?", (user_id,))
        return True

    def count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM push_subscription").fetchone()[0])

    # ---------------------------------------------------------------- what is due

    def put_off(self, missed: Sequence[Missed], due_at_ms: int, pause_ms: int) -> None:
        for one in missed:
            self._db.execute(
                "UPDATE push_subscription SET waiting = waiting + ?, conversation = ?, seq = ?, due_at_ms = CASE"
                " WHEN due_at_ms > 0 THEN due_at_ms WHEN worked_at_ms > 0 AND worked_at_ms + ? > ?"
                " THEN worked_at_ms + ? ELSE ? END WHERE user_id = ?",
                (one.messages, one.conversation, one.seq, pause_ms, due_at_ms, pause_ms, due_at_ms, one.user_id),
            )

    def due(self, now_ms: int, limit: int, without: Sequence[str] = ()) -> list[DuePush]:
        others, values = _other_services(without)
        rows = self._db.execute(
            "SELECT s.id, u.id, u.name, s.gateway, s.endpoint, s.p256dh, s.auth,"
            " u.credentials = s.credentials AND u.locked_at_ms = 0 AND u.name_key IS NOT NULL,"
            " s.seq > COALESCE(c.delivered, 0) AND s.seq > COALESCE(c.seen, 0) AND (s.conversation > 0 OR EXISTS"
            " (SELECT 1 FROM member AS g WHERE g.team_id = -s.conversation AND g.user_id = s.user_id)),"
            " s.conversation, s.seq, s.waiting, s.failures, s.worked_at_ms FROM push_subscription AS s"
            " JOIN user AS u ON u.id = s.user_id LEFT JOIN `cursor` AS c ON c.user_id = s.user_id"
            f" AND c.conversation = s.conversation WHERE s.due_at_ms > 0 AND s.due_at_ms <= ?{others}"
            " ORDER BY s.due_at_ms LIMIT ?",
            (now_ms, *values, limit),
        ).fetchall()
        return [self._due(row) for row in rows]

    def _due(self, row: Sequence[object]) -> DuePush:
        number, user_id, name, gateway, endpoint, p256dh, auth, valid, waits, conversation, seq, *rest = row
        where = int(str(conversation)), int(str(seq))
        found = self._at(where[0], [where[1]]) if valid and waits else []
        message = found[0] if found and found[0].state in _HAS_TEXT else None
        return DuePush(
            int(str(number)),
            User(int(str(user_id)), str(name)),
            str(gateway),
            str(endpoint),
            str(p256dh),
            str(auth),
            bool(valid),
            bool(waits),
            *where,
            message,
            *(int(str(one)) for one in rest),
        )

    def next_due_ms(self, after_ms: int) -> int:
        query = "SELECT min(due_at_ms) FROM push_subscription WHERE due_at_ms > 0 AND due_at_ms > ?"
        row = self._db.execute(query, (after_ms,)).fetchone()
        return int(row[0] or 0)

    # ---------------------------------------------------------------- what became of it

    def told(self, one: DuePush, now_ms: int, pause_ms: int) -> None:
        self._settle(one, now_ms + pause_ms)
        self._db.execute(
            "UPDATE push_subscription SET failures = 0, worked_at_ms = ? WHERE id = ?", (max(1, now_ms), one.id)
        )

    def drop(self, one: DuePush) -> None:
        self._settle(one, 1)

    def _settle(self, one: DuePush, due_at_ms: int) -> None:
        """due_at_ms: of what came meanwhile."""
        self._db.execute(
            "UPDATE push_subscription SET due_at_ms = CASE WHEN waiting > ? THEN ? ELSE 0 END,"
            " waiting = waiting - ? WHERE id = ?",
            (one.waiting, due_at_ms, one.waiting, one.id),
        )

    def failed(self, one: DuePush, due_at_ms: int) -> None:
        self._db.execute(
            "UPDATE push_subscription SET failures = failures + 1, due_at_ms = ? WHERE id = ?", (due_at_ms, one.id)
        )

    def remove(self, one: DuePush) -> None:
        self._db.execute("DELETE FROM push_subscription WHERE id = ?", (one.id,))


def _hash(gateway: str, endpoint: str) -> str:
    return sha256(f"{gateway}\n{endpoint}".encode()).hexdigest()


def _other_services(without: Sequence[str]) -> tuple[str, list[str | int]]:
    """The condition that a row is of no service of these (DuePush.service), and its values."""
    condition, values = "", list[str | int]()
    for service in without:
        if "://" in service:
            condition += " AND (s.gateway <> '' OR lower(substr(s.endpoint, 1, ?)) <> ?)"
            values += [len(service), service]
        else:
            condition += " AND s.gateway <> ?"
            values.append(service)
    return condition, values
