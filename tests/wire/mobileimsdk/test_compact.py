"""Packets said in fewer bytes: never over the limit, and never another meaning."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.errors import ErrorCode
from chatd.protocol import Accepted, Echo, Echoed, Event, Failed, KeepAlive, Kicked, Login, ServerRequest
from chatd.wire.mobileimsdk.codec import Framing, MobileimsdkCodec
from chatd.wire.mobileimsdk.compact import shortened

DEFAULTS = {"bridge": False, "to": "-1", "QoS": False, "typeu": -1, "sm": -1}


def make() -> MobileimsdkCodec:
    return MobileimsdkCodec(1024, 4096, 64, framing=Framing(prefixed=False, receive_bytes=6144))


def encoded(event: Event) -> bytes:
    return make().encode(event)


NOT_LOGGED_IN = encoded(Failed(ErrorCode.NOT_LOGGED_IN, "not logged in", KeepAlive()))
REFUSED = encoded(Failed(ErrorCode.BAD_CREDENTIALS, "", Login("a", 0, "b")))
KICKED = encoded(Kicked(False, "logged in elsewhere"))
ACCEPTED = encoded(Accepted(ServerRequest("x", "fp-1", True), 1, 2))


def test_what_fits_is_left_alone() -> None:
    for packet in (NOT_LOGGED_IN, REFUSED, KICKED, ACCEPTED):
        assert make().shortened(packet, len(packet)) is packet


@pytest.mark.parametrize("packet", [NOT_LOGGED_IN, REFUSED, KICKED, ACCEPTED])
def test_first_goes_what_readers_assume_anyway(packet: bytes) -> None:
    short = shortened(packet, len(packet) - 1)
    assert 0 < len(short) < len(packet)
    assert {**DEFAULTS, **json.loads(short)} == json.loads(packet)


@pytest.mark.parametrize(
    ("packet", "least"),
    [
        (NOT_LOGGED_IN, {"type": 52, "dataContent": '{"errorCode":301}', "from": "0"}),
        (KICKED, {"type": 54, "dataContent": '{"code":1}', "from": "0"}),
    ],
)
def test_then_the_words(packet: bytes, least: dict[str, object]) -> None:
    limit = len(json.dumps(least, separators=(",", ":")))
    assert json.loads(shortened(packet, limit)) == least
    assert shortened(packet, limit - 1) == b""


@given(st.sampled_from([NOT_LOGGED_IN, REFUSED, KICKED, ACCEPTED]), st.integers(0, 300))
def test_never_over_the_limit_and_never_another_type(packet: bytes, limit: int) -> None:
    short = make().shortened(packet, limit)
    assert len(short) <= limit
    if short:
        assert json.loads(short)["type"] == json.loads(packet)["type"]


def test_an_echo_of_the_stock_clients_writing_is_not_longer() -> None:
    """Its answer's type has a digit more."""
    question = b'{"bridge":false,"type":5,"dataContent":"ping","from":"a","to":"0","QoS":false,"typeu":-1,"sm":-1}'
    codec = make()
    command = codec.packet(question)
    assert command == Echo(question)
    answer = codec.shortened(codec.encode(Echoed(question)), len(question))
    assert 0 < len(answer) <= len(question)
    assert {**DEFAULTS, **json.loads(answer)} == {**json.loads(question), "type": 53}


def test_what_is_received_may_be_longer_than_what_is_sent() -> None:
    codec = make()
    packet = json.dumps({"type": 2, "to": "b", "dataContent": "x" * 3000, "fp": "f", "QoS": True}).encode()
    command = codec.packet(packet)
    assert command.body == "x" * 3000  # type: ignore[union-attr]
    assert len(codec.encode(Failed(ErrorCode.NOT_LOGGED_IN, "", command))) <= 1024
