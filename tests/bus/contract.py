"""What every bus must do. A twin is tested by a subclass of BusContract with a fixture `place`.

All of it is seen through bus.contract alone. What belongs to one twin (its queues, its links) is in that twin's tests.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol, TypeVar

import pytest
import uvloop

from chatd.bus.contract import Bus
from tests.bus.member import Agent, Member, eventually

T = TypeVar("T")
FENCE = 1 << 40
"""A topic on which a last message is published: once it arrived, nothing earlier is still on its way."""


class Place(Protocol):
    """Where buses of one kind meet: those made by bus() and those of agents with `arguments`."""

    arguments: list[str]

    def bus(self, slot: int) -> Bus: ...


class Stage:
    """Members and agents of one scenario; all of them are gone when it ends."""

    def __init__(self, place: Place, stack: AsyncExitStack) -> None:
        self._place = place
        self._stack = stack
        self._slot = 0

    async def member(self) -> Member:
        self._slot += 1
        member = Member(self._place.bus(self._slot))
        self._stack.push_async_callback(member.bus.close)
        return await member.open()

    async def members(self, count: int) -> list[Member]:
        return [await self.member() for _ in range(count)]

    async def agent(self) -> Agent:
        self._slot += 1
        agent = await Agent.start(self._place.arguments, self._slot)
        self._stack.push_async_callback(agent.kill)
        return agent


class Record:
    """A bus and a store as chatd uses them: workers append to a record, then publish. Each reads from the record what
    half of the topics have, when it subscribes and at each gap, and at no other time."""

    def __init__(self, directory: Path, choose: random.Random) -> None:
        self._directory = directory / "record"
        self._directory.mkdir()
        self._topics = list(range(20))
        self._choose = choose

    async def worker(self, stage: Stage, name: str) -> Agent:
        agent = await stage.agent()
        await agent.call("keep", str(self._directory), self._choose.sample(self._topics, 10))
        await agent.call("stream", str(self._directory), self._topics, name)
        return agent


async def stop_streaming(agents: Iterable[Agent]) -> None:
    """No agent publishes any more. All have published, and something was disturbed."""
    totals = [await agent.call("stop_streaming") for agent in agents]
    assert min(published for published, _ in totals) > 0
    assert max(gaps for _, gaps in totals) > 0


def play(place: Place, scenario: Callable[[Stage], Awaitable[T]]) -> T:
    async def whole() -> T:
        async with AsyncExitStack() as stack:
            return await scenario(Stage(place, stack))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


class BusContract:
    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    # ------------------------------------------------------------ who is there

    def test_every_worker_is_known_to_all_others_until_it_leaves_or_dies(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            agent = await stage.agent()
            await eventually(lambda: len(a.bus.other_workers()) == len(b.bus.other_workers()) == 2)
            assert len({a.bus.name, b.bus.name, *a.bus.other_workers()}) == 3
            assert all(a.bus.other_workers().values()), "an operator can be told who it is"
            await agent.kill()
            await eventually(lambda: [*a.bus.other_workers()] == [b.bus.name])
            await b.bus.close()
            await eventually(lambda: not a.bus.other_workers())

        play(place, scenario)

    # ------------------------------------------------------------ who gets what

    def test_a_publish_reaches_the_subscribers_of_its_topic_and_nobody_else(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b, c = await stage.members(3)
            await b.bus.subscribe([1, 2, FENCE])
            await c.bus.subscribe([2, FENCE])
            for topic, data in [(1, b"one"), (2, b"two"), (3, b"three"), (FENCE, b"")]:
                a.bus.publish(topic, data)
            await b.until(lambda: (FENCE, b"") in b.received)
            await c.until(lambda: (FENCE, b"") in c.received)
            assert b.received == [(1, b"one"), (2, b"two"), (FENCE, b"")]
            assert c.received == [(2, b"two"), (FENCE, b"")]
            assert (a.gaps, b.gaps, c.gaps) == (0, 0, 0)

        play(place, scenario)

    def test_a_publish_never_comes_back_to_its_publisher(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await a.bus.subscribe([1, FENCE])
            await b.bus.subscribe([1])
            a.bus.publish(1, b"mine")
            await b.until_received(1)
            b.bus.publish(FENCE, b"")
            await a.until_received(1)
            assert a.received == [(FENCE, b"")]

        play(place, scenario)

    def test_messages_arrive_in_the_publishers_order_over_all_topics(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b, c = await stage.members(3)
            await c.bus.subscribe(range(10))
            choose = random.Random(1)
            sent: dict[Member, list[tuple[int, bytes]]] = {a: [], b: []}
            for number in range(5000):
                publisher = choose.choice([a, b])
                message = (choose.randrange(10), b"%d:%d" % (1 if publisher is a else 2, number))
                publisher.bus.publish(*message)
                sent[publisher].append(message)
                if choose.random() < 0.02:
                    await asyncio.sleep(0)
            await c.until_received(5000)
            assert [message for message in c.received if message[1].startswith(b"1:")] == sent[a]
            assert [message for message in c.received if message[1].startswith(b"2:")] == sent[b]

        play(place, scenario)

    def test_callbacks_come_from_the_loop_and_never_inside_a_method(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await a.bus.subscribe([1])
            await b.bus.subscribe([2])
            a.inside = b.inside = True
            a.bus.publish(2, b"from a")
            b.bus.publish(1, b"from b")
            a.bus.unsubscribe([7])
            a.inside = b.inside = False
            assert (a.received, b.received) == ([], [])
            await a.until_received(1)
            await b.until_received(1)

        play(place, scenario)

    @pytest.mark.parametrize("size", [0, 1, 13, 1000, 65536, 1 << 20])
    def test_messages_of_any_size_arrive_unchanged(self, place: Place, size: int) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe([5])
            bodies = [random.Random(size + n).randbytes(size) for n in range(3)]
            for body in bodies:
                a.bus.publish(5, body)
            await b.until_received(3)
            assert b.received == [(5, body) for body in bodies]

        play(place, scenario)

    def test_an_exception_in_a_callback_does_not_stop_the_next_message(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            (a,) = await stage.members(1)
            seen: list[bytes] = []

            def fail(topic: int, data: bytes) -> None:
                seen.append(data)
                raise RuntimeError("a bug in the application")

            b = place.bus(9)
            await b.open(fail, lambda: None, lambda key: None)
            try:
                await b.subscribe([1])
                for data in (b"1", b"2", b"3"):
                    a.bus.publish(1, data)
                await eventually(lambda: len(seen) == 3)
                assert seen == [b"1", b"2", b"3"]
            finally:
                await b.close()

        play(place, scenario)

    # ------------------------------------------------------------ subscriptions

    def test_a_publish_after_subscribe_returned_arrives(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b, c = await stage.members(3)

            async def one(topic: int) -> None:
                subscriber = (b, c)[topic % 2]
                await subscriber.bus.subscribe([topic])
                a.bus.publish(topic, b"after")

            for start in range(0, 1000, 50):
                await asyncio.gather(*(one(topic) for topic in range(start, start + 50)))
            await b.until_received(500)
            await c.until_received(500)
            assert sorted(topic for topic, _ in b.received) == list(range(0, 1000, 2))
            assert sorted(topic for topic, _ in c.received) == list(range(1, 1000, 2))

        play(place, scenario)

    def test_a_publish_of_another_process_after_subscribe_returned_arrives(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            for topic in range(100):
                await a.bus.subscribe([topic])
                b.order("publish", [(topic, "from b")])
                await a.until_received(topic + 1)
                await b.answer()
                await b.call("subscribe", [topic])
                a.bus.publish(topic, b"from a")
                await b.until_received(topic + 1)
            assert a.received == [(topic, b"from b") for topic in range(100)]
            assert b.received == [(topic, b"from a") for topic in range(100)]

        play(place, scenario)

    def test_unsubscribe_ends_it_and_subscribe_begins_it_again(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe([1, 2, FENCE])
            b.bus.unsubscribe([1, 99])
            a.bus.publish(1, b"unwanted")
            a.bus.publish(2, b"wanted")
            await b.until_received(1)
            await a.until_sees(1, there=False)
            await b.bus.subscribe([1])
            a.bus.publish(1, b"wanted again")
            await b.until_received(2)
            assert b.received == [(2, b"wanted"), (1, b"wanted again")]

        play(place, scenario)

    def test_subscribing_twice_delivers_once(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await asyncio.gather(b.bus.subscribe([1, 1]), b.bus.subscribe([1, FENCE]))
            a.bus.publish(1, b"once")
            a.bus.publish(FENCE, b"")
            await b.until(lambda: (FENCE, b"") in b.received)
            assert b.received == [(1, b"once"), (FENCE, b"")]

        play(place, scenario)

    def test_ten_thousand_topics_work_as_one(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b, c = await stage.members(3)
            await b.bus.subscribe(range(10_000))
            await c.bus.subscribe(range(0, 10_000, 10))
            for topic in range(10_000):
                a.bus.publish(topic, b"%d" % topic)
            await b.until_received(10_000)
            await c.until_received(1000)
            assert b.received == [(topic, b"%d" % topic) for topic in range(10_000)]
            assert c.received == [(topic, b"%d" % topic) for topic in range(0, 10_000, 10)]
            b.bus.unsubscribe(range(10_000))
            await a.until_sees(1, there=False)
            await a.until_sees(9_999, there=False)
            assert await a.bus.subscribed_elsewhere([1, 10, 9_999, 9_990]) == {10, 9_990}

        play(place, scenario)

    def test_subscribed_elsewhere_counts_the_others_and_not_oneself(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe([1])
            await a.until_sees(1)
            assert not await b.sees(1)
            assert not await a.sees(2)
            assert await a.bus.subscribed_elsewhere([]) == set()
            b.bus.unsubscribe([1])
            await a.until_sees(1, there=False)

        play(place, scenario)

    # ------------------------------------------------------------ coming and going

    def test_a_worker_alone_is_healthy_and_hears_nothing(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a = await stage.member()
            await a.bus.subscribe([1, 2])
            a.bus.publish(1, b"nobody")
            a.bus.unsubscribe([1])
            assert (a.bus.healthy, a.bus.trouble) == (True, "")
            assert not await a.sees(1)
            await a.bus.close()
            a.bus.publish(1, b"after close")
            assert a.received == []
            assert (a.bus.healthy, a.bus.trouble) == (False, "this worker has not joined it, or has left it")

        play(place, scenario)

    def test_a_new_worker_reaches_everybody_from_its_first_publish(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            old = await stage.members(3)
            for member in old:
                await member.bus.subscribe([1])
            for round_number in range(1, 6):
                new = await stage.member()
                new.bus.publish(1, b"hello")
                for member in old:
                    await member.until_received(round_number)
            assert [member.gaps for member in old] == [0, 0, 0]

        play(place, scenario)

    def test_many_workers_that_open_at_once_all_reach_each_other(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            members = list(await asyncio.gather(*(stage.member() for _ in range(8))))
            await asyncio.gather(*(member.bus.subscribe([1]) for member in members))
            for member in members:
                member.bus.publish(1, b"hello")
            for member in members:
                await member.until_received(7)

        play(place, scenario)

    def test_what_was_published_before_close_arrives(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            await b.bus.subscribe([1])
            for number in range(1000):
                a.bus.publish(1, b"%d" % number)
            await a.bus.close()
            await b.until_received(1000)
            assert b.received == [(1, b"%d" % number) for number in range(1000)]

        play(place, scenario)

    def test_a_killed_worker_causes_a_gap_and_its_successor_is_heard(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a = await stage.member()
            await a.bus.subscribe([1])
            for round_number in range(5):
                b = await stage.agent()
                await b.call("subscribe", [2])
                assert await a.sees(2)
                a.bus.publish(2, b"to b")
                await b.until_received(1)
                await b.call("publish", [(1, "from b")])
                await a.until_received(round_number + 1)
                await b.kill()
                await a.until_gap(round_number)
                await a.until_sees(2, there=False)
                a.bus.publish(2, b"nobody")
                started = time.monotonic()
                await a.bus.subscribe([10 + round_number])
                assert time.monotonic() - started < 0.9  # a dead peer is not waited for
            assert a.bus.healthy
            assert a.gaps == 5

        play(place, scenario)

    def test_a_stopped_worker_holds_up_nobody(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b, c = await stage.member(), await stage.agent(), await stage.member()
            await b.call("subscribe", [1])
            b.stop()
            async with asyncio.timeout(3):
                await asyncio.gather(a.bus.subscribe([2]), a.bus.subscribe([2]), a.bus.subscribe([3]))
            c.bus.publish(2, b"among the others")
            a.bus.publish(1, b"while it was stopped")
            await a.until_received(1)
            b.go_on()
            await b.until_received(1)
            assert b.received == [(1, b"while it was stopped")]
            await b.call("publish", [(3, "late")])
            await a.until_received(2)
            assert a.received == [(2, b"among the others"), (3, b"late")]

        play(place, scenario)

    def test_a_hung_worker_is_one_of_the_others_and_the_bus_stays_healthy(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.member(), await stage.agent()
            await eventually(lambda: a.bus.healthy and len(a.bus.other_workers()) == 1)
            there = a.bus.other_workers()
            b.stop()
            ends = time.monotonic() + 6.5  # the bus may take 5 s to see that something is wrong
            while time.monotonic() < ends:
                assert a.bus.healthy
                assert a.bus.other_workers() == there
                await asyncio.sleep(0.05)
            b.go_on()

        play(place, scenario)

    # ------------------------------------------------------------ locks

    def test_a_lock_is_held_by_one_worker(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b = await stage.members(2)
            assert await a.bus.lock(7)
            assert await a.bus.lock(7)
            assert not await b.bus.lock(7)
            assert await b.bus.lock(8)
            b.bus.unlock(7)
            assert not await b.bus.lock(7)
            a.bus.unlock(7)
            a.bus.unlock(7)
            await b.until_locked([7])
            assert not await a.bus.lock(7)
            await b.bus.close()
            assert await a.bus.lock(7)
            assert await a.bus.lock(8)
            assert (a.lost, b.lost) == ([], [])

        play(place, scenario)

    def test_a_lock_that_is_given_is_free_for_nobody(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b, c = await stage.members(3)
            keys = list(range(100, 140))
            for key in keys:
                assert await a.bus.lock(key)
            share, seized = b.bus.lock_share(), list[int]()

            async def try_to_seize() -> None:
                while True:
                    seized.extend([key for key in keys if await c.bus.lock(key)])
                    await asyncio.sleep(0)

            seizing = asyncio.create_task(try_to_seize())
            for key in keys:
                assert await a.bus.give_lock(key, share)
                await asyncio.sleep(0)
            seizing.cancel()
            await asyncio.wait([seizing])
            assert not seized
            for key in keys:
                b.bus.keep_lock(key)
                assert not await a.bus.lock(key)
                assert not await a.bus.give_lock(key, share)
            await b.bus.close()
            await c.until_locked(keys)
            assert (a.lost, b.lost, c.lost) == ([], [], [])

        play(place, scenario)

    def test_a_lock_that_was_given_can_be_taken_back_before_it_is_kept(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            a, b, c = await stage.members(3)
            share = b.bus.lock_share()
            assert await a.bus.lock(7)
            assert await a.bus.give_lock(7, share)
            assert await a.bus.take_lock_back(7, share)
            assert not await b.bus.lock(7)
            assert await c.bus.lock(8)
            assert not await a.bus.take_lock_back(8, share)
            a.bus.unlock(7)
            await c.until_locked([7])

        play(place, scenario)

    def test_locks_are_exact_under_a_race_and_end_with_their_holder(self, place: Place) -> None:
        async def scenario(stage: Stage) -> None:
            agents = list(await asyncio.gather(*(stage.agent() for _ in range(4))))
            keys = list(range(0, 4000, 2))
            racers = 0
            for round_number in range(3):
                taken = await self.share_out(agents, keys, random.Random(round_number))
                assert sum(len(some) for some in taken) == len(keys)
                assert set().union(*taken) == set(keys)
                racers = max(racers, sum(1 for some in taken if some))
                await agents[0].kill()
                rest = agents[1:]
                after = await self.share_out(rest, keys, random.Random(-1 - round_number))
                assert sum(len(some) for some in after) == len(keys)
                assert all(before <= now for before, now in zip(taken[1:], after, strict=True))
                assert not any(agent.lost for agent in rest)
                for agent in rest:
                    await agent.call("unlock", keys)
                agents = [*rest, await stage.agent()]
            assert racers > 1, "one was always done before another began: this proved nothing"

        play(place, scenario)

    @staticmethod
    async def share_out(agents: list[Agent], keys: list[int], choose: random.Random) -> list[set[int]]:
        """Until every lock is taken: a bus may keep for a while what was just released, or was a dead worker's."""
        taken: list[set[int]] = [set() for _ in agents]
        async with asyncio.timeout(20):
            while set().union(*taken) != set(keys):
                for agent in agents:
                    agent.order("lock", choose.sample(keys, len(keys)))
                taken = [set(await agent.answer()) for agent in agents]
        return taken

    # ------------------------------------------------------------ all of it

    @pytest.mark.parametrize("rounds", [4, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
    def test_with_a_record_nothing_is_missed_whatever_dies(self, place: Place, tmp_path: Path, rounds: int) -> None:
        """The bus as chatd uses it: append to the record, then publish; read the record at subscribe and at each
        gap, and nowhere else. Workers are stopped, resumed and killed; every living worker must know everything."""
        choose = random.Random(rounds)
        record = Record(tmp_path, choose)

        async def scenario(stage: Stage) -> None:
            agents = [await record.worker(stage, f"w{number}") for number in range(4)]
            for round_number in range(rounds):
                victim = choose.randrange(4)
                if round_number % 2:
                    await agents[victim].kill()
                    agents[victim] = await record.worker(stage, f"r{round_number}")
                else:
                    agents[victim].stop()
                    # Long enough, in some rounds, that the others stop waiting for it and open without it.
                    await asyncio.sleep(choose.choice([0.05, 1.3]))
                    agents.append(await record.worker(stage, f"n{round_number}"))
                    agents[victim].go_on()
                    await agents.pop(choose.choice([n for n in range(4) if n != victim])).kill()
            await stop_streaming(agents)
            for agent in agents:
                async with asyncio.timeout(5):
                    while missing := await agent.call("missing"):
                        print("still missing", [text[:20] for text in missing])
                        await asyncio.sleep(0.05)

        play(place, scenario)
