"""The client's side of the mobileimsdk wire: what packets mean, and the bytes of those that are sent. No I/O, no clock.

Owns: packet types, fields, and the JSON texts inside dataContent.
Elsewhere: keeping packets apart (stream_link, websocket_link), when they are sent (session, sender, requests).
Fails: BadFrame for what is not a packet; a packet of an unknown type, or an answer that nobody can have asked for, is
None.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec
from msgspec import field

from chatd_client import events
from chatd_client.errors import BadFrame, Code, EndReason
from chatd_client.model import Answer, Attachment, Mentions, Message, PendingMessage, User

SERVER = "0"
EXPIRED = "the login token has expired"
"""The reason of a kick."""


class Kind(enum.IntEnum):
    """The type of a packet."""

    LOGIN = 0
    KEEP_ALIVE = 1
    DATA = 2
    LOGOUT = 3
    ACKNOWLEDGE = 4
    LOGIN_ANSWER = 50
    KEEP_ALIVE_ANSWER = 51
    ERROR = 52
    KICKED = 54


# ---------------------------------------------------------------- what the server says


class LoginAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """code 0: logged in. features: those granted; id: the account's number; None and 0 from a server that is not
    chatd."""

    code: int
    first_login_time: int
    features: tuple[str, ...] | None
    id: int


class Stored(msgspec.Struct, frozen=True):
    """The message or request `fp` is durable. seq, at_ms: 0 where the server does not tell."""

    fp: str
    seq: int
    at_ms: int


class PacketRefused(msgspec.Struct, frozen=True):
    """fp: of the packet, "" where the server does not name it."""

    code: int
    text: str
    fp: str


class SessionKicked(msgspec.Struct, frozen=True):
    """The server ends the session."""

    why: EndReason
    text: str


class KeptAlive(msgspec.Struct, frozen=True):
    """The answer to a keep-alive."""


class Received(msgspec.Struct, frozen=True):
    """What the server gives, and how it wants it acknowledged. ack: the packet that does it, b"" = none."""

    content: Message | Answer | events.AnyNotice | None
    """None: a notice that this version does not know; it is acknowledged nevertheless."""
    fp: str
    ack: bytes


Said = LoginAnswered | Stored | PacketRefused | SessionKicked | KeptAlive | Received


class _Packet(msgspec.Struct, gc=False):
    type: int = 0
    dataContent: str | None = None
    sender: str = field(name="from", default="")
    to: str = ""
    fp: str | None = None
    QoS: bool = False
    typeu: int = -1
    sm: int = -1
    seq: int = 0
    conv: int = 0
    reply: int = 0
    mentions: Mentions = ()
    version: int = 0
    state: str = "sent"
    files: tuple[Attachment, ...] = ()
    files_cut: bool = False


class _Granted(msgspec.Struct):
    features: tuple[str, ...] = ()
    id: int = 0


class _LoginContent(msgspec.Struct):
    code: int
    firstLoginTime: int = 0
    chatd: _Granted | None = None


class _ErrorContent(msgspec.Struct):
    errorCode: int
    errorMsg: str = ""


class _RefusalContent(msgspec.Struct):
    fp: str = ""
    text: str = ""


class _KickedContent(msgspec.Struct):
    code: int = 0
    reason: str = ""


class _ErrorInAnswer(msgspec.Struct):
    code: int = 0
    text: str = ""


class _ServerContent(msgspec.Struct):
    """A text of the server: an answer, which has `ref` and `ok`, or a notice, which has `event`."""

    ok: bool | None = None
    ref: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"{}")
    error: _ErrorInAnswer = msgspec.field(default_factory=_ErrorInAnswer)
    event: str = ""


_decode_packet = msgspec.json.Decoder(_Packet).decode
_decode_login = msgspec.json.Decoder(_LoginContent).decode
_decode_error = msgspec.json.Decoder(_ErrorContent).decode
_decode_refusal = msgspec.json.Decoder(_RefusalContent).decode
_decode_kicked = msgspec.json.Decoder(_KickedContent).decode
_decode_server = msgspec.json.Decoder(_ServerContent).decode
_encode = msgspec.json.Encoder().encode


def decode(packet: bytes) -> Said | None:
    """Raises BadFrame."""
    try:
        return _meaning(_decode_packet(packet))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadFrame(str(error)) from error


def _meaning(packet: _Packet) -> Said | None:
    content = packet.dataContent or ""
    match packet.type:
        case Kind.DATA:
            return _received(packet)
        case Kind.ACKNOWLEDGE:
            return Stored(content, packet.seq, max(packet.sm, 0))
        case Kind.KEEP_ALIVE_ANSWER:
            return KeptAlive()
        case Kind.LOGIN_ANSWER:
            login = _decode_login(content)
            features, number = (login.chatd.features, login.chatd.id) if login.chatd else (None, 0)
            return LoginAnswered(code=login.code, first_login_time=login.firstLoginTime, features=features, id=number)
        case Kind.ERROR:
            return _refused(_decode_error(content))
        case Kind.KICKED:
            kicked = _decode_kicked(content or "{}")
            return SessionKicked(_why(kicked), kicked.reason or "ended by the server")
    return None


def _why(kicked: _KickedContent) -> EndReason:
    """Stock clients know two codes; the rest is told by the text."""
    if kicked.code == EndReason.DUPLICATE.value:
        return EndReason.DUPLICATE
    return EndReason.EXPIRED if kicked.reason == EXPIRED else EndReason.ADMIN


def _refused(error: _ErrorContent) -> PacketRefused:
    """301 has the refused packet as its text; other servers have texts of their own."""
    if error.errorCode == Code.NOT_LOGGED_IN:
        return PacketRefused(error.errorCode, "not logged in", "")
    try:
        refusal = _decode_refusal(error.errorMsg)
    except msgspec.DecodeError:
        return PacketRefused(error.errorCode, error.errorMsg, "")
    return PacketRefused(error.errorCode, refusal.text, refusal.fp)


def _received(packet: _Packet) -> Received:
    fp = packet.fp or ""
    ack = acknowledgement(packet.to, packet.sender, fp) if packet.QoS and fp else b""
    if packet.sender == SERVER and not packet.seq:
        try:
            content = _decode_server(packet.dataContent or "")
        except msgspec.DecodeError:
            content = _ServerContent()
        if content.event:
            return Received(events.decode((packet.dataContent or "").encode()), fp, ack)
        if content.ok is not None and isinstance(content.ref, int):
            error = content.error
            return Received(Answer(content.ref, content.ok, content.result, error.code, error.text), fp, ack)
    return Received(_message(packet, fp), fp, ack)


def _message(packet: _Packet, fp: str) -> Message:
    return Message(
        conversation=packet.to if packet.to.startswith("#") else packet.sender,
        sender=packet.sender,
        text=packet.dataContent or "",
        seq=packet.seq,
        sent_at_ms=max(packet.sm, 0),
        fp=fp,
        conversation_id=packet.conv,
        typeu=packet.typeu,
        reply=packet.reply,
        mentions=packet.mentions,
        version=packet.version,
        state=packet.state,
        files=packet.files,
        files_cut=packet.files_cut,
    )


# ---------------------------------------------------------------- what the client says


class LoginWishes(msgspec.Struct, frozen=True, kw_only=True):
    """first_login_time: of the first login of this run, as the server told it; 0 = this is the first one. features: of
    chatd; extra: what the application has for its server besides."""

    name: str
    secret: str
    first_login_time: int
    features: tuple[str, ...]
    extra: Mapping[str, object]


def login(wishes: LoginWishes) -> bytes:
    content: dict[str, object] = {
        "loginUserId": wishes.name,
        "loginToken": wishes.secret,
        "firstLoginTime": wishes.first_login_time,
        "extra": _text({**wishes.extra, "chatd": {"features": wishes.features}}),
    }
    return _encode({"type": int(Kind.LOGIN), "from": wishes.name, "to": SERVER, "dataContent": _text(content)})


def keep_alive(me: User) -> bytes:
    return _encode({"type": int(Kind.KEEP_ALIVE), "from": me.name, "to": SERVER, "dataContent": "{}"})


def logout(me: User) -> bytes:
    return _encode({"type": int(Kind.LOGOUT), "from": me.name, "to": SERVER})


def acknowledgement(sender: str, to: str, fp: str) -> bytes:
    return _encode({"type": int(Kind.ACKNOWLEDGE), "from": sender, "to": to, "dataContent": fp})


def message(me: User, pending: PendingMessage) -> bytes:
    packet = _data(me, pending.to.place, pending.text, pending.fp)
    if pending.typeu != -1:
        packet["typeu"] = pending.typeu
    if pending.reply:
        packet["reply"] = pending.reply
    if pending.mentions:
        packet["mentions"] = pending.mentions
    if pending.files:
        packet["files"] = pending.files
    return _encode(packet)


def request(me: User, op: str, ref: int, fp: str, arguments: Mapping[str, object]) -> bytes:
    """fp: by which the server knows the request again."""
    return _encode(_data(me, SERVER, _text({"op": op, "ref": ref, **arguments}), fp))


def _data(me: User, to: str, text: str, fp: str) -> dict[str, object]:
    return {"type": int(Kind.DATA), "from": me.name, "to": to, "dataContent": text, "fp": fp, "QoS": True}


def _text(content: object) -> str:
    """A JSON text, to go inside a string."""
    return _encode(content).decode()
