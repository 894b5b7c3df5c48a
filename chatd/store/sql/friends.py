"""Friendships and friend requests, in the SQL of both twins.

Owns: the table `friend`. A row says that user_id asked friend_id (accepted 0), or has them as a friend (accepted 1);
a friendship is two rows, one in each direction. A user's limit counts the rows with their id as user_id: friends, and
requests that they sent and that are not answered yet. The table `refusal`: friend_id has refused a request of user_id
(withdrawn 0), or user_id has withdrawn one of which friend_id was told (withdrawn 1).
Elsewhere: from whom a user accepts requests (store.sql.verdicts).
Fails: Refused, before anything is written; what the database raises passes through.
"""

from __future__ import annotations

from chatd.errors import ErrorCode, Refused
from chatd.model import Audience, FriendRequest, User, UserId
from chatd.store.consent_contract import Asked, AskingRules, Purpose
from chatd.store.sql.database import Backend, Database
from chatd.store.sql.directory import UserDirectory
from chatd.store.sql.verdicts import CODES, Permissions
from chatd.texts.waits import in_words

_YOU_HAVE, _THEY_HAVE = "you have", "this user has"
LONGEST_AGAIN_MS = 365 * 86_400_000
"""The longest people.ask_again_s: older refusals are deleted."""


class SqlFriends:
    """store.contract.FriendTables."""

    def __init__(self, db: Database, backend: Backend, directory: UserDirectory, permissions: Permissions) -> None:
        self._db = db
        self._backend = backend
        self._directory = directory
        self._permissions = permissions

    def request(self, sender: User, to: UserId, rules: AskingRules, now_ms: int) -> Asked:
        if to == sender.id:
            raise Refused(ErrorCode.NOT_ALLOWED, "you cannot be your own friend")
        self._backend.lock_users(sender.id, to)
        if self._directory.find("", to) is None:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
        known = self._accepted(sender.id, to)
        if known:
            raise Refused(ErrorCode.NOT_ALLOWED, "you are friends already")
        if self._accepted(to, sender.id) is not None:
            self._befriend(sender.id, to, rules.friends, now_ms)
            return Asked.FRIENDS
        if known is not None:
            return Asked.AGAIN
        self._check_accepted(sender.id, to, rules.may_ask)
        told = self._check_refused(sender.id, to, rules.again_ms, now_ms)
        self._check_room(sender.id, to, rules.friends, _YOU_HAVE)
        waiting = "SELECT count(*) FROM friend WHERE friend_id = ? AND accepted = 0"
        if self._db.execute(waiting, (to,)).fetchone()[0] >= rules.waiting:
            raise Refused(ErrorCode.LIMIT_REACHED, f"this user has {rules.waiting} open requests already")
        self._db.execute("INSERT INTO friend VALUES (?, ?, 0, ?)", (sender.id, to, now_ms))
        return Asked.AGAIN if told else Asked.NEW

    def _check_accepted(self, sender: UserId, to: UserId, default: Audience) -> None:
        code = CODES.get(self._permissions.verdicts(Purpose.ASK, [(sender, to)], default)[sender, to].ground)
        if code is not None:
            raise Refused(code)

    def _check_refused(self, sender: UserId, to: UserId, again_ms: int, now_ms: int) -> bool:
        """Whether `to` was told of a request that the sender has withdrawn since. Raises Refused NOT_ALLOWED: `to` has
        refused one. Both for again_ms."""
        row = self._db.execute(
            "SELECT at_ms, withdrawn FROM refusal WHERE user_id = ? AND friend_id = ?", (sender, to)
        ).fetchone()
        if row is None:
            return False
        at_ms, withdrawn = row
        if at_ms + again_ms <= now_ms:
            self._forget_refusal(sender, to)
            return False
        if not withdrawn:
            left = in_words((at_ms + again_ms - now_ms) / 1000)
            raise Refused(ErrorCode.NOT_ALLOWED, f"this user has refused: you can ask again in {left}")
        return True

    def _forget_refusal(self, sender: UserId, to: UserId) -> None:
        self._db.execute("DELETE FROM refusal WHERE user_id = ? AND friend_id = ?", (sender, to))

    def _accepted(self, user_id: UserId, friend_id: UserId) -> bool | None:
        """None: there is no row in this direction."""
        row = self._db.execute(
            "SELECT accepted FROM friend WHERE user_id = ? AND friend_id = ?", (user_id, friend_id)
        ).fetchone()
        return None if row is None else bool(row[0])

    def answer(self, user_id: UserId, requester: UserId, accept: bool, limit: int, now_ms: int) -> None:
        self._backend.lock_users(user_id, requester)
        pending = (requester, user_id)
        where = "WHERE user_id = ? AND friend_id = ? AND accepted = 0"
        if self._db.execute(f"SELECT 1 FROM friend {where}", pending).fetchone() is None:
            raise Refused(ErrorCode.NOT_ALLOWED, "there is no such friend request")
        if accept:
            self._befriend(user_id, requester, limit, now_ms)
            return
        self._db.execute(f"DELETE FROM friend {where}", pending)
        forgotten_ms = now_ms - LONGEST_AGAIN_MS
        self._db.execute("DELETE FROM refusal WHERE friend_id = ? AND at_ms < ?", (user_id, forgotten_ms))
        self._db.execute("REPLACE INTO refusal (user_id, friend_id, at_ms) VALUES (?, ?, ?)", (*pending, now_ms))

    def befriend(self, user_id: UserId, other: UserId, limit: int, now_ms: int) -> bool:
        if user_id == other:
            raise Refused(ErrorCode.NOT_ALLOWED, "users cannot be their own friends")
        self._backend.lock_users(user_id, other)
        for one in (user_id, other):
            if self._directory.find("", one) is None:
                raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
        if self._accepted(user_id, other):
            return False
        blocked = "SELECT 1 FROM block WHERE user_id = ? AND blocked_id = ? OR user_id = ? AND blocked_id = ?"
        if self._db.execute(blocked, (user_id, other, other, user_id)).fetchone() is not None:
            raise Refused(ErrorCode.NOT_ACCEPTED, "one of the two users blocks the other")
        self._befriend(user_id, other, limit, now_ms)
        return True

    def _befriend(self, accepting: UserId, requester: UserId, limit: int, now_ms: int) -> None:
        self._check_room(accepting, requester, limit, _YOU_HAVE)
        self._check_room(requester, accepting, limit, _THEY_HAVE)
        self._db.execute(
            "REPLACE INTO friend VALUES (?, ?, 1, ?), (?, ?, 1, ?)",
            (accepting, requester, now_ms, requester, accepting, now_ms),
        )
        self._forget_refusal(accepting, requester)
        self._forget_refusal(requester, accepting)

    def _check_room(self, user_id: UserId, friend_id: UserId, limit: int, whose: str) -> None:
        """Whether the user may have one more row, unless there is one for `friend_id` already."""
        query = "SELECT count(*) FROM friend WHERE user_id = ? AND friend_id <> ?"
        if self._db.execute(query, (user_id, friend_id)).fetchone()[0] >= limit:
            raise Refused(ErrorCode.LIMIT_REACHED, f"{whose} {limit} friends and open requests already")

    def remove(self, user_id: UserId, friend_id: UserId) -> None:
        self._backend.lock_users(user_id, friend_id)
        if self._accepted(user_id, friend_id) is None:
            raise Refused(ErrorCode.NOT_ALLOWED, "you are not friends")
        if self._end(user_id, friend_id):
            self._end(friend_id, user_id)
            self._db.execute("DELETE FROM correspondent WHERE user_id = ? AND other_id = ?", (user_id, friend_id))
            self._permissions.changed()

    def part(self, user_id: UserId, other: UserId) -> None:
        """The two, who are locked, are no friends, and neither asks the other."""
        self._end(user_id, other)
        self._end(other, user_id)

    def _end(self, user_id: UserId, friend_id: UserId) -> bool:
        """Delete the row in this direction, if there is one. True: they were friends. That a request was withdrawn is
        remembered, so that withdrawing and asking in turn does not notify each time."""
        row = self._db.execute(
            "SELECT accepted, at_ms FROM friend WHERE user_id = ? AND friend_id = ?", (user_id, friend_id)
        ).fetchone()
        if row is None:
            return False
        accepted, at_ms = row
        self._db.execute("DELETE FROM friend WHERE user_id = ? AND friend_id = ?", (user_id, friend_id))
        told = "SELECT 1 FROM refusal WHERE user_id = ? AND friend_id = ?"
        if not accepted and self._db.execute(told, (user_id, friend_id)).fetchone() is None:
            self._db.execute(
                "INSERT INTO refusal (user_id, friend_id, at_ms, withdrawn) VALUES (?, ?, ?, 1)",
                (user_id, friend_id, at_ms),
            )
        return bool(accepted)

    def of(self, user_id: UserId) -> list[User]:
        rows = self._db.execute(
            "SELECT u.id, u.name FROM friend AS f JOIN user AS u ON u.id = f.friend_id"
            " WHERE f.user_id = ? AND f.accepted = 1 ORDER BY u.id",
            (user_id,),
        )
        return [User(row[0], row[1]) for row in rows]

    def requests_to(self, user_id: UserId, limit: int = 1000) -> list[FriendRequest]:
        rows = self._db.execute(
            "SELECT u.id, u.name FROM friend AS f JOIN user AS u ON u.id = f.user_id"
            " WHERE f.friend_id = ? AND f.accepted = 0 ORDER BY f.at_ms LIMIT ?",
            (user_id, limit),
        )
        return [FriendRequest(User(row[0], row[1]), user_id) for row in rows]
