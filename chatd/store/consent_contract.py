"""The contract of what users accept from each other: blocks, audiences, friend requests. A part of store.contract.

Owns: Purpose, Audiences, AskingRules, Asked, FriendTables, ConsentTables.
Elsewhere: everything else in a store (store.contract), what the operator lets users do (core.consent).
Fails: as store.contract.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from chatd.errors import ErrorCode
from chatd.model import Audience, FriendRequest, User, UserId

Pairing = tuple[UserId, UserId]
"""(who does something, the user to whom it is done)."""


class Purpose(enum.Enum):
    """What one user does to another, who says from whom they accept it. The value is a column of `user`."""

    WRITE = "may_write"
    ASK = "may_ask"
    SEE = "may_see"
    ADD = "may_add"


class Audiences(NamedTuple):
    """A user's choices, one for each Purpose."""

    write: Audience = Audience.DEFAULT
    ask: Audience = Audience.DEFAULT
    see: Audience = Audience.DEFAULT
    add: Audience = Audience.DEFAULT


class AskingRules(NamedTuple):
    """The operator's rules for friend requests. may_ask: for users who have not chosen. friends: of one user, open
    requests that the user made included. waiting: open requests to one user. again_ms: how long after a refusal."""

    may_ask: Audience = Audience.EVERYBODY
    friends: int = 1 << 30
    waiting: int = 1 << 30
    again_ms: int = 0


class Asked(enum.Enum):
    """What became of a friend request."""

    NEW = enum.auto()
    """It is pending, and the user asked is to be told."""

    AGAIN = enum.auto()
    """It is pending, and the user asked was told before: it was open already, or was withdrawn not long ago."""

    FRIENDS = enum.auto()
    """They are friends now, because the other side had asked first."""


class FriendTables(Protocol):
    """Friendships and pending friend requests."""

    def request(self, sender: User, to: UserId, rules: AskingRules, now_ms: int) -> Asked:
        """Raises: Refused UNKNOWN_RECIPIENT, NOT_ALLOWED (oneself, already friends, refused less than rules.again_ms
        ago), NOT_ACCEPTED and BLOCKED_BY_YOU as ConsentTables.refusals(), LIMIT_REACHED (open requests to `to`; friends
        of the sender or, when that makes them friends, of either)."""
        ...

    def answer(self, user_id: UserId, requester: UserId, accept: bool, limit: int, now_ms: int) -> None:
        """limit: friends of one user. Raises: Refused NOT_ALLOWED when there is no such request, LIMIT_REACHED when
        accepting would exceed the limit of either user."""

    def befriend(self, user_id: UserId, other: UserId, limit: int, now_ms: int) -> bool:
        """Both become friends of each other at once, whether or not one has asked: for whoever keeps the relations of
        the users elsewhere. False: they were friends already. limit: friends of one user.

        Raises: Refused NOT_ALLOWED (oneself), UNKNOWN_RECIPIENT, NOT_ACCEPTED (one of them blocks the other),
        LIMIT_REACHED."""
        ...

    def remove(self, user_id: UserId, friend_id: UserId) -> None:
        """Also withdraws a pending request. Raises: Refused NOT_ALLOWED when there is neither."""

    def of(self, user_id: UserId) -> list[User]:
        """The user's friends, by id."""
        ...

    def requests_to(self, user_id: UserId, limit: int = 1000) -> list[FriendRequest]:
        """Requests pending this user's answer, oldest first."""
        ...


class ConsentTables(Protocol):
    """Whom users accept. What a method changes holds for every message, on any connection, whose transaction begins
    after the commit."""

    def block(self, user_id: UserId, blocked: UserId, limit: int, now_ms: int) -> bool:
        """From now on `blocked` can neither write to the user, ask, see nor add them, and the user cannot write to
        them. Ends a friendship of the two, and withdraws requests, and invitations of the user by `blocked`. False:
        they were blocked already.

        Raises: Refused UNKNOWN_RECIPIENT, NOT_ALLOWED (oneself), LIMIT_REACHED: the user blocks `limit` others."""
        ...

    def unblock(self, user_id: UserId, blocked: UserId) -> None:
        """Raises: Refused NOT_ALLOWED when they are not blocked."""

    def blocked(self, user_id: UserId, after: UserId, limit: int) -> list[User]:
        """Whom the user blocks, by id, those with an id above `after`."""
        ...

    def audiences(self, user_id: UserId) -> Audiences: ...

    def choose(self, user_id: UserId, chosen: Mapping[Purpose, Audience]) -> Audiences:
        """Change some of the user's choices. A user who changes who may write takes back what they had granted by
        writing to somebody. Returns all choices."""
        ...

    def refusals(self, purpose: Purpose, pairs: Sequence[Pairing], default: Audience) -> list[ErrorCode | None]:
        """For each pair, why the second user does not accept this from the first, or None. default: the audience of
        users who have not chosen. Oneself is always accepted.

        NOT_ACCEPTED: the second blocks the first, or the first is not in the audience. BLOCKED_BY_YOU: the first blocks
        the second (not for SEE). WRITE is also accepted from those to whom the second has written since choosing who
        may write. Cost: one statement."""
        ...

    def block_between(self, actor: UserId, subject: UserId) -> ErrorCode | None:
        """BLOCKED_BY_YOU: the actor blocks the subject. NOT_ACCEPTED: the subject blocks the actor."""
        ...

    def unseen(self, viewer: UserId, contacts: Collection[UserId], default: Audience) -> set[UserId]:
        """Those of the contacts whom the viewer may not see. contacts: they share a group with the viewer or are
        friends, which is not checked. Cost: one statement for every 500 contacts."""
        ...

    def version(self) -> int:
        """Raised by every transaction after which somebody accepts less than before, except by leaving a group."""
        ...
