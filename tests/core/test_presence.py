"""Who is online: asked, watched, coalesced, true again after a worker died."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chatd.bus.contract import topic_of_user
from chatd.core import presence
from chatd.errors import ErrorCode, Unavailable
from chatd.protocol import ServerRequest
from chatd.store.contract import Tables
from tests.core.asking import ask, befriend, new_group, notices, refused
from tests.core.stage import Peer, Stage, play


async def rounds(stage: Stage, count: int = 2) -> None:
    """Two by default: a user who has gone is reported at the second look-up."""
    for _ in range(count):
        for worker in stage.workers:
            worker.core.round()
            presence = worker.core.presence
            await stage.until("it has looked", lambda presence=presence: not presence.is_looking)


def heard(peer: Peer) -> list[tuple[str, bool]]:
    return [(notice["user"]["name"], notice["online"]) for notice in notices(peer, "presence")]


async def online(peer: Peer, name: str) -> bool:
    (entry,) = (await ask(peer, "presence.get", users=[name]))["users"]
    return bool(entry["online"])


async def friends(stage: Stage, workers: int = 2) -> tuple[Peer, Peer]:
    """alice on the first worker watches bob on the last."""
    made = [await stage.worker() for _ in range(workers)]
    alice, bob = await made[0].mobile("alice"), await made[-1].mobile("bob")
    await befriend(alice, bob)
    found = await ask(alice, "presence.subscribe", users=["bob"])
    assert [(entry["name"], entry["online"]) for entry in found["users"]] == [("bob", True)]
    await rounds(stage)
    return alice, bob


@pytest.mark.parametrize("workers", [1, 2])
def test_coming_and_going_is_told_to_who_watches(tmp_path: Path, workers: int) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await friends(stage, workers)
        carol = await stage.workers[0].mobile("carol")
        await befriend(carol, bob)
        bob.leave()
        await stage.settled()
        await rounds(stage)
        assert heard(alice) == [("bob", False)]
        assert not await online(carol, "bob")
        assert heard(carol) == []
        (entry,) = (await ask(alice, "presence.get", users=["bob"]))["users"]
        assert entry["last_seen"] > 10**12
        await stage.workers[0].mobile("bob")
        await stage.settled()
        await rounds(stage, 3)
        assert heard(alice) == [("bob", False), ("bob", True)]
        assert await online(carol, "bob")

    play(tmp_path, story)


@pytest.mark.parametrize("workers", [1, 2])
def test_who_comes_and_goes_all_the_time_is_told_of_once_a_second_at_most(tmp_path: Path, workers: int) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await friends(stage, workers)
        for _ in range(7):
            bob.leave()
            await stage.settled()
            bob = await stage.workers[-1].mobile("bob")
        await stage.settled()
        await rounds(stage)
        assert heard(alice) == []
        for flaps in range(1, 5):
            for _ in range(flaps):
                bob.leave()
                await stage.settled()
                rounds_before = len(heard(alice))
                bob = await stage.workers[-1].mobile("bob")
                await stage.settled()
                assert len(heard(alice)) == rounds_before
            bob.leave()
            await stage.settled()
            await rounds(stage)
            bob = await stage.workers[-1].mobile("bob")
            await stage.settled()
            await rounds(stage)
            assert len(heard(alice)) == 2 * flaps

    play(tmp_path, story)


def test_one_of_two_sessions_that_ends_changes_nothing(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await friends(stage)
        desk = await stage.workers[0].desk("bob")
        bob.leave()
        await stage.settled()
        await rounds(stage)
        assert heard(alice) == []
        assert await online(alice, "bob")
        desk.leave()
        await stage.settled()
        await rounds(stage)
        assert heard(alice) == [("bob", False)]

    play(tmp_path, story)


def test_a_worker_that_dies_takes_its_users_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "REFRESH_MAX", 0)

    async def story(stage: Stage) -> None:
        alice, _ = await friends(stage)
        await stage.workers[1].bus.close()
        await rounds(stage, 5)
        assert heard(alice) == []  # nobody has said anything
        stage.exchange.gap(0)
        await stage.settled()
        await rounds(stage)
        assert heard(alice) == [("bob", False)]
        assert not await online(alice, "bob")

    play(tmp_path, story)


def test_a_lost_bus_message_is_found_at_the_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "REFRESH_MAX", 0)

    async def story(stage: Stage) -> None:
        alice, bob = await friends(stage)
        stage.exchange.lost = lambda source, target, data: True
        bob.leave()
        await stage.settled()
        await rounds(stage, 5)
        assert heard(alice) == []
        stage.exchange.gap(0)
        await stage.settled()
        await rounds(stage)
        assert heard(alice) == [("bob", False)]

    play(tmp_path, story)


@pytest.mark.parametrize("dies", [False, True])
def test_what_nobody_says_is_found_within_seconds(tmp_path: Path, *, dies: bool) -> None:
    """No bus message and no gap, however many are watched."""

    async def story(stage: Stage) -> None:
        stage.people(may_see="everybody")
        alice, bob = await friends(stage)
        others = [await stage.workers[0].mobile(f"user {number}") for number in range(50)]
        await ask(alice, "presence.subscribe", users=[other.name for other in others])
        await rounds(stage)
        stage.exchange.lost = lambda source, target, data: True
        if dies:
            await stage.workers[1].bus.close()
        else:
            bob.leave()
        await stage.settled()
        await rounds(stage, presence.REFRESH_ROUNDS + 1)
        assert heard(alice) == [("bob", False)]

    play(tmp_path, story)


@pytest.mark.parametrize("lag", [1, 7])
def test_who_moves_to_another_worker_is_never_nowhere(tmp_path: Path, lag: int) -> None:
    async def story(stage: Stage) -> None:
        made = [await stage.worker() for _ in range(3)]
        stage.exchange.lag = lambda: lag
        bob = await made[0].mobile("bob", 1000)
        for number in range(1, 6):
            moving = asyncio.ensure_future(made[number % 2].mobile("bob", 1000))
            turns = 0
            while not moving.done():
                assert made[2].bus.has_subscribers(topic_of_user(1)), turns
                await asyncio.sleep(0)
                turns += 1
            assert bob.closed
            bob = moving.result()
            assert bob.logged_in

    play(tmp_path, story)


def test_a_login_that_fails_half_way_leaves_nobody_online(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await friends(stage)
        bob.leave()
        await stage.settled()
        await rounds(stage)
        for steps in range(30):
            peer = stage.workers[1].peer()
            entering = asyncio.ensure_future(peer.login("bob"))
            for _ in range(steps):
                await asyncio.sleep(0)
            stage.workers[0].core.presence.gap()
            await rounds(stage)  # looks while the login is under way
            peer.leave()
            await entering
            await stage.settled()
            await rounds(stage)
            assert heard(alice)[-1] == ("bob", False), steps

    play(tmp_path, story)


def watching(peer: Peer) -> set[str]:
    assert peer.session is not None
    watched = peer.worker.core.presence.watched
    return {watched[user_id].user.name for user_id in peer.session.watching or ()}


async def comes_and_goes(stage: Stage, peer: Peer) -> Peer:
    """The new session."""
    worker = peer.worker
    peer.leave()
    await stage.settled()
    await rounds(stage)
    again = await worker.mobile(peer.name)
    await stage.settled()
    await rounds(stage)
    return again


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("by_watcher", [True, False])
def test_who_is_no_friend_any_more_hears_nothing_more(tmp_path: Path, workers: int, *, by_watcher: bool) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await friends(stage, workers)
        carol = await stage.workers[0].mobile("carol")
        await befriend(carol, bob)
        await ask(carol, "presence.subscribe", users=["bob"])
        ends, other = (alice, bob) if by_watcher else (bob, alice)
        await ask(ends, "friend.remove", user=other.name)
        await stage.settled()
        bob = await comes_and_goes(stage, bob)
        assert (heard(alice), watching(alice)) == ([], set())
        assert heard(carol) == [("bob", False), ("bob", True)]
        await befriend(alice, bob)
        await ask(alice, "presence.subscribe", users=["bob"])
        await comes_and_goes(stage, bob)
        assert heard(alice) == [("bob", False), ("bob", True)]

    play(tmp_path, story)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kicked", [True, False])
@pytest.mark.parametrize("watches", [True, False])
def test_who_is_in_no_group_with_them_any_more_hears_nothing_more(
    tmp_path: Path, workers: int, *, kicked: bool, watches: bool
) -> None:
    """bob leaves the group in which alice, carol and dave are. carol is in another one with him, dave is a friend.
    watches: he them; else they him."""

    async def story(stage: Stage) -> None:
        made = [await stage.worker() for _ in range(workers)]
        others = {name: await made[0].mobile(name) for name in ("alice", "carol", "dave")}
        alice, carol, dave = others.values()
        bob = await made[-1].mobile("bob")
        number = await new_group(alice, *others.values(), bob)
        await new_group(carol, bob)
        await befriend(dave, bob)
        for watcher, names in [(bob, [*others])] if watches else [(one, ["bob"]) for one in others.values()]:
            await ask(watcher, "presence.subscribe", users=names)
        if kicked:
            await ask(alice, "group.kick", group=number, user="bob")
        else:
            await ask(bob, "group.leave", group=number)
        await stage.settled()
        await rounds(stage)
        if watches:
            for one in others.values():
                await comes_and_goes(stage, one)
            assert heard(bob) == [("carol", False), ("carol", True), ("dave", False), ("dave", True)]
            assert watching(bob) == {"carol", "dave"}
        else:
            await comes_and_goes(stage, bob)
            told = [("bob", False), ("bob", True)]
            assert [heard(one) for one in others.values()] == [[], told, told]
            assert [watching(one) for one in others.values()] == [set(), {"bob"}, {"bob"}]

    play(tmp_path, story)


def test_an_end_that_nobody_was_told_of_is_found_after_the_gap(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await friends(stage)
        stage.exchange.lost = lambda source, target, data: True
        await ask(bob, "friend.remove", user="alice")
        await stage.settled()
        stage.exchange.gap(0)
        await stage.settled()
        await comes_and_goes(stage, bob)
        await rounds(stage, presence.REFRESH_ROUNDS)
        assert (heard(alice), watching(alice)) == ([], set())

    play(tmp_path, story)


def test_where_the_store_cannot_be_asked_who_may_be_told_the_notice_waits(tmp_path: Path) -> None:
    down = False

    def wrap(tables: Tables) -> Tables:
        refusals = tables.consent.refusals

        def planted(*asked: Any) -> list[ErrorCode | None]:
            if down:
                raise Unavailable("planted")
            return refusals(*asked)

        tables.consent.refusals = planted  # type: ignore[method-assign]
        return tables

    async def story(stage: Stage) -> None:
        nonlocal down
        worker = await stage.worker(wrap)
        alice, bob, carol = [await worker.mobile(name) for name in ("alice", "bob", "carol")]
        for one in (alice, carol):
            await befriend(one, bob)
            await ask(one, "presence.subscribe", users=["bob"])
        await rounds(stage)
        await ask(bob, "friend.remove", user="alice")
        down = True
        bob.leave()
        await stage.settled()
        await rounds(stage, 4)
        assert heard(carol) == []
        down = False
        await rounds(stage)
        assert (heard(alice), heard(carol)) == ([], [("bob", False)])

    play(tmp_path, story)


def test_only_friends_and_group_mates_see_it(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob, carol = [await worker.mobile(name) for name in ("alice", "bob", "carol")]
        for op in ("presence.get", "presence.subscribe"):
            assert await refused(alice, op, users=["bob"]) is ErrorCode.NOT_ACCEPTED
            assert await refused(alice, op, users=["alice", "bob"]) is ErrorCode.NOT_ACCEPTED
            assert await refused(alice, op, users=["nobody"]) is ErrorCode.UNKNOWN_RECIPIENT
            assert await ask(alice, op, users=["alice"])
        number = await new_group(alice, bob)
        assert await online(alice, "bob")
        await ask(bob, "group.leave", group=number)
        assert await refused(alice, "presence.get", users=["bob"]) is ErrorCode.NOT_ACCEPTED
        stage.people(may_see="everybody")
        assert await online(carol, "bob")
        assert (await ask(carol, "presence.subscribe", users=["bob", 1]))["users"][1]["name"] == "alice"

    play(tmp_path, story)


def test_watching_is_limited_and_ends_with_the_session(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(presence_watches=3)
        stage.people(may_see="everybody")
        one, two = await stage.worker(), await stage.worker()
        alice = await one.mobile("alice")
        others = [await two.mobile(f"user {number}") for number in range(5)]
        names = [other.name for other in others]
        await ask(alice, "presence.subscribe", users=names[:3])
        await ask(alice, "presence.subscribe", users=[*names[:3], *names[:3]])
        assert await refused(alice, "presence.subscribe", users=names[3:4]) is ErrorCode.LIMIT_REACHED
        topics = len(one.bus.own)
        alice.leave()
        await stage.settled()
        assert len(one.bus.own) == topics - 4
        assert not one.core.presence.watched
        for other in others:
            other.leave()
        await stage.settled()
        await rounds(stage)
        assert heard(alice) == []

    play(tmp_path, story)


def test_who_leaves_while_asking_to_watch_is_not_kept(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.people(may_see="everybody")
        one = await stage.worker()
        await one.mobile("bob")
        for steps in range(20):
            alice = await one.mobile("alice")
            asking = asyncio.ensure_future(alice.do(ServerRequest('{"op":"presence.subscribe","users":["bob"]}')))
            for _ in range(steps):
                await asyncio.sleep(0)
            alice.leave()
            await asking
            assert not one.core.presence.watched
        assert not one.core.presence.pending - {1, 2}

    play(tmp_path, story)
