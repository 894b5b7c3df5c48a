"""The chatserver wire: JSON objects over TCP, each followed by NUL (docs/protocols/chatserver.md).

Owns: ChatserverCodec: which frames a client may send and understands in its mode.
Elsewhere: the fields of the frames it sends (wire.chatserver.reading); the JSON of the frames sent to it, and fitting
them (wire.chatserver.encode); requests (wire.chatserver.requests); whether the claimed id is the peer's (core), pacing
(net), acknowledgement by the kernel (net.receipts).
Fails: WireError for garbage; an unknown msgid or a bad field is a Malformed.

COMPAT: the deployed C++ client reads one frame of at most 1,023 bytes per recv: compatible mode, the default.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from chatd.errors import Disconnect, ErrorCode, WireError
from chatd.protocol import (
    Accepted,
    AddFriend,
    Announcement,
    AnswerFriend,
    Changed,
    Command,
    CreateGroup,
    Deliver,
    Draining,
    Event,
    Failed,
    FriendAnswered,
    FriendRequested,
    GroupReady,
    JoinGroup,
    Kicked,
    Login,
    LoginAccepted,
    Logout,
    Malformed,
    Register,
    Registered,
    SendMessage,
    ServerMessage,
    ServerRequest,
    WireTraits,
)
from chatd.wire.chatserver import encode, requests
from chatd.wire.chatserver.encode import Mode
from chatd.wire.chatserver.extras import with_extras
from chatd.wire.chatserver.reading import READABLE, READABLE_WITH_REQUESTS, decode
from chatd.wire.chatserver.requests import RequestFrame
from chatd.wire.codec_state import ChatserverState, CodecState
from chatd.wire.contract import MAX_BYTES_BEFORE_LOGIN, frame_form, note_cut, was_cut
from chatd.wire.json_stream import ObjectSplitter, as_int, as_str, check_utf8, fields_of

COMPATIBLE_FRAME_BYTES = 1023
"""With the NUL: the deployed client reads into 1,024 zeroed bytes."""

MAX_READ_BYTES = 65536

LEGACY_SECOND_LOGIN_TEXT = "this account has logined, please input a new account"
"""COMPAT: the deployed C++ client. Its users know the legacy server's text for a second login."""

_COMPATIBLE = Mode()
_MSGID: dict[type, int] = {
    Login: encode.LOGIN,
    Logout: encode.LOGOUT,
    Register: encode.REGISTER,
    AddFriend: encode.ADD_FRIEND_REQ,
    AnswerFriend: encode.ADD_FRIEND_ACK,
    CreateGroup: encode.CREATE_GROUP,
    JoinGroup: encode.JOIN_GROUP,
}


_TRAITS = WireTraits(lists_contacts=True, logout_closes=False)
_TRAITS_WITH_REQUESTS = msgspec.structs.replace(_TRAITS, server_texts=True)


class ChatserverCodec:
    """See wire.contract.Codec. Limits in bytes; max_frame_bytes is for reading (after the first login, see
    wire.contract.MAX_BYTES_BEFORE_LOGIN), 0 = MAX_READ_BYTES; in streaming mode also for writing. Until a login that
    asked for streaming mode succeeds, the mode is compatible.

    A WireError is reported to the peer by encode(Failed(error.code, error.text, None, error.ref)).
    """

    __slots__ = (
        "_body_bytes",
        "_form",
        "_fp_bytes",
        "_limit",
        "_mode",
        "_pace_ms",
        "_splitter",
        "_wanted",
        "pace_ms",
        "traits",
    )

    def __init__(self, max_frame_bytes: int, pace_ms: int, body_bytes: int, fp_bytes: int) -> None:
        self.traits = _TRAITS
        self.pace_ms = pace_ms
        self._pace_ms = pace_ms
        self._limit = max_frame_bytes or MAX_READ_BYTES
        self._body_bytes = body_bytes
        self._fp_bytes = fp_bytes
        self._splitter = ObjectSplitter(min(self._limit, MAX_BYTES_BEFORE_LOGIN))
        self._form = frame_form("chatserver", _COMPATIBLE.form, COMPATIBLE_FRAME_BYTES)
        self._mode = _COMPATIBLE
        self._wanted = _COMPATIBLE
        """The mode that the last LOGIN read asks for."""

    @property
    def text_bytes(self) -> int:
        return self._write_limit - requests.TEXT_ROOM_BYTES if self._mode.requests else 0

    @property
    def buffered_bytes(self) -> int:
        return self._splitter.buffered_bytes

    # ------------------------------------------------------------ bytes to commands

    def receive(self, data: bytes) -> Iterator[Command]:
        for frame in self._splitter.split(data):
            command = self._command(frame)
            if isinstance(command, Login):
                self._wanted = Mode(command.streaming, command.acks, command.requests)
            yield command

    def _command(self, frame: bytes) -> Command:
        check_utf8(frame)
        if frame.count(b'"msgid"') > 1:
            _refuse_second_msgid(frame)
        try:
            read = decode(frame)
            if self._mode.requests and type(read) is RequestFrame:
                return read.request(frame, self._body_bytes, self._fp_bytes)
            command = read.command(self._body_bytes, self._fp_bytes)
            if self._mode.streaming and isinstance(command, SendMessage):
                return with_extras(command, read, requests=self._mode.requests)  # type: ignore[arg-type]
            return command
        except ValueError as error:
            return _malformed(frame, str(error), READABLE_WITH_REQUESTS if self._mode.requests else READABLE)

    def next_second(self) -> None:
        """Nothing to do: this wire has no such limits."""

    # ------------------------------------------------------------ events to bytes

    @property
    def _write_limit(self) -> int:
        return max(self._limit, COMPATIBLE_FRAME_BYTES) if self._mode.streaming else COMPATIBLE_FRAME_BYTES

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Deliver):
            return self._deliver(event)
        match event:
            case Accepted():
                return self._accepted(event)
            case LoginAccepted():
                return self.encode_login(event)[0]
            case Failed():
                return self._failed(event)
            case Registered():
                return encode.frame({"msgid": encode.REGISTER_ACK, "errno": 0, "id": event.user.id})
            case FriendRequested():
                return encode.friend_request(event.request, self._write_limit, self._mode.streaming)
            case FriendAnswered():
                return encode.friend_answer(event, self._write_limit, self._mode.streaming)
            case Changed():
                return encode.changed(event, self._write_limit)
            case Announcement():
                return encode.announcement(event, self._write_limit)
            case GroupReady():
                if not event.asked_for and not self._mode.streaming:
                    return b""  # COMPAT: the deployed client takes it for the answer to something it has asked
                return encode.group_ack(event.group, self._write_limit)
            case Kicked():
                code = ErrorCode.NOT_ALLOWED if event.by_admin else ErrorCode.ALREADY_LOGGED_IN
                why = Disconnect.KICKED_BY_ADMIN if event.by_admin else Disconnect.KICKED_DUPLICATE
                return encode.error(code, event.reason or why.text, 0, "", self._write_limit)
            case ServerMessage() if self._mode.requests:
                return requests.server_message(event, self._write_limit)
            case Draining() if self._mode.streaming:
                return requests.draining(event)
        return b""

    def encode_login(self, event: LoginAccepted) -> tuple[bytes, int]:
        """Changes the mode to what the last LOGIN asked for, so pace_ms may change."""
        self._use(self._wanted)
        return encode.login_ack(event, self._write_limit, self._mode)

    def _use(self, mode: Mode) -> None:
        """The peer is logged in, in this mode."""
        self._splitter.limit = self._limit
        self._mode = mode
        self.traits = _TRAITS_WITH_REQUESTS if mode.requests else _TRAITS
        self.pace_ms = 0 if mode.streaming else self._pace_ms
        self._form = frame_form("chatserver", mode.form, self._write_limit)

    # ------------------------------------------------------------ moving to another worker

    def state(self) -> CodecState | None:
        mode = self._mode
        return ChatserverState(
            streaming=mode.streaming,
            acks=mode.acks,
            requests=mode.requests,
            wanted=(self._wanted.streaming, self._wanted.acks, self._wanted.requests),
            splitter=self._splitter.state(),
        )

    def resume(self, state: CodecState) -> None:
        if not isinstance(state, ChatserverState):
            raise ValueError("the state of another wire")
        self._use(Mode(state.streaming, state.acks, state.requests))
        self._wanted = Mode(*state.wanted)
        self._splitter.resume(state.splitter)

    # ------------------------------------------------------------ single events

    def _deliver(self, event: Deliver) -> bytes:
        key = self._form, ""  # the fp a client of this wire sees is the sender's
        frame = event.frames.get(key)
        if frame is None:
            frame, is_cut = encode.chat(event.message, self._write_limit, self._mode, event.links)
            event.frames[key] = frame
            if is_cut:
                note_cut(event, self._form)
        return frame

    def is_cut(self, event: Deliver) -> bool:
        return was_cut(event, self._form)

    def _accepted(self, event: Accepted) -> bytes:
        if not self._mode.streaming or not event.command.fp or isinstance(event.command, ServerRequest):
            return b""  # a request has its ANSWER
        time = encode.time_text(event.sent_at_ms)
        return encode.frame({"msgid": encode.ACK, "fp": event.command.fp, "seq": event.seq, "time": time})

    def _failed(self, event: Failed) -> bytes:
        command, limit = event.command, self._write_limit
        if isinstance(command, Login):
            return self._login_refused(command, event, limit)
        if isinstance(command, Register):
            return encode.register_refused(event.text, limit)
        if isinstance(command, ServerRequest) and self._mode.requests:
            return requests.refused(command, event, limit)
        if isinstance(command, SendMessage):
            ref = encode.GROUP_CHAT if command.to_group else encode.ONE_CHAT
        elif isinstance(command, Malformed):
            ref = command.ref
        else:
            ref = _MSGID.get(type(command), event.ref)
        fp = getattr(command, "fp", "")[: self._fp_bytes] if self._mode.streaming else ""
        return encode.error(event.code, event.text, ref, fp, limit)

    def _login_refused(self, command: Login, event: Failed, limit: int) -> bytes:
        if event.code != ErrorCode.ALREADY_LOGGED_IN:
            return encode.login_refused(1, event.text, limit)
        is_old_client = not self._mode.streaming and not command.streaming
        return encode.login_refused(2, LEGACY_SECOND_LOGIN_TEXT if is_old_client else event.text, limit)


def _malformed(frame: bytes, why: str, readable: frozenset[int]) -> Malformed:
    """What is wrong with a frame that the typed decoder refused. Raises WireError if it is not a frame at all."""
    fields = fields_of(frame)
    msgid = as_int(fields.get("msgid"))
    if msgid is None:
        raise WireError(ErrorCode.INVALID_PACKET, "no msgid")
    if msgid not in readable:
        return Malformed(ErrorCode.UNKNOWN_REQUEST, "unknown msgid", msgid if abs(msgid) < 2**63 else 0)
    return Malformed(ErrorCode.BAD_FIELD, why, msgid, as_str(fields.get("fp")))


def _refuse_second_msgid(frame: bytes) -> None:
    """Raises WireError if the object has two msgids, because it is then ambiguous."""

    def names(pairs: list[tuple[str, Any]]) -> list[str]:
        return [name for name, _ in pairs]

    try:
        twice = json.loads(frame, object_pairs_hook=names).count("msgid") > 1
    except (ValueError, RecursionError) as error:
        raise WireError(ErrorCode.INVALID_PACKET, "not JSON") from error
    if twice:
        raise WireError(ErrorCode.INVALID_PACKET, "two msgids")
