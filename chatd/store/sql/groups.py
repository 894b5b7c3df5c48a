"""Groups and their members, in the SQL of both twins.

Owns: the tables `team` and `member`. A group has exactly one owner, who hands over when leaving; the last member to
leave ends the group. Every change of its members raises its members_version in the same transaction.
Elsewhere: users (store.sql.directory), a group's messages (store.sqlite.messages, store.mysql.messages).
Fails: Refused, before anything is written; what the database raises passes through.
"""

from __future__ import annotations

from collections.abc import Collection

from chatd.errors import ErrorCode, Refused
from chatd.model import Group, GroupId, Role, Seq, User, UserId
from chatd.store.contract import FIRST_VERSION, NEVER, GroupRow, Joined, Left, Membership
from chatd.store.sql.database import Backend, Database

_ASKED_BY_ID = 500
"""Up to this many users are looked up one by one in a group; for more, all its members are read."""


class SqlGroups:
    """store.contract.GroupTables."""

    def __init__(self, db: Database, backend: Backend) -> None:
        self._db = db
        self._backend = backend

    def create(self, owner: UserId, name: str, description: str, limit: int, now_ms: int) -> GroupId:
        self._backend.lock_users(owner)
        self._check_group_count(owner, limit)
        group_id = self._db.execute(
            "INSERT INTO team (name, description, created_at_ms) VALUES (?, ?, ?)", (name, description, now_ms)
        ).lastrowid
        assert group_id is not None
        self._backend.created("team", group_id)
        self._backend.open_group(group_id)
        self._add_member(group_id, owner, Role.OWNER, FIRST_VERSION, now_ms)
        return group_id

    def join(self, user_id: UserId, group_id: GroupId, members: int, groups: int, now_ms: int) -> Joined:
        self._backend.lock_users(user_id)
        self._backend.lock_group(group_id)
        group = self.find(group_id)
        if group is None:
            raise Refused(ErrorCode.UNKNOWN_GROUP)
        member = self._db.execute(
            "SELECT since_version FROM member WHERE team_id = ? AND user_id = ?", (group_id, user_id)
        ).fetchone()
        if member is not None:
            return Joined(group, False, int(member[0]))
        count = self._db.execute("SELECT count(*) FROM member WHERE team_id = ?", (group_id,)).fetchone()[0]
        if count >= members:
            raise Refused(ErrorCode.LIMIT_REACHED, "this group is full")
        self._check_group_count(user_id, groups)
        version = self._raise_version(group_id)
        self._add_member(group_id, user_id, Role.MEMBER, version, now_ms)
        return Joined(group, True, version)

    def _check_group_count(self, user_id: UserId, limit: int) -> None:
        if self._db.execute("SELECT count(*) FROM member WHERE user_id = ?", (user_id,)).fetchone()[0] >= limit:
            raise Refused(ErrorCode.LIMIT_REACHED, "you are in too many groups")

    def _raise_version(self, group_id: GroupId) -> int:
        """Once per change of who is in the group, while it is locked. Returns the new version."""
        self._db.execute("UPDATE team SET members_version = members_version + 1 WHERE id = ?", (group_id,))
        return self.members_version(group_id)

    def members_version(self, group_id: GroupId) -> int:
        """0 for a group that does not exist."""
        row = self._db.execute("SELECT members_version FROM team WHERE id = ?", (group_id,)).fetchone()
        return int(row[0]) if row else 0

    def member_count(self, group_id: GroupId) -> int:
        """0 for a group that does not exist."""
        row = self._db.execute("SELECT member_count FROM team WHERE id = ?", (group_id,)).fetchone()
        return int(row[0]) if row else 0

    def _add_member(self, group_id: GroupId, user_id: UserId, role: Role, since_version: int, now_ms: int) -> None:
        self._db.execute(
            "INSERT INTO member (team_id, user_id, role, joined_at_ms, since_version) VALUES (?, ?, ?, ?, ?)",
            (group_id, user_id, int(role), now_ms, since_version),
        )
        self._db.execute("UPDATE team SET member_count = member_count + 1 WHERE id = ?", (group_id,))
        self._backend.membership_changed(group_id, user_id)
        cursor = (user_id, -group_id, self._backend.last_seq(-group_id))
        self._db.execute("REPLACE INTO `cursor` (user_id, conversation, delivered) VALUES (?, ?, ?)", cursor)

    def ids_of(self, user_id: UserId) -> list[GroupId]:
        rows = self._db.execute("SELECT team_id FROM member WHERE user_id = ? ORDER BY team_id", (user_id,))
        return [row[0] for row in rows]

    def memberships(self, user_ids: Collection[UserId]) -> list[Membership]:
        if not user_ids:
            return []
        marks = ",".join("?" * len(user_ids))
        rows = self._db.execute(
            "SELECT m.user_id, m.team_id, m.since_version, t.members_version, t.member_count FROM member AS m"
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

    def of(self, user_id: UserId, member_limit: int) -> list[GroupRow]:
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
        row = self._db.execute(
            "SELECT role FROM member WHERE team_id = ? AND user_id = ?", (group_id, user_id)
        ).fetchone()
        if row is None:
            known = self._db.execute("SELECT 1 FROM team WHERE id = ?", (group_id,)).fetchone()
            raise Refused(ErrorCode.NOT_A_MEMBER if known else ErrorCode.UNKNOWN_GROUP)
        return Role(row[0])

    def find(self, group_id: GroupId) -> Group | None:
        row = self._db.execute("SELECT id, name, description FROM team WHERE id = ?", (group_id,)).fetchone()
        return Group(row[0], row[1], row[2]) if row else None

    def check_writer(self, group_id: GroupId, user_id: UserId, now_ms: int) -> int:
        role = self.role(group_id, user_id)
        count, announcements, muted_until_ms = self._db.execute(
            "SELECT t.member_count, t.announcements, m.muted_until_ms FROM team AS t JOIN member AS m"
            " ON m.team_id = t.id AND m.user_id = ? WHERE t.id = ?",
            (user_id, group_id),
        ).fetchone()
        if muted_until_ms > now_ms:
            raise Refused(ErrorCode.MUTED)
        if announcements and role is Role.MEMBER:
            raise Refused(ErrorCode.ANNOUNCEMENTS_ONLY)
        return int(count)

    def names(self, group_ids: Collection[GroupId]) -> dict[GroupId, str]:
        if not group_ids:
            return {}
        marks = ",".join("?" * len(group_ids))
        return dict(self._db.execute(f"SELECT id, name FROM team WHERE id IN ({marks})", tuple(group_ids)).fetchall())

    def members(self, group_id: GroupId, after: UserId, limit: int) -> list[tuple[User, Role]]:
        rows = self._db.execute(
            "SELECT u.id, u.name, m.role FROM member AS m JOIN user AS u ON u.id = m.user_id"
            " WHERE m.team_id = ? AND m.user_id > ? ORDER BY m.user_id LIMIT ?",
            (group_id, after, limit),
        )
        return [(User(row[0], row[1]), Role(row[2])) for row in rows]

    def first_readable(self, group_id: GroupId, user_id: UserId) -> Seq:
        """As store.contract.HistoryTables.first_readable."""
        row = self._db.execute(
            "SELECT CASE WHEN t.whole_history = 1 THEN 1 ELSE m.first_seq END FROM member AS m"
            " JOIN team AS t ON t.id = m.team_id WHERE m.team_id = ? AND m.user_id = ?",
            (group_id, user_id),
        ).fetchone()
        return int(row[0]) if row else NEVER

    def leave(self, user_id: UserId, group_id: GroupId) -> Left:
        self._backend.lock_group(group_id)
        role = self.role(group_id, user_id)
        self._remove_member(group_id, user_id)
        heir = self._db.execute(
            "SELECT user_id FROM member WHERE team_id = ? ORDER BY role, joined_at_ms, user_id LIMIT 1", (group_id,)
        ).fetchone()
        version = self._raise_version(group_id)
        if heir is None:
            self._dissolve(group_id)
            return Left(None, True, version)
        if role is not Role.OWNER:
            return Left(None, False, version)
        self._set_role(group_id, heir[0], Role.OWNER)
        return Left(int(heir[0]), False, version)

    def kick(self, by: UserId, group_id: GroupId, user_id: UserId) -> int:
        self._backend.lock_group(group_id)
        if by == user_id or self.role(group_id, by) >= self.role(group_id, user_id):
            raise Refused(ErrorCode.NOT_ALLOWED)
        self._remove_member(group_id, user_id)
        return self._raise_version(group_id)

    def rename(self, by: UserId, group_id: GroupId, name: str, description: str | None) -> Group:
        self._backend.lock_group(group_id)
        if self.role(group_id, by) is Role.MEMBER:
            raise Refused(ErrorCode.NOT_ALLOWED)
        self._db.execute(
            "UPDATE team SET name = ?, description = coalesce(?, description) WHERE id = ?",
            (name, description, group_id),
        )
        group = self.find(group_id)
        assert group is not None
        return group

    def set_role(self, by: UserId, group_id: GroupId, user_id: UserId, role: Role) -> None:
        self._backend.lock_group(group_id)
        if by == user_id or self.role(group_id, by) is not Role.OWNER:
            raise Refused(ErrorCode.NOT_ALLOWED)
        self.role(group_id, user_id)
        if role is Role.OWNER:
            self._set_role(group_id, by, Role.ADMIN)
        self._set_role(group_id, user_id, role)

    def _dissolve(self, group_id: GroupId) -> None:
        """Its messages are deleted by retention, which sees it in `dissolved`."""
        self._db.execute("DELETE FROM team WHERE id = ?", (group_id,))
        self._db.execute("REPLACE INTO dissolved VALUES (?, 0)", (group_id,))

    def _set_role(self, group_id: GroupId, user_id: UserId, role: Role) -> None:
        self._db.execute("UPDATE member SET role = ? WHERE team_id = ? AND user_id = ?", (int(role), group_id, user_id))

    def _remove_member(self, group_id: GroupId, user_id: UserId) -> None:
        self._db.execute("DELETE FROM member WHERE team_id = ? AND user_id = ?", (group_id, user_id))
        self._db.execute("UPDATE team SET member_count = member_count - 1 WHERE id = ?", (group_id,))
        self._db.execute("DELETE FROM `cursor` WHERE user_id = ? AND conversation = ?", (user_id, -group_id))
        self._backend.membership_changed(group_id, user_id)
