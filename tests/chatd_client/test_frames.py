"""The client's side of the wire: every message number, both ways, and garbage."""

from __future__ import annotations

import json

import msgspec
import pytest

from chatd_client.chatserver import frames, outgoing
from chatd_client.chatserver.frames import Chat, Friend, Group, Member
from chatd_client.errors import BadFrame
from chatd_client.model import Destination, PendingMessage, User, is_number

ALICE = User(1, "alice")

HEARD = [
    (
        {"msgid": 6, "id": 2, "name": "bob", "toid": 1, "msg": "hi ü", "time": "t", "seq": 7, "fp": "x"},
        Chat(2, "bob", 1, 0, "hi ü", "t", 7),
    ),
    ({"msgid": 11, "id": 2, "name": "bob", "groupid": 3, "msg": "hi", "time": "t"}, Chat(2, "bob", 0, 3, "hi", "t", 0)),
    (
        {"msgid": 11, "id": 2, "name": "bob", "groupid": 3, "msg": "hi", "time": "t", "mentions": [1, 5]},
        Chat(2, "bob", 0, 3, "hi", "t", 0, mentions=(1, 5)),
    ),
    (
        {"msgid": 11, "id": 2, "name": "bob", "groupid": 3, "msg": "hi", "time": "t", "mentions": "all"},
        Chat(2, "bob", 0, 3, "hi", "t", 0, mentions="all"),
    ),
    (
        {"msgid": 7, "msg": "bob b (2) asks to be your friend", "from": 2, "toid": 1, "name": "bob b"},
        frames.FriendRequestNotice(2, "bob b", "bob b (2) asks to be your friend"),
    ),
    ({"msgid": 7, "msg": "eve (2) asks", "from": 3, "toid": 1}, frames.FriendRequestNotice(3, "", "eve (2) asks")),
    (
        {"msgid": 8, "msg": "in any language", "from": 2, "toid": 1, "name": "bob b", "flag": True},
        frames.FriendReplyNotice(2, "bob b", "in any language", True),
    ),
    (
        {"msgid": 8, "msg": "in any language", "from": 2, "toid": 1, "name": "bob", "flag": False},
        frames.FriendReplyNotice(2, "bob", "in any language", False),
    ),
    (
        {"msgid": 8, "msg": "bob (2) has accepted your friend request", "from": 2, "toid": 1},
        frames.FriendReplyNotice(2, "", "bob (2) has accepted your friend request", None),
    ),
    ({"msgid": 8, "msg": "no", "from": 2, "toid": 1}, frames.FriendReplyNotice(2, "", "no", None)),
    ({"msgid": 5, "errno": 0, "id": 4}, frames.RegisterAnswer(0, "", 4)),
    ({"msgid": 12, "errno": 1032, "errmsg": "no", "ref": 6, "fp": "x"}, frames.ErrorAnswer(1032, "no", 6, "x")),
    ({"msgid": 13, "fp": "x", "seq": 1, "time": "t"}, frames.MessageAck("x", 1)),
    ({"msgid": 17, "ref": 4, "ok": True, "result": {"a": 1}}, frames.Answer(4, True, msgspec.Raw(b'{"a": 1}'), 0, "")),
    (
        {"msgid": 17, "ref": None, "ok": False, "error": {"code": 1039, "text": "no", "temporary": False}},
        frames.Answer(0, False, msgspec.Raw(b"{}"), 1039, "no"),
    ),
    ({"msgid": 18, "event": "presence"}, frames.Notice(b'{"msgid": 18, "event": "presence"}')),
    ({"msgid": 14, "errno": 0, "groupid": 3, "groupname": "team"}, frames.GroupAck(3, "team")),
    ({"msgid": 99, "anything": []}, None),
]


def test_whom_a_message_mentions() -> None:
    chats = [Chat(2, "bob", 0, 3, "hi", "t", 0, mentions=mentions) for mentions in ((), (1, 5), "all")]
    assert [chat.is_about(1) for chat in chats] == [False, True, True]
    assert [chat.is_about(2) for chat in chats] == [False, False, True]


@pytest.mark.parametrize(("wire", "event"), HEARD)
def test_what_the_server_says(wire: dict[str, object], event: object) -> None:
    assert frames.decode(json.dumps(wire).encode()) == event


def test_login_answer_with_texts_inside_texts() -> None:
    member = json.dumps({"id": 2, "name": "bob", "state": "online", "role": "creator"})
    group = json.dumps({"id": 3, "groupname": "team", "groupdesc": "d", "users": [member]})
    friend = json.dumps({"id": 2, "name": "bob", "state": "offline"})
    waiting = [json.dumps(wire) for wire, _ in HEARD]
    answer = frames.decode(
        json.dumps(
            {
                "msgid": 2,
                "errno": 0,
                "id": 1,
                "name": "alice",
                "offlinemsg": waiting,
                "friends": [friend],
                "groups": [group],
            }
        )
    )
    assert answer == frames.LoginAnswer(
        0,
        "",
        ALICE,
        (Friend(2, "bob", False),),
        (Group(3, "team", "d", (Member(2, "bob", True, "owner"),)),),
        tuple(event for _, event in HEARD if event is not None),  # type: ignore[misc]
    )
    assert frames.decode(b'{"msgid":2,"errno":2,"errmsg":"busy"}') == frames.LoginAnswer(
        2, "busy", User(0, ""), (), (), ()
    )


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello",
        b"[]",
        b"{}",
        b'{"msgid":"6"}',
        b'{"msgid":6,"id":1}',
        b'{"msgid":6,"id":1,"msg":7}',
        b'{"msgid":6,"id":1,"msg":"\xff"}',
        b'{"msgid":2,"errno":0,"friends":["{"]}',
        b'{"msgid":2,"errno":0,"offlinemsg":["x"]}',
        b"[" * 100_000,
    ],
)
def test_garbage_is_a_bad_frame(garbage: bytes) -> None:
    with pytest.raises(BadFrame):
        frames.decode(garbage)


def test_what_the_client_says() -> None:
    by_name, by_id = Destination(user_name="bob"), Destination(user_id=2)
    group = Destination(group_id=3)
    chat = {"id": 1, "name": "alice", "msg": "hi", "time": "t", "fp": "x"}
    table = [
        (
            outgoing.login("alice", "pw"),
            {"msgid": 1, "name": "alice", "password": "pw", "framing": "nul", "acks": True, "requests": True},
        ),
        (
            outgoing.login("12", "pw"),
            {"msgid": 1, "id": 12, "password": "pw", "framing": "nul", "acks": True, "requests": True},
        ),
        (outgoing.register("bob", "pw"), {"msgid": 4, "name": "bob", "password": "pw"}),
        (outgoing.logout(ALICE), {"msgid": 3, "id": 1}),
        (outgoing.chat(ALICE, PendingMessage("x", by_name, "hi", 0), "t"), {"msgid": 6, "toname": "bob", **chat}),
        (outgoing.chat(ALICE, PendingMessage("x", by_id, "hi", 0), "t"), {"msgid": 6, "toid": 2, **chat}),
        (outgoing.chat(ALICE, PendingMessage("x", group, "hi", 0), "t"), {"msgid": 11, "groupid": 3, **chat}),
        (outgoing.add_friend(ALICE, 2), {"msgid": 7, "id": 1, "friendid": 2}),
        (outgoing.answer_friend(ALICE, 2, True), {"msgid": 8, "id": 1, "friendid": 2, "flag": True}),
        (outgoing.create_group(ALICE, "g", "d"), {"msgid": 9, "id": 1, "groupname": "g", "groupdesc": "d"}),
        (outgoing.join_group(ALICE, 3), {"msgid": 10, "id": 1, "groupid": 3}),
    ]
    for said, meant in table:
        assert b"\0" not in said
        assert json.loads(said) == meant


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("1", True),
        ("0", False),
        ("x1", False),
        ("", False),
        ("-1", False),
        ("٣", False),
        ("9" * 18, True),
        ("9" * 40, False),
    ],
)
def test_numbers_the_wire_can_carry(word: str, number: bool) -> None:
    assert is_number(word) is number
