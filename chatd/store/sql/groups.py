"""Groups: who is in them, and who may change that; in the SQL of both twins.

Owns: the tables team and member. A group has one owner, who hands over when leaving. Whatever changes who is in a group
raises its members_version here, in the same transaction.
Elsewhere: the users (store.sql.accounts), a group's messages (store.sql.history, store.sqlite.tables,
store.mysql.tables).
Fails: Refused, before anything is written.
"""

from __future__ import annotations

import abc
from collections.abc import Collection

from chatd.errors import ErrorCode, Refused
from chatd.model import ConversationId, Group, GroupId, Role, Seq, User, UserId
from chatd.store.contract import FIRST_VERSION, GroupRow, Joined, Left, Membership
from chatd.store.sql.accounts import People

_ASKED_BY_ID = 500
"""Of more users than this it is not asked one by one whether they are in a group: all its members are read."""


class Teams(People, abc.ABC):
    """The part of Tables about groups; a base of every twin."""

    @abc.abstractmethod
    def _last_seq(self, conversation: ConversationId) -> Seq:
        """0 for a conversation without messages."""

    def _hold_group(self, group_id: GroupId) -> None:
        """Nobody else changes this group or writes to it before the commit: as People._hold_users."""

    def _open_group(self, group_id: GroupId) -> None:
        """For a twin that has more to make for a new group."""

    def delete_user(self, user_id: UserId) -> None:
        """Leaves every group first, so that none is without an owner."""
        self._hold_users(user_id)
        for group_id in self.group_ids(user_id):
            self.leave_group(user_id, group_id)
        super().delete_user(user_id)

    def create_group(self, owner: UserId, name: str, description: str, limit: int, now_ms: int) -> GroupId:
        self._hold_users(owner)
        self._room_for_another_group(owner, limit)
        made = self._db.execute(
            "INSERT INTO team (name, description, created_at_ms) VALUES (?, ?, ?)", (name, description, now_ms)
        ).lastrowid
        assert made is not None
        self._open_group(made)
        self._add_member(made, owner, Role.OWNER, FIRST_VERSION, now_ms)
        return made

    def join_group(self, user_id: UserId, group_id: GroupId, members: int, groups: int, now_ms: int) -> Joined:
        self._hold_users(user_id)
        self._hold_group(group_id)
        row = self._db.execute("SELECT id, name, description FROM team WHERE id = ?", (group_id,)).fetchone()
        if row is None:
            raise Refused(ErrorCode.UNKNOWN_GROUP)
        group = Group(row[0], row[1], row[2])
        member = self._db.execute(
            "SELECT since_version FROM member WHERE team_id = ? AND user_id = ?", (group_id, user_id)
        ).fetchone()
        if member is not None:
            return Joined(group, False, int(member[0]))
        count = self._db.execute("SELECT count(*) FROM member WHERE team_id = ?", (group_id,)).fetchone()[0]
        if count >= members:
            raise Refused(ErrorCode.LIMIT_REACHED, "this group is full")
        self._room_for_another_group(user_id, groups)
        version = self._raise_version(group_id)
        self._add_member(group_id, user_id, Role.MEMBER, version, now_ms)
        return Joined(group, True, version)

    def _room_for_another_group(self, user_id: UserId, limit: int) -> None:
        if self._db.execute("SELECT count(*) FROM member WHERE user_id = ?", (user_id,)).fetchone()[0] >= limit:
            raise Refused(ErrorCode.LIMIT_REACHED, "you are in too many groups")

    def _raise_version(self, group_id: GroupId) -> int:
        """One more change of who is in the group. To be called while it is held (_hold_group)."""
        self._db.execute("UPDATE team SET members_version = members_version + 1 WHERE id = ?", (group_id,))
        return self._version(group_id)

    def _version(self, group_id: GroupId) -> int:
        """0: there is no such group."""
        row = self._db.execute("SELECT members_version FROM team WHERE id = ?", (group_id,)).fetchone()
        return int(row[0]) if row else 0

    def _add_member(self, group_id: GroupId, user_id: UserId, role: Role, since_version: int, now_ms: int) -> None:
        self._db.execute(
            "INSERT INTO member (team_id, user_id, role, joined_at_ms, since_version) VALUES (?, ?, ?, ?, ?)",
            (group_id, user_id, int(role), now_ms, since_version),
        )
        self._forget_members(group_id, user_id)
        cursor = (user_id, -group_id, self._last_seq(-group_id))
        self._db.execute("REPLACE INTO `cursor` (user_id, conversation, delivered) VALUES (?, ?, ?)", cursor)

    def group_ids(self, user_id: UserId) -> list[GroupId]:
        rows = self._db.execute("SELECT team_id FROM member WHERE user_id = ? ORDER BY team_id", (user_id,))
        return [row[0] for row in rows]

    def memberships(self, user_ids: Collection[UserId]) -> list[Membership]:
        if not user_ids:
            return []
        marks = ",".join("?" * len(user_ids))
        rows = self._db.execute(
            "SELECT m.user_id, m.team_id, m.since_version, t.members_version FROM member AS m"
            f" JOIN team AS t ON t.id = m.team_id WHERE m.user_id IN ({marks})",
            tuple(user_ids),
        )
        return [Membership(*row) for row in rows]

    def members_among(self, group_id: GroupId, user_ids: Collection[UserId]) -> tuple[int, dict[UserId, int]]:
        some, numbers = "", tuple(user_ids)
        if len(numbers) <= _ASKED_BY_ID:
            some = f" AND m.user_id IN ({','.join('?' * len(numbers)) or 'NULL'})"
        rows = self._db.execute(
            "SELECT t.members_version, m.user_id, m.since_version FROM team AS t LEFT JOIN member AS m"
            f" ON m.team_id = t.id{some} WHERE t.id = ?",
            (*(numbers if some else ()), group_id),
        ).fetchall()
        wanted = set(numbers)
        return (rows[0][0] if rows else 0), {user: since for _, user, since in rows if user in wanted}

    def groups_of(self, user_id: UserId, member_limit: int) -> list[GroupRow]:
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

    # ---------------------------------------------------------------- roles

    def role(self, group_id: GroupId, user_id: UserId) -> Role:
        """Refused UNKNOWN_GROUP, NOT_A_MEMBER."""
        row = self._db.execute(
            "SELECT role FROM member WHERE team_id = ? AND user_id = ?", (group_id, user_id)
        ).fetchone()
        if row is None:
            known = self._db.execute("SELECT 1 FROM team WHERE id = ?", (group_id,)).fetchone()
            raise Refused(ErrorCode.NOT_A_MEMBER if known else ErrorCode.UNKNOWN_GROUP)
        return Role(row[0])

    def group(self, group_id: GroupId) -> Group | None:
        row = self._db.execute("SELECT id, name, description FROM team WHERE id = ?", (group_id,)).fetchone()
        return Group(row[0], row[1], row[2]) if row else None

    def members(self, group_id: GroupId, after: UserId, limit: int) -> list[tuple[User, Role]]:
        """By id, those with an id above `after`."""
        rows = self._db.execute(
            "SELECT u.id, u.name, m.role FROM member AS m JOIN user AS u ON u.id = m.user_id"
            " WHERE m.team_id = ? AND m.user_id > ? ORDER BY m.user_id LIMIT ?",
            (group_id, after, limit),
        )
        return [(User(row[0], row[1]), Role(row[2])) for row in rows]

    def leave_group(self, user_id: UserId, group_id: GroupId) -> Left:
        self._hold_group(group_id)
        role = self.role(group_id, user_id)
        self._remove_member(group_id, user_id)
        heir = self._db.execute(
            "SELECT user_id FROM member WHERE team_id = ? ORDER BY role, joined_at_ms, user_id LIMIT 1", (group_id,)
        ).fetchone()
        version = self._raise_version(group_id)
        if heir is None:
            self._db.execute("DELETE FROM team WHERE id = ?", (group_id,))
            return Left(None, True, version)
        if role is not Role.OWNER:
            return Left(None, False, version)
        self._set_role(group_id, heir[0], Role.OWNER)
        return Left(int(heir[0]), False, version)

    def kick_member(self, by: UserId, group_id: GroupId, user_id: UserId) -> int:
        """Owners may remove anybody else, admins plain members."""
        self._hold_group(group_id)
        if by == user_id or self.role(group_id, by) >= self.role(group_id, user_id):
            raise Refused(ErrorCode.NOT_ALLOWED)
        self._remove_member(group_id, user_id)
        return self._raise_version(group_id)

    def rename_group(self, by: UserId, group_id: GroupId, name: str, description: str | None) -> Group:
        """Owner and admins. description None = as it is."""
        self._hold_group(group_id)
        if self.role(group_id, by) is Role.MEMBER:
            raise Refused(ErrorCode.NOT_ALLOWED)
        self._db.execute(
            "UPDATE team SET name = ?, description = coalesce(?, description) WHERE id = ?",
            (name, description, group_id),
        )
        group = self.group(group_id)
        assert group is not None
        return group

    def set_role(self, by: UserId, group_id: GroupId, user_id: UserId, role: Role) -> None:
        """The owner alone; making another one owner makes oneself an admin."""
        self._hold_group(group_id)
        if by == user_id or self.role(group_id, by) is not Role.OWNER:
            raise Refused(ErrorCode.NOT_ALLOWED)
        self.role(group_id, user_id)
        if role is Role.OWNER:
            self._set_role(group_id, by, Role.ADMIN)
        self._set_role(group_id, user_id, role)

    def _set_role(self, group_id: GroupId, user_id: UserId, role: Role) -> None:
        self._db.execute("UPDATE member SET role = ? WHERE team_id = ? AND user_id = ?", (int(role), group_id, user_id))

    def _remove_member(self, group_id: GroupId, user_id: UserId) -> None:
        self._db.execute("DELETE FROM member WHERE team_id = ? AND user_id = ?", (group_id, user_id))
        self._db.execute("DELETE FROM `cursor` WHERE user_id = ? AND conversation = ?", (user_id, -group_id))
        self._forget_members(group_id, user_id)
