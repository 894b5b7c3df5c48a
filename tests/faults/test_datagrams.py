"""UDP: datagrams that get lost, doubled and overtaken; workers that die and are added while clients talk."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.daemon import Daemon
from tests.harness.datagrams import DatagramPeer
from tests.harness.deadline import run, until
from tests.harness.lossy import LossyNetwork
from tests.harness.mobileimsdk import content
from tests.harness.person import Person, Town, Wire

KEEP_ALIVE = {"type": 1, "from": "x", "to": "0", "dataContent": "{}", "QoS": False, "typeu": -1, "sm": -1}
AGAIN_S = 0.3


# ---------------------------------------------------------------- a bad network


async def insist(person: Person, to: str, text: str) -> None:
    """As an app does whose packets are reported lost: again, with the same fp, until the server has it."""
    fp = str(uuid.uuid4())
    while fp not in person.outcomes:
        person.post(to, text, fp)
        await asyncio.sleep(AGAIN_S)
    assert person.outcomes[fp].ok, person.outcomes[fp]


async def stay_alive(people: list[Person]) -> None:
    """The keep-alives by which a client whose address has changed finds out."""
    while True:
        await asyncio.sleep(AGAIN_S)
        for person in people:
            if person.wire in ("udp", "token", "mobile") and person.link is not None:
                person.link.put(KEEP_ALIVE)  # type: ignore[union-attr]


async def talk(people: list[Person], die: random.Random, count: int) -> dict[str, Counter[tuple[str, str]]]:
    """Everybody sends `count` texts to the others; what each should see."""
    due: dict[str, Counter[tuple[str, str]]] = {person.name: Counter() for person in people}
    work = []
    for person in people:
        for number in range(count):
            to = die.choice([other for other in people if other is not person])
            text = f"{number} of {person.name} {'x' * die.randrange(300)}"
            due[to.name][person.name, text] += 1
            work.append(insist(person, to.name, text))
    await asyncio.gather(*work)
    return due


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("seed", [1, *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8)]])
def test_nothing_is_lost_or_doubled_over_a_bad_network(
    make_daemon: Callable[..., Daemon], workers: int, seed: int
) -> None:
    """To the applications; on the wire there is plenty of both. In the middle every client gets a new address."""
    daemon = make_daemon(workers=workers, timeouts={"resend_s": AGAIN_S}).start()
    wires: tuple[Wire, ...] = ("udp", "udp", "token", "token", "mobile", "streaming")

    async def story() -> None:
        town = Town(daemon)
        people = [await town.settle(f"p{number}_{seed}", wire) for number, wire in enumerate(wires)]
        network = await LossyNetwork(daemon.ports["mobileimsdk-udp"], seed, loss=0.15).open()
        daemon.ports["mobileimsdk-udp"] = network.port
        for person in people:
            await person.arrive()
        alive = asyncio.create_task(stay_alive(people))
        due = await talk(people, random.Random(seed), 25)
        network.rebind()
        for name, more in (await talk(people, random.Random(-seed), 25)).items():
            due[name] += more
        for person in people:
            await until(60, f"{person.name} has seen everything", lambda p=person: len(p.seen) >= due[p.name].total())
            assert Counter((seen.sender, seen.text) for seen in person.seen) == due[person.name]
        alive.cancel()
        assert min(network.fates[fate] for fate in ("lost", "doubled", "delayed")) > 20, network.fates
        assert sum(person.link.copies for person in people if person.wire == "udp") > 0  # type: ignore[union-attr]
        network.close()

    run(story(), 110)


def test_what_has_waited_does_not_flood_the_client(make_daemon: Callable[..., Daemon]) -> None:
    """More than its socket holds: nothing of it is lost there, so nothing has to come again, after what was later."""
    daemon = make_daemon(workers=1, timeouts={"resend_s": 60.0}).start()

    async def story() -> None:
        town = Town(daemon)
        away, writer = await town.settle("away", "udp"), await town.settle("writer", "streaming")
        await writer.arrive()
        texts = [f"{number} {'x' * 600}" for number in range(1000)]
        for text in texts:
            last = writer.post(away.name, text)
        await writer.told(last, 30)
        await away.arrive()
        time.sleep(1.0)  # noqa: ASYNC251  the client is busy: what comes meanwhile has to wait in its socket
        await until(30, "all is there", lambda: len(away.seen) == len(texts))
        assert [seen.text for seen in away.seen] == texts
        assert away.link is not None
        assert away.link.copies == 0  # type: ignore[union-attr]

    run(story(), 90)


# ---------------------------------------------------------------- workers come and go


async def crowd(town: Town, count: int) -> dict[str, DatagramPeer]:
    names = [await town.newcomer("u") for _ in range(count)]
    return {name: await town.on_datagrams(name) for name in names}


async def strangers(peers: dict[str, DatagramPeer]) -> set[str]:
    """Whose address is not known any more. A question to a worker that is not there yet is asked again."""
    found = set()
    for name, peer in peers.items():
        while True:
            peer.put(KEEP_ALIVE)
            try:
                packet = await peer.take(1.0)
            except TimeoutError:
                continue
            if packet["type"] == 51:
                break
            if packet["type"] == 52 and content(packet)["errorCode"] == 301:
                found.add(name)
                break
    return found


async def settled(town: Town, peers: dict[str, DatagramPeer]) -> set[str]:
    """Log in again at 301, as stock clients do, until nobody is a stranger; who had to."""
    moved: set[str] = set()
    while lost := await strangers(peers):
        moved |= lost
        for name in lost:
            peers[name].frames.clear()
            await peers[name].log_in(name, town.secret)
        for peer in peers.values():
            peer.frames.clear()
    return moved


def rows(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.status()["workers"]
    return found


async def ready(daemon: Daemon, workers: int) -> None:
    def all_ready() -> bool:
        found = rows(daemon)
        return len(found) == workers and all(row["state"] == "ready" for row in found)

    await until(30, f"{workers} workers ready", all_ready, 0.1)


def test_an_address_keeps_its_worker_over_a_respawn(make_daemon: Callable[..., Daemon]) -> None:
    """Killed twice, the same slot loses the same clients, and nobody else's session ends."""
    daemon = make_daemon(workers=2).start()
    daemon.expect_error("worker died")

    async def story() -> None:
        town = Town(daemon)
        peers = await crowd(town, 30)
        assert not await strangers(peers)
        lost = []
        for _ in range(2):
            victim = rows(daemon)[1]["pid"]
            os.kill(victim, signal.SIGKILL)
            await until(10, "a replacement", lambda v=victim: v not in daemon.workers() and len(daemon.workers()) == 2)
            lost.append(await settled(town, peers))
            await ready(daemon, 2)
        assert 0 < len(lost[0]) < 30
        assert lost[0] == lost[1]

    run(story(), 60)


def test_a_worker_that_dies_loses_no_message(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(workers=1, timeouts={"resend_s": AGAIN_S}).start()
    daemon.expect_error("worker died")

    async def story() -> None:
        town = Town(daemon)
        people = [await town.settle(f"p{number}", "udp") for number in range(3)]
        for person in people:
            await person.arrive()
        alive = asyncio.create_task(stay_alive(people))
        talking = asyncio.create_task(talk(people, random.Random(1), 100))
        for _ in range(2):
            await until(20, "some talk", lambda: sum(len(person.seen) for person in people) > 20)
            (victim,) = daemon.workers()
            os.kill(victim, signal.SIGKILL)
            await until(20, "a replacement", lambda v=victim: daemon.workers() and v not in daemon.workers())
            await ready(daemon, 1)
        due = await talking
        for person in people:
            await until(60, f"{person.name} has seen everything", lambda p=person: len(p.seen) >= due[p.name].total())
            assert Counter((seen.sender, seen.text) for seen in person.seen) == due[person.name]
            assert person.link is not None
            assert person.link.relogins > 0  # type: ignore[union-attr]
        alive.cancel()

    run(story(), 100)


@pytest.mark.slow
def test_more_workers_and_fewer(make_daemon: Callable[..., Daemon]) -> None:
    """A new worker is given clients in small steps; those that move log in again, as do the clients of workers that
    leave, and everybody is served."""
    daemon = make_daemon(workers=2, timeouts={"drain_spread_s": 0.2}).start()

    async def story() -> None:
        town = Town(daemon)
        peers = await crowd(town, 40)
        assert daemon.ctl("scale", "+1").returncode == 0
        await ready(daemon, 3)
        async with asyncio.timeout(40):
            while not all(row["udp_peers"] > 0 for row in rows(daemon)):
                await settled(town, peers)
        assert daemon.ctl("scale", "-2").returncode == 0
        await ready(daemon, 1)
        await settled(town, peers)
        await until(10, "one has all", lambda: [row["udp_peers"] for row in rows(daemon)] == [40], 0.2)

    run(story(), 90)


@pytest.mark.slow
def test_a_reload_ends_no_session_of_datagrams(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(workers=2).start()

    async def story() -> None:
        town = Town(daemon)
        peers = await crowd(town, 10)
        for body_bytes in (100, 4096):
            daemon.config.setdefault("limits", {})["body_bytes"] = body_bytes
            daemon.write_config()
            assert daemon.ctl("reload").returncode == 0
        assert not await strangers(peers)

    run(story(), 60)


def test_a_stop_is_told_and_does_not_take_long(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(workers=2).start()

    async def story() -> None:
        town = Town(daemon)
        peers = await crowd(town, 10)
        assert await asyncio.to_thread(daemon.stop) == 0
        for peer in peers.values():
            packet = await peer.take()
            assert (packet["type"], packet["from"]) == (2, "0")
            assert content(packet)["event"] == "draining"

    run(story(), 60)


@pytest.mark.slow
def test_silence_ends_the_session(make_daemon: Callable[..., Daemon]) -> None:
    """10 s at the stock clients' keep-alive interval of 3; a client that sends something stays."""
    daemon = make_daemon(workers=1).start()

    async def story() -> None:
        town = Town(daemon)
        peers = await crowd(town, 2)
        (quiet, _), (talker, talking) = peers.items()

        def only_one_left() -> bool:
            talking.put(KEEP_ALIVE)
            return bool(rows(daemon)[0]["udp_peers"] == 1)

        await until(15, "the silent one has gone", only_one_left, 0.5)
        talking.frames.clear()
        assert await strangers(peers) == {quiet}
        assert talker != quiet

    run(story(), 60)
