"""How users become members of groups, in the SQL of both twins.

Owns: the tables `ban` and `admission`: joining, asking, inviting, adding, and who cannot join.
Elsewhere: members, roles and the rules of a group (store.sql.groups).
Fails: Refused, before anything is written; what the database raises passes through.

Locks: first the user who joins, then the group. All that this module reads about the group or the user afterwards stays
as it is until the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from chatd.errors import ErrorCode, Refused
from chatd.model import Audience, Group, GroupId, JoinPolicy, Role, UserId
from chatd.store.contract import AdmissionLimits, AdmissionState, Ban, ConsentTables, Joined, Pending, Purpose
from chatd.store.group_contract import INVITATIONS_FROM_ONE, MAX_BANS, SEEMS_OPEN
from chatd.store.sql.database import Backend, Database
from chatd.store.sql.directory import UserDirectory
from chatd.store.sql.groups import SqlGroups
from chatd.texts.waits import in_words

_PENDING = (
    "SELECT a.user_id, a.by_id, a.at_ms, t.id, t.name, t.description FROM admission AS a"
    " JOIN team AS t ON t.id = a.team_id"
)


class _Admission(NamedTuple):
    """A row of `admission`; state None: there is none."""

    state: AdmissionState | None
    by: UserId
    at_ms: int
    muted_until_ms: int


_NONE = _Admission(None, 0, 0, 0)


class SqlGroupAdmission:
    """store.contract.AdmissionTables."""

    def __init__(
        self, db: Database, backend: Backend, directory: UserDirectory, groups: SqlGroups, consent: ConsentTables
    ) -> None:
        self._db = db
        self._backend = backend
        self._directory = directory
        self._groups = groups
        self._consent = consent

    # ---------------------------------------------------------------- the user's own steps

    def join(self, user_id: UserId, group_id: GroupId, limits: AdmissionLimits, now_ms: int) -> Joined:
        group = self._lock(user_id, group_id)
        if (member := self._as_member(group, user_id)) is not None:
            return member
        admission = self._admission(group_id, user_id)
        if admission.state is AdmissionState.INVITED:
            return self._admit(group, user_id, limits, now_ms, "you are")
        if self._banned_by(group_id, user_id) is not None:
            raise Refused(ErrorCode.BANNED)
        policy = self._groups.rules(group_id).join
        if policy is JoinPolicy.OPEN:
            return self._admit(group, user_id, limits, now_ms, "you are")
        if policy is JoinPolicy.INVITE:
            raise Refused(ErrorCode.INVITATION_NEEDED)
        return self._ask(group, user_id, admission, limits, now_ms)

    def _ask(
        self, group: Group, user_id: UserId, admission: _Admission, limits: AdmissionLimits, now_ms: int
    ) -> Joined:
        if admission.state is AdmissionState.ASKED:
            return Joined(group, False, 0, AdmissionState.ASKED)
        if admission.state is AdmissionState.REJECTED and now_ms < admission.at_ms + limits.again_ms:
            left = in_words((admission.at_ms + limits.again_ms - now_ms) / 1000)
            raise Refused(ErrorCode.NOT_ACCEPTED, f"your request to join was refused: you can ask again in {left}")
        self._check_pending(group.id, user_id, AdmissionState.ASKED, limits)
        told = admission.state is AdmissionState.TAKEN_BACK and now_ms < admission.at_ms + limits.again_ms
        self._put(group.id, user_id, AdmissionState.ASKED, 0, admission.at_ms if told else now_ms)
        return Joined(group, not told, 0, AdmissionState.ASKED, self._groups.staff(group.id))

    def decline(self, user_id: UserId, group_id: GroupId, now_ms: int) -> UserId:
        self._lock(user_id, group_id)
        admission = self._admission(group_id, user_id)
        if admission.state is AdmissionState.ASKED:
            self._put(group_id, user_id, AdmissionState.TAKEN_BACK, 0, admission.at_ms)
            return 0
        if admission.state is not AdmissionState.INVITED:
            raise Refused(ErrorCode.NOT_ALLOWED, "you are not invited to this group, and have not asked to join it")
        self._put(group_id, user_id, AdmissionState.DECLINED, admission.by, now_ms)
        return admission.by

    def invitations(self, user_id: UserId, after: GroupId, limit: int) -> list[Pending]:
        rows = self._db.execute(
            f"{_PENDING} WHERE a.user_id = ? AND a.state = ? AND a.team_id > ? ORDER BY a.team_id LIMIT ?",
            (user_id, int(AdmissionState.INVITED), after, limit),
        ).fetchall()
        return [self._pending(row) for row in rows]

    # ---------------------------------------------------------------- steps of the owner and the admins

    def invite(self, by: UserId, group_id: GroupId, user_id: UserId, limits: AdmissionLimits, now_ms: int) -> Joined:
        group = self._lock(user_id, group_id)
        role = self._check_staff(by, group_id)
        if (member := self._as_member(group, user_id)) is not None:
            return member
        self._check_may_lift(role, group_id, user_id)
        return self._invite(group, by, user_id, limits, now_ms)

    def add(self, by: UserId, group_id: GroupId, user_id: UserId, limits: AdmissionLimits, now_ms: int) -> Joined:
        group = self._lock(user_id, group_id)
        role = self._check_staff(by, group_id)
        if (member := self._as_member(group, user_id)) is not None:
            return member
        if role is Role.SYSTEM:
            return self._admit(group, user_id, limits, now_ms, "this user is")
        self._check_may_lift(role, group_id, user_id)
        self._check_not_declined(self._admission(group_id, user_id), limits, now_ms)
        if self._consent.refusals(Purpose.ADD, [(by, user_id)], limits.may_add) == [None]:
            return self._admit(group, user_id, limits, now_ms, "this user is")
        return self._invite(group, by, user_id, limits, now_ms)

    def _invite(self, group: Group, by: UserId, user_id: UserId, limits: AdmissionLimits, now_ms: int) -> Joined:
        """A user who has asked is admitted, and one who is invited already stays so. Of an invitation that a ban has
        ended and that is made again, the user is not told again, for again_ms: the result is not fresh."""
        admission = self._admission(group.id, user_id)
        if admission.state is AdmissionState.ASKED:
            return self._admit(group, user_id, limits, now_ms, "this user is")
        if admission.state is AdmissionState.INVITED:
            return Joined(group, False, 0, AdmissionState.INVITED)
        self._check_not_declined(admission, limits, now_ms)
        blocked = self._consent.block_between(by, user_id)
        if blocked is ErrorCode.NOT_ACCEPTED and admission.state is AdmissionState.UNWANTED:
            return Joined(group, False, 0, AdmissionState.INVITED)  # as if it were still open
        if blocked is not None:
            raise Refused(blocked)
        if self._is_out_of_reach(user_id, limits):
            raise Refused(ErrorCode.NOT_ACCEPTED)
        self._check_pending(group.id, user_id, AdmissionState.INVITED, limits)
        if self._count("user_id = ? AND state = ? AND by_id = ?", user_id, AdmissionState.INVITED, by) >= (
            INVITATIONS_FROM_ONE
        ):
            text = f"this user has {INVITATIONS_FROM_ONE} open invitations from you already"
            raise Refused(ErrorCode.LIMIT_REACHED, text)
        told = admission.state is AdmissionState.WITHDRAWN and now_ms < admission.at_ms + limits.again_ms
        self._put(group.id, user_id, AdmissionState.INVITED, by, admission.at_ms if told else now_ms)
        return Joined(group, not told, 0, AdmissionState.INVITED)

    def _is_out_of_reach(self, user_id: UserId, limits: AdmissionLimits) -> bool:
        """Whether nobody may add the user: then nobody may invite them either. The refusal is that of a block, which
        nobody could hide otherwise."""
        chosen = self._consent.audiences(user_id).add
        return (limits.may_add if chosen is Audience.DEFAULT else chosen) is Audience.NOBODY

    def approve(self, by: UserId, group_id: GroupId, user_id: UserId, limits: AdmissionLimits, now_ms: int) -> Joined:
        group = self._lock(user_id, group_id)
        self._check_staff(by, group_id)
        if (member := self._as_member(group, user_id)) is not None:
            return member
        self._check_asked(group_id, user_id)
        return self._admit(group, user_id, limits, now_ms, "this user is")

    def reject(self, by: UserId, group_id: GroupId, user_id: UserId, now_ms: int) -> None:
        self._lock(user_id, group_id)
        self._check_staff(by, group_id)
        self._check_asked(group_id, user_id)
        self._put(group_id, user_id, AdmissionState.REJECTED, by, now_ms)

    def requests(self, by: UserId, group_id: GroupId, after: UserId, limit: int) -> list[Pending]:
        self._check_staff(by, group_id)
        rows = self._db.execute(
            f"{_PENDING} WHERE a.team_id = ? AND a.user_id > ? AND a.state = ? ORDER BY a.user_id LIMIT ?",
            (group_id, after, int(AdmissionState.ASKED), limit),
        ).fetchall()
        return [self._pending(row) for row in rows]

    def requests_to(self, user_id: UserId, limit: int) -> list[Pending]:
        rows = self._db.execute(
            f"{_PENDING} JOIN member AS m ON m.team_id = a.team_id WHERE m.user_id = ? AND m.role <> ? AND a.state = ?"
            " ORDER BY a.at_ms, a.team_id, a.user_id LIMIT ?",
            (user_id, int(Role.MEMBER), int(AdmissionState.ASKED), limit),
        ).fetchall()
        return [self._pending(row) for row in rows]

    def _pending(self, row: Sequence[Any]) -> Pending:
        """row: of _PENDING."""
        user_id, by, at_ms, group_id, name, description = row
        user = self._directory.user_or_deleted
        return Pending(Group(group_id, name, description), user(user_id), user(by) if by else None, at_ms)

    # ---------------------------------------------------------------- bans

    def ban(self, by: UserId, group_id: GroupId, user_id: UserId, now_ms: int) -> int:
        self._lock(user_id, group_id)
        role = self._check_staff(by, group_id)
        if self._groups.is_member(group_id, user_id):
            return self._groups.kick(by, group_id, user_id, now_ms)
        if by == user_id:
            raise Refused(ErrorCode.NOT_ALLOWED)
        self._check_may_lift(role, group_id, user_id)
        banned = self._banned_by(group_id, user_id)
        (bans,) = self._db.execute("SELECT count(*) FROM ban WHERE team_id = ?", (group_id,)).fetchone()
        if banned is None and bans >= MAX_BANS:
            raise Refused(ErrorCode.LIMIT_REACHED, f"{MAX_BANS} users are banned from this group already")
        before = self._admission(group_id, user_id)
        if before.state in SEEMS_OPEN:
            self._put(group_id, user_id, AdmissionState.WITHDRAWN, 0, before.at_ms)
        elif before.state is AdmissionState.ASKED:
            self._put(group_id, user_id, AdmissionState.LEFT, 0, now_ms)
        self._db.execute("REPLACE INTO ban VALUES (?, ?, ?, ?)", (group_id, user_id, by, now_ms))
        return 0

    def unban(self, by: UserId, group_id: GroupId, user_id: UserId) -> None:
        self._lock(user_id, group_id)
        role = self._check_staff(by, group_id)
        if self._banned_by(group_id, user_id) is None:
            raise Refused(ErrorCode.NOT_ALLOWED, "this user is not banned from this group")
        self._check_may_lift(role, group_id, user_id)
        self._db.execute("DELETE FROM ban WHERE team_id = ? AND user_id = ?", (group_id, user_id))

    def bans(self, by: UserId, group_id: GroupId, after: UserId, limit: int) -> list[Ban]:
        self._check_staff(by, group_id)
        rows = self._db.execute(
            "SELECT user_id, by_id, at_ms FROM ban WHERE team_id = ? AND user_id > ? ORDER BY user_id LIMIT ?",
            (group_id, after, limit),
        ).fetchall()
        user = self._directory.user_or_deleted
        return [Ban(user(user_id), user(banned_by), at_ms) for user_id, banned_by, at_ms in rows]

    def _banned_by(self, group_id: GroupId, user_id: UserId) -> UserId | None:
        row = self._db.execute(
            "SELECT by_id FROM ban WHERE team_id = ? AND user_id = ?", (group_id, user_id)
        ).fetchone()
        return int(row[0]) if row else None

    def _check_may_lift(self, role: Role, group_id: GroupId, user_id: UserId) -> None:
        """A ban is lifted by the one who made it, by somebody of the same role, or of a higher one. Raises: Refused."""
        banned_by = self._banned_by(group_id, user_id)
        if banned_by is None or not self._groups.is_member(group_id, banned_by):
            return
        if self._groups.role(group_id, banned_by) < role:
            raise Refused(ErrorCode.NOT_ALLOWED, "the owner of the group has banned this user")

    # ---------------------------------------------------------------- what they share

    def _lock(self, user_id: UserId, group_id: GroupId) -> Group:
        """Raises: Refused UNKNOWN_GROUP."""
        self._backend.lock_users(user_id)
        self._backend.lock_group(group_id)
        group = self._groups.find(group_id)
        if group is None:
            raise Refused(ErrorCode.UNKNOWN_GROUP)
        return group

    def _check_staff(self, by: UserId, group_id: GroupId) -> Role:
        """Raises: Refused NOT_ALLOWED; as GroupTables.role()."""
        role = self._groups.role(group_id, by)
        if role is Role.MEMBER:
            raise Refused(ErrorCode.NOT_ALLOWED)
        return role

    def _as_member(self, group: Group, user_id: UserId) -> Joined | None:
        """None: the user is not a member."""
        row = self._db.execute(
            "SELECT since_version FROM member WHERE team_id = ? AND user_id = ?", (group.id, user_id)
        ).fetchone()
        return Joined(group, False, int(row[0])) if row else None

    def _admit(self, group: Group, user_id: UserId, limits: AdmissionLimits, now_ms: int, whose: str) -> Joined:
        """whose: "you are" or "this user is", for the refusal."""
        (members,) = self._db.execute("SELECT member_count FROM team WHERE id = ?", (group.id,)).fetchone()
        if members >= limits.members:
            raise Refused(ErrorCode.LIMIT_REACHED, f"this group is full: it has {limits.members} members")
        self._groups.check_group_count(user_id, limits.groups, whose)
        version = self._groups.raise_version(group.id)
        self._groups.add_member(group.id, user_id, Role.MEMBER, version, now_ms)
        for table in ("admission", "ban"):
            self._db.execute(f"DELETE FROM {table} WHERE team_id = ? AND user_id = ?", (group.id, user_id))
        return Joined(group, True, version)

    def _admission(self, group_id: GroupId, user_id: UserId) -> _Admission:
        row = self._db.execute(
            "SELECT state, by_id, at_ms, muted_until_ms FROM admission WHERE team_id = ? AND user_id = ?",
            (group_id, user_id),
        ).fetchone()
        return _Admission(AdmissionState(row[0]), *row[1:]) if row else _NONE

    def _put(self, group_id: GroupId, user_id: UserId, state: AdmissionState, by: UserId, now_ms: int) -> None:
        muted_until_ms = self._admission(group_id, user_id).muted_until_ms
        self._db.execute(
            "REPLACE INTO admission (team_id, user_id, state, by_id, at_ms, muted_until_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (group_id, user_id, int(state), by, now_ms, muted_until_ms),
        )

    def _check_asked(self, group_id: GroupId, user_id: UserId) -> None:
        if self._admission(group_id, user_id).state is not AdmissionState.ASKED:
            raise Refused(ErrorCode.NOT_ALLOWED, "this user has not asked to join this group")

    def _check_not_declined(self, admission: _Admission, limits: AdmissionLimits, now_ms: int) -> None:
        if admission.state is AdmissionState.DECLINED and now_ms < admission.at_ms + limits.again_ms:
            raise Refused(ErrorCode.NOT_ACCEPTED, "this user has declined an invitation to this group")

    def _check_pending(
        self, group_id: GroupId, user_id: UserId, state: AdmissionState, limits: AdmissionLimits
    ) -> None:
        """Raises: Refused LIMIT_REACHED."""
        what = "requests to join" if state is AdmissionState.ASKED else "invitations"
        if self._count("team_id = ? AND state = ?", group_id, state) >= limits.pending_of_group:
            raise Refused(ErrorCode.LIMIT_REACHED, f"this group has {limits.pending_of_group} open {what} already")
        if self._count("user_id = ? AND state = ?", user_id, state) >= limits.pending_of_user:
            raise Refused(ErrorCode.LIMIT_REACHED, f"this user has {limits.pending_of_user} open {what} already")

    def _count(self, where: str, *values: int) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM admission WHERE {where}", values).fetchone()[0])
