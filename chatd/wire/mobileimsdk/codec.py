"""The MobileIMSDK wire: packets of JSON behind a four-byte length (docs/protocols/mobileimsdk.md).

Owns: MobileimsdkCodec, both directions. This is the hot path: about 2 µs a packet in, 1.5 µs out.
Not here: who is logged in, kick-out rules, repetition (core); sockets and other transports (net).
Fails: WireError for a length or a body that is no packet; a packet that makes no sense is a Malformed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, field

from chatd.errors import MEANINGS, ErrorCode, WireError, meaning
from chatd.model import Message
from chatd.protocol import (
    Accepted,
    Acknowledge,
    Command,
    Deliver,
    Draining,
    DuplicateLogin,
    Echo,
    Echoed,
    Event,
    Failed,
    KeepAlive,
    KeptAlive,
    Kicked,
    Login,
    LoginAccepted,
    Logout,
    Malformed,
    SendMessage,
    ServerMessage,
    ServerRequest,
    WireTraits,
)
from chatd.wire.json_stream import as_int, as_str, check_utf8, decode_fields, fields_of, fit, over, too_deep
from chatd.wire.mobileimsdk.compact import shortened

MAX_BODY_BYTES = 6144
"""Stock clients drop the connection over it."""

LOGIN, KEEP_ALIVE, DATA, LOGOUT, ACKNOWLEDGE, ECHO = range(6)
LOGIN_ANSWER, KEEP_ALIVE_ANSWER, ERROR, ECHO_ANSWER, KICKED = range(50, 55)

SERVER = "0"
NOBODY = "-1"
FRAMES_KEY = "mobileimsdk"
FRAMES_KEY_APART = "mobileimsdk apart"
_BRACKET = ord("[")

_Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Packet(Struct, gc=False):
    """What chatd reads of a packet. `from` is not believed, `bridge` and `sm` are not for the server."""

    type: int | None = 0
    dataContent: str | None = None
    to: str | None = NOBODY
    fp: str | None = None
    QoS: bool | None = False
    typeu: _Int32 | None = -1


class LoginBody(Struct, gc=False):
    """The JSON text in the dataContent of a login."""

    loginUserId: str
    loginToken: str | None = None
    firstLoginTime: _Int64 | None = 0


class _Reliable(Struct, gc=False, frozen=True):
    """A packet with every field."""

    bridge: bool
    type: int
    dataContent: str
    sender: str = field(name="from")
    to: str
    fp: str
    QoS: bool
    typeu: int
    sm: int


class _Plain(Struct, gc=False, frozen=True):
    """A packet without fp."""

    bridge: bool
    type: int
    dataContent: str
    sender: str = field(name="from")
    to: str
    QoS: bool
    typeu: int
    sm: int


_decode_packet = msgspec.json.Decoder(Packet).decode
_decode_login = msgspec.json.Decoder(LoginBody).decode
_encode = msgspec.json.Encoder().encode
_length_at = struct.Struct(">I").unpack_from
_length = struct.Struct(">I").pack
_NOBODY_JSON = _encode(NOBODY)


class MobileimsdkCodec:
    """See wire.contract.Codec. Limits in bytes; max_frame_bytes is a body's limit both ways, 0 = MAX_BODY_BYTES.

    prefixed: packets follow each other in a stream, each behind its length (TCP). Otherwise the transport keeps
    them apart (a datagram, a text frame): receive() is given exactly one, encode() makes exactly one, and packet()
    is receive() without the iterator. receive_bytes: the limit of what is received, where it is another one.
    A WireError is told to the peer by encode(Failed(error.code, error.text, None, error.ref)).
    """

    traits = WireTraits(
        acknowledges=True,
        server_texts=True,
        lists_contacts=False,
        duplicate_login=DuplicateLogin.LATER_LOGIN_WINS,
        repeats_login=True,
        refusal_closes=True,
        logout_closes=True,
    )

    __slots__ = (
        "_body_bytes",
        "_fp_bytes",
        "_frame",
        "_key",
        "_limit",
        "_prefixed",
        "_receive_bytes",
        "_rest",
        "_user",
        "_user_json",
        "pace_ms",
    )

    def __init__(
        self, max_frame_bytes: int, body_bytes: int, fp_bytes: int, *, prefixed: bool = True, receive_bytes: int = 0
    ) -> None:
        self.pace_ms = 0
        self._prefixed = prefixed
        self._key = FRAMES_KEY if prefixed else FRAMES_KEY_APART
        self._limit = max_frame_bytes or MAX_BODY_BYTES
        self._receive_bytes = receive_bytes or self._limit
        self._body_bytes = body_bytes
        self._fp_bytes = fp_bytes
        self._rest: bytes | bytearray = b""
        self._frame = b""  # the packet of the command last yielded
        self._user = NOBODY  # who the peer is, once logged in
        self._user_json = _NOBODY_JSON

    @property
    def text_bytes(self) -> int:
        return self._limit + 4 - _TEXT_BYTES - len(self._user_json)

    # ------------------------------------------------------------ bytes to commands

    def receive(self, data: bytes) -> Iterator[Command]:
        if not self._prefixed:
            yield self.packet(data)
            return
        if self._rest:
            data = self._joined(data)
        at, end, limit = 0, len(data), self._limit
        while end - at >= 4:
            size = _length_at(data, at)[0]
            if not 0 < size <= limit:
                raise _bad_length(size)
            stop = at + 4 + size
            if stop > end:
                break
            self._frame = frame = data[at + 4 : stop]
            at = stop
            yield self._command(frame)
        self._frame = b""
        if at < end:
            self._rest = bytearray(data[at:])

    def packet(self, packet: bytes) -> Command:
        """The command of one whole packet."""
        if not 0 < len(packet) <= self._receive_bytes:
            raise _bad_length(len(packet))
        self._frame = packet
        return self._command(packet)

    def _joined(self, data: bytes) -> bytes:
        """What was left over and `data`, or b"" while that is not yet a whole frame."""
        rest = self._rest
        assert isinstance(rest, bytearray)
        rest += data
        if len(rest) < 4 or len(rest) < 4 + _length_at(rest)[0] <= 4 + self._limit:
            return b""
        self._rest = b""
        return bytes(rest)

    def _command(self, frame: bytes) -> Command:
        try:
            packet = _decode_packet(frame)
        except (ValueError, RecursionError):
            return _wrong_field(frame)
        if not frame.isascii():
            check_utf8(frame)
        if (frame.find(b"{", 1) >= 0 or _BRACKET in frame) and too_deep(frame):
            raise WireError(ErrorCode.INVALID_PACKET, "nested too deep")
        kind = packet.type
        if kind == DATA:
            return self._data(packet)
        if kind == ACKNOWLEDGE:
            return Acknowledge(packet.dataContent) if packet.dataContent else _malformed(packet, "no fp to acknowledge")
        if kind == KEEP_ALIVE:
            return KeepAlive()
        if kind == LOGIN or kind is None:
            return _login(packet)
        if kind == LOGOUT:
            return Logout()
        if kind == ECHO:
            return self._echo(packet, frame)
        return Malformed(ErrorCode.INVALID_PACKET, "unknown packet type", _ref(kind), packet.fp or "")

    def _data(self, packet: Packet) -> Command:
        body = packet.dataContent or ""
        fp = packet.fp or ""
        to = packet.to
        qos = packet.QoS or False
        typeu = packet.typeu
        if typeu is None:
            typeu = -1
        if over(fp, self._fp_bytes):
            return Malformed(ErrorCode.TOO_LONG, "fp too long", DATA, fp)
        if qos and not fp:
            return _malformed(packet, "QoS without fp")
        if over(body, self._body_bytes):
            return Malformed(ErrorCode.TOO_LONG, "dataContent too long", DATA, fp)
        if to == SERVER:
            return ServerRequest(body, fp, qos, typeu)
        if not to:
            return _malformed(packet, "no recipient")
        if to[0] == "#":
            group = _group_number(to)
            if group:
                return SendMessage("", 0, group, body, fp, qos, typeu)
        return SendMessage(to, 0, 0, body, fp, qos, typeu)

    def _echo(self, packet: Packet, frame: bytes) -> Command:
        if len(frame) >= self._limit:  # the answer's type has one digit more
            return Malformed(ErrorCode.TOO_LONG, "too long to echo", ECHO, packet.fp or "")
        return Echo(frame)

    # ------------------------------------------------------------ events to bytes

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Deliver):
            return self._deliver(event)
        if isinstance(event, Accepted):
            return self._accepted(event)
        return self._encode_rare(event)

    def encode_login(self, event: LoginAccepted) -> tuple[bytes, int]:
        """Never contains waiting messages. From here on the peer is event.user."""
        self._user = event.user.name
        self._user_json = _encode(self._user)
        return self._from_server(LOGIN_ANSWER, _login_answer(0, event.first_login_time)), 0

    def shortened(self, packet: bytes, limit: int) -> bytes:
        """What encode() made, in at most `limit` bytes, or b"" where that says nothing any more."""
        return packet if len(packet) <= limit else shortened(packet, limit)

    def _deliver(self, event: Deliver) -> bytes:
        message, fp = event.message, event.fp
        key = self._key if fp == message.fp else f"{self._key} {fp}"
        frames = event.frames
        if not frames:  # the first of its recipients, mostly the only one
            body = _data_packet(message, fp, message.body)
            if len(body) <= self._limit:
                frames[key] = whole = self._framed(body)
                return whole
        frame = frames.get(key)
        if frame is not None and len(frame) <= (self._limit + 4 if self._prefixed else self._limit):
            return frame
        cut_key = f"{key} {self._limit}"
        if (frame := event.frames.get(cut_key)) is not None:
            return frame
        body = _data_packet(message, fp, message.body)
        if len(body) > self._limit:
            body = fit(lambda text: _data_packet(message, fp, text), message.body, self._limit)
            key = cut_key
        frame = event.frames[key] = self._framed(body)
        return frame

    def _framed(self, body: bytes) -> bytes:
        return _length(len(body)) + body if self._prefixed else body

    def _accepted(self, event: Accepted) -> bytes:
        command = event.command
        if not command.qos:
            return b""
        if isinstance(command, SendMessage):
            to = command.to_name or (f"#{command.to_group}" if command.to_group else str(command.to_id))
        else:
            to = SERVER
        body = b'{"bridge":false,"type":4,"dataContent":%b,"from":%b,"to":%b,"QoS":false,"typeu":-1,"sm":-1}' % (
            _encode(command.fp),
            _encode(to),
            self._user_json,
        )
        return _length(len(body)) + body if self._prefixed else body

    def _encode_rare(self, event: Event) -> bytes:
        match event:
            case LoginAccepted():
                return self.encode_login(event)[0]
            case Failed():
                return self._failed(event)
            case KeptAlive():
                return self._from_server(KEEP_ALIVE_ANSWER, "{}")
            case Echoed():
                return self._framed(_echo_answer(event.raw))
            case Kicked():
                return self._fitted(KICKED, self._user, lambda reason: _kicked(event.by_admin, reason), event.reason)
            case ServerMessage():
                return self._framed(_encode(_server_text(event.body, event.fp, self._user)))
            case Draining():
                when = {"resume_before": event.resume_before_ms, "retry_after_ms": event.retry_after_ms}
                return self._from_server(DATA, _text({"event": "draining", **when}))
        return b""

    def _failed(self, event: Failed) -> bytes:
        command = event.command
        if isinstance(command, Login):
            return self._framed(_from_server(LOGIN_ANSWER, NOBODY, _login_answer(event.code, -1)))
        if event.code == ErrorCode.NOT_LOGGED_IN:
            refused = self._frame.decode(errors="replace")
            return self._fitted(ERROR, NOBODY, lambda packet: _error(event.code, packet), refused)
        fp = getattr(command, "fp", "")[: self._fp_bytes]
        temporary = meaning(event.code).temporary

        def content(text: str) -> str:
            return _error(event.code, _text({"fp": fp, "text": text, "temporary": temporary}))

        return self._fitted(ERROR, NOBODY, content, event.text)

    def _fitted(self, kind: int, to: str, content: Callable[[str], str], text: str) -> bytes:
        """A packet with content(text), the text cut so that the packet is within the limit."""
        return self._framed(fit(lambda text: _from_server(kind, to, content(text)), text, self._limit))

    def _from_server(self, kind: int, content: str) -> bytes:
        return self._framed(_from_server(kind, self._user, content))


def _server_text(text: str, fp: str, to: str) -> _Reliable:
    return _Reliable(False, DATA, text, SERVER, to, fp, True, -1, -1)


_TEXT_BYTES = len(_encode(_server_text("", "", ""))) - len(_encode(""))
"""Of a packet of the server's, without its text, its fp and the name it is for."""


def _from_server(kind: int, to: str, content: str) -> bytes:
    return _encode(_Plain(False, kind, content, SERVER, to, False, -1, -1))


def _data_packet(message: Message, fp: str, text: str) -> bytes:
    to = f"#{message.group_id}" if message.group_id else message.to_name
    sender, typeu, sm = message.sender_name, message.typeu, message.sent_at_ms
    if fp:
        return _encode(_Reliable(False, DATA, text, sender, to, fp, True, typeu, sm))
    return _encode(_Plain(False, DATA, text, sender, to, False, typeu, sm))


def _echo_answer(packet: bytes) -> bytes:
    """The same packet with another type; every other field's bytes are kept."""
    fields = decode_fields(packet)
    fields["type"] = Raw(b"%d" % ECHO_ANSWER)
    return _encode(fields)


def _text(content: object) -> str:
    return _encode(content).decode()


def _login_answer(code: int, first_login_time: int) -> str:
    return _text({"code": code, "firstLoginTime": first_login_time})


def _error(code: int, text: str) -> str:
    return _text({"errorCode": code, "errorMsg": text})


def _kicked(by_admin: bool, reason: str) -> str:
    code = 2 if by_admin else 1
    return _text({"code": code, "reason": reason} if reason else {"code": code})


def _login(packet: Packet) -> Command:
    try:
        body = _decode_login(packet.dataContent or "")
    except (ValueError, RecursionError):
        return _malformed(packet, "dataContent is no login")
    if not body.loginUserId:
        return _malformed(packet, "no loginUserId")
    return Login(body.loginUserId, 0, body.loginToken or "", body.firstLoginTime or 0)


def _group_number(to: str) -> int:
    """The number in "#<number>" as chatd writes it; 0 for any other text."""
    digits = to[1:]
    if len(digits) <= 18 and digits.isascii() and digits.isdigit() and digits[0] != "0":
        return int(digits)
    return 0


def _malformed(packet: Packet, text: str) -> Malformed:
    return Malformed(ErrorCode.BAD_FIELD, text, _ref(packet.type), packet.fp or "")


def _ref(kind: int | None) -> int:
    return kind if kind is not None and abs(kind) < 2**31 else 0


def _wrong_field(frame: bytes) -> Malformed:
    """What is the matter with a packet the typed decoder refused. WireError when it is garbage."""
    check_utf8(frame)
    if too_deep(frame):
        raise WireError(ErrorCode.INVALID_PACKET, "nested too deep")
    fields = fields_of(frame)
    text = MEANINGS[ErrorCode.BAD_FIELD].text
    return Malformed(ErrorCode.BAD_FIELD, text, _ref(as_int(fields.get("type"))), as_str(fields.get("fp")))


def _bad_length(size: int) -> WireError:
    if size == 0:
        return WireError(ErrorCode.INVALID_PACKET, "a packet of no bytes")
    return WireError(ErrorCode.INVALID_PACKET, "packet too long")
