"""What fits into a frame of the deployed chatserver client: 1,023 bytes with the NUL, every field it reads."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.errors import ErrorCode
from chatd.model import Friend, FriendRequest, Group, Member, Message, Role, User
from chatd.protocol import (
    Deliver,
    Event,
    Failed,
    FriendAnswered,
    FriendRequested,
    GroupReady,
    Kicked,
    Login,
    LoginAccepted,
    Malformed,
    Register,
    Registered,
)
from chatd.wire.chatserver.codec import COMPATIBLE_FRAME_BYTES, ChatserverCodec
from tests.wire.chatserver.test_codec import make, message, read, streaming

FIELDS: dict[int, dict[str, type]] = {
    2: {"errno": int},
    5: {"errno": int},
    6: {"id": int, "name": str, "toid": int, "msg": str, "time": str},
    7: {"msg": str, "from": int, "toid": int},
    8: {"msg": str, "from": int, "toid": int},
    11: {"id": int, "name": str, "groupid": int, "msg": str, "time": str},
    12: {"errno": int, "errmsg": str, "ref": int},
    14: {"errno": int, "groupid": int, "groupname": str},
}
FRIEND: dict[str, type] = {"id": int, "name": str, "state": str}
GROUP: dict[str, type] = {"id": int, "groupname": str, "groupdesc": str, "users": list}
MEMBER: dict[str, type] = {**FRIEND, "role": str}


def has(content: dict[str, Any], fields: dict[str, type]) -> None:
    for name, kind in fields.items():
        assert type(content.get(name)) is kind, f"{name} in {content}"


def inner(texts: list[str], fields: dict[str, type]) -> list[dict[str, Any]]:
    found = [json.loads(text) for text in texts]
    for content in found:
        has(content, fields)
    return found


def fits(frame: bytes) -> dict[str, Any]:
    """The frame's object, after checking all that the deployed client does not."""
    assert len(frame) <= COMPATIBLE_FRAME_BYTES
    content = read(frame)
    has(content, FIELDS[content["msgid"]])
    if content["msgid"] == 2 and content["errno"] == 0:
        has(content, {"id": int, "name": str})
        for group in inner(content.get("groups", []), GROUP):
            inner(group["users"], MEMBER)
        inner(content.get("friends", []), FRIEND)
        for waiting in content.get("offlinemsg", []):
            once = json.loads(waiting)
            has(once, FIELDS[once["msgid"]])
        assert all(content[name] for name in ("offlinemsg", "friends", "groups") if name in content)
    return content


names = st.text(min_size=1, max_size=64)
texts = st.one_of(st.text(max_size=100), st.text(st.sampled_from('a"\\\n\0é😀…'), min_size=200, max_size=1500))
ids = st.integers(1, 2**63 - 1)
users = st.builds(User, ids, names)
friends = st.builds(Friend, ids, names, st.booleans())
members = st.builds(Member, ids, names, st.booleans(), st.sampled_from(Role))
groups = st.builds(Group, ids, texts, texts, st.lists(members, max_size=8).map(tuple))
different_groups = st.lists(groups, max_size=5, unique_by=lambda group: group.id)
requests = st.builds(FriendRequest, users, ids)
messages = st.builds(
    Message,
    conversation=ids,
    seq=ids,
    sender_id=ids,
    sender_name=names,
    to_id=ids,
    to_name=names,
    group_id=st.one_of(st.just(0), ids),
    body=texts,
    fp=st.text(max_size=64),
    qos=st.booleans(),
    typeu=st.just(-1),
    sent_at_ms=st.integers(0, 4_000_000_000_000),
)
logins = st.builds(
    LoginAccepted,
    users,
    st.just(0),
    st.lists(friends, max_size=12).map(tuple),
    different_groups.map(tuple),
    st.lists(requests, max_size=5).map(tuple),
    st.lists(messages, max_size=8).map(tuple),
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Deliver, messages, st.just(""), st.builds(dict)),
    st.builds(FriendRequested, requests),
    st.builds(FriendAnswered, users, ids, st.booleans()),
    st.builds(GroupReady, groups, st.booleans()),
    st.builds(Registered, users),
    st.builds(Kicked, st.booleans(), texts),
    st.builds(Failed, st.sampled_from(ErrorCode), texts, st.just(Login("a", 0, "p"))),
    st.builds(Failed, st.sampled_from(ErrorCode), texts, st.just(Register("a", "p"))),
    st.builds(
        Failed, st.sampled_from(ErrorCode), texts, st.builds(Malformed, st.just(ErrorCode.BAD_FIELD), texts, ids)
    ),
)


@given(events)
def test_every_frame_fits(event: Event) -> None:
    fits(make().encode(event))


@given(logins)
@settings(max_examples=200)
def test_every_login_answer_fits(event: LoginAccepted) -> None:
    frame, taken = make().encode_login(event)
    check_login(fits(frame), event, taken)


@given(logins)
def test_a_streaming_login_answer_has_room(event: LoginAccepted) -> None:
    codec = streaming()
    frame, taken = codec.encode_login(event)
    assert len(frame) <= 65536
    check_login(read(frame), event, taken)


def check_login(content: dict[str, Any], event: LoginAccepted, taken: int) -> None:
    """What is there is from the event, in its order, and a message is left out only after those before it."""
    assert (content["id"], content["name"]) == (event.user.id, event.user.name)
    offline = [json.loads(text) for text in content.get("offlinemsg", [])]
    chats = [each for each in offline if each["msgid"] != 7]
    assert offline == [each for each in offline if each["msgid"] == 7] + chats
    assert [(each["id"], each["msg"]) for each in chats] == [(m.sender_id, m.body) for m in event.waiting[:taken]]
    assert_part([each["from"] for each in offline if each["msgid"] == 7], [each.sender.id for each in event.requests])
    assert_part([json.loads(each)["id"] for each in content.get("friends", [])], [each.id for each in event.friends])
    shown = [json.loads(each) for each in content.get("groups", [])]
    assert_part([each["id"] for each in shown], [each.id for each in event.groups])
    for group in shown:
        of = next(each for each in event.groups if each.id == group["id"])
        assert_part([json.loads(each)["name"] for each in group["users"]], [each.name for each in of.members])


def assert_part(part: list[Any], whole: list[Any]) -> None:
    """`part` is `whole` with some left out."""
    rest = iter(whole)
    assert all(each in rest for each in part), f"{part} of {whole}"


@given(
    st.text(st.sampled_from('a"\\\n\0é😀…'), min_size=300, max_size=1500),
    st.sampled_from([0, 3]),
)
def test_a_text_is_cut_at_a_character_to_fit(text: str, group: int) -> None:
    sent: str = fits(make().encode(Deliver(message(text, group), "", {})))["msg"]
    if sent != text:
        assert sent.endswith("…")
        assert text.startswith(sent[:-1])
        one_more = streaming().encode(Deliver(message(text[: len(sent)] + "…", group, fp=""), "", {}))
        extra = len(b',"conv":5,"seq":9') + (1 if group else 0)
        assert len(one_more) - extra > COMPATIBLE_FRAME_BYTES, "cut more than needed"


def test_a_text_that_just_fits_is_whole_and_one_byte_more_is_cut() -> None:
    room = COMPATIBLE_FRAME_BYTES - len(make().encode(Deliver(message(""), "", {})))
    whole = make().encode(Deliver(message("x" * room), "", {}))
    assert len(whole) == COMPATIBLE_FRAME_BYTES
    assert read(whole)["msg"] == "x" * room
    cut = make().encode(Deliver(message("x" * (room + 1)), "", {}))
    assert read(cut)["msg"] == "x" * (room - 3) + "…"


# ---------------------------------------------------------------- what LOGIN_ACK leaves out first


@pytest.mark.parametrize("kind", ["friends", "groups", "members", "requests", "waiting"])
def test_no_byte_is_miscounted(kind: str) -> None:
    """Whatever room the name leaves, the answer is filled to the last entry and not over."""
    many = {"groups": 1, "members": 40} if kind == "members" else {kind: 40}
    fullest = 0
    for length in range(1, 161):
        event = msgspec.structs.replace(login_with(**many), user=User(1, "n" * length))
        frame, _ = make().encode_login(event)
        fits(frame)
        fullest = max(fullest, len(frame))
    assert fullest == COMPATIBLE_FRAME_BYTES


def login_with(
    friends: int = 0, groups: int = 0, members: int = 0, requests: int = 0, waiting: int = 0
) -> LoginAccepted:
    people = tuple(
        Member(100 + at, f"member{at:02}", True, Role.OWNER if at == 0 else Role.ADMIN) for at in range(members)
    )
    return LoginAccepted(
        User(1, "alice"),
        0,
        tuple(Friend(200 + at, f"friend{at:02}", at % 2 == 0) for at in range(friends)),
        tuple(Group(300 + at, f"group{at:02}", "about", people) for at in range(groups)),
        tuple(FriendRequest(User(400 + at, f"asker{at:02}"), 1) for at in range(requests)),
        tuple(message(f"waiting {at}") for at in range(waiting)),
    )


def counts(codec: ChatserverCodec, event: LoginAccepted) -> tuple[int, int, int, int, int]:
    """(friends, groups, members, requests, waiting) in the answer."""
    frame, taken = codec.encode_login(event)
    content = read(frame)
    groups = [json.loads(each) for each in content.get("groups", [])]
    offline = [json.loads(each) for each in content.get("offlinemsg", [])]
    requests = sum(each["msgid"] == 7 for each in offline)
    assert taken == len(offline) - requests
    members = sum(len(each["users"]) for each in groups)
    return len(content.get("friends", [])), len(groups), members, requests, taken


@pytest.mark.parametrize(
    "everything", [(1, 1, 1, 1, 1), (0, 0, 0, 0, 0), (3, 0, 0, 0, 2), (0, 2, 2, 0, 0), (0, 0, 0, 2, 3)]
)
def test_what_fits_is_all_there(everything: tuple[int, int, int, int, int]) -> None:
    friends, groups, members, requests, waiting = everything
    assert counts(make(), login_with(*everything)) == (friends, groups, groups * members, requests, waiting)


def test_an_empty_login_answer_has_no_empty_arrays() -> None:
    assert make().encode_login(login_with())[0] == b'{"msgid":2,"errno":0,"id":1,"name":"alice"}\0'


def test_waiting_messages_go_first() -> None:
    friends, groups, members, requests, waiting = counts(make(), login_with(3, 1, 2, 2, 9))
    assert (friends, groups, members, requests) == (3, 1, 2, 2)
    assert 0 < waiting < 9


def test_members_go_before_groups() -> None:
    friends, groups, members, requests, waiting = counts(make(), login_with(2, 4, 9, 1, 2))
    assert (friends, groups, requests, waiting) == (2, 4, 1, 0)
    assert 0 < members < 36


def test_groups_go_before_friends() -> None:
    friends, groups, members, requests, waiting = counts(make(), login_with(8, 20, 3, 1, 2))
    assert (friends, members, requests, waiting) == (8, 0, 1, 0)
    assert 0 < groups < 20


def test_friends_go_before_requests() -> None:
    friends, groups, _, requests, _ = counts(make(), login_with(20, 20, 3, 5, 2))
    assert (groups, requests) == (0, 5)
    assert 0 < friends < 20


def test_no_more_requests_than_fit() -> None:
    friends, groups, members, requests, waiting = counts(make(), login_with(0, 0, 0, 20, 2))
    assert (friends, groups, members, waiting) == (0, 0, 0, 0)
    assert 0 < requests < 20


def test_a_waiting_message_that_does_not_fit_stops_those_after_it() -> None:
    long, short = message("x" * 2000), message("short")
    event = LoginAccepted(User(1, "alice"), 0, waiting=(short, long, short))
    assert make().encode_login(event)[1] == 1
    assert streaming_login(event) == 3


def streaming_login(event: LoginAccepted) -> int:
    return streaming().encode_login(event)[1]


def test_streaming_has_room_for_all() -> None:
    assert counts(streaming(), login_with(20, 10, 9, 5, 50)) == (20, 10, 90, 5, 50)


def test_states_and_roles() -> None:
    content = read(make().encode_login(login_with(2, 1, 2))[0])
    assert [json.loads(each)["state"] for each in content["friends"]] == ["online", "offline"]
    people = [json.loads(each) for each in json.loads(content["groups"][0])["users"]]
    assert [each["role"] for each in people] == ["creator", "normal"]
