"""The client's side of the `chatserver` wire: what the server's bytes mean, as frozen structs. No I/O, no clock.

Owns: message numbers, the frames that are understood, and the nouns of what is sent.
Elsewhere: the bytes that are sent (outgoing), sockets (connection), results of requests (results), notices (notices).
Fails: BadFrame for a frame that is not a message of this wire; an unknown msgid is None, as the wire demands.
"""

from __future__ import annotations

import enum
import zlib
from typing import TypeVar

import msgspec

from chatd_client.errors import BadFrame, is_temporary
from chatd_client.model import Answer, Attachment, User
from chatd_client.seen import Shown


class Msg(enum.IntEnum):
    LOGIN = 1
    LOGIN_ACK = 2
    LOGOUT = 3
    REGISTER = 4
    REGISTER_ACK = 5
    ONE_CHAT = 6
    ADD_FRIEND_REQ = 7
    ADD_FRIEND_ACK = 8
    CREATE_GROUP = 9
    JOIN_GROUP = 10
    GROUP_CHAT = 11
    ERROR = 12
    ACK = 13
    GROUP_ACK = 14
    RECEIVED = 15
    REQUEST = 16
    ANSWER = 17
    NOTICE = 18


# ---------------------------------------------------------------- what the server says


class Friend(msgspec.Struct, frozen=True):
    id: int
    name: str
    online: bool


class Member(msgspec.Struct, frozen=True):
    id: int
    name: str
    online: bool
    role: str
    """owner, admin or member"""


class Group(msgspec.Struct, frozen=True):
    id: int
    name: str
    description: str
    members: tuple[Member, ...] = ()


class Chat(msgspec.Struct, frozen=True):
    """One-to-one when group_id is 0. seq: its number in the conversation; 0 from a server that does not number.
    conversation: the server's number of the conversation, by which the message is acknowledged; 0 where it has none."""

    sender_id: int
    sender_name: str
    to_id: int
    group_id: int
    text: str
    time: str
    seq: int
    conversation: int = 0
    reply: int = 0
    """The seq of the message that this one answers."""
    mentions: tuple[int, ...] | str = ()
    """Members whom it mentions, by number, or "all"."""
    files: tuple[Attachment, ...] = ()
    files_cut: bool = False
    """There are more files than fitted into the frame."""

    def is_about(self, user_id: int) -> bool:
        """Whether it mentions this user."""
        return self.mentions == "all" if isinstance(self.mentions, str) else user_id in self.mentions


class FriendRequestNotice(msgspec.Struct, frozen=True):
    sender_id: int
    sender_name: str
    text: str


class FriendReplyNotice(msgspec.Struct, frozen=True):
    """accepted: None from a server that says it only in `text`."""

    sender_id: int
    sender_name: str
    text: str
    accepted: bool | None


class LoginAnswer(msgspec.Struct, frozen=True):
    errno: int
    text: str
    user: User
    friends: tuple[Friend, ...]
    groups: tuple[Group, ...]
    waiting: tuple[Event, ...]
    acks: bool = False
    """The server waits for RECEIVED of each message."""
    requests: bool = False
    """The server answers REQUEST, and sends NOTICE."""


class RegisterAnswer(msgspec.Struct, frozen=True):
    errno: int
    text: str
    user_id: int


class ErrorAnswer(msgspec.Struct, frozen=True):
    """`ref`: the msgid that failed. fp: "" where the server does not name the message."""

    errno: int
    text: str
    ref: int
    fp: str


class MessageAck(msgspec.Struct, frozen=True):
    """The message `fp` is durable. seq: its number in the conversation; 0 from a server that does not number."""

    fp: str
    seq: int = 0


class GroupAck(msgspec.Struct, frozen=True):
    group_id: int
    name: str


class Notice(msgspec.Struct, frozen=True):
    """Something has happened. frame: the whole of it (notices.decode)."""

    frame: bytes


Event = (
    Chat
    | FriendRequestNotice
    | FriendReplyNotice
    | LoginAnswer
    | RegisterAnswer
    | ErrorAnswer
    | MessageAck
    | GroupAck
    | Answer
    | Notice
)

# ---------------------------------------------------------------- how it looks on the wire


class _FrameHead(msgspec.Struct):
    msgid: int


class _ChatFrame(msgspec.Struct):
    id: int
    msg: str
    name: str = ""
    time: str = ""
    toid: int = 0
    groupid: int = 0
    seq: int = 0
    conv: int = 0
    reply: int = 0
    mentions: tuple[int, ...] | str = ()
    files: tuple[Attachment, ...] = ()
    files_cut: bool = False

    def event(self) -> Event:
        return Chat(
            sender_id=self.id,
            sender_name=self.name,
            to_id=self.toid,
            group_id=self.groupid,
            text=self.msg,
            time=self.time,
            seq=self.seq,
            conversation=self.conv,
            reply=self.reply,
            mentions=self.mentions,
            files=self.files,
            files_cut=self.files_cut,
        )


class _FriendRequestFrame(msgspec.Struct, rename={"sender_id": "from"}):
    """name: given in streaming mode; the legacy server has only the text."""

    sender_id: int
    msg: str = ""
    name: str = ""

    def event(self) -> Event:
        return FriendRequestNotice(self.sender_id, self.name, self.msg)


class _FriendReplyFrame(msgspec.Struct, rename={"sender_id": "from"}):
    """name, flag: given in streaming mode; the legacy server has only the text."""

    sender_id: int
    msg: str = ""
    name: str = ""
    flag: bool | None = None

    def event(self) -> Event:
        return FriendReplyNotice(self.sender_id, self.name, self.msg, self.flag)


class _PersonFrame(msgspec.Struct):
    id: int
    name: str
    state: str = "offline"
    role: str = "normal"

    def friend(self) -> Friend:
        return Friend(self.id, self.name, self.state == "online")

    def member(self) -> Member:
        return Member(self.id, self.name, self.state == "online", "owner" if self.role == "creator" else "member")


class _GroupFrame(msgspec.Struct):
    id: int
    groupname: str
    groupdesc: str = ""
    users: tuple[str, ...] = ()

    def group(self) -> Group:
        members = tuple(_inner(text, _PersonFrame).member() for text in self.users)
        return Group(self.id, self.groupname, self.groupdesc, members)


class _LoginAckFrame(msgspec.Struct):
    errno: int
    id: int = 0
    name: str = ""
    errmsg: str = ""
    offlinemsg: tuple[str, ...] = ()
    friends: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    acks: bool = False
    requests: bool = False

    def event(self) -> Event:
        friends = tuple(_inner(text, _PersonFrame).friend() for text in self.friends)
        groups = tuple(_inner(text, _GroupFrame).group() for text in self.groups)
        waiting = tuple(event for event in map(decode, self.offlinemsg) if event is not None)
        return LoginAnswer(
            errno=self.errno,
            text=self.errmsg,
            user=User(self.id, self.name),
            friends=friends,
            groups=groups,
            waiting=waiting,
            acks=self.acks,
            requests=self.requests,
        )


class _RegisterAckFrame(msgspec.Struct):
    errno: int
    id: int = 0
    errmsg: str = ""

    def event(self) -> Event:
        return RegisterAnswer(self.errno, self.errmsg, self.id)


class _ErrorFrame(msgspec.Struct):
    errno: int
    errmsg: str = ""
    ref: int = 0
    fp: str = ""

    def event(self) -> Event:
        return ErrorAnswer(self.errno, self.errmsg, self.ref, self.fp)


class _AckFrame(msgspec.Struct):
    fp: str
    seq: int = 0

    def event(self) -> Event:
        return MessageAck(self.fp, self.seq)


class _GroupAckFrame(msgspec.Struct):
    groupid: int
    groupname: str = ""

    def event(self) -> Event:
        return GroupAck(self.groupid, self.groupname)


class _Refusal(msgspec.Struct, frozen=True):
    code: int = 0
    text: str = ""


class _AnswerFrame(msgspec.Struct):
    """ref null: the server could not read the request's."""

    ok: bool = True
    ref: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"{}")
    error: _Refusal = _Refusal()

    def event(self) -> Event:
        ref = self.ref if isinstance(self.ref, int) else 0
        return Answer(ref, self.ok, self.result, self.error.code, self.error.text)


_Shape = (
    _ChatFrame
    | _FriendRequestFrame
    | _FriendReplyFrame
    | _LoginAckFrame
    | _RegisterAckFrame
    | _ErrorFrame
    | _AckFrame
    | _GroupAckFrame
    | _AnswerFrame
)

_SHAPES: dict[int, type[_Shape]] = {
    Msg.LOGIN_ACK: _LoginAckFrame,
    Msg.REGISTER_ACK: _RegisterAckFrame,
    Msg.ONE_CHAT: _ChatFrame,
    Msg.ADD_FRIEND_REQ: _FriendRequestFrame,
    Msg.ADD_FRIEND_ACK: _FriendReplyFrame,
    Msg.GROUP_CHAT: _ChatFrame,
    Msg.ERROR: _ErrorFrame,
    Msg.ACK: _AckFrame,
    Msg.GROUP_ACK: _GroupAckFrame,
    Msg.ANSWER: _AnswerFrame,
}

_S = TypeVar("_S", _PersonFrame, _GroupFrame)


def _inner(text: str, shape: type[_S]) -> _S:
    """This wire puts JSON texts inside JSON strings."""
    return msgspec.json.decode(text, type=shape)


def decode(frame: bytes | str) -> Event | None:
    """One frame without its NUL. None: a message number this client does not know, to be ignored.

    Raises BadFrame."""
    try:
        head = msgspec.json.decode(frame, type=_FrameHead)
        if head.msgid == Msg.NOTICE:
            return Notice(frame if isinstance(frame, bytes) else frame.encode())
        shape = _SHAPES.get(head.msgid)
        return None if shape is None else msgspec.json.decode(frame, type=shape).event()
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadFrame(str(error)) from error


# ---------------------------------------------------------------- what is computed from them

ALREADY_LOGGED_IN = 2
"""LOGIN_ACK's errno: true for a moment after a connection broke."""
PASSING_TEXTS = frozenset(
    {
        "too many requests",
        "the server cannot store this now, try again",
        "the server is busy, try again",
        "internal error",
        "too many attempts, try again later",
        "too many messages wait for this user, try again later",
    }
)
"""What chatd says of a login that may succeed later: LOGIN_ACK has one errno for all other reasons."""


def text_of(answer: Event) -> str:
    """What the server says of a refusal, "" = nothing."""
    return answer.text if isinstance(answer, LoginAnswer | RegisterAnswer | ErrorAnswer) else ""


def code_of(answer: Event) -> int:
    """By which it was refused; 0 = none."""
    return answer.errno if isinstance(answer, ErrorAnswer) else 0


def is_passing(answer: Event) -> bool:
    """Whether a refused login may succeed in a moment."""
    if isinstance(answer, LoginAnswer):
        return answer.errno == ALREADY_LOGGED_IN or answer.text in PASSING_TEXTS
    return isinstance(answer, ErrorAnswer) and is_temporary(answer.errno)


def shown(chat: Chat, user_id: int) -> Shown:
    """By what a message is known again. The conversation: minus the group's number, or the number of the other than
    user_id."""
    other = chat.to_id if chat.sender_id == user_id else chat.sender_id
    digest = zlib.crc32(f"{chat.sender_id}\0{chat.time}\0{chat.text}".encode("utf-8", "replace"))
    return Shown(-chat.group_id or other, chat.seq, digest, chat.time)
