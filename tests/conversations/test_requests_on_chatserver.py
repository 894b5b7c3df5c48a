"""Requests on the chatserver wire, against real clients of both wires: the same operations with the same results."""

from __future__ import annotations

import pytest

from chatd.errors import ErrorCode
from tests.conversations.asking import Client, StreamingClient, clients, new_group
from tests.conversations.stages import on_every_stage
from tests.conversations.takeovers import take_over_without_right
from tests.harness.deadline import run, until
from tests.harness.person import Town

pytestmark = on_every_stage


async def across(town: Town, *names: str) -> list[Client]:
    """The first is on the mobileimsdk wire, the others on chatserver's."""
    first = await clients(town, names[0])
    return first + await clients(town, *names[1:], transport="chatserver")


def test_friends(town: Town) -> None:
    async def story() -> None:
        alice, bob, carol = await across(town, "alice", "bob", "carol")
        assert (await alice.ask("friend.request", user=bob.name))["friends"] is False
        assert (await bob.hears("friend.request"))["from"] == {"id": town.ids[alice.name], "name": alice.name}
        carol.leave()
        await bob.ask("friend.request", user=town.ids[carol.name])
        await bob.ask("friend.accept", user=alice.name)
        assert (await alice.hears("friend.accepted"))["from"]["name"] == bob.name
        assert isinstance(await carol.arrive(), StreamingClient)  # who was away is told at login, once
        assert (await carol.hears("friend.request"))["from"]["name"] == bob.name
        await carol.ask("friend.refuse", user=bob.name)
        await bob.hears("friend.refused")
        assert [one["name"] for one in (await bob.ask("friend.list"))["friends"]] == [alice.name]
        await bob.ask("presence.subscribe", users=[alice.name])
        alice.leave()
        await bob.hears("presence", online=False)
        await carol.is_up_to_date()
        assert (bob.notices, carol.notices) == ([], [])

    run(story())


def test_groups(town: Town) -> None:
    async def story() -> None:
        alice, bob, carol = await across(town, "alice", "bob", "carol")
        number = await new_group(bob, alice, carol)
        assert (await bob.hears("group.joined"))["user"]["name"] == alice.name
        await bob.says(f"#{number}", "welcome")
        for one in (alice, carol):
            await one.sees(bob.name, f"#{number}", "welcome")
        await bob.ask("group.role", group=number, user=carol.name, role="admin")
        await alice.hears("group.role", role="admin")
        assert await alice.refused("group.kick", group=number, user=carol.name) is ErrorCode.NOT_ALLOWED
        await carol.ask("group.kick", group=number, user=alice.name)
        assert await alice.hears("group.kicked") == {"event": "group.kicked", "group": number}
        for one in (bob, carol):
            assert (await one.hears("group.kicked"))["user"]["name"] == alice.name
        await bob.ask("group.kick", group=number, user=carol.name)
        assert await carol.hears("group.kicked") == {"event": "group.kicked", "group": number}
        carol.say(f"#{number}", "still here?")
        error = await until(10, "refused", lambda: carol.errors)
        assert error[0]["errno"] == ErrorCode.NOT_A_MEMBER

    run(story())


def test_history_and_the_session(town: Town) -> None:
    async def story() -> None:
        alice, bob = await across(town, "alice", "bob")
        for text in ("one", "two", "three"):
            await alice.says(bob.name, text)
        await bob.sees(alice.name, bob.name, "three")
        page = (await bob.ask("history", with_=alice.name, after=1))["messages"]
        assert [(entry["seq"], entry["text"]) for entry in page] == [(2, "two"), (3, "three")]
        assert await bob.ask("read", with_=alice.name, seq=3) == {"seq": 3}
        assert (await alice.hears("read"))["by"]["name"] == bob.name
        who = await bob.ask("whoami")
        assert (who["name"], who["wire"]) == (bob.name, "chatserver")
        await bob.ask("password.change", old=town.secret, new="another secret")
        await bob.ask("password.change", old="another secret", new=town.secret)
        assert await bob.refused("no.such.op") is ErrorCode.UNKNOWN_REQUEST
        assert await bob.refused("history", with_=7.5) is ErrorCode.BAD_FIELD

    run(story())


def test_a_request_sent_again_has_one_effect_and_the_same_answer(town: Town) -> None:
    async def story() -> None:
        _, bob = await across(town, "alice", "bob")
        fp = f"create {bob.name}"
        bob.put("group.create", fp=fp, ref=fp, name="team")
        first = await bob.answer(fp)
        bob.leave()
        bob.answers.clear()
        await bob.arrive()
        bob.put("group.create", fp=fp, ref=fp, name="team")
        assert await bob.answer(fp) == first
        assert len((await bob.ask("group.list"))["groups"]) == 1
        assert await bob.refused("group.create", fp=fp, ref="another", name="another") is ErrorCode.FP_REUSED

    run(story())


def test_without_requests_a_streaming_client_sees_what_it_always_saw(town: Town) -> None:
    async def story() -> None:
        alice = (await clients(town, "alice"))[0]
        bob = await town.newcomer("bob")
        desk = await town.errand(bob)
        await alice.ask("friend.request", user=bob)
        assert (await desk.take())["msgid"] == 7
        number = await new_group(alice)
        desk.put({"msgid": 10, "id": town.ids[bob], "groupid": number})
        assert (await desk.take())["msgid"] == 14
        await alice.ask("group.rename", group=number, name="other")  # a notice for members, not for this client
        desk.put({"msgid": 16, "op": "whoami", "ref": 1})
        answer = await desk.take()
        assert (answer["msgid"], answer["errno"], answer["ref"]) == (12, ErrorCode.UNKNOWN_REQUEST, 16)

    run(story())


# ---------------------------------------------------------------- takeover


@pytest.mark.parametrize("rounds", [6])
def test_a_takeover_ends_the_other_session_wherever_it_is(town: Town, rounds: int) -> None:
    """Several times, so that old and new are on the same worker and on different ones."""

    async def story() -> None:
        name = await town.newcomer("bob")
        old = StreamingClient(town, name)
        await old.arrive()
        for _ in range(rounds):
            new = StreamingClient(town, name)
            await new.arrive(takeover=True)
            await until(10, "the old one has ended", lambda old=old: old.stream.gone.is_set())  # type: ignore[misc]
            (error,) = old.errors
            assert error == {"errno": ErrorCode.ALREADY_LOGGED_IN, "errmsg": "logged in elsewhere", "ref": 0}
            assert len((await new.ask("session.list"))["sessions"]) == 1
            old = new

    run(story())


def test_who_is_not_the_user_takes_nothing_over(town: Town) -> None:
    run(take_over_without_right(town))
