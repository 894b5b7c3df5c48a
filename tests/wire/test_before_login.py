"""How long a frame may be before the login, and after it, on every wire."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from chatd.errors import WireError
from chatd.model import User
from chatd.protocol import LoginAccepted
from chatd.wire.chatserver.codec import ChatserverCodec
from chatd.wire.contract import MAX_BYTES_BEFORE_LOGIN, Codec
from chatd.wire.mobileimsdk.codec import APART, MobileimsdkCodec

BODY, FP = 100_000, 64


def chatserver(size: int) -> bytes:
    frame = json.dumps({"msgid": 6, "toid": 1, "msg": ""}).encode()
    return frame[:-2] + b"x" * (size - len(frame)) + frame[-2:] + b"\0"


def packet(size: int) -> bytes:
    frame = json.dumps({"type": 2, "to": "b", "dataContent": ""}).encode()
    return frame[:-2] + b"x" * (size - len(frame)) + frame[-2:]


def prefixed(size: int) -> bytes:
    return size.to_bytes(4, "big") + packet(size)


CODECS: list[tuple[Callable[[], Codec], Callable[[int], bytes]]] = [
    (lambda: ChatserverCodec(0, 5, BODY, FP), chatserver),
    (lambda: MobileimsdkCodec(65_536, BODY, FP), prefixed),
    (lambda: MobileimsdkCodec(65_536, BODY, FP, framing=APART), packet),
]


@pytest.mark.parametrize(("make", "frame"), CODECS, ids=["chatserver", "stream of packets", "packets"])
def test_a_frame_over_the_limit_is_read_only_after_the_login(
    make: Callable[[], Codec], frame: Callable[[int], bytes]
) -> None:
    codec = make()
    assert len(list(codec.receive(frame(MAX_BYTES_BEFORE_LOGIN)))) == 1
    with pytest.raises(WireError):
        list(codec.receive(frame(MAX_BYTES_BEFORE_LOGIN + 1)))
    codec = make()
    codec.encode_login(LoginAccepted(User(1, "alice"), 0))
    assert len(list(codec.receive(frame(MAX_BYTES_BEFORE_LOGIN + 1)))) == 1
    assert len(list(codec.receive(frame(60_000)))) == 1


def test_a_lower_limit_stays_lower() -> None:
    codec = MobileimsdkCodec(0, BODY, FP)
    assert len(list(codec.receive(prefixed(6144)))) == 1
    with pytest.raises(WireError):
        list(codec.receive(prefixed(6145)))
