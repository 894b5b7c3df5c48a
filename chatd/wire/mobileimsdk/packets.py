"""The packets of the MobileIMSDK wire: their fields, their types, and the JSON of those that the server writes.

Owns: the structs a packet is read into, and functions that make whole packets, without a length before them.
Elsewhere: the meaning of a packet from a client, limits and framing (wire.mobileimsdk.codec), packets in fewer bytes
(wire.mobileimsdk.compact).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from chatd.model import ALL_MEMBERS, Attachment, Message, Seq
from chatd.wire.json_stream import decode_fields

LOGIN, KEEP_ALIVE, DATA, LOGOUT, ACKNOWLEDGE, ECHO = range(6)
LOGIN_ANSWER, KEEP_ALIVE_ANSWER, ERROR, ECHO_ANSWER, KICKED = range(50, 55)

_NOTHING: Mapping[str, object] = MappingProxyType({})
SERVER = "0"
NOBODY = "-1"

_KICKED_DUPLICATE, _KICKED_BY_ADMIN = 1, 2

_Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_UserName = Annotated[str, Meta(min_length=1, max_length=64)] | Annotated[int, Meta(gt=0, lt=1 << 62)]
MAX_MENTIONS = 1000
"""Entries of `mentions` that are read at all; the option groups.mentions is the limit that counts."""
MAX_FILES = 100
"""Entries of `files` that are read at all; the option files.per_message is the limit that counts."""
FileName = Annotated[str, Meta(max_length=64)]
"""The id of a file."""

# ---------------------------------------------------------------- from clients


class ClientPacket(Struct, gc=False):
    """The fields of a packet that chatd reads. `from` is not trusted; `bridge` and `sm` are not for the server."""

    type: int | None = 0
    dataContent: str | None = None
    to: str | None = NOBODY
    fp: str | None = None
    QoS: bool | None = False
    typeu: _Int32 | None = -1


class NumberedClientPacket(ClientPacket, gc=False):
    """From a client that asked for `seq`. From others, these fields are the application's."""

    reply: Annotated[int, Meta(gt=0, lt=1 << 62)] | None = None
    mentions: Annotated[list[_UserName], Meta(max_length=MAX_MENTIONS)] | Literal["all"] | None = None
    files: Annotated[list[FileName], Meta(max_length=MAX_FILES)] | None = None


class LoginContent(Struct, gc=False):
    """The JSON text in the dataContent of a login. extra: the application's, and for chatd the features it wants."""

    loginUserId: str
    loginToken: str | None = None
    firstLoginTime: _Int64 | None = 0
    datagramToken: bool | None = False
    extra: Raw = Raw()


# ---------------------------------------------------------------- to clients


class _PacketWithFp(Struct, gc=False, frozen=True):
    """Every field."""

    bridge: bool
    type: int
    dataContent: str
    sender: str = field(name="from")
    to: str
    fp: str
    QoS: bool
    typeu: int
    sm: int


class _PacketWithoutFp(Struct, gc=False, frozen=True):
    bridge: bool
    type: int
    dataContent: str
    sender: str = field(name="from")
    to: str
    QoS: bool
    typeu: int
    sm: int


class _CompactPacket(Struct, gc=False, frozen=True, kw_only=True, omit_defaults=True):
    """Without the fields that readers take for these defaults."""

    type: int
    dataContent: str
    sender: str = field(name="from")
    to: str
    fp: str = ""
    QoS: bool = False
    typeu: int = -1
    sm: int = -1


class _NumberedPacket(Struct, gc=False, frozen=True, omit_defaults=True, kw_only=True):
    """For a client that asked for `seq`. Fields with a default are left out where they have it."""

    bridge: bool
    type: int
    dataContent: str
    sender: str = field(name="from")
    to: str
    fp: str = ""
    QoS: bool
    typeu: int
    sm: int
    seq: int
    conv: int
    version: int = 0
    state: str = ""
    reply: int = 0
    mentions: Sequence[int] | str = ()
    files: Sequence[Attachment] = ()


class _CompactNumberedPacket(Struct, gc=False, frozen=True, omit_defaults=True, kw_only=True):
    type: int
    dataContent: str
    sender: str = field(name="from")
    to: str
    fp: str = ""
    QoS: bool = False
    typeu: int = -1
    sm: int = -1
    seq: int
    conv: int
    version: int = 0
    state: str = ""
    reply: int = 0
    mentions: Sequence[int] | str = ()
    files: Sequence[Attachment] = ()
    files_cut: bool = False


encode_json = msgspec.json.Encoder().encode


def json_text(content: object) -> str:
    """A JSON text, to go inside a string."""
    return encode_json(content).decode()


def from_server(kind: int, to: str, content: str) -> bytes:
    """A packet that is not acknowledged."""
    return encode_json(_PacketWithoutFp(False, kind, content, SERVER, to, False, -1, -1))


def server_text(text: str, fp: str, to: str) -> bytes:
    """A text of the server (S2C), which the client acknowledges."""
    return encode_json(_PacketWithFp(False, DATA, text, SERVER, to, fp, True, -1, -1))


SERVER_TEXT_BYTES = len(server_text("", "", "")) - len(encode_json(""))
"""Of server_text(), without the text, the fp, and the name of the recipient."""


def data_packet(message: Message, fp: str, text: str) -> bytes:
    """A message of another user. text: its body, or as much of it as fits."""
    to = f"#{message.group_id}" if message.group_id else message.to_name
    sender, typeu, sm = message.sender_name, message.typeu, message.sent_at_ms
    if fp:
        return encode_json(_PacketWithFp(False, DATA, text, sender, to, fp, True, typeu, sm))
    return encode_json(_PacketWithoutFp(False, DATA, text, sender, to, False, typeu, sm))


def compact_data_packet(message: Message, fp: str, text: str) -> bytes:
    """The same packet without the fields that readers know the default of."""
    return encode_json(
        _CompactPacket(
            type=DATA,
            dataContent=text,
            sender=message.sender_name,
            to=f"#{message.group_id}" if message.group_id else message.to_name,
            fp=fp,
            QoS=bool(fp),
            typeu=message.typeu,
            sm=message.sent_at_ms,
        )
    )


def numbered_packet(message: Message, fp: str, text: str) -> bytes:
    """A message of another user, for a client that asked for `seq`."""
    return encode_json(_NumberedPacket(bridge=False, **_numbered(message, fp, text)))


def compact_numbered_packet(message: Message, fp: str, text: str, *, has_all_files: bool = True) -> bytes:
    """The same packet without the fields that readers know the default of. has_all_files: those of the message."""
    return encode_json(_CompactNumberedPacket(**_numbered(message, fp, text), files_cut=not has_all_files))


def _numbered(message: Message, fp: str, text: str) -> dict[str, Any]:
    return {
        "type": DATA,
        "dataContent": text,
        "sender": message.sender_name,
        "to": f"#{message.group_id}" if message.group_id else message.to_name,
        "fp": fp,
        "QoS": bool(fp),
        "typeu": message.typeu,
        "sm": message.sent_at_ms,
        "seq": message.seq,
        "conv": message.conversation,
        "version": message.version,
        "state": message.state.name.lower() if message.state else "",
        "reply": message.reply_to,
        "mentions": "all" if message.mentions == ALL_MEMBERS else message.mentions,
        "files": message.attachments,
    }


def acknowledgement(fp: str, sender: str, to_json: bytes) -> bytes:
    """To the sender of a message: it is stored. On the hot path, so to_json, the name of the recipient of this packet,
    is JSON already."""
    return b'{"bridge":false,"type":4,"dataContent":%b,"from":%b,"to":%b,"QoS":false,"typeu":-1,"sm":-1}' % (
        encode_json(fp),
        encode_json(sender),
        to_json,
    )


def numbered_acknowledgement(fp: str, sender: str, to_json: bytes, seq: Seq, sent_at_ms: int) -> bytes:
    """The same for a client that asked for `seq`: under which number the message is stored, and since when."""
    return b'{"bridge":false,"type":4,"dataContent":%b,"from":%b,"to":%b,"QoS":false,"typeu":-1,"sm":%d,"seq":%d}' % (
        encode_json(fp),
        encode_json(sender),
        to_json,
        sent_at_ms,
        seq,
    )


def echo_answer(packet: bytes) -> bytes:
    """The same packet with another type; every other field's bytes are kept."""
    fields = decode_fields(packet)
    fields["type"] = Raw(b"%d" % ECHO_ANSWER)
    return encode_json(fields)


# ---------------------------------------------------------------- the JSON text in a dataContent


def login_content(code: int, first_login_time: int, token: str = "", granted: Mapping[str, object] = _NOTHING) -> str:
    """token: of the session, for a client that asked for one. granted: for a client that asked for features."""
    content: dict[str, object] = {"code": code, "firstLoginTime": first_login_time}
    if token:
        content["datagramToken"] = token
    if granted:
        content["chatd"] = granted
    return json_text(content)


def error_content(code: int, text: str) -> str:
    return json_text({"errorCode": code, "errorMsg": text})


def refusal_content(code: int, fp: str, text: str, temporary: bool) -> str:
    """An error of chatd's own; fp: of the packet that is refused."""
    return error_content(code, json_text({"fp": fp, "text": text, "temporary": temporary}))


def kicked_content(by_admin: bool, reason: str) -> str:
    code = _KICKED_BY_ADMIN if by_admin else _KICKED_DUPLICATE
    return json_text({"code": code, "reason": reason} if reason else {"code": code})
