"""The chatserver wire: docs/protocols/chatserver.md, row by row. What fits into a frame: test_chatserver_fit."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.errors import ErrorCode
from chatd.model import FriendRequest, Group, Message, User
from chatd.protocol import (
    Accepted,
    AddFriend,
    Announcement,
    AnswerFriend,
    Command,
    CreateGroup,
    Deliver,
    Draining,
    Echoed,
    Event,
    Failed,
    FriendAnswered,
    FriendRequested,
    GroupReady,
    JoinGroup,
    KeptAlive,
    Kicked,
    Login,
    LoginAccepted,
    Logout,
    Malformed,
    Received,
    Register,
    Registered,
    SendMessage,
)
from chatd.wire.chatserver.codec import ChatserverCodec
from chatd.wire.chatserver.encode import time_text
from tests.wire.drive import hear, one_byte_each, three_ways, told

BODY, FP = 4096, 64
INVITE = "6FTJ31-2K4GYD-3NA636"
ALICE, BOB = User(1, "alice"), User(2, "bob")
AT_MS = 1_700_000_000_123
AT = datetime.fromtimestamp(1_700_000_000).strftime("%Y-%m-%d %H:%M:%S")


def make() -> ChatserverCodec:
    return ChatserverCodec(0, 5, BODY, FP)


def streaming() -> ChatserverCodec:
    codec = make()
    list(codec.receive(b'{"msgid":1,"id":1,"password":"x","framing":"nul"}\0'))
    codec.encode_login(LoginAccepted(ALICE, 0))
    return codec


def nul(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\0"


def text(to: int, body: str, claimed: int | None = 1, fp: str = "") -> SendMessage:
    return SendMessage("", to, 0, body, fp, True, -1, claimed)


LOGOUT = (nul(msgid=3, id=1), Logout(1))

# As the deployed client's JSON writer has it: keys in order, no spaces, raw UTF-8.
OLD_CHAT = '{"id":1,"msg":"hé","msgid":6,"name":"alice","time":"2026-11-22 10:00:00","toid":2}'.encode() + b"\0"

RECEIVED: list[tuple[str, bytes, Command]] = [
    ("login", nul(msgid=1, id=7, password="p"), Login("", 7, "p")),
    ("login by name", nul(msgid=1, name="alice", password="p"), Login("alice", 0, "p")),
    ("login by number and name", nul(msgid=1, id=7, name="alice", password="p"), Login("", 7, "p")),
    ("login, streaming", nul(msgid=1, id=7, password="p", framing="nul"), Login("", 7, "p", 0, True)),
    ("login, acks", nul(msgid=1, id=7, password="p", framing="nul", acks=True), Login("", 7, "p", 0, True, True)),
    ("login, acks without framing", nul(msgid=1, id=7, password="p", acks=True), Login("", 7, "p")),
    ("received", nul(msgid=15, conv=-3, seq=8), Received(-3, 8)),
    ("login, other framing", nul(msgid=1, id=7, password="p", framing="x"), Login("", 7, "p")),
    ("login as nobody", nul(msgid=1, id=0, password="p"), Login("", -1, "p")),
    ("logout", *LOGOUT),
    ("logout without id", nul(msgid=3), Logout()),
    ("register", nul(msgid=4, name="n", password="p"), Register("n", "p")),
    ("register, invite", nul(msgid=4, name="n", password="p:q", invite="x-1"), Register("n", "p:q", "x-1")),
    ("register, invite typed", nul(msgid=4, name="n", password=f"{INVITE}:p:q"), Register("n", "p:q", INVITE)),
    ("register, a colon", nul(msgid=4, name="n", password="no code:p"), Register("n", "no code:p")),
    ("chat, old client", OLD_CHAT, text(2, "hé")),
    ("chat without id", nul(msgid=6, toid=2, msg="x"), text(2, "x", None)),
    ("chat as somebody else", nul(msgid=6, id=99, toid=2, msg="x"), text(2, "x", 99)),
    ("chat with fp", nul(msgid=6, id=1, toid=2, msg="x", fp="f-1"), text(2, "x", 1, "f-1")),
    ("chat to a name", nul(msgid=6, id=1, toname="bob", msg="x"), SendMessage("bob", 0, 0, "x", "", True, -1, 1)),
    ("chat, empty", nul(msgid=6, id=1, toid=2, msg=""), text(2, "")),
    ("chat of braces", nul(msgid=6, id=1, toid=2, msg='}}{"[\\"'), text(2, '}}{"[\\"')),
    ("chat about msgid", nul(msgid=6, id=1, toid=2, msg="msgid", name="msgid"), text(2, "msgid")),
    ("chat, odd name and time", nul(msgid=6, id=1, toid=2, msg="x", name=5, time=[]), text(2, "x")),
    ("chat with escaped NUL", nul(msgid=6, id=1, toid=2, msg="a\0b"), text(2, "a\0b")),
    ("chat, unknown field", nul(msgid=6, id=1, toid=2, msg="x", more={"msgid": [1]}), text(2, "x")),
    ("group chat", nul(msgid=11, id=1, groupid=3, msg="x"), SendMessage("", 0, 3, "x", "", True, -1, 1)),
    ("group chat with fp", nul(msgid=11, groupid=3, msg="x", fp="f"), SendMessage("", 0, 3, "x", "f", True)),
    ("add friend", nul(msgid=7, id=1, friendid=2), AddFriend(2, 1)),
    ("accept friend", nul(msgid=8, id=1, friendid=2, flag=True), AnswerFriend(2, True, 1)),
    ("refuse friend", nul(msgid=8, id=1, friendid=2, flag=False), AnswerFriend(2, False, 1)),
    ("create group", nul(msgid=9, id=1, groupname="g", groupdesc="d"), CreateGroup("g", "d", 1)),
    ("join group", nul(msgid=10, id=1, groupid=3), JoinGroup(3, 1)),
]
NAMES = [row[0] for row in RECEIVED]


@pytest.mark.parametrize(("frame", "command"), [row[1:] for row in RECEIVED], ids=NAMES)
def test_received(frame: bytes, command: Command) -> None:
    three_ways(make, frame, command, LOGOUT)


@pytest.mark.parametrize(("frame", "command"), [row[1:] for row in RECEIVED], ids=NAMES)
def test_received_without_nul(frame: bytes, command: Command) -> None:
    bare, logout = frame[:-1], LOGOUT[0][:-1]
    three_ways(make, bare, command, (logout, LOGOUT[1]))
    three_ways(make, b"\r\n " + bare, command, (b"\n" + logout, LOGOUT[1]))
    assert hear(make(), [bare + b"\r\n\0\0" + bare + b"\n"]) == ([command, command], None)


REFUSED: list[tuple[str, bytes, tuple[ErrorCode, int]]] = [
    ("unknown msgid", nul(msgid=99), (ErrorCode.UNKNOWN_REQUEST, 99)),
    ("a server's msgid", nul(msgid=2, errno=0), (ErrorCode.UNKNOWN_REQUEST, 2)),
    ("negative msgid", nul(msgid=-6), (ErrorCode.UNKNOWN_REQUEST, -6)),
    ("huge msgid", nul(msgid=2**70), (ErrorCode.UNKNOWN_REQUEST, 0)),
    ("login, id a string", nul(msgid=1, id="7", password="p"), (ErrorCode.BAD_FIELD, 1)),
    ("login, no password", nul(msgid=1, id=7), (ErrorCode.BAD_FIELD, 1)),
    ("login, nobody", nul(msgid=1, password="p"), (ErrorCode.BAD_FIELD, 1)),
    ("login, password null", nul(msgid=1, id=7, password=None), (ErrorCode.BAD_FIELD, 1)),
    ("register, name an int", nul(msgid=4, name=1, password="p"), (ErrorCode.BAD_FIELD, 4)),
    ("chat, toid a string", nul(msgid=6, toid="2", msg="x"), (ErrorCode.BAD_FIELD, 6)),
    ("chat, toid a bool", nul(msgid=6, toid=True, msg="x"), (ErrorCode.BAD_FIELD, 6)),
    ("chat, toid a float", b'{"msgid":6,"toid":2.0,"msg":"x"}\0', (ErrorCode.BAD_FIELD, 6)),
    ("chat, toid over 2^63", nul(msgid=6, toid=2**63, msg="x"), (ErrorCode.BAD_FIELD, 6)),
    ("chat, toid of 5,000 digits", b'{"msgid":6,"toid":1%b,"msg":"x"}\0' % (b"0" * 5000), (ErrorCode.BAD_FIELD, 6)),
    ("chat, claimed a string", nul(msgid=6, id="1", toid=2, msg="x"), (ErrorCode.BAD_FIELD, 6)),
    ("chat, claimed under -2^63", nul(msgid=6, id=-(2**63) - 1, toid=2, msg="x"), (ErrorCode.BAD_FIELD, 6)),
    ("chat to nobody", nul(msgid=6, msg="x"), (ErrorCode.BAD_FIELD, 6)),
    ("chat to 0", nul(msgid=6, toid=0, msg="x"), (ErrorCode.UNKNOWN_RECIPIENT, 6)),
    ("chat to -5", nul(msgid=6, toid=-5, msg="x"), (ErrorCode.UNKNOWN_RECIPIENT, 6)),
    ("chat, no text", nul(msgid=6, toid=2), (ErrorCode.BAD_FIELD, 6)),
    ("chat, text an object", nul(msgid=6, toid=2, msg={}), (ErrorCode.BAD_FIELD, 6)),
    ("chat too long", nul(msgid=6, toid=2, msg="x" * 4097), (ErrorCode.TOO_LONG, 6)),
    ("chat too long in bytes", nul(msgid=6, toid=2, msg="é" * 2049), (ErrorCode.TOO_LONG, 6)),
    ("fp too long", nul(msgid=6, toid=2, msg="x", fp="f" * 65), (ErrorCode.TOO_LONG, 6)),
    ("fp an int", nul(msgid=6, toid=2, msg="x", fp=1), (ErrorCode.BAD_FIELD, 6)),
    ("group chat, no group", nul(msgid=11, msg="x"), (ErrorCode.BAD_FIELD, 11)),
    ("group chat to group 0", nul(msgid=11, groupid=0, msg="x"), (ErrorCode.UNKNOWN_GROUP, 11)),
    ("group chat too long", nul(msgid=11, groupid=3, msg="x" * 4097), (ErrorCode.TOO_LONG, 11)),
    ("add friend, nobody", nul(msgid=7, id=1), (ErrorCode.BAD_FIELD, 7)),
    ("add friend 0", nul(msgid=7, friendid=0), (ErrorCode.UNKNOWN_RECIPIENT, 7)),
    ("answer friend, flag an int", nul(msgid=8, friendid=2, flag=1), (ErrorCode.BAD_FIELD, 8)),
    ("answer friend -1", nul(msgid=8, friendid=-1, flag=True), (ErrorCode.UNKNOWN_RECIPIENT, 8)),
    ("create group, no name", nul(msgid=9, groupdesc="d"), (ErrorCode.BAD_FIELD, 9)),
    ("create group, too long", nul(msgid=9, groupname="g" * 4097, groupdesc="d"), (ErrorCode.TOO_LONG, 9)),
    ("join group, a string", nul(msgid=10, groupid="3"), (ErrorCode.BAD_FIELD, 10)),
    ("join group 0", nul(msgid=10, groupid=0), (ErrorCode.UNKNOWN_GROUP, 10)),
]


@pytest.mark.parametrize(("frame", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_and_the_connection_stays(frame: bytes, expected: tuple[ErrorCode, int]) -> None:
    codec = make()
    commands, error = hear(codec, [frame + LOGOUT[0]])
    assert error is None
    bad, after = commands
    assert after == LOGOUT[1]
    assert isinstance(bad, Malformed)
    assert (bad.code, bad.ref) == expected
    answer = read(codec.encode(Failed(bad.code, bad.text, bad, bad.ref)))
    assert (answer["msgid"], answer["errno"], answer["errmsg"], answer["ref"]) == (12, bad.code, bad.text, bad.ref)


GARBAGE: list[tuple[str, bytes]] = [
    ("not JSON", b"hello\r\n"),
    ("an HTTP request", b"GET / HTTP/1.1\r\n\r\n"),
    ("binary", b"\x16\x03\x01\x02"),
    ("an array", b"[1]\0"),
    ("a string", b'"x"\0'),
    ("a number", b"7\0"),
    ("an object cut by NUL", b'{"msgid":3\0'),
    ("a string cut by NUL", b'{"msgid":3,"x":"a\0b"}\0'),
    ("an escape cut by NUL", b'{"msgid":3,"x":"a\\\0b"}\0'),
    ("brackets mixed up", b'{"msgid":3,"x":[}]\0'),
    ("no msgid", b'{"id":1}\0'),
    ("empty object", b"{}\0"),
    ("msgid a string", b'{"msgid":"3"}\0'),
    ("msgid a bool", b'{"msgid":true}\0'),
    ("msgid a float", b'{"msgid":3.0}\0'),
    ("msgid null", b'{"msgid":null}\0'),
    ("msgid of 5,000 digits", b'{"msgid":1%b}\0' % (b"0" * 5000)),
    ("msgid inside only", b'{"x":{"msgid":3}}\0'),
    ("two msgids", b'{"msgid":3,"msgid":3}\0'),
    ("two msgids, two meanings", b'{"msgid":3,"id":1,"msgid":6,"toid":2,"msg":"x"}\0'),
    ("bad UTF-8 in a text", b'{"msgid":6,"toid":2,"msg":"\xff"}\0'),
    ("bad UTF-8 in an unknown field", b'{"msgid":3,"x":"\xc3"}\0'),
    ("a surrogate in UTF-8", b'{"msgid":6,"toid":2,"msg":"\xed\xa0\x80"}\0'),
    ("half a surrogate pair", b'{"msgid":6,"toid":2,"msg":"\\ud800"}\0'),
    ("17 levels", b'{"msgid":3,"x":' + b"[" * 16 + b"]" * 16 + b"}\0"),
    ("17 levels, objects", b'{"msgid":3,"x":' + b'{"a":' * 16 + b"1" + b"}" * 17 + b"\0"),
    ("17 levels, never closed", b'{"msgid":3,"x":' + b"[" * 16),
    ("30,000 levels", b'{"msgid":3,"x":' + b"[" * 30000 + b"]" * 30000 + b"}\0"),
    ("over the limit", nul(msgid=6, toid=2, msg="x" * 65536)),
    ("over the limit, unfinished", nul(msgid=6, toid=2, msg="x" * 65536)[:-3]),
]


@pytest.mark.parametrize("garbage", [row[1] for row in GARBAGE], ids=[row[0] for row in GARBAGE])
def test_garbage_ends_it_after_the_good_commands(garbage: bytes) -> None:
    codec = make()
    commands, error = hear(codec, [LOGOUT[0] + garbage + LOGOUT[0]])
    assert commands == [LOGOUT[1]]
    assert error is not None
    assert error.ref == 0
    answer = read(codec.encode(Failed(error.code, error.text, None, error.ref)))
    assert answer == {"msgid": 12, "errno": error.code, "errmsg": error.text, "ref": 0}
    dripped = hear(make(), one_byte_each(LOGOUT[0] + garbage + LOGOUT[0]))
    assert (dripped[0], told(dripped[1])) == (commands, told(error))


def test_sixteen_levels_are_not_too_deep() -> None:
    frame = b'{"msgid":3,"x":' + b"[" * 15 + b"]" * 15 + b"}"
    assert hear(make(), [frame + b"\0" + frame]) == ([Logout(), Logout()], None)


def test_the_reading_limit() -> None:
    frame = nul(msgid=6, toid=2, msg="x" * 100)
    size = len(frame) - 1
    assert hear(ChatserverCodec(size, 5, BODY, FP), [frame]) == ([text(2, "x" * 100, None)], None)
    commands, error = hear(ChatserverCodec(size - 1, 5, BODY, FP), [frame])
    assert (commands, told(error)) == ([], (ErrorCode.TOO_LONG, 0))


# ---------------------------------------------------------------- events


def read(frame: bytes) -> dict[str, Any]:
    """The one object in `frame`, which has its NUL and no other."""
    assert frame.endswith(b"\0")
    assert frame.count(b"\0") == 1
    found: dict[str, Any] = json.loads(frame[:-1].decode())
    return found


def message(body: str = "hi", group: int = 0, fp: str = "f-1") -> Message:
    return Message(
        conversation=-group or 5, seq=9, sender_id=2, sender_name="bob", to_id=0 if group else 1,
        to_name="" if group else "alice", group_id=group, body=body, fp=fp, qos=True, typeu=-1, sent_at_ms=AT_MS,
    )  # fmt: skip


def failed(code: ErrorCode, command: Command) -> Failed:
    return Failed(code, "why", command)


CHAT = {"msgid": 6, "id": 2, "name": "bob", "toid": 1, "msg": "hi", "time": AT}
GROUP_CHAT = {"msgid": 11, "id": 2, "name": "bob", "groupid": 3, "msg": "hi", "time": AT}
REQUEST = {"msgid": 7, "msg": "bob (2) asks to be your friend", "from": 2, "toid": 1}
YES = {"msgid": 8, "msg": "bob (2) has accepted your friend request", "from": 2, "toid": 1}
NO = {**YES, "msg": "bob (2) has refused your friend request"}
GROUP_ACK = {"msgid": 14, "errno": 0, "groupid": 3, "groupname": "g"}
Shape = dict[str, Any] | None


def error(code: int, ref: int, text: str = "why", **more: Any) -> dict[str, Any]:
    return {"msgid": 12, "errno": code, "errmsg": text, "ref": ref, **more}


REFUSED_LOGIN = {"msgid": 2, "errno": 1, "errmsg": "why"}
SAY, SAY_GROUP = text(9, "x", 1, "f"), SendMessage("", 0, 9, "x", "f", True, -1, 1)

SENT: list[tuple[str, Event, Shape, Shape]] = [
    ("chat", Deliver(message(), "", {}), CHAT, {**CHAT, "conv": 5, "seq": 9, "fp": "f-1"}),
    ("chat without fp", Deliver(message(fp=""), "5.9", {}), CHAT, {**CHAT, "conv": 5, "seq": 9}),
    ("group chat", Deliver(message(group=3), "", {}), GROUP_CHAT, {**GROUP_CHAT, "conv": -3, "seq": 9, "fp": "f-1"}),
    ("accepted", Accepted(SAY, 4, AT_MS), None, {"msgid": 13, "fp": "f", "seq": 4, "time": AT}),
    ("accepted without fp", Accepted(text(9, "x"), 4, AT_MS), None, None),
    ("registered", Registered(ALICE), {"msgid": 5, "errno": 0, "id": 1}, {"msgid": 5, "errno": 0, "id": 1}),
    ("friend request", FriendRequested(FriendRequest(BOB, 1)), REQUEST, {**REQUEST, "name": "bob"}),
    ("friend accepted", FriendAnswered(BOB, 1, True), YES, {**YES, "name": "bob", "flag": True}),
    ("friend refused", FriendAnswered(BOB, 1, False), NO, {**NO, "name": "bob", "flag": False}),
    ("group ready", GroupReady(Group(3, "g", "d"), True), GROUP_ACK, GROUP_ACK),
    ("let into a group by somebody else", GroupReady(Group(3, "g", "d"), False, asked_for=False), None, GROUP_ACK),
    ("kicked by admin", Kicked(True, "bye"), error(1039, 0, "bye"), error(1039, 0, "bye")),
    (
        "announcement",
        Announcement("tea", 15, 1_600_000_000_000),
        {"msgid": 6, "id": 0, "name": "server", "toid": 15, "msg": "tea", "time": time_text(1_600_000_000_000)},
        {"msgid": 6, "id": 0, "name": "server", "toid": 15, "msg": "tea", "time": time_text(1_600_000_000_000)},
    ),
    ("kicked", Kicked(False, "bye"), error(1026, 0, "bye"), error(1026, 0, "bye")),
    ("kept alive", KeptAlive(), None, None),
    ("echoed", Echoed(b"x"), None, None),
    (
        "draining",
        Draining(1, 2),
        None,
        {"msgid": 18, "event": "draining", "resume_before": 1, "retry_after_ms": 2},
    ),
    ("wrong password", failed(ErrorCode.BAD_CREDENTIALS, Login("a", 0, "p")), REFUSED_LOGIN, REFUSED_LOGIN),
    ("login, busy", failed(ErrorCode.BUSY, Login("a", 0, "p")), REFUSED_LOGIN, REFUSED_LOGIN),
    (
        "logged in already",
        failed(ErrorCode.ALREADY_LOGGED_IN, Login("a", 0, "p")),
        {**REFUSED_LOGIN, "errno": 2, "errmsg": "this account has logined, please input a new account"},
        {**REFUSED_LOGIN, "errno": 2},
    ),
    (
        "logged in already, a login that asks for streaming",
        failed(ErrorCode.ALREADY_LOGGED_IN, Login("a", 0, "p", 0, True)),
        {**REFUSED_LOGIN, "errno": 2},
        {**REFUSED_LOGIN, "errno": 2},
    ),
    (
        "name taken",
        failed(ErrorCode.NAME_TAKEN, Register("a", "p")),
        {"msgid": 5, "errno": 1, "errmsg": "why"},
        {"msgid": 5, "errno": 1, "errmsg": "why"},
    ),
    ("unknown user", failed(ErrorCode.UNKNOWN_RECIPIENT, SAY), error(1032, 6), error(1032, 6, fp="f")),
    ("not a member", failed(ErrorCode.NOT_A_MEMBER, SAY_GROUP), error(1033, 11), error(1033, 11, fp="f")),
    ("not yours", failed(ErrorCode.CLAIMED_IDENTITY, Logout(7)), error(1031, 3), error(1031, 3)),
    ("not logged in, 7", failed(ErrorCode.NOT_LOGGED_IN, AddFriend(1)), error(301, 7), error(301, 7)),
    ("not logged in, 8", failed(ErrorCode.NOT_LOGGED_IN, AnswerFriend(1, True)), error(301, 8), error(301, 8)),
    ("not logged in, 9", failed(ErrorCode.NOT_LOGGED_IN, CreateGroup("g", "d")), error(301, 9), error(301, 9)),
    ("not logged in, 10", failed(ErrorCode.NOT_LOGGED_IN, JoinGroup(1)), error(301, 10), error(301, 10)),
]


@pytest.mark.parametrize(("event", "old", "new"), [row[1:] for row in SENT], ids=[row[0] for row in SENT])
def test_sent(event: Event, old: Shape, new: Shape) -> None:
    for codec, shape in ((make(), old), (streaming(), new)):
        frame = codec.encode(event)
        assert (read(frame) if frame else None) == shape


def test_json_is_raw_utf8() -> None:
    assert "é😀".encode() in make().encode(Deliver(message("é😀"), "", {}))


def test_streaming_begins_with_the_login_that_asked_for_it() -> None:
    codec = make()
    assert codec.pace_ms == 5
    list(codec.receive(nul(msgid=1, id=1, password="p", framing="nul")))
    assert codec.pace_ms == 5
    codec.encode(Failed(ErrorCode.BAD_CREDENTIALS, "no", Login("", 1, "p", 0, True)))
    assert (codec.pace_ms, codec.encode(Accepted(SAY, 1, AT_MS))) == (5, b"")
    list(codec.receive(nul(msgid=1, id=1, password="p", framing="nul")))
    codec.encode_login(LoginAccepted(ALICE, 0))
    assert codec.pace_ms == 0
    assert codec.encode(Accepted(SAY, 1, AT_MS)) != b""
    list(codec.receive(nul(msgid=3, id=1) + nul(msgid=1, id=1, password="p")))
    assert codec.pace_ms == 0
    codec.encode_login(LoginAccepted(ALICE, 0))
    assert (codec.pace_ms, codec.encode(Accepted(SAY, 1, AT_MS))) == (5, b"")


def test_a_fan_out_is_encoded_once_per_mode() -> None:
    event = Deliver(message(), "", {})
    old, new = make().encode(event), streaming().encode(event)
    assert make().encode(event) is old
    assert streaming().encode(event) is new
    assert read(new) != read(old)


@given(st.text(max_size=1500), st.sampled_from([0, 3]))
def test_any_text_survives(body: str, group: int) -> None:
    to = {"groupid": group, "msgid": 11} if group else {"toid": 2, "msgid": 6}
    commands, refused = hear(make(), [nul(msg=body, **to)])
    if len(body.encode()) > BODY:
        assert isinstance(commands[0], Malformed)
        return
    assert refused is None
    assert commands == [SendMessage("", 0 if group else 2, group, body, "", True)]
    assert read(streaming().encode(Deliver(message(body, group), "", {})))["msg"] == body
