"""The frames that a client of the chatserver wire may send, and the commands they mean.

Owns: their fields, decoding one, which numbers may be read.
Elsewhere: splitting the stream, and what a frame that cannot be decoded has wrong (wire.chatserver.codec); requests
(wire.chatserver.requests).
Fails: ValueError from decode(); a field with a wrong value is a Malformed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Protocol

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from chatd import invite_codes
from chatd.errors import MEANINGS, ErrorCode
from chatd.protocol import (
    AddFriend,
    AnswerFriend,
    Command,
    CreateGroup,
    Feature,
    JoinGroup,
    Login,
    Logout,
    Malformed,
    Received,
    Register,
    SendMessage,
)
from chatd.texts.sizes import over
from chatd.wire.chatserver import encode
from chatd.wire.chatserver.requests import RequestFrame

_Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class ClientFrame(Protocol):
    """A frame with its fields. `command` checks what types cannot express."""

    def command(self, body_bytes: int, fp_bytes: int) -> Command: ...


class _LoginFrame(Struct, gc=False, tag_field="msgid", tag=encode.LOGIN):
    password: str
    id: _Id | None = None
    name: str | None = None
    framing: str | None = None
    acks: bool = False
    requests: bool = False
    takeover: bool = False

    def command(self, body_bytes: int, fp_bytes: int) -> Command:
        if self.id is None and not self.name:
            return Malformed(ErrorCode.BAD_FIELD, "id or name is missing", encode.LOGIN)
        streaming = self.framing == "nul"
        return Login(
            name=self.name or "" if self.id is None else "",
            user_id=0 if self.id is None else self.id if self.id > 0 else -1,  # no account has a number below 1
            secret=self.password,
            streaming=streaming,
            acks=self.acks and streaming,
            requests=self.requests and streaming,
            takeover=self.takeover and streaming,
            features=Feature.TYPING if self.requests and streaming else None,
        )


class _LogoutFrame(Struct, gc=False, tag_field="msgid", tag=encode.LOGOUT):
    id: _Id | None = None

    def command(self, body_bytes: int, fp_bytes: int) -> Command:
        return Logout(self.id)


class _RegisterFrame(Struct, gc=False, tag_field="msgid", tag=encode.REGISTER):
    name: str
    password: str
    invite: str | None = None

    def command(self, body_bytes: int, fp_bytes: int) -> Command:
        """COMPAT: the deployed client has no field for an invite code: its users type CODE:PASSWORD as the password."""
        if self.invite is not None:
            return Register(self.name, self.password, self.invite)
        code, password = invite_codes.split(self.password)
        return Register(self.name, password, code)


class _OneChatFrame(Struct, gc=False, tag_field="msgid", tag=encode.ONE_CHAT):
    msg: str
    id: _Id | None = None
    toid: _Id | None = None
    toname: str | None = None
    fp: str | None = None
    reply: Raw | UnsetType = UNSET
    mentions: ClassVar[UnsetType] = UNSET
    """Only in a group."""
    files: Raw | UnsetType = UNSET

    def command(self, body_bytes: int, fp_bytes: int) -> Command:
        fp = self.fp or ""
        name = self.toname or ""
        to = self.toid
        if over(self.msg, body_bytes) or over(fp, fp_bytes):
            return _too_long(encode.ONE_CHAT, fp)
        if to is None and not name:
            return Malformed(ErrorCode.BAD_FIELD, "toid or toname is missing", encode.ONE_CHAT, fp)
        if to is not None and to <= 0:
            return _no_user(encode.ONE_CHAT, fp)
        if to is None:
            return SendMessage(name, 0, 0, self.msg, fp, True, -1, self.id)
        return SendMessage("", to, 0, self.msg, fp, True, -1, self.id)


class _GroupChatFrame(Struct, gc=False, tag_field="msgid", tag=encode.GROUP_CHAT):
    groupid: _Id
    msg: str
    id: _Id | None = None
    fp: str | None = None
    reply: Raw | UnsetType = UNSET
    mentions: Raw | UnsetType = UNSET
    files: Raw | UnsetType = UNSET

    def command(self, body_bytes: int, fp_bytes: int) -> Command:
        fp = self.fp or ""
        if over(self.msg, body_bytes) or over(fp, fp_bytes):
            return _too_long(encode.GROUP_CHAT, fp)
        if self.groupid <= 0:
            return _no_group(encode.GROUP_CHAT, fp)
        return SendMessage("", 0, self.groupid, self.msg, fp, True, -1, self.id)


class _AddFriendFrame(Struct, gc=False, tag_field="msgid", tag=encode.ADD_FRIEND_REQ):
    friendid: _Id
    id: _Id | None = None

    def command(self, body_bytes: int, fp_bytes: int) -> Command:
        if self.friendid <= 0:
            return _no_user(encode.ADD_FRIEND_REQ)
        return AddFriend(self.friendid, self.id)


class _AnswerFriendFrame(Struct, gc=False, tag_field="msgid", tag=encode.ADD_FRIEND_ACK):
    friendid: _Id
    flag: bool
    id: _Id | None = None

    def command(self, body_bytes: int, fp_bytes: int) -> Command:
        if self.friendid <= 0:
            return _no_user(encode.ADD_FRIEND_ACK)
        return AnswerFriend(self.friendid, self.flag, self.id)


class _CreateGroupFrame(Struct, gc=False, tag_field="msgid", tag=encode.CREATE_GROUP):
    groupname: str
    groupdesc: str
    id: _Id | None = None

    def command(self, body_bytes: int, fp_bytes: int) -> Command:
        if over(self.groupname, body_bytes) or over(self.groupdesc, body_bytes):
            return _too_long(encode.CREATE_GROUP, "")
        return CreateGroup(self.groupname, self.groupdesc, self.id)


class _JoinGroupFrame(Struct, gc=False, tag_field="msgid", tag=encode.JOIN_GROUP):
    groupid: _Id
    id: _Id | None = None

    def command(self, body_bytes: int, fp_bytes: int) -> Command:
        if self.groupid <= 0:
            return _no_group(encode.JOIN_GROUP)
        return JoinGroup(self.groupid, self.id)


class _ReceivedFrame(Struct, gc=False, tag_field="msgid", tag=encode.RECEIVED):
    conv: _Id
    seq: _Id

    def command(self, body_bytes: int, fp_bytes: int) -> Command:
        return Received(self.conv, self.seq)


_AnyFrame = (
    _LoginFrame
    | _LogoutFrame
    | _RegisterFrame
    | _OneChatFrame
    | _GroupChatFrame
    | _AddFriendFrame
    | _AnswerFriendFrame
    | _CreateGroupFrame
    | _JoinGroupFrame
    | _ReceivedFrame
    | RequestFrame
)
READABLE = frozenset(
    (
        encode.LOGIN,
        encode.LOGOUT,
        encode.REGISTER,
        encode.ONE_CHAT,
        encode.ADD_FRIEND_REQ,
        encode.ADD_FRIEND_ACK,
        encode.CREATE_GROUP,
        encode.JOIN_GROUP,
        encode.GROUP_CHAT,
        encode.RECEIVED,
    )
)
READABLE_WITH_REQUESTS = READABLE | {encode.REQUEST}
decode: Callable[[bytes], ClientFrame] = msgspec.json.Decoder(_AnyFrame).decode


def _no_user(msgid: int, fp: str = "") -> Malformed:
    return Malformed(ErrorCode.UNKNOWN_RECIPIENT, MEANINGS[ErrorCode.UNKNOWN_RECIPIENT].text, msgid, fp)


def _no_group(msgid: int, fp: str = "") -> Malformed:
    return Malformed(ErrorCode.UNKNOWN_GROUP, MEANINGS[ErrorCode.UNKNOWN_GROUP].text, msgid, fp)


def _too_long(msgid: int, fp: str) -> Malformed:
    return Malformed(ErrorCode.TOO_LONG, "too long", msgid, fp)
