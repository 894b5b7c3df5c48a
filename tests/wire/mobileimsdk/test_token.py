"""Where a token stands in a datagram, and in a login and its answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.model import User
from chatd.protocol import Login, LoginAccepted
from chatd.wire.mobileimsdk.codec import Framing, MobileimsdkCodec
from chatd.wire.mobileimsdk.token import TOKEN_BYTES, joined, split

TOKEN = b"0hZfV1kq4yq2nX3oR8mB7_cd"
PACKET = b'{"type":1}'


def codec() -> MobileimsdkCodec:
    return MobileimsdkCodec(1024, 4096, 64, framing=Framing(prefixed=False, receive_bytes=6144))


def test_the_packet_follows_the_token() -> None:
    assert len(TOKEN) == TOKEN_BYTES
    assert split(joined(TOKEN, PACKET)) == (TOKEN, PACKET)


@pytest.mark.parametrize("begin", [b"", b" ", b"\t", b"\r\n"])
def test_what_begins_with_its_packet_has_no_token(begin: bytes) -> None:
    datagram = begin + PACKET + b" " * 30
    assert split(datagram) == (b"", datagram)


@given(st.binary(max_size=100))
def test_nothing_is_lost_of_any_datagram(datagram: bytes) -> None:
    token, packet = split(datagram)
    assert token + packet == datagram
    assert len(token) in (0, TOKEN_BYTES)


@pytest.mark.parametrize(
    ("asked", "wants"), [({}, False), ({"datagramToken": None}, False), ({"datagramToken": True}, True)]
)
def test_a_login_may_ask_for_one(asked: dict[str, object], wants: bool) -> None:
    body = {"loginUserId": "alice", "loginToken": "x", **asked}
    command = codec().packet(json.dumps({"type": 0, "dataContent": json.dumps(body)}).encode())
    assert isinstance(command, Login)
    assert command.wants_token is wants


@pytest.mark.parametrize("token", ["", TOKEN.decode()])
def test_the_answer_has_it_only_if_there_is_one(token: str) -> None:
    made = codec()
    made.token = token
    data, _ = made.encode_login(LoginAccepted(User(1, "alice"), 77))
    body = json.loads(json.loads(data)["dataContent"])
    assert body == {"code": 0, "firstLoginTime": 77, **({"datagramToken": token} if token else {})}
    assert made.encode(LoginAccepted(User(1, "alice"), 77)) == data, "also when it is repeated"
