"""Packets that cross a bridge, as bytes."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import pytest

from chatd.bridges.packets import Packet, Unusable, read, size_of, write
from chatd.config.schema import Config
from chatd.model import Message

WHOLE = {"bridge": False, "type": 2, "dataContent": "hi ☔", "from": "anna", "to": "bob"} | {
    "fp": "f-1",
    "QoS": True,
    "typeu": 3,
}
LONGEST = 4096


def packet(**fields: object) -> bytes:
    return json.dumps({**WHOLE, **fields}).encode()


def message(**fields: Any) -> Message:
    made: dict[str, Any] = {
        "conversation": 4, "seq": 9, "sender_id": 1, "sender_name": "bob", "to_id": 2, "to_name": "java:anna",
        "group_id": 0, "body": 'say "hi" ☔', "fp": "f-2", "qos": True, "typeu": -1, "sent_at_ms": 1_795_768_512_481,
    }  # fmt: skip
    return Message(**{**made, **fields})


def test_a_packet_is_read_with_unknown_and_missing_fields() -> None:
    wanted = Packet(sender="anna", to="bob", text="hi ☔", fp="f-1", typeu=3)
    assert read(packet(sm=5, other={"a": [1]}), LONGEST, Config()) == wanted
    least = b'{"type":2,"from":"anna","to":"bob"}'
    assert read(least, LONGEST, Config()) == Packet(sender="anna", to="bob", text="", fp="", typeu=-1)
    nulls = packet(dataContent=None, fp=None, QoS=None, typeu=None)
    assert read(nulls, LONGEST, Config()) == Packet(sender="anna", to="bob", text="", fp="", typeu=-1)
    escaped = packet().replace(b"hi", b"\\u0068\\u003d")  # as the Java server's writer does
    assert read(escaped, LONGEST, Config()).text == "h= ☔"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_a_packet"),
        (b"\xff", "not_a_packet"),
        (b"[]", "not_a_packet"),
        (packet(typeu=2**40), "not_a_packet"),
        (packet(**{"from": ["anna"]}), "not_a_packet"),
        (packet(**{"from": "a" * 256}), "not_a_packet"),
        (packet().replace(b"hi", b"\\ud800"), "not_a_packet"),
        (packet(extra=1).replace(b"1}", b"[" * 3000 + b"]" * 3000 + b"}"), "too_large"),
        (packet(extra=1).replace(b"1}", b"[" * 1500 + b"]" * 1500 + b"}"), "not_a_packet"),
        (packet(type=4), "wrong_type"),
        (packet(type=None), "wrong_type"),
        (packet(**{"from": None}), "no_sender"),
        (packet(**{"from": ""}), "no_sender"),
        (packet(**{"from": "-1"}), "no_sender"),
        (packet(to="0"), "no_recipient"),
        (packet(to=None), "no_recipient"),
        (packet(type=3, dataContent="x" * 3000), "wrong_type"),
        (packet(dataContent="x" * LONGEST), "too_large"),
        (packet(fp="x" * 65), "too_long"),
    ],
)
def test_what_cannot_be_delivered_has_a_reason(body: bytes, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        read(body, LONGEST, Config())
    assert caught.value.reason == reason
    assert 0 < len(caught.value.text) < 400


def test_no_bytes_are_a_surprise() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        body = bytearray(packet())
        for _ in range(chance.randrange(1, 6)):
            body[chance.randrange(len(body))] = chance.choice(b'{}[]",:\\u0123"\xff\x00tfn')
        with contextlib.suppress(Unusable):
            assert read(bytes(body), LONGEST, Config()).sender


def test_a_message_is_written_as_the_java_server_expects_it() -> None:
    assert json.loads(write("java", message(), "chatd:bob", "anna")) == {
        "bridge": True,
        "type": 2,
        "dataContent": 'say "hi" ☔',
        "from": "chatd:bob",
        "to": "anna",
        "fp": "f-2",
        "QoS": True,
        "typeu": -1,
        "sm": 1_795_768_512_481,
    }


def test_a_message_without_an_fp_gets_one_that_stays() -> None:
    def fp(bridge: str, **fields: Any) -> str:
        found: str = json.loads(write(bridge, message(fp="", **fields), "bob", "anna"))["fp"]
        return found

    assert fp("java") == fp("java")
    assert len({fp("java"), fp("old"), fp("java", seq=10), fp("java", conversation=5)}) == 4


@pytest.mark.parametrize("text", ["", "hi", '\u0000\n"\\' * 50, "☔" * 300])
def test_the_size_of_a_packet_is_never_underestimated(text: str) -> None:
    for fp in ("", "f-1", '"' * 64):
        longest = message(body=text, fp=fp, typeu=-(2**31))
        assert len(write("java", longest, "bob", "anna")) <= size_of(text, "bob", "anna", fp)
