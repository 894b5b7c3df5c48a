"""Exactly the members at a message's commit are given it, however late, or in which order, the bus tells of joins and
leaves, or whether it tells of them at all."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatd.core import bus_messages, memberships
from chatd.errors import Unavailable
from chatd.store.contract import Tables
from tests.core.asking import ask, kick, new_group, notices
from tests.core.stage import Stage, Worker, play


async def two_workers(stage: Stage) -> tuple[Worker, Worker]:
    return await stage.worker(), await stage.worker()


def count_calls(worker: Worker, name: str) -> list[tuple[Any, ...]]:
    """The arguments of every call of this method of the worker's groups tables from now on."""
    calls: list[tuple[Any, ...]] = []
    groups = worker.tables.groups
    work = getattr(groups, name)

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return work(*arguments)

    setattr(groups, name, counted)
    return calls


# ---------------------------------------------------------------- late and out of order


def test_a_late_leave_does_not_end_a_newer_membership(tmp_path: Path) -> None:
    """The user leaves on one host and joins again on another; the first host's notification comes after that."""

    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, bob = await one.mobile("owner"), await two.mobile("bob")
        group = await new_group(owner, bob)
        desk = await one.desk("bob")
        await stage.settled()
        stage.exchange.hold(one.slot, two.slot)
        await kick(owner, group, "bob")
        await ask(bob, "group.join", group=group)
        stage.exchange.let_go()
        await stage.settled()
        for number in range(3):
            owner.send(group, f"welcome {number}")
        await stage.until("bob has all", lambda: len(bob.bodies) == 3)
        await stage.until("his other session too", lambda: len(desk.bodies) == 3)
        assert bob.bodies == desk.bodies == [f"welcome {number}" for number in range(3)]
        assert notices(bob, "group.kicked") == [], "an older notification changes nothing"

    play(tmp_path, story)


def test_a_message_missed_right_after_joining_again_is_given_although_another_session_has_acknowledged_it(
    tmp_path: Path,
) -> None:
    """Where a session begins to read a group is known from when it enters, not from the first message that arrives."""

    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, bob = await one.mobile("owner"), await one.mobile("bob")
        group = await new_group(owner, bob)
        desk = await two.desk("bob")
        owner.send(group, "before")
        await stage.until("both have it", lambda: bob.bodies == desk.bodies == ["before"])
        stage.exchange.lost = lambda source, target, data: True
        await ask(bob, "group.leave", group=group)
        await desk.join(group)
        await ask(bob, "group.join", group=group)
        await stage.settled()
        owner.send(group, "missed")
        await stage.until("bob's other session has it", lambda: bob.bodies[1:] == ["missed"])
        bob.acknowledge(bob.given[-1].fp)
        await stage.settled()
        stage.exchange.lost = lambda source, target, data: False
        owner.send(group, "after")
        await stage.until("the session has both", lambda: len(desk.bodies) == 3)
        assert desk.bodies == ["before", "missed", "after"]

    play(tmp_path, story)


def test_a_late_join_does_not_undo_a_newer_leave(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, carol, bob = await one.mobile("owner"), await two.mobile("carol"), await two.mobile("bob")
        group = await new_group(owner, carol)
        desk = await one.desk("bob")
        await stage.settled()
        stage.exchange.hold(one.slot, two.slot)
        await desk.join(group)
        await ask(bob, "group.leave", group=group)
        stage.exchange.let_go()
        await stage.settled()
        carol.send(group, "not for bob")
        await stage.until("the owner has it", lambda: owner.bodies == ["not for bob"])
        await stage.settled()
        assert bob.bodies == desk.bodies == []

    play(tmp_path, story)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_notifications_in_any_order_end_in_the_newest_state(tmp_path: Path, order: tuple[int, ...]) -> None:
    """bob leaves, joins, leaves and joins again on one worker; the other is told in any order."""

    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, bob = await one.mobile("owner"), await two.mobile("bob")
        group = await new_group(owner, bob)
        desk = await one.desk("bob")
        await stage.settled()
        stage.exchange.lost = lambda source, target, data: True
        for _ in range(2):
            await kick(owner, group, "bob")
            await desk.join(group)
        stage.exchange.lost = lambda source, target, data: False
        user = 2
        notifications = (
            bus_messages.GroupLeft(user, group, True, 3),
            bus_messages.GroupJoined(user, group, 4),
            bus_messages.GroupLeft(user, group, True, 5),
            bus_messages.GroupJoined(user, group, 6),
        )
        assert bob.session is not None
        assert bob.session.user.id == user
        for number in order:
            two.core.on_bus_message(0, bus_messages.encode(notifications[number]))
            await stage.settled()
        owner.send(group, "for bob")
        await stage.until("bob has it", lambda: bob.bodies == ["for bob"])

    play(tmp_path, story)


def test_a_notification_of_a_version_without_versions_makes_the_worker_ask(tmp_path: Path) -> None:
    """What an older chatd publishes has fewer fields."""

    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, bob, carol = await one.mobile("owner"), await two.mobile("bob"), await two.mobile("carol")
        group = await new_group(owner, bob)
        other = await new_group(owner)
        stage.exchange.lost = lambda source, target, data: True
        await kick(owner, group, "bob")
        desk = await one.desk("carol")
        await desk.join(other)
        stage.exchange.lost = lambda source, target, data: False
        assert bob.session is not None
        assert carol.session is not None
        two.core.on_bus_message(0, bus_messages.encode(bus_messages.GroupLeft(bob.session.user.id, group, True)))
        two.core.on_bus_message(0, bus_messages.encode(bus_messages.GroupJoined(carol.session.user.id, other)))
        await stage.until("bob is out", lambda: not bob.session.groups)  # type: ignore[union-attr]
        await stage.until("carol is in", lambda: other in (carol.session.groups or ()))  # type: ignore[union-attr]
        await stage.settled()
        two.core.on_bus_message(0, bus_messages.encode(bus_messages.GroupJoined(bob.session.user.id, group)))
        await stage.settled()
        await stage.settled()
        assert not bob.session.groups, "the store says that he is not"

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        (bus_messages.GroupJoined(1, 2, 3), ["version", 1, 2]),
        (bus_messages.GroupLeft(1, 2, True, 3), ["version", 1, 2, True]),
        (bus_messages.GroupNotice(1, "text", 3, 4), ["version", 1, "text"]),
    ],
)
def test_the_new_fields_are_at_the_end(longer: Any, shorter: list[Any]) -> None:
    """A neighbouring version reads what it knows, and takes the defaults for what is not there."""
    array = msgspec.msgpack.decode(bus_messages.encode(longer))
    assert array[1 : len(shorter)] == shorter[1:]
    old = bus_messages.decode(msgspec.msgpack.encode(array[: len(shorter)]))
    assert type(old) is type(longer)
    assert msgspec.msgpack.decode(bus_messages.encode(old))[len(shorter) :] == [0] * (len(array) - len(shorter))


# ---------------------------------------------------------------- not told at all


def test_who_was_kicked_while_the_bus_is_away_is_given_nothing_more(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner = await one.mobile("owner")
        bob, carol, dave = [await two.mobile(name) for name in ("bob", "carol", "dave")]
        desk = await two.desk("bob")
        group = await new_group(owner, bob, carol, dave)
        dave.send(group, "for all")
        await stage.until("all have it", lambda: bob.bodies and desk.bodies and carol.bodies)
        stage.exchange.cut(two.slot)
        await kick(owner, group, "bob")
        for number in range(20):
            dave.send(group, f"{number}")
            if number % 3 == 0:
                await stage.settled()
        await stage.until("carol has all", lambda: len(carol.bodies) == 21)
        await stage.settled()
        assert carol.bodies == ["for all", *map(str, range(20))]
        assert bob.bodies == desk.bodies == ["for all"]
        stage.exchange.mend(two.slot)
        await stage.settled()
        await stage.pass_time(60)
        assert {message.body for message in bob.messages} == {"for all"}, "not again either"

    play(tmp_path, story)


def test_who_was_out_for_a_while_that_the_worker_did_not_notice(tmp_path: Path) -> None:
    """Kicked and joined again while the bus was away: what was written in between is not for them."""

    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner = await one.mobile("owner")
        bob, carol, dave = [await two.mobile(name) for name in ("bob", "carol", "dave")]
        group = await new_group(owner, bob, carol, dave)
        dave.send(group, "1")
        await stage.until("both have it", lambda: bob.bodies and carol.bodies)
        stage.exchange.cut(two.slot)
        await kick(owner, group, "bob")
        owner.send(group, "2 not for bob")
        await stage.settled()
        desk = await one.desk("bob")
        await desk.join(group)
        owner.send(group, "3")
        await stage.until("his other session has it", lambda: desk.bodies == ["3"])
        dave.send(group, "4")
        await stage.until("carol has all", lambda: len(carol.bodies) == 4)
        await stage.until("bob has the rest", lambda: len(bob.bodies) == 3)
        assert (bob.bodies, carol.bodies) == (["1", "3", "4"], ["1", "2 not for bob", "3", "4"])
        stage.exchange.mend(two.slot)
        await stage.settled()
        owner.send(group, "5")
        await stage.until("bob has the next", lambda: len(bob.bodies) == 4)
        assert bob.bodies == ["1", "3", "4", "5"]

    play(tmp_path, story)


def test_the_same_found_by_the_gap_alone(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, bob = await one.mobile("owner"), await two.mobile("bob")
        group = await new_group(owner, bob)
        owner.send(group, "1")
        await stage.until("bob has it", lambda: bob.bodies == ["1"])
        stage.exchange.cut(two.slot)
        await kick(owner, group, "bob")
        owner.send(group, "2 not for bob")
        await stage.settled()
        desk = await one.desk("bob")
        await desk.join(group)
        owner.send(group, "3")
        await stage.settled()
        stage.exchange.mend(two.slot)
        await stage.until("bob has the last", lambda: bob.bodies[-1] == "3")
        assert bob.bodies == ["1", "3"]

    play(tmp_path, story)


def test_the_same_found_while_the_session_catches_up_for_another_reason(tmp_path: Path) -> None:
    """Neither a gap nor a message of the group tells the worker to look."""

    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, bob = await one.mobile("owner"), await two.mobile("bob")
        group = await new_group(owner, bob)
        owner.send(group, "1")
        await stage.until("bob has it", lambda: bob.bodies == ["1"])
        stage.exchange.lost = lambda source, target, data: True
        await kick(owner, group, "bob")
        owner.send(group, "2 not for bob")
        await stage.settled()
        desk = await one.desk("bob")
        await desk.join(group)
        owner.send(group, "3")
        owner.send("bob", "between us 1")
        await stage.settled()
        stage.exchange.lost = lambda source, target, data: False
        owner.send("bob", "between us 2")
        await stage.until("bob has both", lambda: "between us 2" in bob.bodies)
        await stage.until("bob has the group's", lambda: "3" in bob.bodies)
        assert sorted(bob.bodies) == ["1", "3", "between us 1", "between us 2"]

    play(tmp_path, story)


def test_a_message_that_came_too_early_is_not_given_after_a_kick(tmp_path: Path) -> None:
    """It waits for the one before it, which another worker has stored and whose notification is late."""

    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner = await one.mobile("owner")
        bob, carol = await two.mobile("bob"), await two.mobile("carol")
        group = await new_group(owner, bob, carol)
        carol.send(group, "1")
        await stage.until("bob has it", lambda: bob.bodies == ["1"])
        stage.exchange.hold(one.slot, two.slot)
        owner.send(group, "2")
        await stage.settled()
        carol.send(group, "3")  # held for bob
        await stage.settled()
        await kick(owner, group, "bob")
        carol.send(group, "4 not for bob")
        await stage.until("the owner has all", lambda: owner.bodies == ["1", "3", "4 not for bob"])
        await stage.settled()
        stage.exchange.let_go()
        await stage.settled()
        await stage.until("carol has the owner's", lambda: carol.bodies == ["2"])
        assert bob.bodies == ["1"]

    play(tmp_path, story)


def test_a_deleted_account_is_given_nothing_more(tmp_path: Path) -> None:
    """An operator's chatctl tells no worker."""

    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        owner, bob, carol = [await worker.mobile(name) for name in ("owner", "bob", "carol")]
        group = await new_group(owner, bob, carol)
        assert bob.session is not None
        number = bob.session.user.id
        await worker.core.store.write(lambda tables: tables.accounts.delete(number))
        owner.send(group, "not for bob")
        await stage.until("carol has it", lambda: carol.bodies == ["not for bob"])
        await stage.settled()
        assert bob.bodies == []

    play(tmp_path, story)


def test_a_groups_first_message_is_not_given_to_who_joins_after_it(tmp_path: Path) -> None:
    """It comes from another worker when the newcomer's session is in the group already."""

    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, bob = await one.mobile("owner"), await two.mobile("bob")
        group = await new_group(owner)
        carol = await two.mobile("carol")
        await ask(carol, "group.join", group=group)
        stage.exchange.hold(one.slot, two.slot)
        owner.send(group, "the first")
        await stage.settled()
        await ask(bob, "group.join", group=group)
        await stage.settled()
        stage.exchange.let_go()
        await stage.until("carol has it", lambda: carol.bodies == ["the first"])
        owner.send(group, "the second")
        await stage.until("bob has one", lambda: bob.bodies)
        await stage.settled()
        assert bob.bodies == ["the second"]

    play(tmp_path, story)


def test_what_a_kicked_member_has_not_acknowledged_is_not_given_again(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, bob, carol = await one.mobile("owner"), await two.mobile("bob"), await two.mobile("carol")
        group = await new_group(owner, bob, carol)
        for number in range(3):
            carol.send(group, f"{number}", f"fp {number}")
        await stage.until("bob has them", lambda: len(bob.bodies) == 3)
        stage.exchange.cut(two.slot)
        await kick(owner, group, "bob")
        carol.send(group, "3")
        await stage.settled()
        await stage.settled()
        before = len(bob.given)
        await stage.pass_time(1000)
        assert len(bob.given) == before

    play(tmp_path, story)


# ---------------------------------------------------------------- what it costs, and what is in the way


def test_the_store_is_asked_once_per_group_and_change(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner = await one.mobile("owner")
        people = [await two.mobile(f"member {number}") for number in range(5)]
        group = await new_group(owner, *people)
        await stage.settled()
        stage.exchange.cut(two.slot)
        asked = count_calls(two, "members_among")
        for changes, name in enumerate(("member 3", "member 4"), 1):
            await kick(owner, group, name)
            for number in range(50):
                people[0].send(group, f"{number}")
                if number % 10 == 0:
                    await stage.settled()
            await stage.until("all have it", lambda changes=changes: len(people[1].bodies) == 50 * changes)
            reads = [found for found in asked if len(found[1]) > 1]  # the store's own question is for one sender
            assert len(reads) == changes, reads
        assert people[4].bodies == people[3].bodies + [str(number) for number in range(50)]

    play(tmp_path, story)


def test_changes_that_are_told_in_order_cost_no_question(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, carol = await one.mobile("owner"), await two.mobile("carol")
        group = await new_group(owner, carol)
        await stage.settled()
        asked = count_calls(two, "members_among")
        for number in range(10):
            bob = await one.mobile(f"bob {number}")
            await ask(bob, "group.join", group=group)
            owner.send(group, "joined")
            await ask(bob, "group.leave", group=group)
            owner.send(group, "left")
        await stage.until("carol has all", lambda: len(carol.bodies) == 20)
        assert asked == []

    play(tmp_path, story)


class Flaky:
    """Worker's tables whose question for members fails while `down`."""

    def __init__(self, tables: Tables) -> None:
        self.down = False
        work = tables.groups.members_among

        def ask_store(group_id: int, user_ids: Any) -> Any:
            if self.down and len(user_ids) > 1:
                raise Unavailable("down")
            return work(group_id, user_ids)

        tables.groups.members_among = ask_store  # type: ignore[method-assign]


@pytest.mark.parametrize("written", [3, 40])
def test_while_the_members_are_not_known_messages_wait_bounded_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Of more than limits.in_flight nothing is kept in memory; the members read the store when they are known."""
    monkeypatch.setattr(memberships, "RETRY_S", 0.01)

    async def story(stage: Stage) -> None:
        stage.limit(in_flight=10)
        one, two = await two_workers(stage)
        owner = await one.mobile("owner")
        bob, carol, dave = [await two.mobile(name) for name in ("bob", "carol", "dave")]
        group = await new_group(owner, bob, carol, dave)
        dave.send(group, "first", "fp first")
        await stage.until("all have it", lambda: bob.bodies and carol.bodies)
        for peer in (bob, carol):
            peer.acknowledge("fp first")
        stage.exchange.cut(two.slot)
        flaky = Flaky(two.tables)
        flaky.down = True
        await kick(owner, group, "bob")
        for number in range(written):
            dave.send(group, f"{number}", f"fp {number}")
            await stage.settled()
        assert (bob.bodies, carol.bodies) == (["first"], ["first"])
        flaky.down = False

        def all_there() -> bool:
            for event in carol.given:
                carol.acknowledge(event.fp)
            return len(carol.bodies) == written + 1

        await stage.until("carol has all", all_there)
        await stage.settled()
        assert carol.bodies == ["first", *map(str, range(written))]
        assert bob.bodies == ["first"]

    play(tmp_path, story)


def test_a_notice_waits_for_the_members_too(tmp_path: Path) -> None:
    """A user who was kicked, and does not know it, is not told what happens in the group afterwards."""

    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, bob, carol = await one.mobile("owner"), await two.mobile("bob"), await two.mobile("carol")
        group = await new_group(owner, bob, carol)
        await stage.settled()
        stage.exchange.lost = lambda source, target, data: target == two.slot
        await kick(owner, group, "bob")
        stage.exchange.lost = lambda source, target, data: False
        dave = await one.mobile("dave")
        await ask(dave, "group.join", group=group)
        await stage.until("carol is told", lambda: notices(carol, "group.joined"))
        await stage.settled()
        told = [notice["user"]["name"] for notice in notices(bob, "group.joined")]
        assert "dave" not in told

    play(tmp_path, story)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_login_beside_a_leave_and_a_join(tmp_path: Path, moment: str) -> None:
    """The membership that the login read first is not the one it read last: what lies between is not given."""

    async def story(stage: Stage) -> None:
        one, two = await two_workers(stage)
        owner, bob = await one.mobile("owner"), await one.mobile("bob")
        group = await new_group(owner, bob)
        owner.send(group, "while bob is away")
        await stage.settled()
        stage.exchange.lost = lambda source, target, data: True
        stage.exchange.gate = asyncio.Event()
        login = asyncio.ensure_future(two.desk("bob"))
        await stage.until("the login waits", lambda: stage.exchange.waiting > 0)
        await kick(owner, group, "bob")
        owner.send(group, "not for bob")
        await stage.settled()
        if moment == "before":
            await ask(bob, "group.join", group=group)
        stage.exchange.gate.set()
        stage.exchange.gate = None
        desk = await login
        if moment == "after":
            await ask(bob, "group.join", group=group)
        stage.exchange.lost = lambda source, target, data: False
        owner.send(group, "for bob again")
        await stage.until("bob has it", lambda: "for bob again" in bob.bodies)
        stage.exchange.gap(two.slot)
        await stage.until("both have it", lambda: "for bob again" in desk.bodies)
        assert "not for bob" not in bob.bodies + desk.bodies

    play(tmp_path, story)
