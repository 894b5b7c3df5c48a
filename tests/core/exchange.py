"""A bus in one process, for several cores on one loop: as faithful to bus.contract as a real one, and obedient.

Deliveries come on a later turn, in the order of each publisher, never inside a method. A test may hold back what one
worker tells another, lose it, slow subscriptions down, say that there was a gap, cut a worker off and let it come back,
with or without its lease, and have everybody's locks forgotten.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable

from chatd.bus.contract import EVERYBODY, LockShare, OnGap, OnLockLost, OnMessage, Topic
from chatd.errors import Unavailable


class Exchange:
    """lost: asked for each delivery, with (from slot, to slot, data). locks: key -> slot.

    gate: not None = subscriptions that begin now wait for it. waiting: how many callers of subscribe() wait.
    lag: asked for the turns that a question or an answer takes.
    """

    def __init__(self) -> None:
        self.buses: list[ExchangeBus] = []
        self.locks: dict[int, int] = {}
        self.lost: Callable[[int, int, bytes], bool] = lambda source, target, data: False
        self.lag: Callable[[], int] = lambda: 1
        self.gate: asyncio.Event | None = None
        self.waiting = 0
        self.published = 0
        self._held: set[tuple[int, int]] = set()
        self._ways: defaultdict[tuple[int, int], deque[tuple[Topic, bytes]]] = defaultdict(deque)

    def bus(self) -> ExchangeBus:
        self.buses.append(ExchangeBus(self, len(self.buses)))
        return self.buses[-1]

    def hold(self, source: int, target: int) -> None:
        """Keep what `source` tells `target` until let_go()."""
        self._held.add((source, target))

    def let_go(self) -> None:
        ways, self._held = self._held, set()
        for source, target in sorted(ways):
            for _ in self._ways[source, target]:
                asyncio.get_running_loop().call_soon(self._deliver, source, target)

    def gap(self, slot: int) -> None:
        """The worker is told that it may have missed something."""
        asyncio.get_running_loop().call_soon(self.buses[slot].on_gap)

    def cut(self, slot: int) -> None:
        """The worker reaches nobody any more. The others see it as they saw it last, until its lease is over."""
        self.buses[slot].cut_off()

    def expire(self, slot: int) -> None:
        """The lease of a worker that is cut off is over: its locks are free and its users offline."""
        bus = self.buses[slot]
        assert not bus.healthy
        bus.routed.clear()
        self.locks = {key: holder for key, holder in self.locks.items() if holder != slot}
        for other in self.buses:
            if other.slot != slot and other.healthy:
                self.gap(other.slot)

    def mend(self, slot: int) -> None:
        """The worker is back: it is heard, has what nobody took of its locks, and knows of its gap."""
        self.buses[slot].come_back()

    def forget(self) -> None:
        """All locks are lost, as when the server of the bus begins anew; who is there takes theirs again."""
        self.locks.clear()
        for bus in self.buses:
            if bus.healthy:
                bus.cut_off()
                bus.come_back()

    def send(self, source: int, topic: Topic, data: bytes) -> None:
        self.published += 1
        for bus in self.buses:
            if bus.slot != source and bus.is_routed(topic) and not self.lost(source, bus.slot, data):
                self._ways[source, bus.slot].append((topic, data))
                asyncio.get_running_loop().call_soon(self._deliver, source, bus.slot)

    def _deliver(self, source: int, target: int) -> None:
        if (source, target) in self._held or not self._ways[source, target]:
            return
        topic, data = self._ways[source, target].popleft()
        bus = self.buses[target]
        if (topic in bus.own or topic == EVERYBODY) and bus.healthy:
            bus.on_message(topic, data)


class ExchangeBus:
    """own: subscribed by this worker, besides EVERYBODY. routed: those of them that the others know of. held: this
    worker's locks, as far as it knows. epoch: counts the times it was cut off."""

    def __init__(self, exchange: Exchange, slot: int) -> None:
        self.slot = slot
        self.own: set[Topic] = set()
        self.routed: set[Topic] = set()
        self.held: set[int] = set()
        self._gates: dict[Topic, asyncio.Event] = {}
        self.on_message: Callable[[Topic, bytes], None] = lambda topic, data: None
        self.on_gap: Callable[[], None] = lambda: None
        self.on_lock_lost: Callable[[int], None] = lambda key: None
        self.round_trip_us = 0
        self.name = f"bus {slot}"
        self.closed = False
        self.healthy = True
        self.epoch = 0
        self._released: set[int] = set()
        self._seen: set[Topic] = set()
        self._exchange = exchange

    async def open(
        self, on_message: OnMessage, on_gap: OnGap, on_lock_lost: OnLockLost, *, patient: bool = False
    ) -> None:
        self.on_message, self.on_gap, self.on_lock_lost = on_message, on_gap, on_lock_lost

    async def close(self) -> None:
        """The worker is gone, as if it had been killed."""
        self.closed = True
        self.own.clear()
        self.routed.clear()
        self._exchange.locks = {key: slot for key, slot in self._exchange.locks.items() if slot != self.slot}

    # ---------------------------------------------------------------- cut off

    def cut_off(self) -> None:
        self._seen = set().union(*(bus.routed for bus in self._exchange.buses if bus is not self))
        self.healthy = False
        self.epoch += 1

    def come_back(self) -> None:
        loop, locks = asyncio.get_running_loop(), self._exchange.locks
        self.healthy = True
        self.routed = set(self.own)
        for key in self._released:
            if locks.get(key) == self.slot:
                del locks[key]
        self._released.clear()
        for key in sorted(self.held):
            if locks.setdefault(key, self.slot) != self.slot:
                self.held.discard(key)
                loop.call_soon(self.on_lock_lost, key)
        loop.call_soon(self.on_gap)

    async def _travel(self) -> None:
        for _ in range(self._exchange.lag()):
            await asyncio.sleep(0)

    # ---------------------------------------------------------------- what core calls

    def is_routed(self, topic: Topic) -> bool:
        return topic in self.routed or (topic == EVERYBODY and not self.closed)

    def other_workers(self) -> dict[str, str]:
        """Also who is cut off."""
        return {bus.name: f"host{bus.slot}" for bus in self._exchange.buses if bus is not self and not bus.closed}

    def publish(self, topic: Topic, data: bytes) -> None:
        if self.healthy:
            self._exchange.send(self.slot, topic, data)

    async def subscribe(self, topics: Iterable[Topic]) -> None:
        wanted = set(topics) - {EVERYBODY}
        if self._exchange.gate is not None:
            self._gates.update(dict.fromkeys(wanted - self.own, self._exchange.gate))
        self.own |= wanted
        self._exchange.waiting += 1
        await self._travel()
        for topic in wanted & self._gates.keys():
            await self._gates[topic].wait()
        self._exchange.waiting -= 1
        if self.healthy:
            self.routed |= wanted & self.own

    def unsubscribe(self, topics: Iterable[Topic]) -> None:
        gone = set(topics)
        self.own -= gone
        if self.healthy:
            self.routed -= gone

    def has_subscribers(self, topic: Topic) -> bool:
        return any(topic in bus.routed for bus in self._exchange.buses if bus is not self)

    async def subscribed_elsewhere(self, topics: Collection[Topic]) -> set[Topic]:
        await self._travel()
        if not self.healthy:
            return {topic for topic in topics if topic in self._seen}
        return {topic for topic in topics if self.has_subscribers(topic)}

    async def lock(self, key: int) -> bool:
        """Cut off on the way there: not asked. Cut off on the way back: nobody here knows what was said."""
        epoch = self.epoch
        await self._travel()
        if not self.healthy or self.epoch != epoch:
            raise Unavailable("cut off")
        mine = self._exchange.locks.setdefault(key, self.slot) == self.slot
        await self._travel()
        if not self.healthy or self.epoch != epoch:
            raise Unavailable("cut off")
        if mine:
            self.held.add(key)
        return mine

    def unlock(self, key: int) -> None:
        self.held.discard(key)
        if not self.healthy:
            self._released.add(key)
        elif self._exchange.locks.get(key) == self.slot:
            del self._exchange.locks[key]

    def lock_share(self) -> LockShare:
        return LockShare(str(self.slot).encode())

    async def give_lock(self, key: int, to: LockShare) -> bool:
        if key not in self.held:
            return False
        self.held.discard(key)
        await self._travel()
        if not self.healthy:
            self._released.add(key)
            raise Unavailable("cut off")
        if self._exchange.locks.get(key) != self.slot:
            return False
        self._exchange.locks[key] = int(to.name)
        return True

    async def take_lock_back(self, key: int, given: LockShare) -> bool:
        if self._exchange.locks.get(key) == int(given.name):
            del self._exchange.locks[key]
        return await self.lock(key)

    def keep_lock(self, key: int) -> None:
        self.held.add(key)
