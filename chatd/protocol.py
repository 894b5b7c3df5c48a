"""Every Command a client may send and every Event the server may send, independent of the wire.

Owns: these structs, and WireTraits: the differences between wires that core must know. Core never asks which wire a
peer speaks.
Elsewhere: bytes (wire.*: codecs turn bytes into Commands and Events into bytes), handling (core.dispatcher has one
handler per Command).
Fails: never.

`claimed` is the sender that the packet claims: None when the wire has no such field or it is to be ignored. `packet` is
the command as received. It is kept only for a command that came before the login, on a wire whose refusal contains the
packet, and is b"" everywhere else.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from chatd.errors import ErrorCode
from chatd.model import ConversationId, FileId, Friend, FriendRequest, Group, GroupId, Message, Seq, User, UserId

# ---------------------------------------------------------------- differences between wires


class DuplicateLogin(enum.Enum):
    """What happens when a user who has a session on a wire logs in on the same wire again, from another connection."""

    REFUSE_NEW = enum.auto()
    """The session stays, the login is refused with ALREADY_LOGGED_IN, unless it asks for takeover."""

    LATER_LOGIN_WINS = enum.auto()
    """The login with the later first_login_time stays, the other is kicked (core.sessions.exclusive)."""


class WireTraits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a client behaves, as far as core must know. Given by the codec (wire.contract.Codec.traits).

    The defaults are those of a wire without any of these features."""

    acknowledges: bool = False
    """The client acknowledges each message with an Acknowledge command. Otherwise a message counts as delivered when
    the peer's kernel has acknowledged its bytes."""

    server_texts: bool = False
    """The wire carries ServerMessage: answers to requests, and notices. Otherwise friend requests and their answers are
    sent as events of their own, and other notices are not sent."""

    lists_contacts: bool = False
    """The login answer contains the user's friends and groups."""

    duplicate_login: DuplicateLogin = DuplicateLogin.REFUSE_NEW

    repeats_login: bool = False
    """The client may log in again on a connection where it is logged in, as the same user, and is told it succeeded."""

    refusal_closes: bool = False
    """The connection is closed after a refused login, and after a command that needs a login and came before it."""

    logout_closes: bool = True
    """The connection is closed after Logout. Otherwise it stays open for another login."""


# ---------------------------------------------------------------- commands


class Feature(enum.IntFlag):
    """What a client may ask for in its login. A client that does not ask is sent what stock clients know. On the wire
    the names are in lower case."""

    SEQ = 1
    """Messages and acknowledgements carry the number of the message, and messages may have Extras."""

    TYPING = 2
    """The client is told that somebody is writing to its user."""

    DELIVERED = 4
    """The client is told how far the other user of a conversation has received it."""


class Extras(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a message can have besides its text. reply_to: the seq of the message of the same conversation that it
    answers, 0 = none. mentions: members of the group, by name or id, or model.ALL_MEMBERS. files: of the sender,
    uploaded for this message."""

    reply_to: Seq = 0
    mentions: tuple[str | int, ...] = ()
    files: tuple[FileId, ...] = ()


class Login(msgspec.Struct, frozen=True, gc=False):
    """By `name`, or by `user_id` where name is "". An all-digit name that no account has is a user id,
    unless another program decides on names (AccountOptions.has_vouched_names).

    streaming: the client splits frames itself and understands acknowledgements (chatserver only).
    acks: the client acknowledges messages with Received.
    wants_token: the client asks for a token, which it repeats in every datagram; ignored except over UDP.
    features: those of its wishes that chatd knows; None = it did not ask for any.
    requests: the client understands ServerMessage, and may send ServerRequest (chatserver only; see WireTraits).
    takeover: the user's other session on this wire is to end (DuplicateLogin.REFUSE_NEW only).
    """

    name: str
    user_id: UserId
    secret: str
    first_login_time: int = 0
    streaming: bool = False
    acks: bool = False
    wants_token: bool = False
    features: Feature | None = None
    requests: bool = False
    takeover: bool = False


class Register(msgspec.Struct, frozen=True, gc=False):
    """invite: an invite code as the user typed it; "" = none."""

    name: str
    secret: str
    invite: str = ""


class Logout(msgspec.Struct, frozen=True, gc=False):
    claimed: UserId | None = None
    packet: bytes = b""


class SendMessage(msgspec.Struct, frozen=True, gc=False):
    """Exactly one of to_name (not ""), to_id (not 0), to_group (not 0) names the recipient. extras: None for nearly
    every message."""

    to_name: str
    to_id: UserId
    to_group: GroupId
    body: str
    fp: str = ""
    qos: bool = False
    typeu: int = -1
    claimed: UserId | None = None
    packet: bytes = b""
    extras: Extras | None = None


class ServerRequest(msgspec.Struct, frozen=True, gc=False):
    """Client to server (C2S): `body` is the application's text."""

    body: str
    fp: str = ""
    qos: bool = False
    typeu: int = -1
    packet: bytes = b""


class Acknowledge(msgspec.Struct, frozen=True, gc=False):
    """The recipient has the packet with this fp. Honoured only from the session it was given to."""

    fp: str
    packet: bytes = b""


class Received(msgspec.Struct, frozen=True, gc=False):
    """The client has everything it was given of this conversation up to `seq`. Honoured only from a session whose Login
    said so (acks)."""

    conversation: ConversationId
    seq: Seq


class AddFriend(msgspec.Struct, frozen=True, gc=False):
    user_id: UserId
    claimed: UserId | None = None


class AnswerFriend(msgspec.Struct, frozen=True, gc=False):
    user_id: UserId
    accept: bool
    claimed: UserId | None = None


class CreateGroup(msgspec.Struct, frozen=True, gc=False):
    name: str
    description: str
    claimed: UserId | None = None


class JoinGroup(msgspec.Struct, frozen=True, gc=False):
    group_id: GroupId
    claimed: UserId | None = None


class KeepAlive(msgspec.Struct, frozen=True, gc=False):
    packet: bytes = b""


class Echo(msgspec.Struct, frozen=True, gc=False):
    """`raw` is the data to be sent back, as received (a packet's JSON, or a line's bytes)."""

    raw: bytes


class Malformed(msgspec.Struct, frozen=True, gc=False):
    """A well-framed packet with invalid contents: answered with an error, the connection stays."""

    code: ErrorCode
    text: str
    ref: int = 0
    fp: str = ""


Command = (
    Login
    | Register
    | Logout
    | SendMessage
    | ServerRequest
    | Acknowledge
    | Received
    | AddFriend
    | AnswerFriend
    | CreateGroup
    | JoinGroup
    | KeepAlive
    | Echo
    | Malformed
)

# ---------------------------------------------------------------- events


class LoginAccepted(msgspec.Struct, frozen=True):
    """`waiting` are the first waiting messages in order; a codec puts in as many as its frame may hold
    (see Codec.encode_login), the rest follow as Deliver events. features: granted; None = the client asked for none.
    links: as of Deliver, by conversation and seq."""

    user: User
    first_login_time: int
    friends: tuple[Friend, ...] = ()
    groups: tuple[Group, ...] = ()
    requests: tuple[FriendRequest, ...] = ()
    waiting: tuple[Message, ...] = ()
    features: Feature | None = None
    links: Mapping[tuple[ConversationId, Seq], tuple[str, ...]] = MappingProxyType({})


class Registered(msgspec.Struct, frozen=True, gc=False):
    user: User


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The message of `command` is durable (or, for a ServerRequest, handled: then seq and conversation are 0)."""

    command: SendMessage | ServerRequest
    seq: int
    sent_at_ms: int
    conversation: ConversationId = 0


FrameKey = tuple[str, str]
"""(form, fp) of an encoded frame. Codecs with the same form write the same bytes for the same message and fp: a form
names the wire, its mode and its limit."""


class Deliver(msgspec.Struct):
    """A message for this session. `fp` is what the recipient acknowledges ("" = it does not).

    `frames` holds what codecs have encoded of this message. All its recipients share it, so that a message is encoded
    once per FrameKey and not once per recipient. Only codecs read and write it.

    group_name: of the message's group, where a listener shows it to its clients; "" = not known.
    links: for clients that know no files, an address of each of the message's; () = none are told.
    is_cut: in a frame of some form the text is cut (see Codec.is_cut). Set by codecs.
    """

    message: Message
    fp: str
    frames: dict[FrameKey, bytes]
    group_name: str = ""
    is_cut: bool = False
    links: tuple[str, ...] = ()


Ref = str | int | None
"""The client's own reference of a request, repeated in its answer."""


class Changed(msgspec.Struct, frozen=True, gc=False):
    """`by` has changed a message that the client was given, or that its user sent. message: as it is now. at_ms: of the
    change, epoch. For wires without server texts; it is no message, and nobody acknowledges it."""

    message: Message
    by: User
    at_ms: int


class ServerMessage(msgspec.Struct, frozen=True, gc=False):
    """Server to client (S2C): an answer or a notice. `fp` is what the client acknowledges ("" = it does not). ref: that
    of the request that is answered. retry_after_s: as of Failed."""

    body: str
    fp: str
    is_answer: bool = False
    ref: Ref = None
    retry_after_s: int = 0


class Announcement(msgspec.Struct, frozen=True, gc=False):
    """An operator tells this client's user something (`chatctl broadcast`), on a wire without server texts. at_ms:
    epoch. It is no message, and nobody acknowledges it."""

    text: str
    to: UserId
    at_ms: int


class FriendRequested(msgspec.Struct, frozen=True, gc=False):
    request: FriendRequest


class FriendAnswered(msgspec.Struct, frozen=True, gc=False):
    """`by` has accepted or refused the request of the user `to`."""

    by: User
    to: UserId
    accepted: bool


class GroupReady(msgspec.Struct, frozen=True, gc=False):
    """The user has created or joined this group. asked_for False: somebody else has made the user a member."""

    group: Group
    created: bool
    asked_for: bool = True


class KeptAlive(msgspec.Struct, frozen=True, gc=False):
    pass


class Echoed(msgspec.Struct, frozen=True, gc=False):
    raw: bytes


class Failed(msgspec.Struct, frozen=True, gc=False):
    """`command` was refused; None when it could not be decoded (then `ref` is its wire number, or 0). code: an
    ErrorCode, or a plug-in's own. retry_after_s: as of errors.Refused; no wire says it."""

    code: int
    text: str
    command: Command | None = None
    ref: int = 0
    retry_after_s: int = 0


class Kicked(msgspec.Struct, frozen=True, gc=False):
    """by_admin False: duplicate login (MobileIMSDK code 1), True: an administrator (code 2)."""

    by_admin: bool
    reason: str


class Draining(msgspec.Struct, frozen=True, gc=False):
    """This worker is going away; reconnect within `resume_before_ms` (epoch), after `retry_after_ms`."""

    resume_before_ms: int
    retry_after_ms: int


Event = (
    LoginAccepted
    | Registered
    | Accepted
    | Deliver
    | Changed
    | ServerMessage
    | Announcement
    | FriendRequested
    | FriendAnswered
    | GroupReady
    | KeptAlive
    | Echoed
    | Failed
    | Kicked
    | Draining
)
