"""Groups, presence and sessions when two people are certainly on different workers, and when a worker dies."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

from tests.conversations.asking import Client, befriend, clients, new_group
from tests.conversations.test_across_workers import worker_of
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Town


async def place(town: Town, other: Client, one: Client, *, apart: bool) -> None:
    """`other` comes back until it is on another worker than `one`, or on the same. Chance alone may choose one worker
    again and again; what is opened meanwhile stays open, so that the gate fills the other."""
    kept = []
    try:
        for _ in range(60):
            mine, theirs = [
                await until(5, "accepted", lambda peer=client.peer: worker_of(town.daemon, peer))  # type: ignore[misc]
                for client in (one, other)
            ]
            if (mine != theirs) is apart:
                return
            kept.append(await town.mobile_peer())
            other.leave()
            await other.arrive()
        raise AssertionError("never on the other worker")
    finally:
        for peer in kept:
            peer.close()


async def pair(town: Town) -> tuple[Client, Client]:
    alice, bob = await clients(town, "alice", "bob")
    await place(town, bob, alice, apart=True)
    return alice, bob


def started(make_daemon: Callable[..., Daemon]) -> Town:
    return Town(make_daemon(workers=2).start())


def test_membership_reaches_the_other_worker(make_daemon: Callable[..., Daemon]) -> None:
    async def story(town: Town) -> None:
        alice, bob = await pair(town)
        desk = await town.errand(bob.name)
        number = await new_group(alice)
        place = f"#{number}"
        for round_ in range(5):
            await bob.ask("group.join", group=number)
            await alice.hears("group.joined", group=number)
            await alice.says(place, f"in {round_}")
            await bob.sees(alice.name, place, f"in {round_}")
            assert (await desk.find(msgid=11))["msg"] == f"in {round_}"
            await bob.says(place, f"answer {round_}")
            await alice.sees(bob.name, place, f"answer {round_}")
            if round_ % 2:
                await bob.ask("group.leave", group=number)
                await alice.hears("group.left", group=number)
            else:
                await alice.ask("group.kick", group=number, user=bob.name)
                await bob.hears("group.kicked", group=number)
                await alice.ask("group.unban", group=number, user=bob.name)
            await alice.says(place, f"out {round_}")
        await alice.says(bob.name, "the end")
        await bob.sees(alice.name, bob.name, "the end")
        assert [text for _, to, text in bob.messages if to == place] == [f"in {round_}" for round_ in range(5)]

    run(story(started(make_daemon)))


def test_a_request_sent_again_on_another_worker(make_daemon: Callable[..., Daemon]) -> None:
    async def story(town: Town) -> None:
        alice, bob = await pair(town)
        bob.put("group.create", fp="same", ref="same", name="team")
        first = await bob.answer("same")
        bob.leave()
        bob.answers.clear()
        bob.seen.clear()
        await bob.arrive()
        await place(town, bob, alice, apart=False)
        bob.put("group.create", fp="same", ref="same", name="team")
        assert await bob.answer("same") == first
        assert len((await bob.ask("group.list"))["groups"]) == 1

    run(story(started(make_daemon)))


def test_sessions_on_several_workers(make_daemon: Callable[..., Daemon]) -> None:
    async def story(town: Town) -> None:
        bob, other = await clients(town, "bob", "other")
        places, kept = set(), []
        for _ in range(60):
            desk = await town.errand(bob.name)
            here = await until(5, "accepted", lambda desk=desk: worker_of(town.daemon, desk))  # type: ignore[misc]
            places.add(here == worker_of(town.daemon, bob.peer))
            found = await bob.ask("session.list")
            assert (len(found["sessions"]), found["complete"]) == (2, True)
            await bob.ask("session.kick", wire="chatserver")
            assert (await desk.end())[-1]["msgid"] == 12
            if places == {True, False}:
                break
            kept.append(await town.mobile_peer())  # so that the gate fills the other worker
        assert places == {True, False}
        for peer in kept:
            peer.close()
        await other.is_up_to_date()

    run(story(started(make_daemon)))


def test_presence_is_true_again_within_five_seconds_of_a_kill(make_daemon: Callable[..., Daemon]) -> None:
    async def story(town: Town) -> None:
        alice, bob = await pair(town)
        stays = Client(town, await town.newcomer("carol"))
        await stays.arrive()
        for one in (bob, stays):
            await befriend(alice, one)
        await place(town, stays, alice, apart=False)
        found = await alice.ask("presence.subscribe", users=[bob.name, stays.name])
        assert [entry["online"] for entry in found["users"]] == [True, True]
        await asyncio.sleep(1.1)  # a round of the watcher: nothing is to be looked at any more
        alice.notices.clear()
        town.daemon.expect_error("worker died")
        os.kill(worker_of(town.daemon, bob.peer), signal.SIGKILL)
        killed = time.monotonic()
        told = await alice.hears("presence")
        assert (told["user"]["name"], told["online"]) == (bob.name, False)
        assert time.monotonic() - killed < 5
        listed = {entry["name"]: entry["online"] for entry in (await alice.ask("friend.list"))["friends"]}
        assert listed == {bob.name: False, stays.name: True}
        await bob.arrive()
        told = await alice.hears("presence")
        assert (told["user"]["name"], told["online"]) == (bob.name, True)
        assert alice.notices == []

    run(story(started(make_daemon)))


async def parting(alice: Client, bob: Client, carol: Client, dave: Client) -> None:
    """alice watches all. bob, a friend, ends that; dave is put out of the group that they have in common; only of carol
    she hears from then on, of whom she hears later than she would of them."""
    for one in (bob, carol):
        await befriend(alice, one)
    number = await new_group(alice, dave)
    found = await alice.ask("presence.subscribe", users=[bob.name, carol.name, dave.name])
    assert [entry["online"] for entry in found["users"]] == [True] * 3
    await bob.ask("friend.remove", user=alice.name)
    await alice.ask("group.kick", group=number, user=dave.name)
    for one in (bob, dave):
        one.leave()
    await until(10, "they are away", lambda: bob.peer.gone.is_set() and dave.peer.gone.is_set())
    user = {"id": alice.town.ids[carol.name], "name": carol.name}
    carol.leave()
    await alice.hears("presence", online=False, user=user)
    await carol.arrive()
    await alice.hears("presence", online=True, user=user)
    assert [notice for notice in alice.notices if notice["event"] == "presence"] == []


def test_who_may_not_watch_any_more_hears_nothing_more(make_daemon: Callable[..., Daemon]) -> None:
    async def story(town: Town) -> None:
        alice, bob = await pair(town)
        await parting(alice, bob, *await clients(town, "carol", "dave"))

    run(story(started(make_daemon)))


def test_everybody_may_be_seen_where_it_is_set(make_daemon: Callable[..., Daemon]) -> None:
    async def story(town: Town) -> None:
        alice, bob = await pair(town)
        (entry,) = (await alice.ask("presence.subscribe", users=[bob.name]))["users"]
        assert entry["online"] is True
        bob.leave()
        assert (await alice.hears("presence"))["online"] is False

    run(story(Town(make_daemon(workers=2, people={"may_see": "everybody"}).start())))
