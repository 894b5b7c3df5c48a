"""What packets of a server mean, and that no bytes of it do harm."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from chatd_client import events, packets
from chatd_client.errors import BadFrame, EndReason
from chatd_client.model import Answer, Destination, Message, PendingMessage, User

ME = User(7, "ann")


def packet(kind: int, content: object = None, **fields: Any) -> bytes:
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    return json.dumps({"type": kind, "dataContent": text, "from": "0", "to": "ann", **fields}).encode()


def received(**fields: Any) -> packets.Received:
    said = packets.decode(packet(2, **fields))
    assert isinstance(said, packets.Received)
    return said


def test_a_message_with_a_number() -> None:
    fields = {"fp": "f", "QoS": True, "typeu": 3, "sm": 99, "seq": 5, "conv": 11, "reply": 4, "mentions": [7, 8]}
    said = received(content="hi", **{"from": "bob"}, **fields)
    assert said.content == Message(
        conversation="bob", sender="bob", text="hi", seq=5, sent_at_ms=99, fp="f", conversation_id=11, typeu=3, reply=4,
        mentions=(7, 8),
    )  # fmt: skip
    assert json.loads(said.ack) == {"type": 4, "from": "ann", "to": "bob", "dataContent": "f"}


def test_a_message_of_a_group_without_acknowledgement() -> None:
    said = received(content="hi", to="#4", mentions="all", **{"from": "bob"})
    assert isinstance(said.content, Message)
    assert (said.content.conversation, said.content.group, said.content.sender, said.ack) == ("#4", 4, "bob", b"")
    assert said.content.names(ME)


def test_a_text_of_the_system_is_a_message_whatever_it_looks_like() -> None:
    """A stored one has a number; what has none and is neither answer nor notice, too."""
    for fields in ({"content": {"ref": 1, "ok": True}, "seq": 5}, {"content": "hello"}, {"content": {"a": 1}}):
        content = received(**fields).content
        assert isinstance(content, Message)
        assert content.conversation == "0"


def test_answers_and_notices() -> None:
    said = received(content={"ref": 7, "ok": True, "result": {"x": 1}}, fp="re:f", QoS=True)
    assert isinstance(said.content, Answer)
    assert (said.content.ref, said.content.ok, bytes(said.content.result), said.fp) == (7, True, b'{"x": 1}', "re:f")
    refused = received(content={"ref": 8, "ok": False, "error": {"code": 1032, "text": "no", "temporary": False}})
    assert refused.content == Answer(8, False, refused.content.result, 1032, "no")  # type: ignore[union-attr]
    read = received(content={"event": "read", "with": "bob", "by": {"id": 2, "name": "bob"}, "seq": 3})
    assert read.content == events.ReadElsewhere("bob", User(2, "bob"), 3)
    unknown = received(content={"event": "of.a.later.version"}, fp="f", QoS=True)
    assert unknown.content is None
    assert unknown.ack


def test_control_packets() -> None:
    assert packets.decode(packet(4, "f", sm=9, seq=3)) == packets.Stored("f", 3, 9)
    assert packets.decode(packet(4, "f", sm=-1)) == packets.Stored("f", 0, 0)
    login = packets.decode(packet(50, {"code": 0, "firstLoginTime": 5, "chatd": {"features": ["seq"], "id": 7}}))
    assert login == packets.LoginAnswered(code=0, first_login_time=5, features=("seq",), id=7)
    stock = packets.decode(packet(50, {"code": 0, "firstLoginTime": 5}))
    assert stock == packets.LoginAnswered(code=0, first_login_time=5, features=None, id=0)
    refusal = json.dumps({"fp": "f", "text": "too long", "temporary": False})
    assert packets.decode(packet(52, {"errorCode": 1035, "errorMsg": refusal})) == packets.PacketRefused(
        1035, "too long", "f"
    )
    assert packets.decode(packet(52, {"errorCode": 301, "errorMsg": "{}"})) == packets.PacketRefused(
        301, "not logged in", ""
    )
    kicked = packets.decode(packet(54, {"code": 1, "reason": "elsewhere"}))
    assert kicked == packets.SessionKicked(EndReason.DUPLICATE, "elsewhere")
    assert packets.decode(packet(51, "{}")) == packets.KeptAlive()
    assert packets.decode(packet(99)) is None


def test_what_the_client_says() -> None:
    pending = PendingMessage("f", Destination(group_id=4), "hi", 0, reply=2, mentions=("bob", 3), typeu=5)
    assert json.loads(packets.message(ME, pending)) == {
        "type": 2, "from": "ann", "to": "#4", "dataContent": "hi", "fp": "f", "QoS": True, "typeu": 5, "reply": 2,
        "mentions": ["bob", 3],
    }  # fmt: skip
    asked = json.loads(packets.request(ME, "read", 3, "f", {"with": "bob", "seq": 1}))
    assert (asked["to"], asked["QoS"]) == ("0", True)
    assert json.loads(asked["dataContent"]) == {"op": "read", "ref": 3, "with": "bob", "seq": 1}
    wishes = packets.LoginWishes(
        name="ann", secret="pw", first_login_time=5, features=("seq",), extra={"app": "x", "chatd": "not this"}
    )
    content = json.loads(json.loads(packets.login(wishes))["dataContent"])
    assert json.loads(content.pop("extra")) == {"app": "x", "chatd": {"features": ["seq"]}}
    assert content == {"loginUserId": "ann", "loginToken": "pw", "firstLoginTime": 5}


@pytest.mark.parametrize("bad", [b"", b"[]", b'{"type":"x"}', b"\xff", b'{"type":50,"dataContent":"x"}', b"[" * 10_000])
def test_what_is_no_packet_is_a_bad_frame(bad: bytes) -> None:
    with pytest.raises(BadFrame):
        packets.decode(bad)


_json = strategies.sampled_from(
    [None, True, -1, 0, 1 << 70, 1.5, "", "0", "#4", "#x", "ann", [], [1], ["a"], {}, "{}", "all"]
)
_names = strategies.sampled_from(
    ["type", "dataContent", "from", "to", "fp", "QoS", "seq", "mentions", "sm", "event", "ref", "ok", "error", "user"]
)
_content = strategies.dictionaries(_names, _json).map(json.dumps)


@hypothesis.given(strategies.dictionaries(_names, _json | _content), strategies.sampled_from([2, 4, 50, 52, 54]))
@hypothesis.settings(max_examples=150, deadline=None)
def test_nothing_but_a_bad_frame_comes_of_strange_packets(fields: dict[str, Any], kind: int) -> None:
    with contextlib.suppress(BadFrame):
        packets.decode(json.dumps({**fields, "type": kind}).encode())
