"""The Redis bus wherever Redis may be: a Unix socket, TLS, sentinels, a cluster. The same play in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.bus.contract import FENCE, Stage, play
from tests.bus.redis.place import RedisPlace, wait_until_old
from tests.harness.redis import Certificates, RedisCluster, RedisServer, Sentinels

Place = RedisServer | Sentinels | RedisCluster


def with_tls(directory: Path) -> RedisServer:
    return RedisServer(directory, tls=Certificates.make(directory), password="hush")


PLACES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "unix": lambda directory: RedisServer(directory, password="hush", port=0),
    "tls": with_tls,
    "sentinel": lambda directory: Sentinels(directory, password="hush"),
    "cluster": lambda directory: RedisCluster(directory, tls=Certificates.make(directory), password="hush"),
}


@pytest.fixture(scope="module", params=PLACES)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with PLACES[request.param](tmp_path_factory.mktemp("redis")) as place:
        for server in [place] if isinstance(place, RedisServer) else place.servers:
            wait_until_old(server)
        yield place.url


@pytest.fixture
def place(url: str) -> RedisPlace:
    return RedisPlace(url)


def test_messages_reach_their_subscribers_in_order(place: RedisPlace) -> None:
    async def scenario(stage: Stage) -> None:
        a, b, c = await stage.member(), await stage.member(), await stage.agent()
        topics = list(range(200))
        await b.bus.subscribe([*topics, FENCE])
        await c.call("subscribe", [*topics[::2], FENCE])
        for number in range(5):
            for topic in topics:
                a.bus.publish(topic, b"%d" % number)
        await b.until_received(1000)
        await c.until_received(500)
        for receiver, wanted in ((b, topics), (c, topics[::2])):
            for topic in wanted:
                assert [data for one, data in receiver.received if one == topic] == [b"0", b"1", b"2", b"3", b"4"]
        assert (a.received, a.gaps, b.gaps) == ([], 0, 0)
        b.bus.unsubscribe(topics)
        await b.bus.subscribe([7])
        a.bus.publish(8, b"unwanted")
        a.bus.publish(7, b"wanted")
        await b.until_received(1001)
        assert b.received[-1] == (7, b"wanted")

    play(place, scenario)


def test_subscribers_are_counted_on_every_server(place: RedisPlace) -> None:
    async def scenario(stage: Stage) -> None:
        a, b, c = await stage.member(), await stage.member(), await stage.agent()
        await a.bus.subscribe(range(100))
        await b.bus.subscribe(range(0, 100, 2))
        await c.call("subscribe", list(range(0, 100, 10)))
        assert await a.bus.subscribed_elsewhere(range(100)) == set(range(0, 100, 2))
        assert await b.bus.subscribed_elsewhere(range(200)) == set(range(100))
        await c.kill()
        b.bus.unsubscribe(range(0, 100, 2))
        for topic in (0, 10, 98):
            await a.until_sees(topic, there=False)
        assert await a.bus.subscribed_elsewhere(range(100)) == set()

    play(place, scenario)


def test_a_lock_is_held_by_one_worker_and_ends_with_it(place: RedisPlace) -> None:
    async def scenario(stage: Stage) -> None:
        a, b, c = await stage.member(), await stage.member(), await stage.agent()
        assert await c.call("lock", list(range(50))) == list(range(50))
        assert [await a.bus.lock(key) for key in range(60)] == [False] * 50 + [True] * 10
        assert not await b.bus.lock(55)
        a.bus.unlock(55)
        await b.until_locked([55])
        await c.kill()
        await b.until_locked(range(50))
        assert not await a.bus.lock(0)
        await b.bus.close()
        assert await a.bus.lock(0)
        assert (a.lost, b.lost) == ([], [])

    play(place, scenario)


def test_a_dead_worker_causes_a_gap_and_is_cleaned_up_after(place: RedisPlace) -> None:
    async def scenario(stage: Stage) -> None:
        a, b = await stage.member(), await stage.agent()
        await b.call("subscribe", [1])
        assert a.bus.healthy
        assert 0 < a.bus.round_trip_us < 5_000_000
        await b.kill()
        await a.until_gap()
        assert not await a.sees(1)
        assert a.bus.other_workers() == {}
        assert a.bus.healthy

    play(place, scenario)
