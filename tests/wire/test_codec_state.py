"""A client whose codec goes on in another worker: wherever its bytes are cut, the same commands come out."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from chatd.model import User
from chatd.protocol import Accepted, Command, Event, Feature, Login, LoginAccepted, SendMessage, ServerMessage
from chatd.wire.chatserver.codec import ChatserverCodec
from chatd.wire.codec_state import ChatserverState, CodecState, MobileimsdkState
from chatd.wire.contract import Codec
from chatd.wire.echo import EchoCodec
from chatd.wire.mobileimsdk.codec import APART, MobileimsdkCodec

LIMIT = 300
USER = User(7, "alice")
LOGIN = {"msgid": 1, "name": "alice", "password": "x", "framing": "nul", "acks": True, "requests": True}


def mobileimsdk(features: Feature | None = None) -> MobileimsdkCodec:
    codec = MobileimsdkCodec(LIMIT, 4096, 64)
    codec.encode_login(LoginAccepted(USER, 1, features=features))
    return codec


def chatserver(login: dict[str, object]) -> ChatserverCodec:
    codec = ChatserverCodec(0, 30, 4096, 64)
    (command,) = codec.receive(json.dumps(login).encode() + b"\0")
    assert isinstance(command, Login)
    codec.encode_login(LoginAccepted(USER, 1))
    return codec


def packet(**fields: object) -> bytes:
    body = json.dumps({"from": "alice", "to": "bob", "QoS": True, "typeu": -1} | fields).encode()
    return len(body).to_bytes(4, "big") + body


MOBILE_STREAM = b"".join(
    [
        packet(type=2, dataContent='a "{}[]" \\ é', fp="f1"),
        packet(type=2, dataContent="x" * 2 * LIMIT, fp="too long"),
        packet(type=4, dataContent="f9"),
        packet(type=2, dataContent="reply", fp="f2", reply=3),
    ]
)
OBJECT_STREAM = b"\0".join(
    json.dumps(frame, ensure_ascii=False).encode()
    for frame in (
        {"msgid": 6, "toname": "bob", "msg": 'a "{}[]" \\ é', "fp": "f1", "more": {"a": [1, {"b": "]"}]}},
        {"msgid": 15, "conv": 3, "seq": 4},
        {"msgid": 6, "toname": "bob", "msg": "two", "fp": "f2"},
    )
)
ANSWER = Accepted(SendMessage("bob", 0, 0, "x", "f1", True), 12, 34)
CASES: dict[str, tuple[Callable[[], Codec], Callable[[], Codec], bytes]] = {
    "mobileimsdk": (mobileimsdk, lambda: MobileimsdkCodec(LIMIT, 4096, 64), MOBILE_STREAM),
    "mobileimsdk with seq": (
        lambda: mobileimsdk(Feature.SEQ),
        lambda: MobileimsdkCodec(LIMIT, 4096, 64),
        MOBILE_STREAM,
    ),
    "chatserver, compatible": (
        lambda: chatserver({"msgid": 1, "name": "alice", "password": "x"}),
        lambda: ChatserverCodec(0, 30, 4096, 64),
        OBJECT_STREAM,
    ),
    "chatserver, all": (lambda: chatserver(LOGIN), lambda: ChatserverCodec(0, 30, 4096, 64), OBJECT_STREAM),
}
ENCODE, DECODE = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(CodecState).decode


def moved(codec: Codec, fresh: Codec) -> Codec:
    """Through bytes, as between two workers."""
    fresh.resume(DECODE(ENCODE(codec.state())))
    return fresh


@pytest.mark.parametrize("case", CASES)
def test_the_same_commands_come_out_wherever_the_bytes_are_cut(case: str) -> None:
    logged_in, fresh, stream = CASES[case]
    whole = list(logged_in().receive(stream))
    assert len(whole) >= 2
    for cut in range(len(stream) + 1):
        before = logged_in()
        commands: list[Command] = list(before.receive(stream[:cut]))
        commands += moved(before, fresh()).receive(stream[cut:])
        assert commands == whole, cut


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "event", [ANSWER, ServerMessage("text", "s1"), LoginAccepted(USER, 5)], ids=["", "text", "login"]
)
def test_the_client_is_spoken_to_as_before(case: str, event: Event) -> None:
    logged_in, fresh, _ = CASES[case]
    codec = moved(logged_in(), fresh())
    assert codec.encode(event) == logged_in().encode(event)
    assert codec.traits == logged_in().traits
    assert codec.pace_ms == logged_in().pace_ms
    assert codec.text_bytes == logged_in().text_bytes


def test_a_token_is_told_with_the_next_login_answer_too() -> None:
    codec = MobileimsdkCodec(1024, 4096, 64, framing=APART)
    codec.token = "t" * 24
    codec.encode_login(LoginAccepted(USER, 1))
    again = moved(codec, MobileimsdkCodec(1024, 4096, 64, framing=APART))
    assert b"t" * 24 in again.encode(LoginAccepted(USER, 1))


def test_a_state_of_another_wire_is_refused() -> None:
    with pytest.raises(ValueError, match="another wire"):
        MobileimsdkCodec(0, 4096, 64).resume(ChatserverState())
    with pytest.raises(ValueError, match="another wire"):
        ChatserverCodec(0, 0, 4096, 64).resume(MobileimsdkState(user="alice"))


def test_the_echo_wire_has_no_sessions_to_move() -> None:
    assert EchoCodec().state() is None
    with pytest.raises(ValueError, match="no sessions"):
        EchoCodec().resume(ChatserverState())
