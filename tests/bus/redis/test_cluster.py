"""A slot of a Redis Cluster on its way from one node to another: half of its keys here, half there, and traffic. And
slots that nobody has, because a node died that has no replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.bus.contract import Stage, play
from tests.bus.member import Member, eventually
from tests.bus.redis.place import LEASE_S, RedisPlace, wait_until_old
from tests.bus.redis.test_failover import slot_of
from tests.bus.redis.test_faults import BACK_S, all_works, never_absent
from tests.harness.redis import RedisCluster

TOPICS = list(range(20))
KEYS = range(60)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        for server in cluster.servers:
            wait_until_old(server)
        yield cluster


class Traffic:
    """Publishes to every topic in turn until it is stopped, and knows what the receiver may not have missed: what it
    did not receive must be older than its last gap, for then it reads the record."""

    def __init__(self, sender: Member, receiver: Member) -> None:
        self._sender = sender
        self._receiver = receiver
        self._told = 0
        self.sent = 0
        self.gap_at = 0
        """How much had been sent when the receiver was last told of a gap."""

    async def flow(self) -> None:
        while True:
            for topic in TOPICS:
                self._sender.bus.publish(topic, b"%d" % self.sent)
                self.sent += 1
            await asyncio.sleep(0.002)
            if self._receiver.gaps > self._told:
                self._told, self.gap_at = self._receiver.gaps, self.sent

    def missing(self) -> set[int]:
        return set(range(self.sent)) - {int(data) for _, data in self._receiver.received if data.isdigit()}


async def all_locks_hold(a: Member, b: Member) -> None:
    """Those of a and nobody else's; new ones are one's or the other's; what is released is free."""
    assert [await b.bus.lock(key) for key in KEYS] == [False] * len(KEYS)
    for key in range(1000, 1040):
        assert await b.bus.lock(key)
        assert not await a.bus.lock(key)
        b.bus.unlock(key)
        assert await b.bus.lock(key), "asked in the same order as it was released"
        b.bus.unlock(key)
    await a.until_locked(range(1000, 1040))
    for key in range(1000, 1040):
        a.bus.unlock(key)


@pytest.mark.parametrize("destination", ["another master", "a new node without slots"])
def test_a_slot_that_is_half_moved_works_as_before(cluster: RedisCluster, destination: str) -> None:
    """Messages go on through the node that gives the slot away, and locks and leases are found on either side, for much
    longer than a lease: nobody is taken for dead. When the slot has moved, every worker that may have missed something
    is told."""
    place = RedisPlace(cluster.url)
    place.prefix = place.arguments[2] = "{slot}" + place.prefix  # all topics, locks, leases
    slot = slot_of(place, TOPICS[0])

    source = cluster.of_slot(slot)
    if destination == "another master":
        to = next(one for one in cluster.servers if one is not source)
    else:
        to = cluster.grow()

    async def scenario(stage: Stage) -> None:
        a, b = await stage.members(2)
        await b.bus.subscribe(TOPICS)
        assert all([await a.bus.lock(key) for key in KEYS])
        traffic = Traffic(a, b)
        flowing = asyncio.create_task(traffic.flow())
        async with never_absent(a, 5):
            cluster.begin_move(slot, to)
            assert cluster.move_keys(slot, source, to, limit=len(KEYS) // 2) == len(KEYS) // 2
            for member, key in ((a, 2000), (b, 2001)):
                await member.until_locks_work([key])
                if destination != "another master":
                    await member.until_gap()  # it has another server now
            told = (a.gaps, b.gaps)
            await all_locks_hold(a, b)
            await asyncio.sleep(2 * LEASE_S)
            await b.bus.subscribe([500])
            a.bus.publish(500, b"while it moves")
            await b.until(lambda: (500, b"while it moves") in b.received)
            assert cluster.of_slot(slot) is source
            assert (a.gaps, b.gaps) == told, "nothing is missed"
            assert traffic.missing() <= set(range(traffic.sent - 10 * len(TOPICS), traffic.sent))
            await asyncio.to_thread(cluster.move_keys, slot, source, to)
            await asyncio.to_thread(cluster.end_move, slot, source, to)
            await b.until_gap(told[1])
            await all_works(a, b, 5)
            await asyncio.sleep(1)
        flowing.cancel()
        await asyncio.wait([flowing])
        a.bus.publish(TOPICS[0], b"the last")
        await b.until(lambda: (TOPICS[0], b"the last") in b.received)
        assert all(number < traffic.gap_at for number in traffic.missing())
        assert traffic.sent > 10_000
        await all_locks_hold(a, b)
        assert (a.lost, b.lost) == ([], [])

    play(place, scenario)


def test_a_dead_node_without_a_replica_causes_few_gaps(cluster: RedisCluster) -> None:
    """Each gap makes every session of a worker read the store. However many workers publish to the topics that nobody
    carries, gaps come seconds apart; and yet a worker that reads at each has everything within P5's time."""
    place = RedisPlace(cluster.url)
    victim, watched_s = cluster.servers[1], 11.0
    topics = list(range(40))

    async def scenario(stage: Stage) -> None:
        *senders, b = await stage.members(5)
        await b.bus.subscribe(topics)
        assert len({cluster.of_slot(slot_of(place, topic)) for topic in topics}) > 1
        lost = next(topic for topic in topics if cluster.of_slot(slot_of(place, topic)) is victim)
        kept = next(topic for topic in topics if cluster.of_slot(slot_of(place, topic)) is not victim)
        victim.kill()
        await eventually(lambda: not any(member.bus.healthy for member in (*senders, b)))
        began = time.monotonic()
        oldest, latest, gap_times = None, 0.0, []
        while (now := time.monotonic()) < began + watched_s:
            if len(gap_times) < b.gaps:
                gap_times.append(now)
                latest, oldest = max(latest, now - (oldest or now)), None
            for sender in senders:
                sender.bus.publish(lost, b"to nobody")
            oldest = oldest or now
            await asyncio.sleep(0.02)
        assert latest < BACK_S, "a message waited for longer than this for the gap that tells of it"
        assert len([at for at in gap_times if at > began + watched_s / 2]) <= 3
        assert len(gap_times) >= 4
        b.received.clear()
        senders[0].bus.publish(kept, b"the rest goes on")
        await b.until(lambda: (kept, b"the rest goes on") in b.received)
        gaps = b.gaps
        victim.start()
        await b.until_gap(gaps)
        await all_works(senders[0], b, lost)

    play(place, scenario)
