"""Every row of the chatserver page that is about the server, said byte by byte."""

from __future__ import annotations

import asyncio
import json

import pytest

from chatd.errors import ErrorCode
from tests.harness.chatserver import OldClient, chat
from tests.harness.deadline import run, until
from tests.harness.peer import Frame, NulPeer
from tests.harness.person import Town


async def silence(peer: NulPeer) -> None:
    """Nothing was on its way: an unknown msgid is answered next."""
    peer.put({"msgid": 4711})
    answer = await peer.take()
    assert (answer["msgid"], answer["ref"]) == (12, 4711), answer


async def two(town: Town) -> tuple[str, NulPeer, str, NulPeer]:
    alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
    return alice, await town.errand(alice), bob, await town.errand(bob)


async def old_client(town: Town, name: str) -> OldClient:
    client = OldClient()
    await client.open(town.daemon.ports["chatserver"])
    while True:
        client.put({"msgid": 1, "id": town.ids[name], "password": town.secret})
        answer = await client.answer()
        if answer["errno"] != 2:
            assert answer["errno"] == 0
            return client


# ---------------------------------------------------------------- frames


def test_frames_may_come_glued_in_pieces_and_without_nul(town: Town) -> None:
    async def story() -> None:
        peer = await town.nul_peer()
        first = json.dumps({"msgid": 101}).encode()
        second = json.dumps({"msgid": 102, "text": "a } in a string, and żółć"}, ensure_ascii=False).encode()
        third = json.dumps({"msgid": 103}).encode()
        peer.write(first + b"\0" + second + b"\0" + third)  # the last without its NUL
        assert [(await peer.take())["ref"] for _ in range(3)] == [101, 102, 103]
        for byte in second + b"\0" + third:
            peer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert [(await peer.take())["ref"] for _ in range(2)] == [102, 103]

    run(story())


# ---------------------------------------------------------------- accounts


def test_register_and_log_in_by_number_and_by_name(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        for whom in ({"id": town.ids[name]}, {"name": name}):
            peer = await town.nul_peer()
            peer.put({"msgid": 1, **whom, "password": town.secret})
            assert await peer.take() == {"msgid": 2, "errno": 0, "id": town.ids[name], "name": name}
            await town.finish(peer)

    run(story())


@pytest.mark.parametrize("name", ["", " ", "a" * 300, "new\nline", "nul\0"])
def test_a_name_that_is_not_allowed_is_refused_with_errno_1(town: Town, name: str) -> None:
    async def story() -> None:
        peer = await town.nul_peer()
        peer.put({"msgid": 4, "name": name, "password": "secret"})
        answer = await peer.take()
        assert (answer["msgid"], answer["errno"]) == (5, 1)
        await silence(peer)

    run(story())


def test_a_taken_name_is_refused_with_errno_1(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        peer = await town.nul_peer()
        peer.put({"msgid": 4, "name": name, "password": "secret"})
        answer = await peer.take()
        assert (answer["msgid"], answer["errno"]) == (5, 1)

    run(story())


def test_unknown_user_and_wrong_password_look_the_same_and_may_try_again(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        peer = await town.nul_peer()
        peer.put({"msgid": 1, "id": town.ids[name], "password": "wrong"})
        wrong = await peer.take()
        peer.put({"msgid": 1, "id": 2_000_000_000, "password": "wrong"})
        unknown = await peer.take()
        peer.put({"msgid": 1, "name": "nobody at all", "password": "wrong"})
        assert wrong == unknown == await peer.take()
        assert (wrong["msgid"], wrong["errno"]) == (2, 1)
        assert isinstance(wrong["errmsg"], str)
        peer.put({"msgid": 1, "id": town.ids[name], "password": town.secret})
        assert (await peer.take())["errno"] == 0

    run(story())


def test_a_second_login_of_the_same_user_gets_errno_2_until_the_first_has_left(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        first = await town.errand(name)
        login = {"msgid": 1, "id": town.ids[name], "password": town.secret}
        others = [await town.nul_peer() for _ in range(4)]  # some of them on another worker, if there is one
        for peer in others:
            peer.put(login)
            answer = await peer.take()
            assert (answer["msgid"], answer["errno"]) == (2, 2)
            assert answer["errmsg"] == "this account has logined, please input a new account"
        first.put(chat(town.ids[name], name, "", town.ids[name], "still served"))
        assert (await first.find(msgid=6))["msg"] == "still served"
        first.abort()
        for _ in range(200):
            others[0].put(login)
            if (await others[0].take())["errno"] == 0:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("still errno 2 after the first connection was reset")

    run(story())


def test_logout_answers_nothing_and_the_connection_may_log_in_again(town: Town) -> None:
    async def story() -> None:
        alice, peer, bob, other = await two(town)
        await town.finish(other)
        peer.put({"msgid": 3, "id": town.ids[alice]})
        peer.put(chat(town.ids[alice], alice, bob, town.ids[bob], "not any more"))
        refused = await peer.take()
        assert (refused["msgid"], refused["errno"], refused["ref"]) == (12, ErrorCode.NOT_LOGGED_IN, 6)
        for name in (bob, alice, bob):
            peer.put({"msgid": 1, "id": town.ids[name], "password": town.secret})
            assert (await peer.take())["id"] == town.ids[name]
            peer.put({"msgid": 3, "id": town.ids[name]})

    run(story())


def test_not_logged_in_everything_but_login_and_register_is_refused(town: Town) -> None:
    async def story() -> None:
        peer = await town.nul_peer()
        for frame in (
            {"msgid": 3, "id": 1},
            {"msgid": 6, "id": 1, "name": "x", "toid": 1, "msg": "x", "time": ""},
            {"msgid": 7, "id": 1, "friendid": 2},
            {"msgid": 8, "id": 1, "friendid": 2, "flag": True},
            {"msgid": 9, "id": 1, "groupname": "x", "groupdesc": "x"},
            {"msgid": 10, "id": 1, "groupid": 1},
            {"msgid": 11, "id": 1, "name": "x", "groupid": 1, "msg": "x", "time": ""},
        ):
            peer.put(frame)
            answer = await peer.take()
            assert (answer["msgid"], answer["errno"], answer["ref"]) == (12, ErrorCode.NOT_LOGGED_IN, frame["msgid"])

    run(story())


# ---------------------------------------------------------------- messages


def test_what_a_message_looks_like_and_its_acknowledgement(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        one.put({**chat(town.ids[alice], alice, bob, town.ids[bob], "hello"), "fp": "my-1"})
        ack = await one.take()
        assert (ack["msgid"], ack["fp"], ack["seq"]) == (13, "my-1", 1)
        frame = await other.take()
        assert (frame["msgid"], frame["id"], frame["name"], frame["toid"]) == (6, town.ids[alice], alice, town.ids[bob])
        assert (frame["msg"], frame["time"]) == ("hello", ack["time"])
        one.put({"msgid": 6, "toname": bob, "msg": "by name", "fp": "my-2"})
        assert (await one.take())["seq"] == 2
        assert (await other.take())["msg"] == "by name"

    run(story())


def test_a_client_in_compatible_mode_is_told_nothing_about_its_messages(town: Town) -> None:
    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        one, other = await town.errand(alice, framing=""), await town.errand(bob)
        one.put({**chat(town.ids[alice], alice, bob, town.ids[bob], "hello"), "fp": "ignored"})
        assert (await other.take())["msg"] == "hello"
        await silence(one)

    run(story())


def test_a_claimed_identity_is_refused_and_logged(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        mallory = await town.newcomer("mallory")

        def counted() -> int:
            return int(town.daemon.status()["totals"]["identities_refused"])

        before = counted()
        frames: list[Frame] = [
            chat(town.ids[mallory], mallory, bob, town.ids[bob], "I am mallory"),
            {"msgid": 7, "id": town.ids[mallory], "friendid": town.ids[bob]},
            {"msgid": 8, "id": town.ids[mallory], "friendid": town.ids[bob], "flag": True},
            {"msgid": 9, "id": town.ids[mallory], "groupname": "x", "groupdesc": "x"},
            {"msgid": 10, "id": town.ids[mallory], "groupid": 1},
            {"msgid": 11, "id": town.ids[mallory], "name": mallory, "groupid": 1, "msg": "x", "time": ""},
        ]
        for frame in frames:
            one.put(frame)
            answer = await one.take()
            assert (answer["msgid"], answer["errno"]) == (12, ErrorCode.CLAIMED_IDENTITY)
            assert answer["ref"] == frame["msgid"]
        await silence(other)

        def logged() -> int:
            return sum(record.get("user") == town.ids[alice] for record in town.daemon.logged("claimed identity"))

        await until(5, "as many claims in the log as are written of one user", lambda: logged() >= 5)
        assert counted() - before == len(frames)

    run(story())


def test_to_an_unknown_user_or_group_is_refused_and_not_stored(town: Town) -> None:
    async def story() -> None:
        alice, peer, bob, _ = await two(town)
        me = town.ids[alice]
        for to, to_id, code in (
            ("", 2_000_000_000, ErrorCode.UNKNOWN_RECIPIENT),
            ("", -5, ErrorCode.UNKNOWN_RECIPIENT),
            ("nobody at all", 0, ErrorCode.UNKNOWN_RECIPIENT),
            ("#2000000000", 0, ErrorCode.UNKNOWN_GROUP),
        ):
            peer.put({**chat(me, alice, to, to_id, "hello?"), "fp": f"to {to}{to_id}"})
            answer = await peer.take()
            assert (answer["msgid"], answer["errno"]) == (12, code)
        peer.put({**chat(me, alice, bob, town.ids[bob], "hello"), "fp": "good"})
        assert (await peer.take())["seq"] == 1

    run(story())


# ---------------------------------------------------------------- friends


def test_a_friend_request_is_shown_accepted_and_listed_with_its_state(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        one.put({"msgid": 7, "id": town.ids[alice], "friendid": town.ids[bob]})
        request = await other.find(msgid=7)
        assert (request["from"], request["toid"]) == (town.ids[alice], town.ids[bob])
        assert isinstance(request["msg"], str)
        other.put({"msgid": 8, "id": town.ids[bob], "friendid": town.ids[alice], "flag": True})
        answer = await one.find(msgid=8)
        assert (answer["from"], answer["toid"]) == (town.ids[bob], town.ids[alice])
        assert isinstance(answer["msg"], str)
        assert await friends_at_login(town, alice, one) == [(bob, "online")]
        await town.finish(other)
        again = await town.errand(alice)
        await town.finish(again)

    run(story())


async def friends_at_login(town: Town, name: str, peer: NulPeer) -> list[tuple[str, str]]:
    await town.finish(peer)
    peer = await town.nul_peer()
    peer.put({"msgid": 1, "id": town.ids[name], "password": town.secret})
    answer = await peer.take()
    await town.finish(peer)
    friends = [json.loads(friend) for friend in answer.get("friends", [])]
    assert all(friend["id"] == town.ids[friend["name"]] for friend in friends)
    return [(friend["name"], friend["state"]) for friend in friends]


def test_a_friend_who_is_away_is_offline_and_a_refused_one_is_none(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        carol = await town.newcomer("carol")
        third = await town.errand(carol)
        for friend in (bob, carol):
            one.put({"msgid": 7, "id": town.ids[alice], "friendid": town.ids[friend]})
        await other.find(msgid=7)
        other.put({"msgid": 8, "id": town.ids[bob], "friendid": town.ids[alice], "flag": True})
        await one.find(msgid=8)
        await third.find(msgid=7)
        third.put({"msgid": 8, "id": town.ids[carol], "friendid": town.ids[alice], "flag": False})
        assert (await one.find(msgid=8))["from"] == town.ids[carol]
        await town.finish(other)
        assert await friends_at_login(town, alice, one) == [(bob, "offline")]
        assert await friends_at_login(town, carol, third) == []

    run(story())


def test_a_friend_request_waits_for_somebody_who_is_away(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        await town.finish(other)
        one.put({"msgid": 7, "id": town.ids[alice], "friendid": town.ids[bob]})
        await silence(one)
        client = await old_client(town, bob)
        assert [(request["from"], request["toid"]) for request in client.requests] == [(town.ids[alice], town.ids[bob])]
        client.put({"msgid": 8, "id": town.ids[bob], "friendid": town.ids[alice], "flag": True})
        assert (await one.find(msgid=8))["from"] == town.ids[bob]
        client.close()

    run(story())


def test_a_friend_request_to_nobody_is_refused(town: Town) -> None:
    async def story() -> None:
        alice = await town.newcomer("alice")
        peer = await town.errand(alice)
        peer.put({"msgid": 7, "id": town.ids[alice], "friendid": 2_000_000_000})
        answer = await peer.take()
        assert (answer["msgid"], answer["errno"], answer["ref"]) == (12, ErrorCode.UNKNOWN_RECIPIENT, 7)
        peer.put({"msgid": 8, "id": town.ids[alice], "friendid": 2_000_000_000, "flag": True})
        answer = await peer.take()
        assert (answer["msgid"], answer["ref"]) == (12, 8)

    run(story())


# ---------------------------------------------------------------- groups


def test_groups_are_created_joined_and_listed_with_members_and_roles(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        one.put({"msgid": 9, "id": town.ids[alice], "groupname": "lunch", "groupdesc": "who eats"})
        made = await one.take()
        assert (made["msgid"], made["errno"], made["groupname"]) == (14, 0, "lunch")
        other.put({"msgid": 10, "id": town.ids[bob], "groupid": made["groupid"]})
        assert (await other.find(msgid=14))["groupid"] == made["groupid"]
        await town.finish(one)
        peer = await town.nul_peer()
        peer.put({"msgid": 1, "id": town.ids[alice], "password": town.secret})
        (listed,) = [json.loads(group) for group in (await peer.take())["groups"]]
        assert (listed["id"], listed["groupname"], listed["groupdesc"]) == (made["groupid"], "lunch", "who eats")
        users = {user["name"]: user for user in map(json.loads, listed["users"])}
        assert {name: user["role"] for name, user in users.items()} == {alice: "creator", bob: "normal"}
        assert {name: user["id"] for name, user in users.items()} == {alice: town.ids[alice], bob: town.ids[bob]}
        assert users[bob]["state"] == "online"

    run(story())


def test_to_a_group_one_is_not_in_and_joining_none_is_refused(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        one.put({"msgid": 9, "id": town.ids[alice], "groupname": "secret", "groupdesc": ""})
        group = (await one.take())["groupid"]
        other.put(chat(town.ids[bob], bob, f"#{group}", 0, "let me in"))
        answer = await other.take()
        assert (answer["msgid"], answer["errno"], answer["ref"]) == (12, ErrorCode.NOT_A_MEMBER, 11)
        other.put({"msgid": 10, "id": town.ids[bob], "groupid": 2_000_000_000})
        answer = await other.take()
        assert (answer["msgid"], answer["errno"], answer["ref"]) == (12, ErrorCode.UNKNOWN_GROUP, 10)
        await silence(one)

    run(story())


def test_a_group_message_has_its_group_and_is_not_given_to_its_sender(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        one.put({"msgid": 9, "id": town.ids[alice], "groupname": "lunch", "groupdesc": ""})
        group = (await one.take())["groupid"]
        other.put({"msgid": 10, "id": town.ids[bob], "groupid": group})
        await other.find(msgid=14)
        one.put(chat(town.ids[alice], alice, f"#{group}", 0, "soup"))
        frame = await other.take()
        assert (frame["msgid"], frame["groupid"], frame["id"]) == (11, group, town.ids[alice])
        assert (frame["name"], frame["msg"]) == (alice, "soup")
        await silence(one)

    run(story())
