"""The contract of a store: groups, their members, and how users become members. A part of store.contract, which has the
rest.

Owns: GroupTables and AdmissionTables, and what they take and give.
Elsewhere: the SQL (store.sql.groups, store.sql.group_admission); a group's messages (store.contract.HistoryTables).
Fails: as store.contract says.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import NamedTuple, Protocol

import msgspec

from chatd.model import Audience, Group, GroupId, GroupRules, JoinPolicy, Role, User, UserId

FIRST_VERSION = 1
"""members_version of a group just created, and of all groups and memberships from before there were versions."""
FOREVER = 1 << 62
"""muted_until_ms of a member who is muted until somebody ends it."""
STAFF_TOLD = 100
"""Maximum owner and admins who are notified of one event: the owner first, then those who joined first."""
INVITATIONS_FROM_ONE = 5
"""Maximum open invitations of one user that come from the same inviter, so that nobody can use up all of them."""
MAX_BANS = 10_000
"""Maximum banned users of a group who were banned without being members. Removing a member always bans."""


class AdmissionState(enum.IntEnum):
    """How a user who is not a member stands to a group."""

    ASKED = 1
    """The user has asked to join, the owner or an admin decides."""

    INVITED = 2
    """The user may join, whatever the group's policy."""

    REJECTED = 3
    """The user had asked to join."""

    DECLINED = 4
    """The user had been invited."""

    LEFT = 5
    """The user was a member, and muted."""

    WITHDRAWN = 6
    """The user had been invited, which a ban has ended. at_ms: of the invitation, of which the user was notified."""

    TAKEN_BACK = 7
    """The user had asked to join, and does not want to any more. at_ms: of the request, of which the owner and the
    admins were notified."""

    UNWANTED = 8
    """The user had been invited, and has blocked the inviter since. To the user there is no invitation; to those who
    run the group it is one that is not answered, because a block is not told."""


SEEMS_OPEN = (AdmissionState.INVITED, AdmissionState.UNWANTED)
"""What those who run a group see as an open invitation."""


class RulesChange(msgspec.Struct, frozen=True, kw_only=True):
    """None: as it is."""

    join: JoinPolicy | None = None
    whole_history: bool | None = None
    announcements: bool | None = None


class AdmissionLimits(NamedTuple):
    """What the operator allows. members: of one group. groups: of one user. pending_of_group, pending_of_user: open
    requests to join, and as many open invitations. again_ms: how long a refused request cannot be repeated, nor a
    declined invitation. may_add: for users who have not chosen."""

    members: int
    groups: int
    pending_of_group: int = 1000
    pending_of_user: int = 100
    again_ms: int = 0
    may_add: Audience = Audience.FRIENDS


class GroupRow(NamedTuple):
    """A group that a user is in, with as many of its members as the caller's limit allows."""

    group: Group
    members: list[tuple[User, Role]]


class GroupDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A group as one of its members sees it. muted_until_ms: of this member; epoch, 0 = never muted. requests,
    invitations, bans: how many are open; 0 unless the member is the owner or an admin."""

    group: Group
    rules: GroupRules
    members: int
    role: Role
    muted_until_ms: int
    requests: int
    invitations: int
    bans: int


class GroupOverview(msgspec.Struct, frozen=True, kw_only=True):
    """A group as the system sees it. members: how many. created_at_ms: epoch."""

    group: Group
    rules: GroupRules
    owner: User
    members: int
    created_at_ms: int


class Joined(NamedTuple):
    """The result of joining a group, or of letting a user in."""

    group: Group
    fresh: bool
    """False: nothing changed. The user was a member, had asked or was invited already."""
    since_version: int
    """The group's members_version with which this membership began; 0: the user is not a member yet."""
    pending: AdmissionState | None = None
    """ASKED, INVITED: the user is not a member yet."""
    staff: tuple[UserId, ...] = ()
    """The owner and admins, at most STAFF_TOLD; only for a fresh request."""


class Left(NamedTuple):
    """The result of leaving a group."""

    heir: UserId | None
    """The new owner, if the owner left."""
    ended: bool
    """No member was left, so the group was deleted."""
    members_version: int
    """The group's, afterwards."""


class Membership(NamedTuple):
    """A user is in a group."""

    user_id: UserId
    group_id: GroupId
    since_version: int
    """The group's members_version with which this membership began. A user who leaves and joins again has another."""
    members_version: int
    """The group's at the moment of reading."""
    member_count: int = 0
    """Members of the group at that moment."""


class Pending(NamedTuple):
    """An open invitation or request to join. by: who invited the user; None for a request. at_ms: epoch."""

    group: Group
    user: User
    by: User | None
    at_ms: int


class Ban(NamedTuple):
    """at_ms: epoch."""

    user: User
    by: User
    at_ms: int


class GroupTables(Protocol):
    """Groups, their members and roles. A method that names a group raises Refused UNKNOWN_GROUP or NOT_A_MEMBER where
    role() does. The system (model.SYSTEM) is in no group, and may do to each whatever its owner may.

    Every change of who is in a group raises the group's members_version by one, in the same transaction. It begins with
    FIRST_VERSION, which is also its creator's since_version. The id of a deleted group is never used again."""

    def create(self, owner: UserId, name: str, description: str, limit: int, now_ms: int) -> GroupId:
        """With the rules of GroupRules(). Raises: Refused LIMIT_REACHED: the owner is in `limit` groups already."""
        ...

    def leave(self, user_id: UserId, group_id: GroupId) -> Left:
        """An owner hands over to the longest-standing admin, else the longest-standing member. A member who was muted
        is still muted after joining again."""
        ...

    def kick(self, by: UserId, group_id: GroupId, user_id: UserId, now_ms: int) -> int:
        """Remove a member, who is banned with it. The owner may remove anyone else, admins may remove plain members.
        Returns the group's members_version afterwards. Raises: Refused NOT_ALLOWED."""
        ...

    def dissolve(self, by: UserId, group_id: GroupId) -> int:
        """For the owner: all memberships end, and the group with them; its messages stay. Returns the members_version
        with which they ended. Raises: Refused NOT_ALLOWED. Cost: two rows per member."""
        ...

    def rename(self, by: UserId, group_id: GroupId, name: str, description: str | None, now_ms: int) -> Group:
        """For the owner and admins who are not muted: all members read it. description None: unchanged. Raises: Refused
        NOT_ALLOWED, MUTED."""
        ...

    def set_rules(self, by: UserId, group_id: GroupId, change: RulesChange) -> GroupRules:
        """For the owner and admins; whole_history for the owner. Returns all rules. Raises: Refused NOT_ALLOWED."""
        ...

    def set_role(self, by: UserId, group_id: GroupId, user_id: UserId, role: Role) -> None:
        """For the owner, who becomes an admin on making someone else the owner. Raises: Refused NOT_ALLOWED, also for
        the system if the user is the owner and would not be any more."""

    def mute(self, by: UserId, group_id: GroupId, user_id: UserId, until_ms: int) -> int:
        """The member cannot write until then (epoch; FOREVER; 0 = now). Returns until when it was before, 0 = never
        muted. The owner may mute anyone else, admins may mute plain members. Raises: Refused NOT_ALLOWED."""

    def find(self, group_id: GroupId) -> Group | None: ...

    def names(self, group_ids: Collection[GroupId]) -> dict[GroupId, str]:
        """Of those of the groups that exist. Cost: one statement."""
        ...

    def details(self, group_id: GroupId, user_id: UserId) -> GroupDetails:
        """For members."""
        ...

    def overview(self, group_id: GroupId) -> GroupOverview | None: ...

    def page(self, after: GroupId, limit: int) -> list[GroupOverview]:
        """All groups, by id, those with an id above `after`. Cost: one statement."""
        ...

    def role(self, group_id: GroupId, user_id: UserId) -> Role:
        """SYSTEM for the system. Raises: Refused UNKNOWN_GROUP, NOT_A_MEMBER."""
        ...

    def check_writer(self, group_id: GroupId, user_id: UserId, now_ms: int) -> int:
        """Whether the user may write in the group now. Returns how many members it has. Raises: Refused UNKNOWN_GROUP,
        NOT_A_MEMBER, MUTED, ANNOUNCEMENTS_ONLY."""
        ...

    def staff(self, group_id: GroupId) -> tuple[UserId, ...]:
        """The owner and admins, at most STAFF_TOLD."""
        ...

    def members(self, group_id: GroupId, after: UserId, limit: int) -> list[tuple[User, Role]]:
        """By id, those with an id above `after`."""
        ...

    def muted(self, group_id: GroupId, user_ids: Collection[UserId], now_ms: int) -> dict[UserId, int]:
        """Until when (epoch), for those of these users who are muted members."""
        ...

    def ids_of(self, user_id: UserId) -> list[GroupId]:
        """The groups the user is in, by id."""
        ...

    def memberships(self, user_ids: Collection[UserId]) -> list[Membership]:
        """Every membership of these users, all at one moment. Cost: one statement."""
        ...

    def members_among(self, group_id: GroupId, user_ids: Collection[UserId]) -> tuple[int, dict[UserId, int]]:
        """The group's members_version, and the since_version of those of these users who are in it, all at one moment.
        (0, {}): there is no such group any more. Cost: one statement."""
        ...

    def of(self, user_id: UserId, member_limit: int) -> list[GroupRow]:
        """The groups the user is in, by id, with at most `member_limit` members over all of them."""
        ...


class AdmissionTables(Protocol):
    """How users become members of groups, and who cannot. A method that names a group raises Refused UNKNOWN_GROUP,
    and NOT_A_MEMBER where `by` is not in it; `by` must be the owner or an admin, else NOT_ALLOWED.

    Messages sent before a user joined are not delivered, and not to be read unless the group's past is open."""

    def join(self, user_id: UserId, group_id: GroupId, limits: AdmissionLimits, now_ms: int) -> Joined:
        """Join, or ask to, as the group's policy says; an invitation admits whatever the policy. Doing it again changes
        nothing. Whoever asks again after taking a request back less than again_ms ago is not announced again: the
        result is not fresh.

        Raises: Refused UNKNOWN_GROUP, LIMIT_REACHED, BANNED, INVITATION_NEEDED, and NOT_ACCEPTED if the user was
        rejected less than again_ms ago."""
        ...

    def invite(self, by: UserId, group_id: GroupId, user_id: UserId, limits: AdmissionLimits, now_ms: int) -> Joined:
        """A user who has asked to join is a member at once. An invitation ends a ban when it is accepted.

        Raises: Refused LIMIT_REACHED; NOT_ACCEPTED if the user declined less than again_ms ago, and as
        ConsentTables.block_between();
        NOT_ALLOWED also for a user whom somebody of a higher role has banned."""
        ...

    def add(self, by: UserId, group_id: GroupId, user_id: UserId, limits: AdmissionLimits, now_ms: int) -> Joined:
        """Make the user a member if the user accepts that from `by`, or `by` is the system; otherwise as invite()."""
        ...

    def decline(self, user_id: UserId, group_id: GroupId, now_ms: int) -> UserId:
        """Decline an invitation, or take back a request to join. Returns who had invited the user, 0 for a request.
        Raises: Refused NOT_ALLOWED: there is neither."""
        ...

    def approve(self, by: UserId, group_id: GroupId, user_id: UserId, limits: AdmissionLimits, now_ms: int) -> Joined:
        """Raises: Refused NOT_ALLOWED: the user has not asked; LIMIT_REACHED."""
        ...

    def reject(self, by: UserId, group_id: GroupId, user_id: UserId, now_ms: int) -> None:
        """Raises: Refused NOT_ALLOWED: the user has not asked."""

    def ban(self, by: UserId, group_id: GroupId, user_id: UserId, now_ms: int) -> int:
        """A member is removed with it, as by kick(). Ends an invitation and a request. Returns the group's
        members_version if the user was a member, else 0. Raises: Refused NOT_ALLOWED, LIMIT_REACHED."""
        ...

    def unban(self, by: UserId, group_id: GroupId, user_id: UserId) -> None:
        """Raises: Refused NOT_ALLOWED: the user is not banned, or was by somebody of a higher role."""

    def invitations(self, user_id: UserId, after: GroupId, limit: int) -> list[Pending]:
        """The user's open ones, by group, to those with a number above `after`."""
        ...

    def requests(self, by: UserId, group_id: GroupId, after: UserId, limit: int) -> list[Pending]:
        """The group's open ones, by user, those with an id above `after`."""
        ...

    def requests_to(self, user_id: UserId, limit: int) -> list[Pending]:
        """Open ones to all groups of which the user is the owner or an admin, the oldest first. Cost: the groups of the
        user; of those that the user runs, all who stand to them in some way."""
        ...

    def bans(self, by: UserId, group_id: GroupId, after: UserId, limit: int) -> list[Ban]:
        """By user, those with an id above `after`."""
        ...
