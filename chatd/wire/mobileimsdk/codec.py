"""The MobileIMSDK wire: packets of JSON behind a four-byte length (docs/protocols/mobileimsdk.md).

Owns: MobileimsdkCodec, both directions: framing, limits, the meaning of a client's packet. This is the hot path: about
2 µs for a packet from a client, 1.5 µs for one to it.
Elsewhere: the JSON of packets (wire.mobileimsdk.packets), packets in fewer bytes (wire.mobileimsdk.compact), packets
over the limit (wire.skipped); who is logged in, kicks, resending (core); sockets and other transports (net).
Fails: WireError for a length or a body that cannot be a packet; a packet with invalid contents is a Malformed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from chatd.errors import ErrorCode, WireError, meaning
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
    Feature,
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
from chatd.texts.sizes import over
from chatd.wire.codec_state import CodecState, MobileimsdkState
from chatd.wire.contract import MAX_BYTES_BEFORE_LOGIN, frame_form, was_cut
from chatd.wire.json_stream import check_utf8, fit, too_deep
from chatd.wire.mobileimsdk import token as datagram_token
from chatd.wire.mobileimsdk.compact import shortened
from chatd.wire.mobileimsdk.features import names
from chatd.wire.mobileimsdk.group_mark import GroupMark
from chatd.wire.mobileimsdk.messages import marked_packet, packet_with_number, shorter_packet, stock_text
from chatd.wire.mobileimsdk.packets import (
    ACKNOWLEDGE,
    DATA,
    ECHO,
    ERROR,
    KEEP_ALIVE,
    KEEP_ALIVE_ANSWER,
    KICKED,
    LOGIN,
    LOGIN_ANSWER,
    LOGOUT,
    NOBODY,
    SERVER,
    SERVER_TEXT_BYTES,
    ClientPacket,
    NumberedClientPacket,
    acknowledgement,
    data_packet,
    echo_answer,
    encode_json,
    error_content,
    from_server,
    json_text,
    kicked_content,
    login_content,
    numbered_acknowledgement,
    refusal_content,
    server_text,
)
from chatd.wire.mobileimsdk.reading import group_number, login, malformed, ref, with_extras, wrong_field
from chatd.wire.skipped import FrameSkipper

MAX_PACKET_BYTES = 6144
"""Stock clients drop the connection at a longer packet, and send none."""

_BRACKET = ord("[")
_decode_packet = msgspec.json.Decoder(ClientPacket).decode
_decode_numbered = msgspec.json.Decoder(NumberedClientPacket).decode
_length_at = struct.Struct(">I").unpack_from
_length = struct.Struct(">I").pack
_NOBODY_JSON = encode_json(NOBODY)
_NEED_LOGIN = (SendMessage, ServerRequest, Acknowledge, KeepAlive, Logout)
"""Refused before a login, with an answer that contains the packet."""


class Framing(NamedTuple):
    """What separates packets, and how long those that are received may be."""

    prefixed: bool = True
    """Packets follow each other in a stream, each behind its length (TCP). Otherwise the transport keeps them apart (a
    datagram, a text frame): receive() is given exactly one, encode() makes exactly one, and packet() is receive()
    without the iterator."""
    receive_bytes: int = 0
    """Limit of a packet that is received, bytes; 0 = that of those that are sent."""


PREFIXED = Framing()
APART = Framing(prefixed=False)


class MobileimsdkCodec:
    """See wire.contract.Codec. Limits in bytes; max_frame_bytes is a packet's limit both ways, 0 = MAX_PACKET_BYTES.

    mark: how group messages are shown to clients that did not ask for `seq`; None = as they are.
    token: told with every login answer, "" = none.

    _receive_bytes: that limit now; until the login at most MAX_BYTES_BEFORE_LOGIN. _session_bytes: after it.
    _rest: bytes of an incomplete packet. _skipper: None until the first packet over the limit.
    _user: the name of the peer once logged in, NOBODY before; _user_json: the same as JSON.
    _form: see wire.contract.frame_form.
    _numbered: the client has asked for `seq` (protocol.Feature); _decode: the decoder of its packets.
    """

    traits = WireTraits(
        acknowledges=True,
        server_texts=True,
        duplicate_login=DuplicateLogin.LATER_LOGIN_WINS,
        repeats_login=True,
        refusal_closes=True,
    )

    __slots__ = (
        "_body_bytes",
        "_decode",
        "_form",
        "_fp_bytes",
        "_limit",
        "_mark",
        "_numbered",
        "_prefixed",
        "_receive_bytes",
        "_rest",
        "_session_bytes",
        "_skipper",
        "_user",
        "_user_json",
        "pace_ms",
        "token",
    )

    def __init__(
        self,
        max_frame_bytes: int,
        body_bytes: int,
        fp_bytes: int,
        *,
        framing: Framing = PREFIXED,
        mark: GroupMark | None = None,
    ) -> None:
        self.pace_ms = 0
        self.token = ""
        self._prefixed = framing.prefixed
        self._limit = max_frame_bytes or MAX_PACKET_BYTES
        self._mark = mark
        self._use(None)
        self._session_bytes = framing.receive_bytes or self._limit
        self._receive_bytes = min(self._session_bytes, MAX_BYTES_BEFORE_LOGIN)
        self._body_bytes = body_bytes
        self._fp_bytes = fp_bytes
        self._rest: bytes | bytearray = b""
        self._skipper: FrameSkipper | None = None
        self._user = NOBODY
        self._user_json = _NOBODY_JSON

    def _use(self, features: Feature | None) -> None:
        """Speak to a client that has asked for these features."""
        self._numbered = features is not None and Feature.SEQ in features
        self._decode: Callable[[bytes], ClientPacket] = _decode_numbered if self._numbered else _decode_packet
        mode = "prefixed" if self._prefixed else "apart"
        if self._numbered:
            mode += " seq"
        elif self._mark is not None:
            mode += f" {self._mark.prefix!r} {self._mark.typeu}"
        self._form = frame_form("mobileimsdk", mode, self._limit)

    def _log_in(self, user: str) -> None:
        self._receive_bytes = self._session_bytes
        self._user = user
        self._user_json = encode_json(user)

    @property
    def text_bytes(self) -> int:
        return self._limit + 4 - SERVER_TEXT_BYTES - len(self._user_json)

    @property
    def buffered_bytes(self) -> int:
        return len(self._rest) + (self._skipper.buffered_bytes if self._skipper is not None else 0)

    # ------------------------------------------------------------ bytes to commands

    def receive(self, data: bytes) -> Iterator[Command]:
        if not self._prefixed:
            yield self.packet(data)
            return
        if self._rest:
            data = self._joined(data)
        at, end, limit = 0, len(data), self._receive_bytes
        if self._skipper is not None and self._skipper.left:
            at = self._skip(data, 0)
            if self._skipper.left:
                return
            yield self._skipper.finish(limit)
        while end - at >= 4:
            size = _length_at(data, at)[0]
            if not 0 < size <= limit:
                skipper = self._begin_to_skip(size)
                at = self._skip(data, at + 4)
                if skipper.left:
                    return
                yield skipper.finish(limit)
                continue
            stop = at + 4 + size
            if stop > end:
                break
            frame = data[at + 4 : stop]
            at = stop
            yield self._command(frame)
        if at < end:
            self._rest = bytearray(data[at:])

    def packet(self, packet: bytes) -> Command:
        """The command of one whole packet. Raises WireError."""
        if not 0 < len(packet) <= self._receive_bytes:
            raise _bad_length(len(packet))
        return self._command(packet)

    def next_second(self) -> None:
        if self._skipper is not None:
            self._skipper.next_second()

    def _joined(self, data: bytes) -> bytes:
        """The bytes left over and `data`, or b"" while they are not yet a whole frame."""
        rest = self._rest
        assert isinstance(rest, bytearray)
        rest += data
        if len(rest) < 4 or len(rest) < 4 + _length_at(rest)[0] <= 4 + self._receive_bytes:
            return b""
        self._rest = b""
        return bytes(rest)

    def _begin_to_skip(self, size: int) -> FrameSkipper:
        """Before a login nothing is skipped, because no client has a reason to send that much."""
        if self._skipper is None:
            self._skipper = FrameSkipper()
        if size == 0 or self._user_json is _NOBODY_JSON or not self._skipper.allow(size):
            raise _bad_length(size)
        return self._skipper

    def _skip(self, data: bytes, at: int) -> int:
        """Where the bytes of the packet that is skipped end in `data`."""
        assert self._skipper is not None
        stop = min(len(data), at + self._skipper.left)
        self._skipper.skip(data[at:stop])
        return stop

    def _command(self, frame: bytes) -> Command:
        try:
            packet = self._decode(frame)
        except (ValueError, RecursionError):
            return wrong_field(frame)
        if not frame.isascii():
            check_utf8(frame)
        if (frame.find(b"{", 1) >= 0 or _BRACKET in frame) and too_deep(frame):
            raise WireError(ErrorCode.INVALID_PACKET, "nested too deep")
        command = self._data(packet) if packet.type == DATA else self._control(packet, frame)
        if self._numbered:
            return with_extras(command, packet)
        if self._user_json is _NOBODY_JSON and isinstance(command, _NEED_LOGIN):
            return msgspec.structs.replace(command, packet=frame)
        return command

    def _control(self, packet: ClientPacket, frame: bytes) -> Command:
        """A packet of any type but DATA."""
        kind = packet.type
        if kind == ACKNOWLEDGE:
            return Acknowledge(packet.dataContent) if packet.dataContent else malformed(packet, "no fp to acknowledge")
        if kind == KEEP_ALIVE:
            return KeepAlive()
        if kind == LOGIN or kind is None:
            return login(packet)
        if kind == LOGOUT:
            return Logout()
        if kind == ECHO:
            return self._echo(packet, frame)
        return Malformed(ErrorCode.INVALID_PACKET, "unknown packet type", ref(kind), packet.fp or "")

    def _data(self, packet: ClientPacket) -> Command:
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
            return malformed(packet, "QoS without fp")
        if over(body, self._body_bytes):
            return Malformed(ErrorCode.TOO_LONG, "dataContent too long", DATA, fp)
        if to == SERVER:
            return ServerRequest(body, fp, qos, typeu)
        if not to:
            return malformed(packet, "no recipient")
        if to[0] == "#":
            group = group_number(to)
            if group:
                return SendMessage("", 0, group, body, fp, qos, typeu)
        return SendMessage(to, 0, 0, body, fp, qos, typeu)

    def _echo(self, packet: ClientPacket, frame: bytes) -> Command:
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
        self._log_in(event.user.name)
        self._use(event.features)
        granted = {} if event.features is None else {"features": names(event.features), "id": event.user.id}
        return self._from_server(LOGIN_ANSWER, login_content(0, event.first_login_time, self.token, granted)), 0

    def state(self) -> CodecState | None:
        return MobileimsdkState(
            user=self._user,
            numbered=self._numbered,
            token=self.token,
            rest=bytes(self._rest),
            skipper=self._skipper.state() if self._skipper is not None else None,
        )

    def resume(self, state: CodecState) -> None:
        if not isinstance(state, MobileimsdkState):
            raise ValueError("the state of another wire")
        self._log_in(state.user)
        self._use(Feature.SEQ if state.numbered else None)
        self.token = state.token
        self._rest = bytearray(state.rest) if state.rest else b""
        self._skipper = FrameSkipper.resumed(state.skipper) if state.skipper is not None else None

    def split(self, datagram: bytes) -> tuple[bytes, bytes]:
        """(the token, the packet) of a datagram; the token is b"" if there is none."""
        return datagram_token.split(datagram)

    def shortened(self, packet: bytes, limit: int) -> bytes:
        """The result of encode() in at most `limit` bytes, or b"" if nothing useful fits."""
        return packet if len(packet) <= limit else shortened(packet, limit)

    def _deliver(self, event: Deliver) -> bytes:
        fp = event.fp
        key = self._form, fp
        frame = event.frames.get(key)
        if frame is None:
            if self._numbered:
                packet = packet_with_number(event, self._form, self._limit)
            elif self._mark is not None and event.message.group_id:
                packet = marked_packet(event, self._mark, self._form, self._limit)
            else:
                packet = data_packet(event.message, fp, stock_text(event))
                if len(packet) > self._limit:
                    packet = shorter_packet(event, self._form, self._limit)
            frame = event.frames[key] = _length(len(packet)) + packet if self._prefixed else packet
        return frame

    def is_cut(self, event: Deliver) -> bool:
        return was_cut(event, self._form)

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
        if self._numbered and event.seq:
            body = numbered_acknowledgement(command.fp, to, self._user_json, event.seq, event.sent_at_ms)
        else:
            body = acknowledgement(command.fp, to, self._user_json)
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
                return self._framed(echo_answer(event.raw))
            case Kicked():
                by_admin = event.by_admin
                return self._fitted(KICKED, self._user, lambda reason: kicked_content(by_admin, reason), event.reason)
            case ServerMessage():
                if not event.fp:
                    return self._from_server(DATA, event.body)
                return self._framed(server_text(event.body, event.fp, self._user))
            case Draining():
                when = {"resume_before": event.resume_before_ms, "retry_after_ms": event.retry_after_ms}
                return self._from_server(DATA, json_text({"event": "draining", **when}))
        return b""

    def _failed(self, event: Failed) -> bytes:
        command, code = event.command, event.code
        if isinstance(command, Login):
            return self._framed(from_server(LOGIN_ANSWER, NOBODY, login_content(code, -1)))
        if code == ErrorCode.NOT_LOGGED_IN:
            packet: bytes = getattr(command, "packet", b"")
            return self._fitted(ERROR, NOBODY, lambda text: error_content(code, text), packet.decode(errors="replace"))
        fp = getattr(command, "fp", "")[: self._fp_bytes]
        temporary = meaning(code).temporary
        return self._fitted(ERROR, NOBODY, lambda text: refusal_content(code, fp, text, temporary), event.text)

    def _fitted(self, kind: int, to: str, content: Callable[[str], str], text: str) -> bytes:
        """A packet with content(text), the text cut so that the packet is within the limit."""
        return self._framed(fit(lambda text: from_server(kind, to, content(text)), text, self._limit))

    def _from_server(self, kind: int, content: str) -> bytes:
        return self._framed(from_server(kind, self._user, content))


def _bad_length(size: int) -> WireError:
    if size == 0:
        return WireError(ErrorCode.INVALID_PACKET, "a packet of no bytes")
    return WireError(ErrorCode.INVALID_PACKET, "packet too long")
