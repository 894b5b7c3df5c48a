"""Groups and their members, in the SQL of both twins.

Owns: the tables `team` and `member`. A group has exactly one owner, who hands over when leaving; the last member to
leave ends the group. Every change of its members raises its members_version in the same transaction.
Elsewhere: how users become members (store.sql.group_admission), users (store.sql.directory), a group's messages
(store.sqlite.messages, store.mysql.messages).
Fails: Refused, before anything is written; what the database raises passes through.
"""

from __future__ import annotations

from collections.abc import Collection

from chatd.errors import ErrorCode, Refused
from chatd.model import SYSTEM, Group, GroupId, GroupRules, JoinPolicy, Role, Seq, User, UserId
from chatd.store.contract import (
    FIRST_VERSION,
    NEVER,
    AdmissionState,
    EventKind,
    GroupDetails,
    GroupOverview,
    GroupRow,
    Left,
    Membership,
    RulesChange,
)
from chatd.store.group_contract import SEEMS_OPEN, STAFF_TOLD
from chatd.store.sql.database import Backend, Database

_ASKED_BY_ID = 500
"""Up to this many users are looked up one by one in a group; for more, all its members are read."""
_ENDED_AT_ONCE = 500
"""Cursors deleted by one statement when a group ends."""

Standing = int
"""Whether a user may write to a group: one of the following, or the time (epoch, ms) until which the user is muted."""
MAY_WRITE: Standing = 0
NOT_IN_GROUP: Standing = -1
ONLY_READS: Standing = -2
"""In a group for announcements, everybody but the owner and the admins."""


def standing_of(role: int, muted_until_ms: int, announcements: int) -> Standing:
    """The standing of a member."""
    return ONLY_READS if announcements and role == Role.MEMBER else muted_until_ms


def refusal_of(standing: Standing, now_ms: int) -> ErrorCode | None:
    """None: the user may write."""
    if standing < 0:
        return ErrorCode.ANNOUNCEMENTS_ONLY if standing == ONLY_READS else ErrorCode.NOT_A_MEMBER
    return ErrorCode.MUTED if standing > now_ms else None


class SqlGroups:
    """store.group_contract.GroupTables."""

    def __init__(self, db: Database, backend: Backend) -> None:
        self._db = db
        self._backend = backend

    def create(self, owner: UserId, name: str, description: str, limit: int, now_ms: int) -> GroupId:
        self._backend.lock_users(owner)
        self.check_group_count(owner, limit)
        group_id = self._db.execute(
            "INSERT INTO team (name, description, created_at_ms) VALUES (?, ?, ?)", (name, description, now_ms)
        ).lastrowid
        assert group_id is not None
        self._backend.created("team", group_id)
        self._backend.open_group(group_id)
        self.add_member(group_id, owner, Role.OWNER, FIRST_VERSION, now_ms)
        return group_id

    def check_group_count(self, user_id: UserId, limit: int, whose: str = "you are") -> None:
        """Raises Refused LIMIT_REACHED."""
        if self._db.execute("SELECT count(*) FROM member WHERE user_id = ?", (user_id,)).fetchone()[0] >= limit:
            raise Refused(ErrorCode.LIMIT_REACHED, f"{whose} in {limit} groups already")

    def raise_version(self, group_id: GroupId) -> int:
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

    def add_member(self, group_id: GroupId, user_id: UserId, role: Role, since_version: int, now_ms: int) -> None:
        """Who was muted when leaving still is. The user reads from here on, and nothing is waiting or unread."""
        last = self._backend.last_seq(-group_id)
        self._db.execute(
            "INSERT INTO member (team_id, user_id, role, joined_at_ms, since_version, first_seq, muted_until_ms)"
            " VALUES (?, ?, ?, ?, ?, ?,"
            " coalesce((SELECT muted_until_ms FROM admission WHERE team_id = ? AND user_id = ?), 0))",
            (group_id, user_id, int(role), now_ms, since_version, last + 1, group_id, user_id),
        )
        self._db.execute("UPDATE team SET member_count = member_count + 1 WHERE id = ?", (group_id,))
        self._backend.membership_changed(group_id, user_id)
        self._db.execute(
            "REPLACE INTO `cursor` (user_id, conversation, delivered, seen) VALUES (?, ?, ?, ?)",
            (user_id, -group_id, last, last),
        )
        kind = EventKind.GROUP_CREATED if role is Role.OWNER else EventKind.GROUP_JOINED
        self._backend.record(kind, {"group": group_id, "user": user_id})

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
        if row is not None:
            return Role(row[0])
        if self._db.execute("SELECT 1 FROM team WHERE id = ?", (group_id,)).fetchone() is None:
            raise Refused(ErrorCode.UNKNOWN_GROUP)
        if user_id != SYSTEM.id:
            raise Refused(ErrorCode.NOT_A_MEMBER)
        return Role.SYSTEM

    def is_member(self, group_id: GroupId, user_id: UserId) -> bool:
        found = self._db.execute("SELECT 1 FROM member WHERE team_id = ? AND user_id = ?", (group_id, user_id))
        return found.fetchone() is not None

    def find(self, group_id: GroupId) -> Group | None:
        row = self._db.execute("SELECT id, name, description FROM team WHERE id = ?", (group_id,)).fetchone()
        return Group(row[0], row[1], row[2]) if row else None

    def check_writer(self, group_id: GroupId, user_id: UserId, now_ms: int) -> int:
        version, standing = self.standing(group_id, user_id)
        if not version:
            raise Refused(ErrorCode.UNKNOWN_GROUP)
        refusal = refusal_of(standing, now_ms)
        if refusal is not None:
            raise Refused(refusal)
        return self.member_count(group_id)

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
        if user_id == SYSTEM.id:
            return 1
        row = self._db.execute(
            "SELECT CASE WHEN t.whole_history = 1 THEN 1 ELSE m.first_seq END FROM member AS m"
            " JOIN team AS t ON t.id = m.team_id WHERE m.team_id = ? AND m.user_id = ?",
            (group_id, user_id),
        ).fetchone()
        return int(row[0]) if row else NEVER

    def standing(self, group_id: GroupId, user_id: UserId) -> tuple[int, Standing]:
        """The group's members_version, 0 if it does not exist, and the user's standing. Cost: one statement."""
        row = self._db.execute(
            "SELECT t.members_version, m.role, m.muted_until_ms, t.announcements FROM team AS t LEFT JOIN member AS m"
            " ON m.team_id = t.id AND m.user_id = ? WHERE t.id = ?",
            (user_id, group_id),
        ).fetchone()
        if row is None:
            return 0, NOT_IN_GROUP
        version, role, muted_until_ms, announcements = row
        if user_id == SYSTEM.id:
            return version, MAY_WRITE
        return version, NOT_IN_GROUP if role is None else standing_of(role, muted_until_ms, announcements)

    def details(self, group_id: GroupId, user_id: UserId) -> GroupDetails:
        role = self.role(group_id, user_id)
        row = self._db.execute(
            "SELECT t.name, t.description, t.member_count, m.muted_until_ms FROM team AS t JOIN member AS m"
            " ON m.team_id = t.id WHERE t.id = ? AND m.user_id = ?",
            (group_id, user_id),
        ).fetchone()
        name, description, members, muted_until_ms = row
        requests, invitations, bans = (0, 0, 0) if role is Role.MEMBER else self._counts(group_id)
        return GroupDetails(
            group=Group(group_id, name, description),
            rules=self.rules(group_id),
            members=members,
            role=role,
            muted_until_ms=muted_until_ms,
            requests=requests,
            invitations=invitations,
            bans=bans,
        )

    def overview(self, group_id: GroupId) -> GroupOverview | None:
        return next(iter(self._overviews("t.id = ?", group_id)), None)

    def page(self, after: GroupId, limit: int) -> list[GroupOverview]:
        return self._overviews("t.id > ? ORDER BY t.id LIMIT ?", after, limit)

    def _overviews(self, which: str, *values: int) -> list[GroupOverview]:
        rows = self._db.execute(
            "SELECT t.id, t.name, t.description, t.join_policy, t.whole_history, t.announcements, u.id, u.name,"
            " t.member_count, t.created_at_ms FROM team AS t JOIN member AS m ON m.team_id = t.id AND m.role = ?"
            f" JOIN user AS u ON u.id = m.user_id WHERE {which}",
            (int(Role.OWNER), *values),
        )
        return [
            GroupOverview(
                group=Group(number, name, description),
                rules=GroupRules(join=JoinPolicy(join), whole_history=bool(whole), announcements=bool(announcements)),
                owner=User(owner, owner_name),
                members=members,
                created_at_ms=at_ms,
            )
            for number, name, description, join, whole, announcements, owner, owner_name, members, at_ms in rows
        ]

    def _counts(self, group_id: GroupId) -> tuple[int, int, int]:
        """Open requests, open invitations, bans."""
        found = dict(
            self._db.execute(
                "SELECT state, count(*) FROM admission WHERE team_id = ? GROUP BY state", (group_id,)
            ).fetchall()
        )
        (bans,) = self._db.execute("SELECT count(*) FROM ban WHERE team_id = ?", (group_id,)).fetchone()
        return found.get(AdmissionState.ASKED, 0), sum(found.get(state, 0) for state in SEEMS_OPEN), int(bans)

    def rules(self, group_id: GroupId) -> GroupRules:
        """Raises: Refused UNKNOWN_GROUP."""
        row = self._db.execute(
            "SELECT join_policy, whole_history, announcements FROM team WHERE id = ?", (group_id,)
        ).fetchone()
        if row is None:
            raise Refused(ErrorCode.UNKNOWN_GROUP)
        return GroupRules(join=JoinPolicy(row[0]), whole_history=bool(row[1]), announcements=bool(row[2]))

    def owner(self, group_id: GroupId) -> UserId:
        row = self._db.execute(
            "SELECT user_id FROM member WHERE team_id = ? AND role = ?", (group_id, int(Role.OWNER))
        ).fetchone()
        return int(row[0])

    def staff(self, group_id: GroupId) -> tuple[UserId, ...]:
        rows = self._db.execute(
            "SELECT user_id FROM member WHERE team_id = ? AND role < ? ORDER BY role, joined_at_ms, user_id LIMIT ?",
            (group_id, int(Role.MEMBER), STAFF_TOLD),
        )
        return tuple(row[0] for row in rows)

    def muted(self, group_id: GroupId, user_ids: Collection[UserId], now_ms: int) -> dict[UserId, int]:
        if not user_ids:
            return {}
        marks = ",".join("?" * len(user_ids))
        rows = self._db.execute(
            f"SELECT user_id, muted_until_ms FROM member WHERE team_id = ? AND user_id IN ({marks})"
            " AND muted_until_ms > ?",
            (group_id, *user_ids, now_ms),
        )
        return dict(rows.fetchall())

    # ---------------------------------------------------------------- changes

    def leave(self, user_id: UserId, group_id: GroupId) -> Left:
        self._backend.lock_group(group_id)
        role = self.role(group_id, user_id)
        self._remove_member(group_id, user_id)
        heir = self._db.execute(
            "SELECT user_id FROM member WHERE team_id = ? ORDER BY role, joined_at_ms, user_id LIMIT 1", (group_id,)
        ).fetchone()
        version = self.raise_version(group_id)
        self._backend.record(EventKind.GROUP_LEFT, {"group": group_id, "user": user_id})
        if heir is None:
            self._end(group_id)
            return Left(None, True, version)
        if role is not Role.OWNER:
            return Left(None, False, version)
        self._set_role(group_id, heir[0], Role.OWNER)
        return Left(int(heir[0]), False, version)

    def _end(self, group_id: GroupId) -> None:
        """Nobody is in it any more. Its messages are deleted by retention, which sees it in `dissolved`."""
        for table, column in (("ban", "team_id"), ("admission", "team_id"), ("team", "id")):
            self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (group_id,))
        self._db.execute("REPLACE INTO dissolved VALUES (?, 0)", (group_id,))
        self._backend.record(EventKind.GROUP_DISSOLVED, {"group": group_id})

    def kick(self, by: UserId, group_id: GroupId, user_id: UserId, now_ms: int) -> int:
        self._backend.lock_group(group_id)
        self._check_rank(by, group_id, user_id)
        self._remove_member(group_id, user_id)
        self._db.execute("REPLACE INTO ban VALUES (?, ?, ?, ?)", (group_id, user_id, by, now_ms))
        self._backend.record(EventKind.GROUP_KICKED, {"group": group_id, "user": user_id, "by": by})
        return self.raise_version(group_id)

    def _check_rank(self, by: UserId, group_id: GroupId, user_id: UserId) -> None:
        """Raises: Refused NOT_ALLOWED unless `by` has a higher role than the user; as role()."""
        if by == user_id or self.role(group_id, by) >= self.role(group_id, user_id):
            raise Refused(ErrorCode.NOT_ALLOWED)

    def dissolve(self, by: UserId, group_id: GroupId) -> int:
        self._backend.lock_group(group_id)
        if self.role(group_id, by) > Role.OWNER:
            raise Refused(ErrorCode.NOT_ALLOWED)
        version = self.raise_version(group_id)
        rows = self._db.execute("SELECT user_id FROM member WHERE team_id = ? ORDER BY user_id", (group_id,))
        users = [row[0] for row in rows.fetchall()]
        for start in range(0, len(users), _ENDED_AT_ONCE):
            some = users[start : start + _ENDED_AT_ONCE]
            marks = ",".join("?" * len(some))
            self._db.execute(
                f"DELETE FROM `cursor` WHERE user_id IN ({marks}) AND conversation = ?", (*some, -group_id)
            )
        self._db.execute("DELETE FROM member WHERE team_id = ?", (group_id,))
        self._backend.group_changed(group_id)
        self._end(group_id)
        return version

    def set_rules(self, by: UserId, group_id: GroupId, change: RulesChange) -> GroupRules:
        self._backend.lock_group(group_id)
        role = self.role(group_id, by)
        if role is Role.MEMBER:
            raise Refused(ErrorCode.NOT_ALLOWED)
        before = self.rules(group_id)
        rules = GroupRules(
            join=before.join if change.join is None else change.join,
            whole_history=before.whole_history if change.whole_history is None else change.whole_history,
            announcements=before.announcements if change.announcements is None else change.announcements,
        )
        if rules.whole_history is not before.whole_history and role > Role.OWNER:
            raise Refused(ErrorCode.NOT_ALLOWED, "only the owner decides who reads the past of a group")
        self._db.execute(
            "UPDATE team SET join_policy = ?, whole_history = ?, announcements = ? WHERE id = ?",
            (int(rules.join), int(rules.whole_history), int(rules.announcements), group_id),
        )
        self._backend.group_changed(group_id)
        return rules

    def mute(self, by: UserId, group_id: GroupId, user_id: UserId, until_ms: int) -> int:
        self._backend.lock_group(group_id)
        self._check_rank(by, group_id, user_id)
        of_member = "WHERE team_id = ? AND user_id = ?"
        (before,) = self._db.execute(f"SELECT muted_until_ms FROM member {of_member}", (group_id, user_id)).fetchone()
        self._db.execute(f"UPDATE member SET muted_until_ms = ? {of_member}", (until_ms, group_id, user_id))
        self._backend.membership_changed(group_id, user_id)
        return int(before)

    def rename(self, by: UserId, group_id: GroupId, name: str, description: str | None, now_ms: int) -> Group:
        self._backend.lock_group(group_id)
        role = self.role(group_id, by)
        if role is Role.MEMBER:
            raise Refused(ErrorCode.NOT_ALLOWED)
        if role is not Role.SYSTEM:
            self.check_writer(group_id, by, now_ms)
        self._db.execute(
            "UPDATE team SET name = ?, description = coalesce(?, description) WHERE id = ?",
            (name, description, group_id),
        )
        group = self.find(group_id)
        assert group is not None
        self._backend.record(EventKind.GROUP_RENAMED, {"group": group_id, "by": by, "name": group.name})
        return group

    def set_role(self, by: UserId, group_id: GroupId, user_id: UserId, role: Role) -> None:
        self._backend.lock_group(group_id)
        if by == user_id or role is Role.SYSTEM or self.role(group_id, by) > Role.OWNER:
            raise Refused(ErrorCode.NOT_ALLOWED)
        if self.role(group_id, user_id) is Role.OWNER:  # only the system can name the owner here
            if role is not Role.OWNER:
                raise Refused(ErrorCode.NOT_ALLOWED, "a group has an owner: make somebody else the owner")
            return
        if role is Role.OWNER:
            self._set_role(group_id, self.owner(group_id), Role.ADMIN)
        self._set_role(group_id, user_id, role)

    def _set_role(self, group_id: GroupId, user_id: UserId, role: Role) -> None:
        """An owner is not muted: nobody could end it."""
        mute = ", muted_until_ms = 0" if role is Role.OWNER else ""
        self._db.execute(
            f"UPDATE member SET role = ?{mute} WHERE team_id = ? AND user_id = ?", (int(role), group_id, user_id)
        )
        self._backend.membership_changed(group_id, user_id)
        self._backend.record(EventKind.GROUP_ROLE, {"group": group_id, "user": user_id, "role": role.name.lower()})

    def _remove_member(self, group_id: GroupId, user_id: UserId) -> None:
        """Leaving does not end a mute: it is kept for when the user joins again."""
        self._db.execute(
            "REPLACE INTO admission SELECT team_id, user_id, ?, 0, joined_at_ms, muted_until_ms FROM member"
            " WHERE team_id = ? AND user_id = ? AND muted_until_ms > 0",
            (int(AdmissionState.LEFT), group_id, user_id),
        )
        self._db.execute("DELETE FROM member WHERE team_id = ? AND user_id = ?", (group_id, user_id))
        self._db.execute("UPDATE team SET member_count = member_count - 1 WHERE id = ?", (group_id,))
        self._db.execute("DELETE FROM `cursor` WHERE user_id = ? AND conversation = ?", (user_id, -group_id))
        self._backend.membership_changed(group_id, user_id)
