"""Friendships and friend requests, in the SQL of both twins.

Owns: the table `friend`. A row says that user_id asked friend_id (accepted 0), or has them as a friend (accepted 1);
a friendship is two rows, one in each direction. A user's limit counts the rows with their id as user_id: friends, and
requests that they sent and that are not answered yet.
Elsewhere: permission to watch presence (core.presence).
Fails: Refused, before anything is written; what the database raises passes through.
"""

from __future__ import annotations

from chatd.errors import ErrorCode, Refused
from chatd.model import FriendRequest, User, UserId
from chatd.store.sql.database import Backend, Database
from chatd.store.sql.directory import UserDirectory

_YOU_HAVE, _THEY_HAVE = "you have", "this user has"


class SqlFriends:
    """store.contract.FriendTables."""

    def __init__(self, db: Database, backend: Backend, directory: UserDirectory) -> None:
        self._db = db
        self._backend = backend
        self._directory = directory

    def request(self, sender: User, to: UserId, limit: int, now_ms: int) -> bool:
        if to == sender.id:
            raise Refused(ErrorCode.NOT_ALLOWED, "you cannot be your own friend")
        self._backend.lock_users(sender.id, to)
        if self._directory.find("", to) is None:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
        known = self._accepted(sender.id, to)
        if known:
            raise Refused(ErrorCode.NOT_ALLOWED, "you are friends already")
        if self._accepted(to, sender.id) is not None:
            self._befriend(sender.id, to, limit, now_ms)
            return True
        if known is None:
            self._check_room(sender.id, to, limit, _YOU_HAVE)
            self._db.execute("INSERT INTO friend VALUES (?, ?, 0, ?)", (sender.id, to, now_ms))
        return False

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
        else:
            self._db.execute(f"DELETE FROM friend {where}", pending)

    def _befriend(self, accepting: UserId, requester: UserId, limit: int, now_ms: int) -> None:
        self._check_room(accepting, requester, limit, _YOU_HAVE)
        self._check_room(requester, accepting, limit, _THEY_HAVE)
        self._db.execute(
            "REPLACE INTO friend VALUES (?, ?, 1, ?), (?, ?, 1, ?)",
            (accepting, requester, now_ms, requester, accepting, now_ms),
        )

    def _check_room(self, user_id: UserId, friend_id: UserId, limit: int, whose: str) -> None:
        """Whether the user may have one more row, unless there is one for `friend_id` already."""
        query = "SELECT count(*) FROM friend WHERE user_id = ? AND friend_id <> ?"
        if self._db.execute(query, (user_id, friend_id)).fetchone()[0] >= limit:
            raise Refused(ErrorCode.LIMIT_REACHED, f"{whose} {limit} friends and open requests already")

    def remove(self, user_id: UserId, friend_id: UserId) -> None:
        self._backend.lock_users(user_id, friend_id)
        accepted = self._accepted(user_id, friend_id)
        if accepted is None:
            raise Refused(ErrorCode.NOT_ALLOWED, "you are not friends")
        self._db.execute("DELETE FROM friend WHERE user_id = ? AND friend_id = ?", (user_id, friend_id))
        if accepted:
            self._db.execute("DELETE FROM friend WHERE user_id = ? AND friend_id = ?", (friend_id, user_id))

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

    def may_see(self, user_id: UserId, other: UserId) -> bool:
        if user_id == other:
            return True
        found = self._db.execute(
            "SELECT 1 FROM friend WHERE user_id = ? AND friend_id = ? AND accepted = 1 UNION ALL"
            " SELECT 1 FROM member AS a JOIN member AS b ON b.team_id = a.team_id AND b.user_id = ?"
            " WHERE a.user_id = ? LIMIT 1",
            (user_id, other, other, user_id),
        )
        return found.fetchone() is not None
