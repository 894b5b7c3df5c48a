"""Redis dies, hangs, forgets, cuts its clients; workers hang and die: what the Redis bus does then (P5)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import pytest

from chatd.bus.redis.bus import RedisBus
from chatd.errors import Unavailable
from tests.bus.contract import Record, Stage, play, stop_streaming
from tests.bus.member import Member, eventually
from tests.bus.redis.place import LEASE_S, RedisPlace, wait_until_old
from tests.harness.redis import RedisServer

BACK_S = 5.0
"""P5: caught up within this time of Redis's return."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def place(server: RedisServer) -> RedisPlace:
    return RedisPlace(server.url)


class Watch:
    """Asks all the time whether the topic is elsewhere. absent: how often the answer was no."""

    def __init__(self) -> None:
        self.asked = self.absent = 0

    async def keep_asking(self, member: Member, topic: int) -> None:
        while True:
            self.asked += 1
            self.absent += not await member.sees(topic)
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def never_absent(member: Member, topic: int) -> AsyncIterator[Watch]:
    """While the block runs, somebody elsewhere is live on the topic and no answer may deny it."""
    watch = Watch()
    task = asyncio.create_task(watch.keep_asking(member, topic))
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled() or not task.exception()
    assert watch.asked > 20, "it was asked too seldom: this proved nothing"
    assert watch.absent == 0, f"absent in {watch.absent} of {watch.asked} answers"


@contextlib.asynccontextmanager
async def two_at_work(stage: Stage, topics: Iterable[int] = (5,)) -> AsyncIterator[tuple[Member, Member]]:
    """The second is subscribed to the topics and holds the lock 1; the first never sees it absent on topic 5."""
    a, b = await stage.members(2)
    await b.bus.subscribe(topics)
    assert await b.bus.lock(1)
    async with never_absent(a, 5):
        yield a, b


async def all_works(a: Member, b: Member, topic: int) -> None:
    """Both ways, and both know of each other. The topic is subscribed by b."""
    await eventually(lambda: a.bus.healthy and b.bus.healthy, BACK_S)
    received = len(b.received)
    a.bus.publish(topic, b"works again")
    await b.until(lambda: (topic, b"works again") in b.received[received:], BACK_S)
    assert await a.sees(topic)


class TestRedisDies:
    @pytest.mark.parametrize("away_s", [0.2, 1.5, pytest.param(10.0, marks=pytest.mark.slow)])
    def test_redis_comes_back_empty_and_nothing_is_missed(
        self, place: RedisPlace, server: RedisServer, away_s: float
    ) -> None:
        wait_until_old(server)

        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe(range(1000))
            assert all([await a.bus.lock(key) for key in range(0, 300, 2)])
            assert all([await b.bus.lock(key) for key in range(1, 300, 2)])
            async with never_absent(a, 5):
                server.kill()
                await eventually(lambda: not a.bus.healthy)
                assert a.bus.trouble.startswith(f"redis at 127.0.0.1:{server.port}: ")
                with pytest.raises(Unavailable):
                    await a.bus.lock(1000)
                a.bus.publish(5, b"lost")
                a.bus.unlock(0)
                await b.bus.subscribe([5000])
                await asyncio.sleep(away_s)
                gaps = (a.gaps, b.gaps)
                server.start()
                await a.until_gap(gaps[0])
                await b.until_gap(gaps[1])
                await all_works(a, b, 5)
                await all_works(a, b, 5000)
                await asyncio.sleep(LEASE_S + 1)  # longer than anybody is given to come back
            assert not await a.sees(2000)
            assert [await b.bus.lock(key) for key in range(2, 300, 2)] == [False] * 149
            assert [await a.bus.lock(key) for key in range(1, 300, 2)] == [False] * 150
            assert await b.bus.lock(0), "what was released while it was away is free"
            assert (a.lost, b.lost) == ([], [])

        play(place, scenario)

    def test_a_new_worker_after_a_crash_shows_nobody_as_offline(self, place: RedisPlace, server: RedisServer) -> None:
        wait_until_old(server)

        async def scenario(stage: Stage) -> None:
            a = await stage.member()
            b = await stage.agent()
            await b.call("subscribe", [5])
            server.kill()
            server.spawn()
            b.stop()  # it will be the last one back
            await eventually(lambda: not a.bus.healthy)
            await eventually(lambda: a.bus.healthy, BACK_S)
            new = await stage.member()
            async with never_absent(new, 5):
                await asyncio.sleep(0.5)
                b.go_on()
                await b.until_gap()
                await asyncio.sleep(LEASE_S)
            await new.until_sees(6, there=False)

        play(place, scenario)

    def test_a_worker_that_comes_back_late_is_waited_for_a_whole_lease(self, server: RedisServer) -> None:
        place = RedisPlace(server.url, lease_s=4.0)
        wait_until_old(server, place.lease_s)

        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            await b.call("subscribe", [5])
            b.stop()
            server.kill()
            async with never_absent(a, 5):
                server.start()
                await a.until_gap()
                gaps = a.gaps
                await asyncio.sleep(3.2)
                assert a.gaps == gaps, "it was given up"
                b.go_on()
                await b.until_gap()
            await a.until_sees(6, there=False)

        play(place, scenario)

    def test_redis_forgets_everything_and_locks_are_kept(self, place: RedisPlace, server: RedisServer) -> None:
        wait_until_old(server)

        async def scenario(stage: Stage) -> None:
            async with two_at_work(stage) as (a, b):
                server.call("FLUSHALL")
                server.call("SCRIPT", "FLUSH")
                await b.until_gap()
                await all_works(a, b, 5)
            assert not await a.bus.lock(1)
            assert (a.lost, b.lost) == ([], [])

        play(place, scenario)


class TestRedisHangs:
    def test_a_hang_is_noticed_and_locks_and_messages_recover(self, place: RedisPlace, server: RedisServer) -> None:
        wait_until_old(server)

        async def scenario(stage: Stage) -> None:
            async with two_at_work(stage) as (a, b):
                server.pause()
                began = time.monotonic()
                with pytest.raises(Unavailable):
                    await a.bus.lock(2)
                assert time.monotonic() - began < 1.8
                a.bus.publish(5, b"into the void")
                await eventually(lambda: not a.bus.healthy and not b.bus.healthy)
                assert time.monotonic() - began < 6.0
                with pytest.raises(Unavailable):
                    await a.bus.lock(2)
                await asyncio.sleep(LEASE_S)
                gaps = (a.gaps, b.gaps)
                server.go_on()
                await a.until_gap(gaps[0])
                await b.until_gap(gaps[1])
                await all_works(a, b, 5)
            # Everybody's lease had expired: still nobody took what was another's.
            assert not await a.bus.lock(1)
            assert await b.bus.lock(2), "a lock() that was given up left nothing behind"
            assert (a.lost, b.lost) == ([], [])

        play(place, scenario)

    def test_a_short_stop_loses_nothing_and_an_abandoned_lock_is_released(
        self, place: RedisPlace, server: RedisServer
    ) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe([5])
            server.pause()
            a.bus.publish(5, b"delayed")
            with pytest.raises(Unavailable):
                await a.bus.lock(2)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await a.bus.lock(3)
            server.go_on()
            await b.until_received(1)
            await a.until_gap()
            await b.until_locked([2, 3])
            assert b.received == [(5, b"delayed")]

        play(place, scenario)


class TestRedisRefuses:
    @pytest.mark.parametrize("option", ["maxmemory 1", "min-replicas-to-write 1"])
    def test_while_redis_refuses_writes_locks_stay_and_messages_go_on(
        self, place: RedisPlace, server: RedisServer, option: str
    ) -> None:
        """Out of memory, or without the replicas it is told to have: what is held stays held, messages go on."""
        wait_until_old(server)

        async def scenario(stage: Stage) -> None:
            name, value = option.split()
            async with two_at_work(stage) as (a, b):
                server.call("CONFIG", "SET", name, value)
                with pytest.raises(Unavailable):
                    await a.bus.lock(2)
                for number in range(9):
                    a.bus.publish(5, b"%d" % number)
                    await asyncio.sleep(0.5)
                assert [data for _, data in b.received] == [b"%d" % number for number in range(9)]
                assert a.bus.healthy
                assert (a.gaps, b.gaps) == (0, 0)
                server.call("CONFIG", "SET", name, "0")
                await a.until_locks_work([2])
                await b.until_locks_work([3])
                if name == "maxmemory":
                    assert not await a.bus.lock(1)
                # Without any writes leases do expire: then it is one's or the other's.
                taken = await a.bus.lock(1)
                await b.until(lambda: b.lost == [1] * taken)
                assert await b.bus.lock(1) is not taken

        play(place, scenario)


class TestRedisCuts:
    @pytest.mark.parametrize("kind", ["pubsub", "normal"])
    def test_after_all_clients_are_killed_everything_works_again(
        self, place: RedisPlace, server: RedisServer, kind: str
    ) -> None:
        wait_until_old(server)

        async def scenario(stage: Stage) -> None:
            async with two_at_work(stage, range(100)) as (a, b):
                for _ in range(5):
                    gaps = (a.gaps, b.gaps)
                    server.call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                    a.bus.publish(5, b"perhaps lost")
                    if kind == "pubsub":  # what our connections are, for all that they also ask
                        await b.until_gap(gaps[1])
                        await a.until_gap(gaps[0])
                    await asyncio.sleep(0.1)
                    await all_works(a, b, 5)
            assert not await a.bus.lock(1)

        play(place, scenario)

    def test_a_worker_that_reads_too_slowly_is_cut_and_catches_up(self, tmp_path: Path) -> None:
        options = ("client-output-buffer-limit pubsub 512kb 512kb 1",)
        with RedisServer(tmp_path, options=options) as server:

            async def scenario(stage: Stage) -> None:
                a, b = await stage.member(), await stage.agent()
                await b.call("subscribe", [5])
                b.stop()
                for _ in range(300):
                    a.bus.publish(5, bytes(100_000))
                    await asyncio.sleep(0.001)
                b.go_on()
                await b.until_gap()
                a.bus.publish(5, b"after")
                await b.until(lambda: (5, b"after") in b.received)
                assert len(b.received) < 301

            play(RedisPlace(server.url), scenario)


class TestOverflow:
    def test_what_does_not_fit_is_dropped_and_causes_a_gap(self, place: RedisPlace, server: RedisServer) -> None:
        place.with_limits(queue_bytes=256 * 1024)

        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe([5, 6])
            for _ in range(1000):
                a.bus.publish(5, bytes(10_000))  # of one turn: 10 MB
            await b.until_gap()
            assert 0 < len(b.received) < 1000
            a.bus.publish(6, b"after the gap")
            await b.until(lambda: (6, b"after the gap") in b.received)
            assert isinstance(a.bus, RedisBus)
            server.pause()
            for _ in range(100):
                for _ in range(20):
                    a.bus.publish(5, bytes(10_000))
                await asyncio.sleep(0)
            assert 0 < a.bus.queued_bytes < 1024 * 1024
            gaps = b.gaps
            server.go_on()
            await b.until_gap(gaps)
            await all_works(a, b, 6)

        play(place, scenario)


class TestWorkers:
    def test_a_worker_stopped_for_longer_than_its_lease_loses_what_others_took(
        self, place: RedisPlace, server: RedisServer
    ) -> None:
        """As on a host that hangs, but here its process is not dead: only its lease tells."""

        wait_until_old(server)

        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            await b.call("subscribe", [5])
            assert await b.call("lock", [1, 2, 3]) == [1, 2, 3]
            assert await a.sees(5)
            b.stop()
            stopped = time.monotonic()
            assert not await a.bus.lock(1), "its lease still runs"
            await a.until_locked([1])
            await a.until_sees(5, there=False)
            assert time.monotonic() - stopped < 10
            assert a.gaps == 1
            assert list(a.bus.other_workers().values()) == [socket.gethostname()], "it may only be cut off"
            gaps = a.gaps
            b.go_on()
            await b.until_gap()
            await b.until(lambda: b.lost == [1])
            await a.until_gap(gaps)  # it is back: its users are to be looked at again
            assert await a.sees(5)
            assert len(a.bus.other_workers()) == 1
            assert not await a.bus.lock(2)
            assert await a.bus.lock(1)
            assert await b.call("lock", [1, 2, 3]) == [2, 3]

        play(place, scenario)

    def test_a_lock_of_a_dead_worker_goes_to_exactly_one_of_many(self, place: RedisPlace, server: RedisServer) -> None:
        async def scenario(stage: Stage) -> None:
            agents = list(await asyncio.gather(*(stage.agent() for _ in range(5))))
            keys = list(range(300))
            for _ in range(2):
                holder = agents.pop()
                async with asyncio.timeout(15):
                    while await holder.call("lock", keys) != keys:  # noqa: ASYNC110 - soon free: it was just released
                        await asyncio.sleep(0.01)
                await holder.kill()
                owners: dict[int, int] = {}
                async with asyncio.timeout(15):
                    while len(owners) < len(keys):
                        for agent in agents:
                            agent.order("lock", keys)
                        for number, agent in enumerate(agents):
                            for key in await agent.answer():
                                assert owners.setdefault(key, number) == number, "two hold it"
                for agent in agents:
                    await agent.call("unlock", keys)

        play(place, scenario)

    def test_a_dead_process_of_this_machine_loses_its_locks_at_once(
        self, place: RedisPlace, server: RedisServer
    ) -> None:
        place = RedisPlace(server.url, lease_s=30.0)

        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            assert await b.call("lock", [1]) == [1]
            assert not await a.bus.lock(1)
            await b.kill()
            assert await a.bus.lock(1)
            await a.until_gap()

        play(place, scenario)


class TestEverything:
    @pytest.mark.parametrize("rounds", [5, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
    def test_with_a_record_nothing_is_missed_whatever_redis_does(
        self, place: RedisPlace, server: RedisServer, tmp_path: Path, rounds: int
    ) -> None:
        """As in the contract, but it is Redis that is killed, stopped, emptied, and cuts its clients; and workers die
        meanwhile. Every living worker knows everything within P5's time."""
        choose = random.Random(rounds)
        record = Record(tmp_path, choose)

        async def hurt_redis(number: int) -> str:
            faults = ("killed", "cut", "stopped", "emptied", "stopped for long")
            fault = faults[number] if number < len(faults) else choose.choice(faults)
            if fault == "killed":
                server.kill()
                await asyncio.sleep(choose.choice([0.0, 0.3, 1.5]))
                await asyncio.to_thread(server.start)
            elif fault == "cut":
                server.call("CLIENT", "KILL", "TYPE", "pubsub")
            elif fault == "emptied":
                server.call("FLUSHALL")
            else:
                server.pause()
                await asyncio.sleep(0.5 if fault == "stopped" else 4.5)
                server.go_on()
            return fault

        async def scenario(stage: Stage) -> None:
            agents = [await record.worker(stage, f"w{number}") for number in range(3)]
            for number in range(rounds):
                dying = asyncio.create_task(hurt_redis(number))
                if number % 2:
                    await agents.pop(choose.randrange(len(agents))).kill()
                fault = await dying
                back = time.monotonic()
                for agent in agents:
                    assert await agent.call("note") > 0
                for agent in agents:
                    while unknown := await agent.call("unknown"):
                        assert time.monotonic() < back + BACK_S, f"{unknown} messages unknown, Redis was {fault}"
                        await asyncio.sleep(0.05)
                if number % 2:
                    agents.append(await record.worker(stage, f"r{number}"))
            await stop_streaming(agents)

        play(place, scenario)
