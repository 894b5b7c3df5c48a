"""Floods by users who are logged in, on every wire and on two workers; and people who are busy, whom no limit stops."""

from __future__ import annotations

import asyncio
import time
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from chatd.errors import ErrorCode
from tests.conversations.asking import Client
from tests.floods import attacks
from tests.floods.attacks import QUOTAS, SHIPPED
from tests.floods.flooders import Flooder, enlarge
from tests.harness.daemon import TOP, Daemon
from tests.harness.deadline import run, until
from tests.harness.memory import memory_path
from tests.harness.mobileimsdk import KEEP_ALIVE, KEPT_ALIVE, RESENDS
from tests.harness.person import Town
from tests.trail.visitors import trail

__all__ = ["memory_path"]


def store(daemon: Daemon) -> Path:
    return daemon.root / "state" / "chatd.db"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One worker with the rates of etc/chatd.toml."""
    one = Daemon(tmp_path_factory.mktemp("shipped"), limits=SHIPPED)
    try:
        yield one.start()
    finally:
        complaints = one.discard()
    assert complaints == []


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Without rates but that of changes, which workers share; the quotas are as shipped."""
    one = Daemon(tmp_path_factory.mktemp("workers"), workers=2, limits={"changes_per_hour": 300, **QUOTAS})
    try:
        yield one.start()
    finally:
        complaints = one.discard()
    assert complaints == []


# ---------------------------------------------------------------- floods


def test_thousands_cannot_be_reached_at_once(shipped: Daemon) -> None:
    before = shipped.status()["totals"]["rate_refused"]
    run(attacks.reach_thousands(Town(shipped), partial(enlarge, store(shipped))), 60)
    assert shipped.status()["totals"]["rate_refused"] - before > 500
    records = [one for one in trail(shipped, "rate_exceeded") if one["reason"] == "recipients"]
    assert {one["wire"] for one in records} == {"chatserver", "mobileimsdk"}
    assert 4 <= len(records) <= 12, "one per user and ten seconds"


def test_thousands_are_not_told_of_read_marks_at_once(shipped: Daemon) -> None:
    run(attacks.tell_thousands_what_was_read(Town(shipped), partial(enlarge, store(shipped))), 60)


def test_thousands_are_not_told_of_joins_at_once(shipped: Daemon) -> None:
    run(attacks.come_and_go_before_thousands(Town(shipped), partial(enlarge, store(shipped))), 60)


def test_a_read_mark_that_stays_is_not_told_again(two_workers: Daemon) -> None:
    run(attacks.say_again_what_was_read(Town(two_workers)))


def test_a_group_that_grows_costs_more(shipped: Daemon) -> None:
    run(attacks.write_to_a_group_that_grows(Town(shipped), lambda group: enlarge(store(shipped), group, 4900)), 60)


def test_a_stranger_is_not_flooded(shipped: Daemon) -> None:
    run(attacks.send_as_fast_as_possible(Town(shipped)), 60)


def test_two_wires_share_an_allowance(shipped: Daemon) -> None:
    run(attacks.flood_over_two_wires(Town(shipped)))


def test_an_allowance_is_kept_for_the_next_login(shipped: Daemon) -> None:
    run(attacks.come_back_for_more(Town(shipped)))


def test_a_mailbox_takes_only_so_many_of_one_sender(two_workers: Daemon) -> None:
    run(attacks.fill_a_mailbox([Town(two_workers)]), 60)
    assert two_workers.status()["totals"]["mailbox_refused"] >= 400
    records = trail(two_workers, "mailbox_full")
    assert 0 < len(records) <= 30
    assert all(one["to"].startswith("victim") for one in records)


def test_a_mailbox_takes_only_so_many_in_all(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(workers=2, limits={"waiting": 160}).start()
    run(attacks.fill_a_mailbox_together(Town(daemon), 160, 2), 60)


def test_friend_requests_are_stopped_on_all_workers(two_workers: Daemon) -> None:
    run(attacks.ask_everybody_to_be_friends([Town(two_workers)]), 60)


# ---------------------------------------------------------------- people


def test_an_old_client_that_floods_lives_on(shipped: Daemon) -> None:
    """It is told in frames that it ignores, and is served again."""

    async def story() -> None:
        town = Town(shipped)
        old, friend = (
            await town.settle(f"old{time.time_ns()}", "old"),
            await town.settle(f"f{time.time_ns()}", "streaming"),
        )
        await old.arrive()
        await friend.arrive()
        for number in range(230):
            old.post(friend.name, str(number))
        await until(20, "the first ones have come", lambda: len(friend.seen) >= 200)
        async with asyncio.timeout(30):  # it forgets what comes together with something else, so it is asked again
            while not any(seen.text == "are you well?" for seen in old.seen):
                await friend.say(old.name, "are you well?")
                await asyncio.sleep(0.2)
            while not any(seen.text == "yes" for seen in friend.seen):
                old.post(friend.name, "yes")
                await asyncio.sleep(0.2)
        old.check()

    run(story(), 60)


def test_a_client_that_floods_is_not_taken_for_dead(shipped: Daemon) -> None:
    """Its keep-alives are answered, and its acknowledgements count."""

    async def story() -> None:
        town = Town(shipped)
        flooder = await Flooder(town, await town.newcomer("loud"), "mobileimsdk").arrive()
        await flooder.flood(await town.newcomer("victim"), 250)
        heard = []
        flooder.peer.on_frame = heard.append
        flooder.peer.put({"type": KEEP_ALIVE, "from": flooder.name, "to": "0", "dataContent": "{}"})
        await until(10, "an answer", lambda: [frame for frame in heard if frame["type"] == KEPT_ALIVE])
        flooder.leave()

    run(story())


def test_a_morning_in_the_office_meets_no_limit(shipped: Daemon) -> None:
    """Everybody comes at once, reads what apps read at their start, writes and answers; then the network fails, and
    everybody comes back."""
    before = shipped.status()["totals"]

    async def story() -> None:
        town = Town(shipped)
        names = [await town.newcomer("busy") for _ in range(30)]
        group = await town.make_group("office", names[:20])
        for round_ in range(2):
            clients = [await Client(town, name).arrive() for name in names]
            await asyncio.gather(*[morning(client, group if client.name in names[:20] else 0) for client in clients])
            if round_ == 0:
                for client in clients:
                    client.peer.abort()
        for client in clients:
            client.leave()

    async def morning(client: Client, group: int) -> None:
        await client.ask("sync")
        await client.ask("friend.list")
        await client.ask("group.list")
        for _ in range(8):
            await client.ask("history", with_=f"#{group}") if group else await client.ask("whoami")
        if group:
            await client.ask("group.members", group=group)
            for number in range(10):
                await client.says(f"#{group}", str(number))

    run(story(), 60)
    after = shipped.status()["totals"]
    assert {key: after[key] - before[key] for key in ("rate_refused", "mailbox_refused")} == {
        "rate_refused": 0, "mailbox_refused": 0,
    }  # fmt: skip


def test_a_stock_client_that_sends_again_meets_no_limit(shipped: Daemon) -> None:
    """Thirty messages written without a network, each sent three times because no acknowledgement came in time."""
    before = shipped.status()["totals"]["rate_refused"]

    async def story() -> None:
        town = Town(shipped)
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        peer = await town.on_mobile(alice)
        for _ in range(1 + RESENDS):
            for number in range(30):
                peer.say(alice, bob, f"{number}", f"fp{alice}{number}")
        for _ in range(90):
            await peer.find(type=4)
        peer.close()

    run(story())
    assert shipped.status()["totals"]["rate_refused"] == before


def test_what_is_refused_can_be_sent_again_later(shipped: Daemon) -> None:
    """The same fp, a little later: stored once."""

    async def story() -> None:
        town = Town(shipped)
        victim = await town.newcomer("victim")
        flooder = await Flooder(town, await town.newcomer("loud"), "mobileimsdk").arrive()
        await flooder.flood(victim, 260)
        fp, code = next((fp, code) for fp, code in flooder.outcomes.items() if code == ErrorCode.TOO_FAST)

        async with asyncio.timeout(20):
            while code:
                await asyncio.sleep(0.2)
                del flooder.outcomes[fp]
                flooder.send(victim, "x", fp)
                await until(5, "an outcome", lambda: fp in flooder.outcomes)
                code = flooder.outcomes[fp]
        flooder.leave()

    run(story())


def test_these_are_the_shipped_limits() -> None:
    shipped = tomllib.loads((TOP / "etc" / "chatd.toml").read_text())["limits"]
    assert {name: shipped[name] for name in SHIPPED} == SHIPPED
