"""Requests on the chatserver wire: REQUEST, ANSWER and NOTICE, and who is sent them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.core.requests.notices import answer, notice, refusal
from chatd.core.requests.truncate import size_of, squeezed
from chatd.errors import ErrorCode
from chatd.model import ALL_MEMBERS, FriendRequest, User
from chatd.protocol import (
    Accepted,
    Deliver,
    Draining,
    Failed,
    Login,
    LoginAccepted,
    Malformed,
    SendMessage,
    ServerMessage,
    ServerRequest,
)
from chatd.wire.chatserver.codec import ChatserverCodec
from tests.wire.chatserver.test_codec import ALICE, BOB, BODY, FP, LOGOUT, make, message, nul, read, streaming
from tests.wire.drive import hear, three_ways

LOGIN = nul(msgid=1, id=1, password="x", framing="nul", acks=True, requests=True)


def with_requests(limit: int = 0) -> ChatserverCodec:
    codec = ChatserverCodec(limit, 5, BODY, FP)
    list(codec.receive(LOGIN))
    codec.encode_login(LoginAccepted(ALICE, 0))
    return codec


def asked(text: str, fp: str = "") -> ServerRequest:
    return ServerRequest(text, fp, bool(fp))


REQUESTS: list[tuple[str, bytes, ServerRequest]] = [
    ("the least", nul(msgid=16, op="whoami"), asked('{"op":"whoami"}')),
    ("with ref", nul(msgid=16, op="whoami", ref=7), asked('{"op":"whoami","ref":7}')),
    ("with fp", nul(msgid=16, op="whoami", fp="f"), asked('{"op":"whoami"}', "f")),
    ("fp null", nul(msgid=16, op="whoami", fp=None), asked('{"op":"whoami"}')),
    (
        "with arguments",
        nul(op="presence.get", users=["bob", 3], ref="r", msgid=16),
        asked('{"op":"presence.get","users":["bob", 3],"ref":"r"}'),
    ),
    ("nested", nul(msgid=16, op="echo", x={"msgid": 3, "y": [{}]}), asked('{"op":"echo","x":{"msgid": 3, "y": [{}]}}')),
    ("not ASCII", nul(msgid=16, op="echo", text="żółć"), asked('{"op":"echo","text":"żółć"}')),
    ("an op nobody has", nul(msgid=16, op=""), asked('{"op":""}')),
]

UNUSABLE_REQUESTS: list[tuple[str, bytes, ErrorCode]] = [
    ("no op", nul(msgid=16, ref=1), ErrorCode.BAD_FIELD),
    ("op an int", nul(msgid=16, op=1), ErrorCode.BAD_FIELD),
    ("op null", nul(msgid=16, op=None), ErrorCode.BAD_FIELD),
    ("fp an int", nul(msgid=16, op="echo", fp=1), ErrorCode.BAD_FIELD),
    ("fp too long", nul(msgid=16, op="echo", fp="f" * (FP + 1)), ErrorCode.TOO_LONG),
    ("too long", nul(msgid=16, op="echo", text="x" * BODY), ErrorCode.TOO_LONG),
]


@pytest.mark.parametrize(("frame", "command"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS])
def test_a_request(frame: bytes, command: ServerRequest) -> None:
    three_ways(with_requests, frame, command, LOGOUT)


@pytest.mark.parametrize(
    ("frame", "code"), [row[1:] for row in UNUSABLE_REQUESTS], ids=[row[0] for row in UNUSABLE_REQUESTS]
)
def test_an_unusable_request_is_refused_and_the_connection_stays(frame: bytes, code: ErrorCode) -> None:
    codec = with_requests()
    (bad, after), error = hear(codec, [frame + LOGOUT[0]])
    assert (after, error) == (LOGOUT[1], None)
    assert isinstance(bad, Malformed)
    answer = read(codec.encode(Failed(bad.code, bad.text, bad, bad.ref)))
    assert (answer["msgid"], answer["errno"], answer["ref"]) == (12, code, 16)


@pytest.mark.parametrize("codec", [make(), streaming()], ids=["compatible", "streaming"])
def test_who_has_not_asked_for_requests_sees_nothing_of_them(codec: ChatserverCodec) -> None:
    for _, frame, _ in REQUESTS:
        (command,), error = hear(codec, [frame])
        assert error is None
        assert isinstance(command, Malformed)
        assert (command.code, command.ref) == (ErrorCode.UNKNOWN_REQUEST, 16)
    assert codec.encode(ServerMessage(notice("presence"), "s1")) == b""
    assert codec.encode(ServerMessage(answer(1, {}), "s1", True, 1)) == b""
    assert (codec.traits.server_texts, codec.text_bytes) == (False, 0)


@pytest.mark.parametrize("framing", [None, "lines"])
def test_requests_and_takeover_are_for_streaming_clients(framing: str | None) -> None:
    (login,), _ = hear(make(), [nul(msgid=1, id=1, password="x", framing=framing, requests=True, takeover=True)])
    assert isinstance(login, Login)
    assert (login.requests, login.takeover) == (False, False)
    (login,), _ = hear(make(), [nul(msgid=1, id=1, password="x", framing="nul", requests=True, takeover=True)])
    assert isinstance(login, Login)
    assert (login.requests, login.takeover) == (True, True)


def test_the_login_answer_grants_requests_and_leaves_friend_requests_to_notices() -> None:
    codec = make()
    list(codec.receive(LOGIN))
    accepted = LoginAccepted(ALICE, 0, requests=(FriendRequest(BOB, 1),))
    assert read(codec.encode(accepted)) == {
        "msgid": 2,
        "errno": 0,
        "id": 1,
        "name": "alice",
        "acks": True,
        "requests": True,
    }
    assert codec.traits.server_texts is True
    list(codec.receive(nul(msgid=3, id=1) + nul(msgid=1, id=1, password="p", framing="nul")))
    assert "offlinemsg" in read(codec.encode(accepted))  # the next login has not asked
    assert codec.traits.server_texts is False


def test_answers_and_notices() -> None:
    codec = with_requests()
    sent = ServerMessage(answer("r", {"a": [1]}), "re:f", True, "r")
    assert read(codec.encode(sent)) == {"msgid": 17, "ref": "r", "ok": True, "result": {"a": [1]}}
    sent = ServerMessage(refusal(None, ErrorCode.NOT_ALLOWED, "no"), "s1", True)
    error = {"code": 1039, "text": "no", "temporary": False}
    assert read(codec.encode(sent)) == {"msgid": 17, "ref": None, "ok": False, "error": error}
    sent = ServerMessage(notice("read", by=1), "s2")
    assert read(codec.encode(sent)) == {"msgid": 18, "event": "read", "by": 1}
    assert read(codec.encode(Draining(5, 6))) == {
        "msgid": 18, "event": "draining", "resume_before": 5, "retry_after_ms": 6,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("plain words", {"ok": True, "result": {"text": "plain words"}}),
        ("[1]", {"ok": True, "result": {"text": "[1]"}}),
        ('{"msgid":3,"x":1}', {"x": 1}),
        ('{"ref":"own"}', {"ref": "own"}),
    ],
)
def test_a_plugin_may_answer_with_any_text(text: str, fields: dict[str, Any]) -> None:
    assert read(with_requests().encode(ServerMessage(text, "s1", True, 9))) == {"msgid": 17, "ref": 9, **fields}


def test_a_request_that_is_not_served_is_answered_by_its_ref_and_not_acknowledged_besides() -> None:
    codec = with_requests()
    command = asked('{"op":"whoami","ref":"r"}', "f")
    error = {"code": ErrorCode.TOO_FAST, "text": "slow down", "temporary": True}
    assert read(codec.encode(Failed(ErrorCode.TOO_FAST, "slow down", command))) == {
        "msgid": 17, "ref": "r", "ok": False, "error": error,
    }  # fmt: skip
    assert codec.encode(Accepted(command, 0, 1)) == b""
    assert read(codec.encode(Failed(ErrorCode.BUSY, "no", asked('{"op":"x","ref":{}}'))))["ref"] is None


@given(st.text(max_size=400), st.integers(1100, 1300), st.booleans())
def test_every_text_fits(text: str, limit: int, is_answer: bool) -> None:
    codec = with_requests(limit)
    body = squeezed(notice("x", text=text * 5), codec.text_bytes - size_of("s1"))
    frame = codec.encode(ServerMessage(body, "s1", is_answer, 1))
    assert len(frame) <= limit
    assert json.loads(frame[:-1])["event"] == "x"
    assert len(codec.encode(ServerMessage(text * 5, "s1", is_answer, "r" * 64))) <= limit


def test_the_user_is_not_told_of_friend_requests_twice() -> None:
    codec = make()
    list(codec.receive(LOGIN))
    many = tuple(FriendRequest(User(n, f"user{n}"), 1) for n in range(2, 50))
    assert b"user7" not in codec.encode_login(LoginAccepted(ALICE, 0, requests=many))[0]


# ---------------------------------------------------------------- mentions


@pytest.mark.parametrize(
    ("mentions", "members"),
    [(["bob", 7], ("bob", 7)), ("all", (0,)), ([], ()), (None, ())],
)
def test_a_message_to_a_group_may_mention_members(mentions: object, members: tuple[str | int, ...]) -> None:
    frame = nul(msgid=11, groupid=3, msg="x", mentions=mentions)
    (command,), _ = hear(with_requests(), [frame])
    assert isinstance(command, SendMessage)
    assert (command.extras.mentions if command.extras else ()) == members
    for codec in (make(), streaming()):
        (command,), _ = hear(codec, [frame])
        assert isinstance(command, SendMessage)
        assert command.extras is None


@pytest.mark.parametrize("mentions", ["bob", 7, {}, [0], [""], [None], ["x"] * 1001])
def test_what_mentions_nobody_is_refused(mentions: object) -> None:
    (command,), error = hear(with_requests(), [nul(msgid=11, groupid=3, msg="x", mentions=mentions, fp="f")])
    assert error is None
    assert isinstance(command, Malformed)
    assert (command.code, command.ref, command.fp) == (ErrorCode.BAD_FIELD, 11, "f")


@pytest.mark.parametrize(("mentions", "shown"), [((7, 8), [7, 8]), (ALL_MEMBERS, "all"), ((), None)])
def test_a_client_with_requests_is_told_who_is_mentioned(mentions: tuple[int, ...], shown: object) -> None:
    """Live and in the login answer; the others are not."""
    mentioning = msgspec.structs.replace(message(group=3), mentions=mentions)
    event = Deliver(mentioning, "", {})
    assert json.loads(with_requests().encode(event)[:-1]).get("mentions") == shown
    for codec in (make(), streaming()):
        assert b"mentions" not in codec.encode(event)
    codec = make()
    list(codec.receive(LOGIN))
    answer = json.loads(codec.encode_login(LoginAccepted(ALICE, 0, waiting=(mentioning,)))[0][:-1])
    assert json.loads(answer["offlinemsg"][0]).get("mentions") == shown


def test_mentions_that_leave_no_room_for_a_text_are_left_out() -> None:
    codec = with_requests(2048)
    mentioning = msgspec.structs.replace(message("hello", group=3), mentions=tuple(range(10**9, 10**9 + 1000)))
    event = Deliver(mentioning, "", {})
    frame = json.loads(codec.encode(event)[:-1])
    assert (frame["msg"], frame.get("mentions"), codec.is_cut(event)) == ("hello", None, False)
