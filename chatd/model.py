"""The nouns of chat, as frozen structs: users, friends, groups, messages.

Owns: these structs and the kinds of ids. Elsewhere: all behaviour and I/O. Fails: never.

A conversation is one log whose messages are numbered without gaps. Its id is an int: > 0 is a pair of users
(a row of `pair`), < 0 is the group with the number -id. 0 is never an id.
"""

from __future__ import annotations

import enum

import msgspec

UserId = int
GroupId = int
ConversationId = int
Seq = int
FileId = str

ALL_MEMBERS: tuple[UserId, ...] = (0,)
"""The mentions of a message that names every member of its group."""


class Protocol(enum.IntEnum):
    """A wire. At most one session per user and wire (core.sessions.duplicate_login)."""

    CHATSERVER = 1
    MOBILEIMSDK = 2
    ECHO = 3
    HTTP = 4
    """No wire of sessions: calls of applications (core.calls)."""


class Role(enum.IntEnum):
    """In a group; a lower number is a higher rank."""

    SYSTEM = 0
    """Of model.SYSTEM in every group, where it is no member. Never stored."""

    OWNER = 1
    ADMIN = 2
    MEMBER = 3


class Audience(enum.IntEnum):
    """Whom a user admits: to write to them, to ask them to be friends, to see them, to add them to groups."""

    DEFAULT = 0
    """The operator's choice, an option of [people]."""

    EVERYBODY = 1
    CONTACTS = 2
    """Friends, and members of a common group."""

    FRIENDS = 3
    NOBODY = 4


class JoinPolicy(enum.IntEnum):
    """How a group is joined."""

    OPEN = 1
    """By its number."""

    APPROVAL = 2
    """Who asks waits until the owner or an admin decides."""

    INVITE = 3
    """The owner or an admin invites."""


class GroupRules(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the owner and the admins of a group decide. whole_history: members can read what was written before they
    joined. announcements: only the owner and the admins write."""

    join: JoinPolicy = JoinPolicy.OPEN
    whole_history: bool = False
    announcements: bool = False


class MessageState(enum.IntEnum):
    """What became of a message. In every state but EDITED and SENT its text is gone."""

    SENT = 0
    EDITED = 1
    RECALLED = 2
    """By its sender."""

    REMOVED = 3
    """By the owner or an admin of the group."""

    ERASED = 4
    """With its sender's account."""

    EXPIRED = 5
    """By the retention of [retention]."""


class User(msgspec.Struct, frozen=True, gc=False):
    id: UserId
    name: str


SYSTEM = User(0, "0")
"""The server itself, as which the operator and applications act. It has no account, never logs in and receives nothing;
on the mobileimsdk wire its name is "0"."""


class Friend(msgspec.Struct, frozen=True, gc=False):
    id: UserId
    name: str
    online: bool


class Member(msgspec.Struct, frozen=True, gc=False):
    id: UserId
    name: str
    online: bool
    role: Role


class Group(msgspec.Struct, frozen=True, gc=False):
    """One group. `members` is filled where a caller asked for them, else empty."""

    id: GroupId
    name: str
    description: str
    members: tuple[Member, ...] = ()


class FriendRequest(msgspec.Struct, frozen=True, gc=False):
    """`sender` asks `to` to be friends; waits until answered."""

    sender: User
    to: UserId


class Attachment(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A file of a message, as its recipients are told of it; its JSON is the same everywhere. size: in bytes. width,
    height: of a picture as it is shown, in pixels; 0 = not known."""

    id: FileId
    name: str
    size: int
    media_type: str = msgspec.field(name="type")
    width: int = 0
    height: int = 0


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A stored message. group_id 0: one-to-one, then to_id/to_name name the recipient.

    sent_at_ms is the server's time, milliseconds since the epoch. fp is the sender's own id for it
    (at most limits.fp_bytes), "" when the sender gave none. qos: the recipient shall acknowledge it.

    state, version: what became of it, and how often it was changed; its seq stays. reply_to: the seq of the message of
    the same conversation that it answers, 0 = none. mentions: members whom the sender named, or ALL_MEMBERS.
    attachments: its files, while it has its text.
    """

    conversation: ConversationId
    seq: Seq
    sender_id: UserId
    sender_name: str
    to_id: UserId
    to_name: str
    group_id: GroupId
    body: str
    fp: str
    qos: bool
    typeu: int
    sent_at_ms: int
    state: MessageState = MessageState.SENT
    version: int = 0
    reply_to: Seq = 0
    mentions: tuple[UserId, ...] = ()
    attachments: tuple[Attachment, ...] = ()
