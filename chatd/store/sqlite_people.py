"""Accounts, friends and groups in SQLite.

Owns: the tables user, friend, team, member, meta, and the directory of users kept in memory.
Elsewhere: transactions, locks and messages (store.sqlite, which inherits from People).
Fails: Refused where the request is not allowed; sqlite3.Error passes through to store.commit.
"""

from __future__ import annotations

import abc
import sqlite3
import unicodedata

from chatd.errors import ErrorCode, Refused
from chatd.model import ConversationId, FriendRequest, Group, GroupId, Role, Seq, User, UserId
from chatd.store.base import Account, GroupRow

_CACHE = 200_000


def name_key(name: str) -> str:
    """Two names with the same key are the same name."""
    return unicodedata.normalize("NFKC", name).casefold()


class People(abc.ABC):
    """The part of Tables about people; a base of SqliteTables."""

    @abc.abstractmethod
    def _last_seq(self, conversation: ConversationId) -> Seq:
        """0 for a conversation without messages."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._by_name: dict[str, User] = {}
        self._by_id: dict[UserId, User] = {}
        self._members: dict[tuple[GroupId, UserId], bool] = {}

    def _meta(self, key: str) -> str:
        return str(self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])

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
        self._db.execute("DELETE FROM friend WHERE user_id = ?1 OR friend_id = ?1", (user_id,))
        self._db.execute("DELETE FROM member WHERE user_id = ?", (user_id,))
        self._db.execute("DELETE FROM cursor WHERE user_id = ?", (user_id,))
        self._directory_changed()

    def _directory_changed(self) -> None:
        """Other workers drop their directory at their next transaction; a new name may hide a number."""
        self._db.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'directory'")
        self.forget_users()
        self._members.clear()

    def users(self) -> list[tuple[UserId, str, int]]:
        return self._db.execute(
            "SELECT id, name, created_at_ms FROM user WHERE name_key IS NOT NULL ORDER BY id"
        ).fetchall()

    # ---------------------------------------------------------------- friends

    def request_friend(self, sender: User, to: UserId, limit: int, now_ms: int) -> bool:
        if to == sender.id:
            raise Refused(ErrorCode.NOT_ALLOWED, "you cannot be your own friend")
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
        self._db.execute("INSERT OR IGNORE INTO friend VALUES (?, ?, 0, ?)", (sender.id, to, now_ms))
        return False

    def _befriend(self, one: UserId, other: UserId, now_ms: int) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO friend VALUES (?, ?, 1, ?)", [(one, other, now_ms), (other, one, now_ms)]
        )

    def answer_friend(self, user_id: UserId, requester: UserId, accept: bool, now_ms: int) -> None:
        pending = (requester, user_id)
        where = "WHERE user_id = ? AND friend_id = ? AND accepted = 0"
        if self._db.execute(f"SELECT 1 FROM friend {where}", pending).fetchone() is None:
            raise Refused(ErrorCode.NOT_ALLOWED, "there is no such friend request")
        if accept:
            self._befriend(user_id, requester, now_ms)
        else:
            self._db.execute(f"DELETE FROM friend {where}", pending)

    def friends(self, user_id: UserId) -> list[User]:
        rows = self._db.execute(
            "SELECT u.id, u.name FROM friend AS f JOIN user AS u ON u.id = f.friend_id"
            " WHERE f.user_id = ? AND f.accepted = 1 ORDER BY u.id",
            (user_id,),
        )
        return [User(row[0], row[1]) for row in rows]

    def friend_requests(self, user_id: UserId) -> list[FriendRequest]:
        rows = self._db.execute(
            "SELECT u.id, u.name FROM friend AS f JOIN user AS u ON u.id = f.user_id"
            " WHERE f.friend_id = ? AND f.accepted = 0 ORDER BY f.at_ms",
            (user_id,),
        )
        return [FriendRequest(User(row[0], row[1]), user_id) for row in rows]

    # ---------------------------------------------------------------- groups

    def create_group(self, owner: UserId, name: str, description: str, limit: int, now_ms: int) -> GroupId:
        self._room_for_another_group(owner, limit)
        made = self._db.execute(
            "INSERT INTO team (name, description, created_at_ms) VALUES (?, ?, ?)", (name, description, now_ms)
        ).lastrowid
        assert made is not None
        self._add_member(made, owner, Role.OWNER, now_ms)
        return made

    def join_group(self, user_id: UserId, group_id: GroupId, members: int, groups: int, now_ms: int) -> Group:
        row = self._db.execute("SELECT id, name, description FROM team WHERE id = ?", (group_id,)).fetchone()
        if row is None:
            raise Refused(ErrorCode.UNKNOWN_GROUP)
        group = Group(row[0], row[1], row[2])
        member = self._db.execute("SELECT 1 FROM member WHERE team_id = ? AND user_id = ?", (group_id, user_id))
        if member.fetchone() is not None:
            return group
        count = self._db.execute("SELECT count(*) FROM member WHERE team_id = ?", (group_id,)).fetchone()[0]
        if count >= members:
            raise Refused(ErrorCode.LIMIT_REACHED, "this group is full")
        self._room_for_another_group(user_id, groups)
        self._add_member(group_id, user_id, Role.MEMBER, now_ms)
        return group

    def _room_for_another_group(self, user_id: UserId, limit: int) -> None:
        if self._db.execute("SELECT count(*) FROM member WHERE user_id = ?", (user_id,)).fetchone()[0] >= limit:
            raise Refused(ErrorCode.LIMIT_REACHED, "you are in too many groups")

    def _add_member(self, group_id: GroupId, user_id: UserId, role: Role, now_ms: int) -> None:
        self._db.execute("INSERT INTO member VALUES (?, ?, ?, ?)", (group_id, user_id, int(role), now_ms))
        self._members.pop((group_id, user_id), None)
        cursor = (user_id, -group_id, self._last_seq(-group_id))
        self._db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", cursor)

    def group_ids(self, user_id: UserId) -> list[GroupId]:
        rows = self._db.execute("SELECT team_id FROM member WHERE user_id = ? ORDER BY team_id", (user_id,))
        return [row[0] for row in rows]

    def groups(self, user_id: UserId, member_limit: int) -> list[GroupRow]:
        rows = self._db.execute(
            "SELECT t.id, t.name, t.description FROM member AS m JOIN team AS t ON t.id = m.team_id"
            " WHERE m.user_id = ? ORDER BY t.id",
            (user_id,),
        ).fetchall()
        result = []
        for group_id, name, description in rows:
            found = self._db.execute(
                "SELECT u.id, u.name, m.role FROM member AS m JOIN user AS u ON u.id = m.user_id"
                " WHERE m.team_id = ? ORDER BY m.role, u.id LIMIT ?",
                (group_id, member_limit),
            ).fetchall()
            member_limit -= len(found)
            members = [(User(row[0], row[1]), Role(row[2])) for row in found]
            result.append(GroupRow(Group(group_id, name, description), members))
        return result
