"""Redis behind sentinels and as a cluster: servers die, others take over, slots move."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from chatd.bus.redis.bus import RedisBus
from chatd.bus.redis.keys import RedisKeys
from tests.bus.contract import Stage, play
from tests.bus.member import Member, eventually
from tests.bus.redis.place import RedisPlace, wait_until_old
from tests.bus.redis.test_faults import all_works, never_absent
from tests.harness.redis import RedisCluster, Sentinels

TOPICS = list(range(120))


class TestSentinels:
    @pytest.mark.parametrize("fault", ["killed", "stopped"])
    def test_when_the_master_dies_or_hangs_its_replica_takes_over(self, tmp_path: Path, fault: str) -> None:
        with Sentinels(tmp_path) as sentinels:

            async def scenario(stage: Stage) -> None:
                a, b = await stage.members(2)
                await b.bus.subscribe(TOPICS)
                assert all([await a.bus.lock(key) for key in range(50)])
                old, gaps = sentinels.master, (a.gaps, b.gaps)
                async with never_absent(a, 5):
                    if fault == "killed":
                        old.kill()
                    else:
                        old.pause()
                    a.bus.publish(5, b"lost")
                    await a.until_gap(gaps[0])
                    await b.until_gap(gaps[1])
                    await all_works(a, b, 5)
                    assert sentinels.master is not old
                    if fault == "stopped":
                        old.go_on()  # it becomes a replica; nobody may go back to it
                    await asyncio.sleep(3)
                    await all_works(a, b, 5)
                assert [await b.bus.lock(key) for key in range(50)] == [False] * 50
                assert (a.lost, b.lost) == ([], [])

            for server in sentinels.servers:
                wait_until_old(server)
            play(RedisPlace(sentinels.url), scenario)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path, replicas=1) as cluster:
        for server in cluster.servers:
            wait_until_old(server)
        yield cluster


def slot_of(place: RedisPlace, topic: int) -> int:
    return int(key_slot(RedisKeys(place.prefix).topic(topic)))


async def until_all_arrive(a: Member, b: Member, limit_s: float) -> None:
    """Every topic works again; what is lost on the way there is sent again, as the store would have it."""
    ends = time.monotonic() + limit_s
    missing = set(TOPICS)
    while missing:
        assert time.monotonic() < ends, f"{len(missing)} topics do not work"
        b.received.clear()
        for topic in missing:
            a.bus.publish(topic, b"again")
        await asyncio.sleep(0.1)
        missing -= {topic for topic, _ in b.received}


class TestCluster:
    def test_when_a_node_dies_its_replica_takes_over(self, cluster: RedisCluster) -> None:
        place = RedisPlace(cluster.url)

        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe(TOPICS)
            assert all([await a.bus.lock(key) for key in range(60)])
            victim = cluster.of_slot(slot_of(place, 5))
            others = [topic for topic in TOPICS if cluster.of_slot(slot_of(place, topic)) is not victim]
            assert 0 < len(others) < len(TOPICS)
            async with never_absent(a, 5):
                victim.kill()
                await eventually(lambda: not a.bus.healthy)
                b.received.clear()
                for topic in others:
                    a.bus.publish(topic, b"the rest goes on")
                await b.until(lambda: {topic for topic, _ in b.received} == set(others), 3)
                a.bus.publish(5, b"lost")
                await b.until_gap()
                await eventually(lambda: cluster.of_slot(slot_of(place, 5)) is not victim)
                await until_all_arrive(a, b, 5)
                await eventually(lambda: a.bus.healthy and b.bus.healthy, 5)
                await asyncio.sleep(1)
            await b.until_locked([1000])
            assert [await b.bus.lock(key) for key in range(60)] == [False] * 60
            assert (a.lost, b.lost) == ([], [])

        play(place, scenario)

    def test_a_slot_that_moves_causes_a_gap_and_nobody_is_shown_as_offline(self, cluster: RedisCluster) -> None:
        place = RedisPlace(cluster.url)

        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe(TOPICS)
            assert all([await a.bus.lock(key) for key in range(60)])
            async with never_absent(a, 5):
                for topic in TOPICS[:5]:
                    slot = slot_of(place, topic)
                    here = cluster.of_slot(slot)
                    to = next(one for one in cluster.servers[: cluster.MASTERS] if one is not here)
                    gaps = b.gaps
                    await asyncio.to_thread(cluster.move, slot, to)
                    await until_all_arrive(a, b, 5)
                    await b.until_gap(gaps)
                await asyncio.sleep(0.5)
            assert await a.bus.subscribed_elsewhere([*TOPICS, 5000]) == set(TOPICS)
            gaps = b.gaps
            assert await b.bus.subscribed_elsewhere(TOPICS) <= set(TOPICS[:5]), (
                "no more than where somebody may still be coming"
            )
            await b.until_gap(gaps)  # when it is known, those who were answered so are to ask again
            await none_elsewhere(b)
            b.bus.unsubscribe(TOPICS)
            await none_elsewhere(a)
            assert [await b.bus.lock(key) for key in range(60)] == [False] * 60
            assert isinstance(a.bus, RedisBus)
            assert a.bus.healthy

        play(place, scenario)


async def none_elsewhere(member: Member) -> None:
    async with asyncio.timeout(10):
        while await member.bus.subscribed_elsewhere(TOPICS):  # noqa: ASYNC110 - it can only be asked
            await asyncio.sleep(0.01)
