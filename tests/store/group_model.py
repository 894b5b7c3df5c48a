"""One group as a model: what its contract says, without a store.

Owns: GroupModel, told of every operation; it says what each gives, and what is so afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chatd.errors import ErrorCode
from chatd.model import GroupRules, JoinPolicy, Role, Seq, UserId
from chatd.store.contract import AdmissionState

Given = AdmissionState | ErrorCode | None
"""What an operation gives: a refusal; that the user has asked or is invited; None: it is done, the user is a member."""
_OPEN = (AdmissionState.ASKED, AdmissionState.INVITED)


@dataclass
class GroupModel:
    """roles: of the members. since: when each joined, and in which order. first: the first message that each may read.
    muted: until when, also of those who have left. bans: by whom. states: of those who are not members, and since when.
    log: who wrote each message. adders: who accepts to be added, by anybody."""

    owner: UserId
    again_ms: int
    adders: set[UserId]
    rules: GroupRules = field(default_factory=GroupRules)
    exists: bool = True
    roles: dict[UserId, Role] = field(default_factory=dict)
    since: dict[UserId, tuple[int, UserId]] = field(default_factory=dict)
    first: dict[UserId, Seq] = field(default_factory=dict)
    muted: dict[UserId, int] = field(default_factory=dict)
    bans: dict[UserId, UserId] = field(default_factory=dict)
    states: dict[UserId, tuple[AdmissionState, int]] = field(default_factory=dict)
    log: list[UserId] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._admit(self.owner, 0)
        self.roles[self.owner] = Role.OWNER

    # ------------------------------------------------------------ who may

    def standing(self, user: UserId) -> ErrorCode | None:
        """Why the user is not in it."""
        if not self.exists:
            return ErrorCode.UNKNOWN_GROUP
        return None if user in self.roles else ErrorCode.NOT_A_MEMBER

    def writing(self, user: UserId, now_ms: int) -> ErrorCode | None:
        if (code := self.standing(user)) is not None:
            return code
        if self.rules.announcements and self.roles[user] is Role.MEMBER:
            return ErrorCode.ANNOUNCEMENTS_ONLY
        return ErrorCode.MUTED if self.muted.get(user, 0) > now_ms else None

    def readable(self, user: UserId) -> list[Seq]:
        first = 1 if self.rules.whole_history else self.first[user]
        return list(range(first, len(self.log) + 1))

    def _staff(self, by: UserId) -> ErrorCode | None:
        if (code := self.standing(by)) is not None:
            return code
        return ErrorCode.NOT_ALLOWED if self.roles[by] is Role.MEMBER else None

    def _rank(self, by: UserId, user: UserId) -> ErrorCode | None:
        if by == user:
            return ErrorCode.NOT_ALLOWED
        code = self.standing(by) or self.standing(user)
        return code or (ErrorCode.NOT_ALLOWED if self.roles[by] >= self.roles[user] else None)

    def _may_lift(self, by: UserId, user: UserId) -> ErrorCode | None:
        banned_by = self.bans.get(user)
        if banned_by in self.roles and self.roles[banned_by] < self.roles[by]:
            return ErrorCode.NOT_ALLOWED
        return None

    def _state(self, user: UserId) -> AdmissionState | None:
        return self.states[user][0] if user in self.states else None

    def _cooling(self, user: UserId, state: AdmissionState, now_ms: int) -> bool:
        found = self.states.get(user)
        return found is not None and found[0] is state and now_ms < found[1] + self.again_ms

    def _admit(self, user: UserId, now_ms: int) -> None:
        self.roles[user], self.since[user], self.first[user] = Role.MEMBER, (now_ms, user), len(self.log) + 1
        self.states.pop(user, None)
        self.bans.pop(user, None)

    # ------------------------------------------------------------ coming

    def join(self, user: UserId, now_ms: int) -> Given:
        if not self.exists:
            return ErrorCode.UNKNOWN_GROUP
        if user in self.roles:
            return None
        if self._state(user) is not AdmissionState.INVITED:
            if user in self.bans:
                return ErrorCode.BANNED
            if self.rules.join is JoinPolicy.INVITE:
                return ErrorCode.INVITATION_NEEDED
            if self.rules.join is JoinPolicy.APPROVAL:
                return self._ask(user, now_ms)
        self._admit(user, now_ms)
        return None

    def _ask(self, user: UserId, now_ms: int) -> Given:
        if self._cooling(user, AdmissionState.REJECTED, now_ms):
            return ErrorCode.NOT_ACCEPTED
        if self._state(user) is not AdmissionState.ASKED:
            self.states[user] = (AdmissionState.ASKED, now_ms)
        return AdmissionState.ASKED

    def invite(self, by: UserId, user: UserId, now_ms: int) -> Given:
        if (code := self._staff(by)) is not None or user in self.roles:
            return code
        if (code := self._may_lift(by, user)) is not None:
            return code
        return self._invite(user, now_ms)

    def _invite(self, user: UserId, now_ms: int) -> Given:
        if self._state(user) is AdmissionState.ASKED:
            self._admit(user, now_ms)
            return None
        if self._cooling(user, AdmissionState.DECLINED, now_ms):
            return ErrorCode.NOT_ACCEPTED
        if self._state(user) is not AdmissionState.INVITED:
            self.states[user] = (AdmissionState.INVITED, now_ms)
        return AdmissionState.INVITED

    def add(self, by: UserId, user: UserId, now_ms: int) -> Given:
        if (code := self._staff(by)) is not None or user in self.roles:
            return code
        if (code := self._may_lift(by, user)) is not None:
            return code
        if self._cooling(user, AdmissionState.DECLINED, now_ms):
            return ErrorCode.NOT_ACCEPTED
        if user not in self.adders:
            return self._invite(user, now_ms)
        self._admit(user, now_ms)
        return None

    def decline(self, user: UserId, now_ms: int) -> Given:
        if not self.exists:
            return ErrorCode.UNKNOWN_GROUP
        state = self._state(user)
        if state not in (AdmissionState.INVITED, AdmissionState.ASKED):
            return ErrorCode.NOT_ALLOWED
        ended = AdmissionState.DECLINED if state is AdmissionState.INVITED else AdmissionState.TAKEN_BACK
        self.states[user] = (ended, now_ms)
        return None

    def answer(self, by: UserId, user: UserId, approve: bool, now_ms: int) -> Given:
        if (code := self._staff(by)) is not None or (approve and user in self.roles):
            return code
        if self._state(user) is not AdmissionState.ASKED:
            return ErrorCode.NOT_ALLOWED
        if approve:
            self._admit(user, now_ms)
        else:
            self.states[user] = (AdmissionState.REJECTED, now_ms)
        return None

    # ------------------------------------------------------------ going

    def leave(self, user: UserId) -> Given:
        if (code := self.standing(user)) is not None:
            return code
        self._remove(user)
        if not self.roles:
            self.exists = False
        elif Role.OWNER not in self.roles.values():
            heir = min(self.roles, key=lambda member: (self.roles[member], self.since[member]))
            self._make_owner(heir)
        return None

    def kick(self, by: UserId, user: UserId) -> Given:
        if (code := self._rank(by, user)) is not None:
            return code
        self._remove(user)
        self.bans[user] = by
        return None

    def ban(self, by: UserId, user: UserId) -> Given:
        if (code := self._staff(by)) is not None:
            return code
        if user in self.roles:
            return self.kick(by, user)
        if (code := self._may_lift(by, user)) is not None:
            return code
        if self._state(user) in _OPEN:
            del self.states[user]
        self.bans[user] = by
        return None

    def unban(self, by: UserId, user: UserId) -> Given:
        if (code := self._staff(by)) is not None:
            return code
        if user not in self.bans:
            return ErrorCode.NOT_ALLOWED
        if (code := self._may_lift(by, user)) is None:
            del self.bans[user]
        return code

    def dissolve(self, by: UserId) -> Given:
        if (code := self.standing(by)) is not None:
            return code
        if self.roles[by] is not Role.OWNER:
            return ErrorCode.NOT_ALLOWED
        self.roles.clear()
        self.exists = False
        return None

    def _remove(self, user: UserId) -> None:
        del self.roles[user]

    # ------------------------------------------------------------ ruling

    def set_role(self, by: UserId, user: UserId, role: Role) -> Given:
        if by == user:
            return ErrorCode.NOT_ALLOWED
        if (code := self.standing(by)) is not None:
            return code
        if self.roles[by] is not Role.OWNER:
            return ErrorCode.NOT_ALLOWED
        if (code := self.standing(user)) is not None:
            return code
        if role is Role.OWNER:
            self.roles[by] = Role.ADMIN
            self._make_owner(user)
        self.roles[user] = role
        return None

    def _make_owner(self, user: UserId) -> None:
        """Nobody could end a mute of the owner."""
        self.roles[user] = Role.OWNER
        self.muted.pop(user, None)

    def mute(self, by: UserId, user: UserId, until_ms: int) -> Given:
        if (code := self._rank(by, user)) is None:
            self.muted[user] = until_ms
        return code

    def change(self, by: UserId, join: JoinPolicy, whole_history: bool, announcements: bool) -> Given:
        if (code := self._staff(by)) is not None:
            return code
        if whole_history is not self.rules.whole_history and self.roles[by] is not Role.OWNER:
            return ErrorCode.NOT_ALLOWED
        self.rules = GroupRules(join=join, whole_history=whole_history, announcements=announcements)
        return None
