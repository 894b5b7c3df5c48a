"""A worker that starts while Redis is away: a bus that is cut off, until it joins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from chatd.errors import Unavailable
from tests.bus.contract import Stage, play
from tests.bus.member import Member, eventually
from tests.bus.redis.place import RedisPlace
from tests.harness.redis import RedisCluster, RedisServer

KINDS: dict[str, Callable[[Path], AbstractContextManager[RedisServer | RedisCluster]]] = {
    "single": RedisServer,
    "cluster": RedisCluster,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_starts_while_redis_is_away_joins_when_it_is_back(tmp_path: Path, kind: str) -> None:
    with KINDS[kind](tmp_path) as redis:
        servers = redis.servers if isinstance(redis, RedisCluster) else (redis,)
        place = RedisPlace(redis.url)

        async def scenario(stage: Stage) -> None:
            old = await stage.member()
            await old.bus.subscribe([7])
            for server in servers:
                server.kill()
            with pytest.raises(Unavailable):
                await Member(place.bus(8)).open()
            late = Member(place.bus(9))
            try:
                await late.open(patient=True)
                await check_cut_off(late)
                await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
                await eventually(lambda: late.bus.healthy and old.bus.healthy, 30)
                await check_joined(late, old)
            finally:
                await late.bus.close()

        play(place, scenario)


async def check_cut_off(late: Member) -> None:
    """Nothing waits, nothing is certain."""
    assert not late.bus.healthy
    async with asyncio.timeout(2):
        await late.bus.subscribe([8])
        assert await late.bus.subscribed_elsewhere([7]) == {7}, "what is not known counts as subscribed"
        with pytest.raises(Unavailable):
            await late.bus.lock(1)
    late.bus.publish(7, b"lost")
    assert late.bus.other_workers() == {}


async def check_joined(late: Member, old: Member) -> None:
    await late.until_gap()
    await old.until_gap()
    await late.until_locks_work([1])
    assert not await old.bus.lock(1)
    assert old.bus.name in late.bus.other_workers()
    await eventually(lambda: late.bus.name in old.bus.other_workers(), 10)
    await late.until_sees(7)
    await late.until_sees(70, there=False)
    late.bus.publish(7, b"hello")
    await old.until(lambda: (7, b"hello") in old.received)
    old.bus.publish(8, b"welcome")
    await late.until(lambda: (8, b"welcome") in late.received)
    assert (7, b"lost") not in old.received
