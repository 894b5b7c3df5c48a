"""Everything is killed while the two sides write to each other: nothing is lost, and the order stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bridges.house import House, options
from tests.bridges.load import STORED, Stream, Traffic, by_stream
from tests.harness.deadline import run, until
from tests.harness.rabbitmq import APP2WEB, WEB2APP, JavaSide, RabbitServer
from tests.harness.switches import switchable, switched_off


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, rabbit: RabbitServer) -> Iterator[House]:
    root = tmp_path_factory.mktemp("killed")
    bridge = options(rabbit, prefetch=50)
    tables = {"bus": {"lease_s": 2}, "timeouts": {"drain_s": 2, "drain_spread_s": 0.5}, "bridge": [bridge]}
    with switchable(root, "tests.bridges.planted", **tables) as daemon:
        daemon.expect_error("worker died")
        daemon.expect_error("the master is gone")
        daemon.expect_error("commit failed")
        yield House(daemon)


def stored_in(path: Path) -> dict[Stream, list[str]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return by_stream(db.execute(STORED))


async def kill_workers(house: House) -> None:
    for pid in house.daemon.workers():
        os.kill(pid, signal.SIGKILL)
    await until(30, "all workers are ready", house.daemon.all_ready)


async def kill_rabbit(rabbit: RabbitServer) -> None:
    rabbit.kill()
    await asyncio.sleep(0.5)
    await asyncio.to_thread(rabbit.start)


async def kill_all(house: House) -> None:
    house.daemon.kill_all()
    await asyncio.to_thread(house.daemon.start)


@pytest.mark.parametrize(
    "rounds",
    [pytest.param(1, marks=pytest.mark.slow), pytest.param(8, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_nothing_is_lost_whatever_is_killed(house: House, rabbit: RabbitServer, rounds: int) -> None:
    async def story() -> None:
        async with JavaSide(rabbit) as java:
            here = [(await house.newcomer("bob")) for _ in range(2)]
            async with Traffic(house, java, here, [f"anna{rounds}", f"otto{rounds}"]) as traffic:
                for number in range(rounds):
                    await asyncio.sleep(0.3)
                    if number % 2 == 0:
                        await asyncio.gather(kill_rabbit(rabbit), kill_workers(house))
                    else:
                        await kill_workers(house)
                        await kill_rabbit(rabbit)
                    await asyncio.sleep(0.3)
                    await kill_all(house)
            await until(60, "everything came", traffic.all_came, step_s=0.1)
            path = house.daemon.root / "state" / "chatd.db"
            wanted = sum(map(len, traffic.incoming.values()))
            await until(60, "everything is stored", lambda: _count(path, here) >= wanted, step_s=0.1)
            traffic.judge(stored_in(path))
            assert wanted > 50 * rounds
            assert sum(map(len, traffic.outgoing.values())) > 50 * rounds

    run(story(), 120 + 60 * rounds)


@pytest.mark.slow
def test_workers_that_are_replaced_and_an_upgrade_lose_nothing(house: House, rabbit: RabbitServer) -> None:
    async def story() -> None:
        async with JavaSide(rabbit) as java:
            here = [await house.newcomer("bob")]
            async with Traffic(house, java, here, ["anna-r"]) as traffic:
                for order in ("restart-workers", "upgrade"):
                    answer = await asyncio.to_thread(house.daemon.ctl, order)
                    assert answer.returncode == 0, answer
            await until(30, "everything came", traffic.all_came, step_s=0.1)
            path = house.daemon.root / "state" / "chatd.db"
            wanted = len(traffic.incoming["anna-r", here[0]])
            await until(30, "everything is stored", lambda: _count(path, here) >= wanted, step_s=0.1)
            traffic.judge(stored_in(path))
            assert min(wanted, len(traffic.outgoing[here[0], "java:anna-r"])) > 20

    run(story(), 120)


def _count(path: Path, here: list[str]) -> int:
    return sum(len(texts) for (_, to), texts in stored_in(path).items() if to in here)


@pytest.mark.parametrize(
    ("bug", "times"),
    [("dies_before_it_acknowledges", 1), ("acknowledges_before_it_stores", 0)],
)
def test_a_packet_is_stored_once_if_the_worker_dies_between_store_and_acknowledgement(
    house: House, rabbit: RabbitServer, bug: str, times: int
) -> None:
    """The second is the bug: it dies between acknowledgement and store."""

    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob = await house.newcomer("bob")
            workers = set(house.daemon.workers())
            with switched_off(bug, house.daemon):
                await java.say("anna", bob, "once")
                await until(20, "a worker died", lambda: not workers <= set(house.daemon.workers()))
            await until(30, "all workers are ready", house.daemon.all_ready)
            await java.say("anna", bob, "last")
            path = house.daemon.root / "state" / "chatd.db"
            await until(30, "the last is stored", lambda: "last" in _texts(path, bob))
            assert _texts(path, bob) == ["once"] * times + ["last"]
            assert await java.waiting(APP2WEB) == 0

    run(story())


def _texts(path: Path, to: str) -> list[str]:
    return stored_in(path).get(("java:anna", to), [])


def test_packets_wait_in_their_order_while_the_store_takes_none(house: House, rabbit: RabbitServer) -> None:
    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob, texts = await house.person("bob"), [f"number {number}" for number in range(120)]
            with switched_off("store_takes_no_messages", house.daemon):
                for text in texts[:100]:
                    await java.say("anna", bob.name, text)
                await until(15, "it was tried", lambda: house.daemon.logged("the disk is full"))
            for text in texts[100:]:
                await java.say("anna", bob.name, text)
            await house.says(bob, texts[-1])
            assert [one.text for one in bob.seen] == texts
            assert await java.dead() == []

    run(story())


@pytest.mark.parametrize(("bug", "comes"), [("", True), ("takes_a_failure_for_a_confirm", False)], ids=["", "bug"])
def test_a_message_waits_in_the_store_until_rabbitmq_has_confirmed_it(
    house: House, rabbit: RabbitServer, bug: str, comes: bool
) -> None:
    """The queue is deleted under the bridge, so that RabbitMQ has nowhere to put the message."""

    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob = await house.person("bob")
            await bob.say("java:anna", "before")
            await java.came("before")
            await java.delete(WEB2APP)
            with switched_off(bug, house.daemon) if bug else contextlib.nullcontext():
                outcome = await bob.say("java:anna", "while it is gone")
                assert outcome is not None
                assert outcome.ok
                await until(15, "it was tried", lambda: house.figure("bridge_failures") or house.figure("bridge_sent"))
                await until(15, "nothing waits", lambda: house.state()["waiting"] == 0)
            await java.disconnect()
            await java.connect()  # makes the queue anew, if the bridge has not
            await bob.say("java:anna", "after")
            with contextlib.suppress(TimeoutError):
                await java.came("after", 5)
            assert any(one["dataContent"] == "while it is gone" for one in java.packets) is comes

    run(story())


@pytest.mark.slow
def test_a_message_that_was_confirmed_before_the_worker_died_comes_again_with_the_same_fp(
    house: House, rabbit: RabbitServer
) -> None:
    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob = await house.person("bob")
            workers = set(house.daemon.workers())
            with switched_off("dies_before_it_moves_the_cursor", house.daemon):
                await bob.say("java:anna", "perhaps twice")
                await until(20, "a worker died", lambda: not workers <= set(house.daemon.workers()))
            await until(30, "all workers are ready", house.daemon.all_ready)

            def again() -> list[str]:
                found = [one["fp"] for one in java.packets if one["dataContent"] == "perhaps twice"]
                return found if len(found) > 1 else []

            assert len(set(await until(20, "it comes again", again))) == 1
            await until(20, "nothing waits", lambda: house.state()["waiting"] == 0)

    run(story())


def test_another_order_would_be_found(house: House, rabbit: RabbitServer) -> None:
    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob = await house.person("bob")
            with switched_off("does_not_keep_the_order", house.daemon):
                for number in range(100):
                    bob.post("java:anna", f"number {number}")
                await until(15, "all came", lambda: len(java.packets) >= 100)
            assert [one["dataContent"] for one in java.packets] != [f"number {number}" for number in range(100)]

    run(story())
