"""Accounts and friends, in the SQL of both twins.

Owns: the tables user, friend, meta, and the directory of users kept in memory.
Elsewhere: groups (store.sql.groups), transactions and messages (store.sqlite.tables and store.mysql.tables, which
inherit from both).
Fails: Refused where the request is not allowed; what the database raises passes through to store.group_commit.
"""

from __future__ import annotations

import json
import unicodedata

from chatd.errors import ErrorCode, Refused
from chatd.model import FriendRequest, GroupId, User, UserId
from chatd.store.contract import Account
from chatd.store.sql.database import Database

_CACHE = 200_000


def name_key(name: str) -> str:
    """Two names with the same key are the same name."""
    return unicodedata.normalize("NFKC", name).casefold()


class People:
    """The part of Tables about people; a base of every twin."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._by_name: dict[str, User] = {}
        self._by_id: dict[UserId, User] = {}

    def _meta(self, key: str) -> str:
        return str(self._db.execute("SELECT value FROM meta WHERE `key` = ?", (key,)).fetchone()[0])

    # ---------------------------------------------------------------- what a twin may have to do besides

    def _hold_users(self, *user_ids: UserId) -> None:
        """Nobody else changes these accounts and their friends before the commit. Nothing to do where only one
        transaction writes at a time."""

    def _forget_members(self, group_id: GroupId | None = None, user_id: UserId = 0) -> None:
        """For a twin that remembers who is a member of what: forget this one, or all."""

    # ---------------------------------------------------------------- the directory

    def forget_users(self) -> None:
        self._by_name.clear()
        self._by_id.clear()

    def user(self, name: str, user_id: UserId) -> User | None:
        """As Tables.account, from memory where possible."""
        found = self._by_name.get(name) if name else self._by_id.get(user_id)
        if found is None:
            account = self.account(name, user_id)
            if account is None:
                return None
            found = account.user
            if len(self._by_name) + len(self._by_id) > _CACHE:
                self.forget_users()
            if name:
                self._by_name[name] = found
            self._by_id[found.id] = found
        return found

    def user_or_ghost(self, user_id: UserId) -> User:
        """A deleted account still has the name its messages were written under."""
        found = self._by_id.get(user_id)
        if found is None:
            row = self._db.execute("SELECT name FROM user WHERE id = ?", (user_id,)).fetchone()
            found = User(user_id, str(row[0]) if row else f"#{user_id}")
            if row:
                return self.user("", user_id) or found
        return found

    # ---------------------------------------------------------------- accounts

    def create_user(self, name: str, password: str, now_ms: int) -> User:
        key = name_key(name)
        if self._db.execute("SELECT 1 FROM user WHERE name_key = ?", (key,)).fetchone():
            raise Refused(ErrorCode.NAME_TAKEN)
        made = self._db.execute(
            "INSERT INTO user (name, name_key, password, created_at_ms) VALUES (?, ?, ?, ?)",
            (name, key, password, now_ms),
        ).lastrowid
        assert made is not None
        if key.isdigit():
            self._directory_changed()
        return User(made, name)

    def account(self, name: str, user_id: UserId) -> Account | None:
        query = "SELECT id, name, password FROM user WHERE name_key IS NOT NULL AND "
        row = None
        if name:
            row = self._db.execute(query + "name_key = ?", (name_key(name),)).fetchone()
            if row is None and name.isascii() and name.isdigit() and len(name) < 19:
                user_id = int(name)
        if row is None and 0 < user_id < 1 << 62:
            row = self._db.execute(query + "id = ?", (user_id,)).fetchone()
        return Account(User(int(row[0]), str(row[1])), str(row[2])) if row else None

    def set_password(self, user_id: UserId, password: str) -> None:
        self._db.execute("UPDATE user SET password = ? WHERE id = ?", (password, user_id))

    def delete_user(self, user_id: UserId) -> None:
        self._db.execute("UPDATE user SET name_key = NULL, password = '' WHERE id = ?", (user_id,))
        self._db.execute("DELETE FROM friend WHERE user_id = ?", (user_id,))
        self._db.execute("DELETE FROM friend WHERE friend_id = ?", (user_id,))
        self._db.execute("DELETE FROM `cursor` WHERE user_id = ?", (user_id,))
        self._directory_changed()

    def _directory_changed(self) -> None:
        """Other workers drop their directory at their next transaction; a new name may hide a number."""
        self._db.execute("UPDATE meta SET value = value + 1 WHERE `key` = 'directory'")
        self.forget_users()
        self._forget_members()

    def users(self) -> list[tuple[UserId, str, int]]:
        rows = self._db.execute("SELECT id, name, created_at_ms FROM user WHERE name_key IS NOT NULL ORDER BY id")
        return rows.fetchall()

    # ---------------------------------------------------------------- what people tell of themselves

    def profile(self, user_id: UserId) -> dict[str, str]:
        row = self._db.execute("SELECT profile FROM user WHERE id = ?", (user_id,)).fetchone()
        return dict(json.loads(row[0])) if row and row[0] else {}

    def set_profile(self, user_id: UserId, profile: dict[str, str]) -> None:
        text = json.dumps(profile, ensure_ascii=False, sort_keys=True)
        self._db.execute("UPDATE user SET profile = ? WHERE id = ?", (text, user_id))

    def last_seen(self, user_id: UserId) -> int:
        row = self._db.execute("SELECT seen_at_ms FROM user WHERE id = ?", (user_id,)).fetchone()
        return int(row[0]) if row else 0

    # ---------------------------------------------------------------- friends

    def request_friend(self, sender: User, to: UserId, limit: int, now_ms: int) -> bool:
        if to == sender.id:
            raise Refused(ErrorCode.NOT_ALLOWED, "you cannot be your own friend")
        self._hold_users(sender.id, to)
        if self.user("", to) is None:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
        known = self._db.execute(
            "SELECT accepted FROM friend WHERE user_id = ? AND friend_id = ?", (sender.id, to)
        ).fetchone()
        if known is not None and known[0]:
            raise Refused(ErrorCode.NOT_ALLOWED, "you are friends already")
        count = self._db.execute("SELECT count(*) FROM friend WHERE user_id = ?", (sender.id,)).fetchone()[0]
        if known is None and count >= limit:
            raise Refused(ErrorCode.LIMIT_REACHED)
        asked = self._db.execute("SELECT 1 FROM friend WHERE user_id = ? AND friend_id = ?", (to, sender.id)).fetchone()
        if asked:
            self._befriend(sender.id, to, now_ms)
            return True
        if known is None:
            self._db.execute("INSERT INTO friend VALUES (?, ?, 0, ?)", (sender.id, to, now_ms))
        return False

    def _befriend(self, one: UserId, other: UserId, now_ms: int) -> None:
        self._db.execute(
            "REPLACE INTO friend VALUES (?, ?, 1, ?), (?, ?, 1, ?)", (one, other, now_ms, other, one, now_ms)
        )

    def answer_friend(self, user_id: UserId, requester: UserId, accept: bool, now_ms: int) -> None:
        self._hold_users(user_id, requester)
        pending = (requester, user_id)
        where = "WHERE user_id = ? AND friend_id = ? AND accepted = 0"
        if self._db.execute(f"SELECT 1 FROM friend {where}", pending).fetchone() is None:
            raise Refused(ErrorCode.NOT_ALLOWED, "there is no such friend request")
        if accept:
            self._befriend(user_id, requester, now_ms)
        else:
            self._db.execute(f"DELETE FROM friend {where}", pending)

    def remove_friend(self, user_id: UserId, friend_id: UserId) -> None:
        """Also takes back a request that waits. Refused NOT_ALLOWED when there is neither."""
        self._hold_users(user_id, friend_id)
        pair = (user_id, friend_id)
        found = self._db.execute("SELECT accepted FROM friend WHERE user_id = ? AND friend_id = ?", pair).fetchone()
        if found is None:
            raise Refused(ErrorCode.NOT_ALLOWED, "you are not friends")
        self._db.execute("DELETE FROM friend WHERE user_id = ? AND friend_id = ?", pair)
        if found[0]:
            self._db.execute("DELETE FROM friend WHERE user_id = ? AND friend_id = ?", (friend_id, user_id))

    def may_see(self, user_id: UserId, other: UserId) -> bool:
        """Friends, or members of one group."""
        if user_id == other:
            return True
        found = self._db.execute(
            "SELECT 1 FROM friend WHERE user_id = ? AND friend_id = ? AND accepted = 1 UNION ALL"
            " SELECT 1 FROM member AS a JOIN member AS b ON b.team_id = a.team_id AND b.user_id = ?"
            " WHERE a.user_id = ? LIMIT 1",
            (user_id, other, other, user_id),
        )
        return found.fetchone() is not None

    def friends_of(self, user_id: UserId) -> list[User]:
        rows = self._db.execute(
            "SELECT u.id, u.name FROM friend AS f JOIN user AS u ON u.id = f.friend_id"
            " WHERE f.user_id = ? AND f.accepted = 1 ORDER BY u.id",
            (user_id,),
        )
        return [User(row[0], row[1]) for row in rows]

    def friend_requests(self, user_id: UserId, limit: int = 1000) -> list[FriendRequest]:
        rows = self._db.execute(
            "SELECT u.id, u.name FROM friend AS f JOIN user AS u ON u.id = f.user_id"
            " WHERE f.friend_id = ? AND f.accepted = 0 ORDER BY f.at_ms LIMIT ?",
            (user_id, limit),
        )
        return [FriendRequest(User(row[0], row[1]), user_id) for row in rows]
