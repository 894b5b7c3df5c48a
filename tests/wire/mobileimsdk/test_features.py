"""Clients that asked for features in their login: what they may send and are sent. A stock client's bytes stay as they
are, and the marks of groups are for stock clients only."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatd.errors import ErrorCode
from chatd.model import ALL_MEMBERS, Message, MessageState, User
from chatd.protocol import (
    Accepted,
    Command,
    Deliver,
    Event,
    Extras,
    Feature,
    Login,
    LoginAccepted,
    Malformed,
    SendMessage,
    ServerMessage,
    ServerRequest,
)
from chatd.wire.mobileimsdk.codec import Framing, MobileimsdkCodec
from chatd.wire.mobileimsdk.group_mark import GroupMark
from tests.wire.drive import hear
from tests.wire.mobileimsdk.test_codec import BODY, FP, packet, unframed

ALICE = User(1, "alice")
BAD, LONG = ErrorCode.BAD_FIELD, ErrorCode.TOO_LONG
PLAIN = {"bridge": False, "type": 2, "dataContent": "hi", "from": "bob", "to": "alice", "fp": "f-1", "QoS": True,
         "typeu": 4, "sm": 1700000000123}  # fmt: skip


def codec(features: Feature | None, limit: int = 0, *, prefixed: bool = True, mark: GroupMark | None = None) -> Any:
    made = MobileimsdkCodec(limit, BODY, FP, framing=Framing(prefixed), mark=mark)
    made.encode_login(LoginAccepted(ALICE, 7, features=features))
    return made


def message(text: str = "hi", group: int = 0, **fields: Any) -> Message:
    to = (0, "") if group else (1, "alice")
    return Message(
        conversation=-group or 5, seq=9, sender_id=2, sender_name="bob", to_id=to[0], to_name=to[1], group_id=group,
        body=text, fp="f-1", qos=True, typeu=4, sent_at_ms=1700000000123, **fields,
    )  # fmt: skip


# ---------------------------------------------------------------- the login


def asked(extra: object) -> Login:
    body = {"loginUserId": "alice", "loginToken": "x", **({} if extra is None else {"extra": extra})}
    ((command,), refused) = hear(MobileimsdkCodec(0, BODY, FP), [packet(type=0, dataContent=json.dumps(body))])
    assert refused is None
    assert isinstance(command, Login)
    return command


@pytest.mark.parametrize(
    ("features", "granted"),
    [
        ([], Feature(0)), (["seq"], Feature.SEQ), (["typing", "seq"], Feature.SEQ | Feature.TYPING),
        (["seq", "seq", "SEQ", "", "none", "telepathy"], Feature.SEQ), (["\ud800"], None),
    ],
)  # fmt: skip
def test_features_are_asked_for_in_extra(features: list[str], granted: Feature | None) -> None:
    assert asked(json.dumps({"app": {"x": [1]}, "chatd": {"features": features, "more": 1}})).features == granted


@pytest.mark.parametrize(
    "extra",
    [
        None, "", "null", "app", 7, 1.5, True, {}, [], {"chatd": {"features": ["seq"]}}, "[]", '"chatd"', '{"chatd":1}',
        '{"chatd":{}}', '{"chatd":{"features":"seq"}}', '{"chatd":{"features":[1]}}', '{"chatd":{"features":null}}',
        '{"chatd":{"features":["seq"]}', "[" * 1000, '{"chatd":{"features":["seq"]},"app":"' + "x" * 4096 + '"}',
        10**400, "\x00",
    ],
)  # fmt: skip
def test_every_other_extra_is_the_application_s(extra: object) -> None:
    assert asked(extra) == asked(None)


def test_what_is_granted_is_told_to_those_who_asked() -> None:
    def answer(features: Feature | None) -> Any:
        made = MobileimsdkCodec(0, BODY, FP)
        return json.loads(unframed(made.encode_login(LoginAccepted(ALICE, 7, features=features))[0])["dataContent"])

    assert answer(None) == {"code": 0, "firstLoginTime": 7}
    assert answer(Feature(0)) == {"code": 0, "firstLoginTime": 7, "chatd": {"features": [], "id": 1}}
    both = Feature.SEQ | Feature.TYPING
    assert answer(both)["chatd"] == {"features": ["seq", "typing"], "id": 1}


# ---------------------------------------------------------------- from the client


def data(to: str = "bob", **fields: object) -> bytes:
    return packet(type=2, dataContent="hi", to=to, fp="f", QoS=True, **fields)


def sent(to: str = "bob", **extras: Any) -> SendMessage:
    group = int(to[1:]) if to[0] == "#" else 0
    return SendMessage("" if group else to, 0, group, "hi", "f", True, extras=Extras(**extras) if extras else None)


RECEIVED: list[tuple[bytes, Command]] = [
    (data(), sent()),
    (data(reply=None, mentions=None), sent()),
    (data(reply=1), sent(reply_to=1)),
    (data(reply=2**62 - 1), sent(reply_to=2**62 - 1)),
    (data("#7", mentions=["bob", 3]), sent("#7", mentions=("bob", 3))),
    (data("#7", mentions="all", reply=3), sent("#7", mentions=ALL_MEMBERS, reply_to=3)),
    (data("#7", mentions=[]), sent("#7")),
    (data("0", reply=1, mentions=["bob"]), ServerRequest("hi", "f", True)),
]
BAD_FIELDS: list[bytes] = [
    *(data(reply=value) for value in (0, -1, 1.5, "1", True, [], {}, 2**62, 2**63, 2**64, 10**40)),
    *(data("#7", mentions=value) for value in (1, "bob", "ALL", "", True, {}, {"0": "bob"}, 2**64)),
    *(data("#7", mentions=[value]) for value in ("", "x" * 65, 0, -1, 1.5, True, None, [], {}, 2**62, 10**40)),
    data("#7", mentions=["b"] * 1001),
    data("bob", mentions=["bob"]),
    data("bob", mentions="all"),
]


@pytest.mark.parametrize(("received", "command"), RECEIVED)
def test_what_a_message_may_have(received: bytes, command: Command) -> None:
    assert hear(codec(Feature.SEQ), [received]) == ([command], None)


@pytest.mark.parametrize("received", BAD_FIELDS)
def test_a_wrong_field_is_refused_and_the_connection_stays(received: bytes) -> None:
    commands, refused = hear(codec(Feature.SEQ), [received, data()])
    assert refused is None
    assert isinstance(commands[0], Malformed)
    assert (commands[0].code, commands[0].fp) == (BAD, "f")
    assert commands[1:] == [sent()]


@pytest.mark.parametrize("received", [*(row[0] for row in RECEIVED), *BAD_FIELDS])
@pytest.mark.parametrize("features", [None, Feature(0), Feature.TYPING])
def test_for_others_the_fields_are_the_application_s(received: bytes, features: Feature | None) -> None:
    ((command,), _) = hear(codec(features), [received])
    assert getattr(command, "extras", None) is None
    assert not isinstance(command, Malformed)


# ---------------------------------------------------------------- to the client


def test_a_message_carries_its_numbers() -> None:
    def given(stored: Message) -> dict[str, Any]:
        return unframed(codec(Feature.SEQ).encode(Deliver(stored, stored.fp, {})))

    numbers = {"seq": 9, "conv": 5}
    assert given(message()) == {**PLAIN, **numbers}
    group = given(message(group=3, reply_to=4, mentions=(1, 2)))
    assert group == {**PLAIN, "to": "#3", "seq": 9, "conv": -3, "reply": 4, "mentions": [1, 2]}
    assert given(message(group=3, mentions=ALL_MEMBERS))["mentions"] == "all"
    edited = message(state=MessageState.EDITED, version=2)
    assert given(edited) == {**PLAIN, **numbers, "version": 2, "state": "edited"}
    recalled = message("", state=MessageState.RECALLED, version=1)
    assert given(recalled) == {**PLAIN, **numbers, "dataContent": "", "version": 1, "state": "recalled"}
    without = codec(Feature.SEQ).encode(Deliver(message(), "", {}))
    assert unframed(without) == {**{key: value for key, value in PLAIN.items() if key != "fp"}, "QoS": False, **numbers}


def test_an_acknowledgement_carries_the_number_and_the_time() -> None:
    stock = {"bridge": False, "type": 4, "dataContent": "f", "from": "bob", "to": "alice", "QoS": False, "typeu": -1}
    event = Accepted(sent(), 9, 77)
    assert unframed(codec(Feature.SEQ).encode(event)) == {**stock, "sm": 77, "seq": 9}
    assert unframed(codec(None).encode(event)) == {**stock, "sm": -1}
    request = Accepted(ServerRequest("hi", "f", True), 0, 77)
    assert codec(Feature.SEQ).encode(request) == codec(None).encode(request)


STOCK: list[tuple[Event, bytes]] = [
    (Deliver(message(reply_to=4, mentions=(1,)), "f-1", {}),
     b'{"bridge":false,"type":2,"dataContent":"hi","from":"bob","to":"alice","fp":"f-1","QoS":true,"typeu":4,'
     b'"sm":1700000000123}'),
    (Deliver(message(group=3, mentions=ALL_MEMBERS), "", {}),
     b'{"bridge":false,"type":2,"dataContent":"hi","from":"bob","to":"#3","QoS":false,"typeu":4,"sm":1700000000123}'),
    (Accepted(sent(reply_to=4), 9, 77),
     b'{"bridge":false,"type":4,"dataContent":"f","from":"bob","to":"alice","QoS":false,"typeu":-1,"sm":-1}'),
    (ServerMessage("{}", "s1"),
     b'{"bridge":false,"type":2,"dataContent":"{}","from":"0","to":"alice","fp":"s1","QoS":true,"typeu":-1,"sm":-1}'),
]  # fmt: skip


@pytest.mark.parametrize(("event", "expected"), STOCK)
@pytest.mark.parametrize("features", [None, Feature(0), Feature.TYPING])
def test_a_stock_client_is_sent_what_it_always_was(event: Event, expected: bytes, features: Feature | None) -> None:
    assert codec(features).encode(event) == struct.pack(">I", len(expected)) + expected
    assert codec(features, prefixed=False).encode(event) == expected


def test_a_text_without_an_fp_asks_for_no_acknowledgement() -> None:
    found = unframed(codec(Feature.TYPING).encode(ServerMessage('{"event":"typing"}', "")))
    assert (found["QoS"], found.get("fp"), found["from"]) == (False, None, "0")


def test_forms_do_not_share_frames() -> None:
    mark = GroupMark("[{group}] ", 7)
    codecs = [codec(None), codec(Feature.SEQ), codec(None, mark=mark), codec(None, mark=GroupMark("", 7)),
              codec(Feature.SEQ, mark=mark)]  # fmt: skip
    event = Deliver(message(group=3), "f-1", {}, "team")
    together = [one.encode(event) for one in codecs]
    assert together == [one.encode(Deliver(message(group=3), "f-1", {}, "team")) for one in codecs]
    assert len(set(together)) == 4  # the mark is not for who asked for numbers
    assert together[1] == together[4]


# ---------------------------------------------------------------- marks, and texts that are cut


def test_a_group_message_is_marked() -> None:
    def given(mark: GroupMark, name: str, text: str = "hi") -> tuple[str, int]:
        found = unframed(codec(None, mark=mark).encode(Deliver(message(text, group=3), "f-1", {}, name)))
        assert (found["to"], found["fp"], found["QoS"], found["sm"]) == ("#3", "f-1", True, 1700000000123)
        return found["dataContent"], found["typeu"]

    assert given(GroupMark("[{group}] ", None), "team") == ("[team] hi", 4)
    assert given(GroupMark("{group}/{number}: ", 77), "{number}", "{group}") == ("{number}/3: {group}", 77)
    assert given(GroupMark("[{group}] ", 0), "") == ("[#3] hi", 0)
    private = unframed(codec(None, mark=GroupMark("[{group}] ", 7)).encode(Deliver(message(), "f-1", {})))
    assert private == PLAIN


texts = st.text(max_size=400) | st.text(alphabet='"\\\0é😀x', min_size=200, max_size=400)


@given(texts, st.integers(400, 1400), st.sampled_from([None, Feature.SEQ]), st.sampled_from([0, 3]), st.booleans())
@example("x" * 400, 400, None, 3, True)
@example("x" * 400, 400, Feature.SEQ, 3, True)
def test_every_form_fits_and_says_whether_it_is_cut(
    text: str, limit: int, features: Feature | None, group: int, marked: bool
) -> None:
    made = codec(features, limit, prefixed=False, mark=GroupMark("[{group}] ", None) if marked else None)
    event = Deliver(message(text, group, mentions=(1, 2) if group else ()), "f-1", {}, "the group's name")
    frame = made.encode(event)
    assert len(frame) <= limit
    found = msgspec.json.decode(frame)
    if features:
        assert (found["seq"], found["conv"]) == (9, -group or 5)
    shown = found["dataContent"]
    is_marked = bool(marked and group and not features)
    body = shown.partition("] ")[2] if is_marked else shown
    assert made.is_cut(event) == (body != text)
    assert body == text or body[-1] == "…"
    other = codec(None, 10**6)
    other.encode(event)
    assert not other.is_cut(event)
