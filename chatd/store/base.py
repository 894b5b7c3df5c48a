"""What a store must be able to do: the contract its twins keep.

Owns: Tables, every read and write chatd needs, as blocking calls made by the store thread alone.
Not here: how writes of many sessions become one commit (store.commit); SQL (store.sqlite).
Fails: Refused (this request is not allowed, nothing changed) and Unavailable (the store cannot answer now).
Checked by one suite over every twin: tests/store/contract.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from chatd.errors import ErrorCode
from chatd.model import ConversationId, FriendRequest, Group, GroupId, Message, Role, Seq, User, UserId
from chatd.protocol import SendMessage


class Draft(NamedTuple):
    """A message to be stored: who is logged in as the sender, and what was asked for."""

    sender: User
    command: SendMessage


class Stored(NamedTuple):
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


class Tables(Protocol):
    """Called by one thread at a time. Writes only between begin() and commit()/rollback()."""

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

    def friend_requests(self, user_id: UserId) -> list[FriendRequest]:
        """Requests that wait for this user's answer, oldest first."""
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
