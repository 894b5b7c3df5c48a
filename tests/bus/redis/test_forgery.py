"""Somebody who may use Redis, but has no key: what they publish, record, move, write and delete there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import redis
from redis.crc import key_slot

from chatd.bus.redis import refusals as bus_refusals
from chatd.bus.redis.envelope import Forgery, Sealer
from chatd.bus.redis.keyring import Keyring
from tests.bus.contract import Stage, play
from tests.bus.member import Member, eventually
from tests.bus.redis.place import KEY, RedisPlace, wait_until_old
from tests.harness.redis import RedisCluster, RedisServer

TOPIC, OTHER_TOPIC = 1 << 2, 2 << 2
PATIENCE_S = 0.3
"""What was refused has been read when this is over: a genuine message published after it has arrived."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        wait_until_old(server)
        yield server


@pytest.fixture
def place(server: RedisServer) -> RedisPlace:
    return RedisPlace(server.url)


@pytest.fixture
def attacker(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the security trail is told."""
    found: list[str] = []
    monkeypatch.setattr(
        bus_refusals.security_log, "record", lambda event, **fields: found.append(f"{event}: {fields['reason']}")
    )
    return found


class Recorder:
    """Everything that is published under the prefix, as (channel, message)."""

    def __init__(self, attacker: redis.Redis, place: RedisPlace) -> None:
        self._listener = attacker.pubsub()
        self._listener.psubscribe(f"{place.prefix}:*")
        self.found: list[tuple[str, bytes]] = []

    def read(self) -> list[tuple[str, bytes]]:
        while (one := self._listener.get_message(timeout=PATIENCE_S)) is not None:
            if one["type"] == "pmessage":
                self.found.append((one["channel"].decode(), one["data"]))
        return self.found

    def topics(self) -> list[tuple[str, bytes]]:
        return [one for one in self.read() if re.search(r":[ugpa]\d+$", one[0])]


async def all_read(writer: Member, reader: Member) -> None:
    """A message published now has arrived, so everything published before has been read."""
    last = (TOPIC, b"genuine")
    writer.bus.publish(*last)
    await reader.until(lambda: last in reader.received)
    reader.received.remove(last)


async def pair(stage: Stage) -> tuple[Member, Member]:
    """The second is subscribed to both topics."""
    a, b = await stage.members(2)
    await b.bus.subscribe([TOPIC, OTHER_TOPIC])
    return a, b


class TestPublishing:
    def test_what_is_published_without_a_key_is_not_delivered(
        self, place: RedisPlace, attacker: redis.Redis, reasons: list[str]
    ) -> None:
        guess = Sealer(b"stranger", Keyring(["x" * 32]))
        channel = f"{place.prefix}:u1"

        async def scenario(stage: Stage) -> None:
            a, b = await pair(stage)
            for raw in (
                b"rubbish",
                Sealer(b"stranger", Keyring()).message(channel.encode(), b"forged"),
                guess.message(channel.encode(), b"forged"),
            ):
                attacker.publish(channel, raw)
            await all_read(a, b)
            assert b.received == []
            assert b.bus.refused == 3
            assert a.bus.refused == 0
            assert sorted(reasons) == ["bus_forgery: no signature"] * 2 + ["bus_forgery: wrong signature"]
            await b.until_gap()

        play(place, scenario)

    def test_many_forgeries_are_few_gaps(self, place: RedisPlace, attacker: redis.Redis, reasons: list[str]) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await pair(stage)
            for _ in range(40):
                pipe = attacker.pipeline(transaction=False)
                for _ in range(50):
                    pipe.publish(f"{place.prefix}:u1", b"forged")
                pipe.execute()
                await asyncio.sleep(0.05)
            await all_read(a, b)
            assert b.received == []
            assert b.bus.refused == 2000
            assert reasons == ["bus_forgery: no signature"] * 2000
            assert b.gaps <= 4, "each gap makes every session read the store"
            assert b.bus.healthy

        play(place, scenario)

    def test_control_messages_are_refused(self, place: RedisPlace, attacker: redis.Redis) -> None:
        """A worker that does not exist, one that leaves, one that is lost, a gap."""

        async def scenario(stage: Stage) -> None:
            a, b = await pair(stage)
            await eventually(lambda: len(b.bus.other_workers()) == 1)
            token = a.bus.name.rpartition(":")[2]
            sealer = Sealer(bytes.fromhex(token), Keyring())
            channel = f"{place.prefix}:all"
            for word in (
                ("hello", {"token": "feed", "epoch": 1, "host": "evil"}),
                ("bye", token),
                ("gone", token, 9, True),
                ("gap", 10**9, False),
            ):
                attacker.publish(channel, sealer.message(channel.encode(), msgspec.msgpack.encode(word)))
            await all_read(a, b)
            assert [*b.bus.other_workers()] == [a.bus.name]
            assert b.bus.refused == 4

        play(place, scenario)


class TestReplaying:
    def test_a_recorded_message_is_not_delivered_again(
        self, place: RedisPlace, attacker: redis.Redis, reasons: list[str]
    ) -> None:
        recorder = Recorder(attacker, place)
        recorder.read()

        async def scenario(stage: Stage) -> None:
            a, b = await pair(stage)
            a.bus.publish(TOPIC, b"once")
            await b.until_received(1)
            recorded = recorder.topics()
            assert len(recorded) == 1
            for _ in range(3):
                attacker.publish(*recorded[0])
            await all_read(a, b)
            assert b.received == [(TOPIC, b"once")]
            assert b.bus.refused == 3
            assert set(reasons) == {"bus_forgery: replayed"}

        play(place, scenario)

    def test_a_recorded_message_cannot_be_moved(self, place: RedisPlace, attacker: redis.Redis) -> None:
        """Neither to another topic, nor to the topics of another cluster that has the same key."""
        recorder = Recorder(attacker, place)
        recorder.read()
        neighbour = RedisPlace(place.url)

        async def scenario(stage: Stage) -> None:
            a, b = await pair(stage)
            c = await Member(neighbour.bus(7)).open()
            await c.bus.subscribe([TOPIC])
            try:
                a.bus.publish(TOPIC, b"for topic 1")
                await b.until_received(1)
                ((_, raw),) = recorder.topics()
                attacker.publish(f"{place.prefix}:u2", raw)
                attacker.publish(f"{neighbour.prefix}:u1", raw)
                await all_read(a, b)
                await eventually(lambda: c.bus.refused == 1)
                assert b.received == [(TOPIC, b"for topic 1")]
                assert b.bus.refused == 1
                assert c.received == []
            finally:
                await c.bus.close()

        play(place, scenario)

    def test_messages_that_were_held_back_and_reordered_are_refused(
        self, place: RedisPlace, attacker: redis.Redis
    ) -> None:
        """An earlier message that comes after a later one: it is missed, which is a gap, and not delivered late."""
        sealer = Sealer(b"genuine!", Keyring([KEY]))
        channel = f"{place.prefix}:u1"
        first, second = (sealer.message(channel.encode(), data) for data in (b"first", b"second"))

        async def scenario(stage: Stage) -> None:
            a, b = await pair(stage)
            for raw in (second, first):
                attacker.publish(channel, raw)
            await all_read(a, b)
            assert b.received == [(TOPIC, b"second")]
            await b.until_gap()

        play(place, scenario)


class TestKeys:
    def test_a_forged_worker_is_not_believed_and_its_entry_is_removed(
        self, place: RedisPlace, attacker: redis.Redis
    ) -> None:
        """An entry with the connection of somebody else would make a worker close it (CLIENT KILL)."""
        victim = attacker.client_id()
        run_id = attacker.info("server")["run_id"]
        worker = {"token": "feed", "epoch": 1, "host": "evil", "clients": {run_id: victim}}

        async def scenario(stage: Stage) -> None:
            a, b = await pair(stage)
            hash_key = f"{place.prefix}:workers"
            genuine = attacker.hgetall(hash_key)
            attacker.hset(hash_key, "feed", msgspec.json.encode(worker))
            attacker.hset(hash_key, "f00d", next(iter(genuine.values())))  # another worker's, which is signed
            await eventually(lambda: attacker.hkeys(hash_key) and attacker.hlen(hash_key) == 2)
            assert attacker.hgetall(hash_key).keys() == genuine.keys()
            assert len(a.bus.other_workers()) == len(b.bus.other_workers()) == 1
            assert attacker.client_id() == victim, "its connection was closed"
            assert a.bus.refused + b.bus.refused >= 2

        play(place, scenario)

    def test_rubbish_in_a_lock_is_an_unavailable_lock(self, place: RedisPlace, attacker: redis.Redis) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await pair(stage)
            attacker.set(f"{place.prefix}:mark:5", b"\xff\xfe.\xff")
            assert await a.bus.lock(5), "whoever is named there is not alive"
            attacker.set(f"{place.prefix}:mark:6", f"{b.bus.name.rpartition(':')[2]}.1")
            assert not await a.bus.lock(6)
            assert await a.bus.lock(7)
            assert a.bus.healthy

        play(place, scenario)

    def test_deleting_a_lock_or_a_lease_is_noticed(self, place: RedisPlace, attacker: redis.Redis) -> None:
        """Signatures do not help against deleting. The lease is taken again, and its holder reports a gap."""

        async def scenario(stage: Stage) -> None:
            a, b = await pair(stage)
            assert await b.bus.lock(1)
            gaps = b.gaps
            for key in attacker.scan_iter(f"{place.prefix}:lease:*"):
                attacker.delete(key)
            await b.until_gap(gaps)
            await b.until_locks_work([1])
            assert not await a.bus.lock(1)

        play(place, scenario)


class TestRotation:
    def test_under_load_nothing_is_lost(self, place: RedisPlace) -> None:
        """On one worker after the other: the new key is accepted, then used, then the old one is forgotten."""
        old, new = KEY, "the key that replaces it"
        steps = ([old], [old, new], [new, old], [new])

        async def scenario(stage: Stage) -> None:
            rings = [Keyring(steps[0]) for _ in range(3)]
            members = [await Member(place.bus(number, ring)).open() for number, ring in enumerate(rings)]
            try:
                for member in members:
                    await member.bus.subscribe([TOPIC])
                sent = 0
                for step in steps[1:]:
                    for ring in rings:
                        for _ in range(50):
                            for member in members:
                                member.bus.publish(TOPIC, b"%d" % sent)
                            sent += 1
                            await asyncio.sleep(0.001)
                        ring.replace(step, accepts_unsigned=False)
                for member in members:
                    await member.until_received(2 * sent)
                    assert len(member.received) == 2 * sent
                    assert (member.gaps, member.bus.refused) == (0, 0)
            finally:
                for member in members:
                    await member.bus.close()

        play(place, scenario)

    def test_a_worker_with_another_key_is_not_heard_and_says_so(self, place: RedisPlace, reasons: list[str]) -> None:
        async def scenario(stage: Stage) -> None:
            _, b = await pair(stage)
            stranger = await Member(place.bus(9, Keyring(["another key, of another cluster"]))).open()
            try:
                stranger.bus.publish(TOPIC, b"not for you")
                await eventually(lambda: b.bus.refused >= 2)  # its hello, too
                assert b.received == []
                assert f"bus_forgery: {Forgery.SIGNATURE}" in reasons
                await b.until_gap()
            finally:
                await stranger.bus.close()

        play(place, scenario)


class TestWithoutVerification:
    """The attacks above succeed if the signature is not checked: they are real attacks."""

    def test_a_forged_message_is_delivered(self, place: RedisPlace, attacker: redis.Redis) -> None:
        place.keys = ()

        async def scenario(stage: Stage) -> None:
            _, b = await pair(stage)
            channel = f"{place.prefix}:u1"
            attacker.publish(channel, Sealer(b"stranger", Keyring()).message(channel.encode(), b"forged"))
            await b.until_received(1)
            assert b.received == [(TOPIC, b"forged")]

        play(place, scenario)


def test_a_redis_cluster_is_protected_too(tmp_path: Path) -> None:
    """The tests of bus.redis.cluster run with a key; here: sharded channels, published on the node that has them."""
    with RedisCluster(tmp_path) as cluster:
        place = RedisPlace(cluster.url)

        async def scenario(stage: Stage) -> None:
            a, b = await pair(stage)
            channel = f"{place.prefix}:u1"
            node = cluster.of_slot(key_slot(channel.encode()))
            node.call("SPUBLISH", channel, Sealer(b"stranger", Keyring()).message(channel.encode(), b"forged"))
            genuine = Sealer(b"genuine!", Keyring([KEY])).message(channel.encode(), b"once")
            for _ in range(2):
                node.call("SPUBLISH", channel, genuine)
            await b.until_received(1)
            await all_read(a, b)
            assert b.received == [(TOPIC, b"once")]
            assert b.bus.refused == 2

        play(place, scenario)
