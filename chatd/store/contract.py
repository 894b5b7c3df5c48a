"""What a store must be able to do: the contract its twins keep.

Owns: Tables, every read and write chatd needs, as blocking calls made by the store thread alone.
Not here: how writes of many sessions become one commit (store.group_commit); SQL (store.sqlite.tables).
Fails: Refused (this request is not allowed, nothing changed), Unavailable (the store cannot answer now) and
Again (two transactions met: this one was undone, and is to be run once more from begin()).
Checked by one suite over every twin: tests/store/contract.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from chatd.errors import ErrorCode
from chatd.model import ConversationId, FriendRequest, Group, GroupId, Message, Role, Seq, User, UserId
from chatd.protocol import SendMessage


class Again(Exception):
    """The transaction was rolled back by the store (a deadlock, a race for a unique key) and may be repeated at once.
    Seen by store.group_commit alone."""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A message to be stored: who is logged in as the sender, and what was asked for."""

    sender: User
    command: SendMessage


class Stored(msgspec.Struct, frozen=True, gc=False):
    """fresh False: a repeat of (sender, fp); `message` is the first one, and nothing was stored now."""

    message: Message
    fresh: bool


class Account(NamedTuple):
    """password: an argon2 hash; "" for an account without one (made by open login)."""

    user: User
    password: str


class Advance(NamedTuple):
    """The user has every message of the conversation up to and including `seq`."""

    user_id: UserId
    conversation: ConversationId
    seq: Seq


class Waiting(NamedTuple):
    """messages: beyond the user's cursors, in commit order, own ones included (a reader skips them; they
    close the numbering). more: there are more than were asked for. delivered: the cursors asked for."""

    messages: list[Message]
    more: bool
    delivered: dict[ConversationId, Seq]


class GroupRow(NamedTuple):
    """A group seen by one member; members as (user, role), cut at the caller's limit."""

    group: Group
    members: list[tuple[User, Role]]


class Left(NamedTuple):
    """What leaving a group did: heir: its new owner, if it changed; ended: nobody was left."""

    heir: UserId | None
    ended: bool


class Head(NamedTuple):
    """A user's conversation: `other` the group or the other user; last, delivered, seen: seqs."""

    conversation: ConversationId
    other: User | Group
    last: Seq
    delivered: Seq
    seen: Seq


class Tables(Protocol):
    """Called by one thread at a time. Writes only between begin() and commit()/rollback()."""

    @property
    def gather_s(self) -> float:
        """Least time between the starts of two batches: about what a small one costs, so that under load messages
        travel together. A lone message does not wait."""
        ...

    def begin(self) -> None:
        """Take the write lock (blocking) and start a transaction. Raises Unavailable."""

    def commit(self) -> None:
        """Durable when it returns. Raises Unavailable: then nothing of the transaction is in the store."""

    def rollback(self) -> None: ...

    def close(self) -> None: ...

    # --- messages

    def append(self, drafts: Sequence[Draft], now_ms: int) -> list[Stored | ErrorCode]:
        """Number and insert, one result per draft, in order. A draft is refused with UNKNOWN_RECIPIENT,
        UNKNOWN_GROUP or NOT_A_MEMBER. To be called first in a transaction, once."""
        ...

    def advance(self, advances: Sequence[Advance]) -> None:
        """Move cursors forward, never back."""

    def waiting(self, user_id: UserId, limit: int, cursors_of: Sequence[ConversationId] = ()) -> Waiting: ...

    # --- accounts

    def create_user(self, name: str, password: str, now_ms: int) -> User:
        """Refused NAME_TAKEN. Names are compared without regard to case and compatibility forms."""
        ...

    def account(self, name: str, user_id: UserId) -> Account | None:
        """By name; by user_id when name is ""; an all-digit name that nobody has is a user id."""
        ...

    def set_password(self, user_id: UserId, password: str) -> None: ...

    def delete_user(self, user_id: UserId) -> None:
        """The account cannot log in or be written to; what it wrote stays. Its name is free again."""

    def users(self) -> list[tuple[UserId, str, int]]:
        """(id, name, created_at_ms) of all, by id."""
        ...

    # --- friends

    def request_friend(self, sender: User, to: UserId, limit: int, now_ms: int) -> bool:
        """True: they are friends now (the other had asked first). False: the request waits.
        Refused UNKNOWN_RECIPIENT, NOT_ALLOWED (self, already friends), LIMIT_REACHED."""
        ...

    def answer_friend(self, user_id: UserId, requester: UserId, accept: bool, now_ms: int) -> None:
        """Refused NOT_ALLOWED when there is no such request."""

    def friends(self, user_id: UserId) -> list[User]: ...

    def friend_requests(self, user_id: UserId, limit: int = 1000) -> list[FriendRequest]:
        """Requests that wait for this user's answer, oldest first. Anybody may ask, so there may be very many."""
        ...

    # --- groups

    def create_group(self, owner: UserId, name: str, description: str, limit: int, now_ms: int) -> GroupId:
        """Refused LIMIT_REACHED (groups of this user)."""
        ...

    def join_group(self, user_id: UserId, group_id: GroupId, members: int, groups: int, now_ms: int) -> Group:
        """Joining again changes nothing. Refused UNKNOWN_GROUP, LIMIT_REACHED. Earlier messages do not wait."""
        ...

    def group_ids(self, user_id: UserId) -> list[GroupId]: ...

    def groups(self, user_id: UserId, member_limit: int) -> list[GroupRow]:
        """All groups of the user, by id; at most member_limit members in the sum of all."""
        ...

    def group(self, group_id: GroupId) -> Group | None: ...

    def role(self, group_id: GroupId, user_id: UserId) -> Role:
        """Refused UNKNOWN_GROUP, NOT_A_MEMBER."""
        ...

    def members(self, group_id: GroupId, after: UserId, limit: int) -> list[tuple[User, Role]]:
        """By id, those with an id above `after`."""
        ...

    def leave_group(self, user_id: UserId, group_id: GroupId) -> Left:
        """An owner hands over to the oldest admin, else the oldest member. Refused as role()."""
        ...

    def kick_member(self, by: UserId, group_id: GroupId, user_id: UserId) -> None:
        """Owners may remove anybody else, admins plain members. Refused NOT_ALLOWED, and as role()."""

    def rename_group(self, by: UserId, group_id: GroupId, name: str, description: str | None) -> Group:
        """Owner and admins. description None = as it is. Refused NOT_ALLOWED, and as role()."""
        ...

    def set_role(self, by: UserId, group_id: GroupId, user_id: UserId, role: Role) -> None:
        """The owner alone; making another one owner makes oneself an admin."""

    # --- history

    def conversation_of(self, user_id: UserId, other: UserId, group_id: GroupId) -> ConversationId:
        """0 when these two have never written. Refused as role() for a group the user is not in."""
        ...

    def history(self, conversation: ConversationId, after: Seq, before: Seq, limit: int) -> list[Message]:
        """after < seq, ascending; with before > 0 instead the last ones with seq < before, ascending."""
        ...

    def heads(self, user_id: UserId, after: ConversationId, limit: int) -> list[Head]:
        """The user's conversations by id, those above `after` (ids may be negative)."""
        ...

    def mark_seen(self, user_id: UserId, conversation: ConversationId, seq: Seq) -> Seq:
        """Read up to seq (at most the last there is); never back. Returns where the mark is now."""
        ...

    # --- people

    def profile(self, user_id: UserId) -> dict[str, str]: ...

    def set_profile(self, user_id: UserId, profile: dict[str, str]) -> None: ...

    def saw(self, seen: Sequence[tuple[UserId, int]]) -> None:
        """(user, epoch ms): was online until then."""

    def last_seen(self, user_id: UserId) -> int:
        """Epoch ms; 0 = never."""
        ...

    def remove_friend(self, user_id: UserId, friend_id: UserId) -> None:
        """Also takes back a request that waits. Refused NOT_ALLOWED when there is neither."""

    def may_see(self, user_id: UserId, other: UserId) -> bool:
        """Friends, or members of one group, or oneself."""
        ...

    # --- requests

    def answered(self, sender: UserId, fp: str) -> str | None:
        """The answer that the request (sender, fp) was given, or None."""
        ...

    def remember(self, sender: UserId, fp: str, answer: str, now_ms: int) -> None:
        """Once per (sender, fp), after answered() said None. Kept for 7 days (P2)."""
