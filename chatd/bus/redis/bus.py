"""The bus between the workers of many hosts, over the channels of Redis.

Owns: topics and their channels, publishing, what is told to whom after something was lost, and the worker's rounds.
Elsewhere: bytes (bus.redis.connection, bus.redis.envelope), one server (bus.redis.node), which server
(bus.redis.topology, bus.redis.cluster), our lease (bus.redis.lease), marks (bus.redis.locks), other workers
(bus.redis.membership), who is elsewhere (bus.redis.subscribers), what is owed after a loss (bus.redis.gaps).
Fails: as bus.contract says. While Redis is away publishes are dropped, claims raise Unavailable, and presence is as it
was last seen. When it is back, on_gap is called here; and everywhere, if something published here may have been lost.

A topic is a channel, and a message is one publish whatever the number of workers that hear it
(docs/decisions/0011-a-channel-per-topic.md). Redis does everything of one connection in its order, so a subscription
that it has confirmed is in force for everybody, and no worker waits for another.

Order: that of the publisher over all its topics; in a Redis Cluster over the topics of one server.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec

from chatd import log
from chatd.bus.contract import OnGap, OnLockLost, OnMessage, Topic
from chatd.bus.redis import envelope
from chatd.bus.redis.canary import Canary
from chatd.bus.redis.connect import Limits
from chatd.bus.redis.gaps import Gaps
from chatd.bus.redis.keys import Names
from chatd.bus.redis.lease import Lease
from chatd.bus.redis.locks import CLAIM, RELEASE, RedisLocks
from chatd.bus.redis.membership import Membership, Worker
from chatd.bus.redis.node import Node, Script
from chatd.bus.redis.settings import read
from chatd.bus.redis.subscribers import Presence
from chatd.bus.redis.topology import Nodes, OneNode
from chatd.errors import Unavailable

_COMPLAIN_S = 60.0

logger = log.get()


class RedisBus:
    """scripts, name: for the nodes. slot: the worker's, for people who look into Redis."""

    scripts: tuple[Script, ...] = (CLAIM, RELEASE)

    def __init__(self, url: str, prefix: str, lease_s: float, slot: int, limits: Limits | None = None) -> None:
        """Raises BootError for a URL that means nothing."""
        self._place = read(url)
        self._names = Names(prefix)
        self._lease_s = lease_s
        self._slot = slot
        self._limits = limits or Limits()
        self._command = b"SPUBLISH" if self._place.kind == "cluster" else b"PUBLISH"
        self._own: dict[Topic, bytes] = {}
        self._topics: dict[bytes, Topic] = {}
        self._opened = False
        self._closing = False
        self._keeper: asyncio.Task[None] | None = None
        self._recovering = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._heard_gaps: dict[bytes, int] = {}
        self._too_new = 0
        self._complained_at = float("-inf")

    # ------------------------------------------------------------ joining and leaving

    async def open(self, on_message: OnMessage, on_gap: OnGap, on_lock_lost: OnLockLost) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message, self._on_lock_lost = on_message, on_lock_lost
        self._nodes = self._find_nodes()
        self._canary = Canary()
        self._lease = lease = Lease(self._nodes, self._names, self._lease_s)
        self._token = lease.token
        self._head = envelope.header(lease.token)
        self._gaps = Gaps(on_gap, self._tell_all_of_a_gap, self._is_whole)
        self._membership = Membership(self._nodes, self._names, lease, self._gaps.tell)
        self._locks = RedisLocks(
            self._nodes, self._names, lease, self._limits.answer_s, self._membership.is_dead, self._gaps.tell
        )
        sharded = self._place.kind == "cluster"
        self._presence = Presence(self._nodes, self._names, self._membership, self._own, sharded)
        await self._nodes.open()
        try:
            await self._join()
        except Unavailable:
            self._closing = True
            await self._nodes.close()
            raise
        self._opened = True
        self._gaps.open()
        self._keeper = self._loop.create_task(self._keep())

    def _find_nodes(self) -> Nodes:
        if self._place.kind != "cluster":
            return OneNode(self._place, self, self._limits)
        from chatd.bus.redis.cluster import Cluster  # with it comes redis-py, 9 MB

        return Cluster(self._place, self, self._limits)

    async def _join(self) -> None:
        await self._lease.renew()
        self._locks.certain = True
        await self._membership.look()
        await self._introduce()
        young = min(node.uptime_s for node in self._nodes.all())
        if young < self._lease_s:
            self._presence.doubt_until = self._loop.time() + self._lease_s - young
        self._send_canary()
        try:
            async with asyncio.timeout(2 * self._limits.answer_s):
                await self._canary.back.wait()
        except TimeoutError:
            raise Unavailable("redis does not bring back what is published") from None

    async def _introduce(self) -> None:
        clients = {node.server: node.client for node in self._nodes.all() if node.connected}
        self._myself = self._membership.myself(self._slot, socket.gethostname(), os.getpid(), clients)
        self._announce("hello", msgspec.to_builtins(self._myself))
        await self._membership.register(self._myself)

    async def close(self) -> None:
        """What was published has been handed to Redis, all marks are free."""
        self._closing = True
        if self._keeper is not None:
            self._gaps.close()
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            try:
                async with asyncio.timeout(self._limits.answer_s):
                    await self._say_goodbye()
            except (Unavailable, TimeoutError) as error:
                logger.debug("bus: left without a goodbye", why=str(error))
            await self._nodes.close()
        self._keeper = None
        self._own.clear()
        self._topics.clear()

    async def _say_goodbye(self) -> None:
        await self._locks.close()
        await self._membership.leave()
        await self._lease.end()
        self._announce("bye", self._lease.token.hex())
        for node in self._nodes.all():
            if node.connected:
                await node.call("PING")

    @property
    def name(self) -> str:
        return self._names.own(self._lease.token.hex()).decode()

    def other_workers(self) -> dict[str, str]:
        return {self._names.own(token).decode(): host for token, host in self._membership.hosts().items()}

    @property
    def healthy(self) -> bool:
        return self._opened and not self._closing and self._is_whole() and self._canary.is_fresh

    @property
    def round_trip_us(self) -> int:
        return self._canary.round_trip_us if self._opened else 0

    # ------------------------------------------------------------ publishing

    def publish(self, topic: Topic, data: bytes) -> None:
        if self._closing:
            return
        channel = self._own.get(topic) or self._names.topic(topic)
        try:
            node = self._nodes.of(channel)
        except Unavailable:
            self._gaps.owe()
            return
        node.publish(self._framed(self._command, channel, data))

    def _framed(self, command: bytes, channel: bytes, data: bytes) -> bytes:
        return b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b%b\r\n" % (
            len(command), command, len(channel), channel, len(data) + envelope.HEADER_BYTES, self._head, data
        )  # fmt: skip

    def has_subscribers(self, topic: Topic) -> bool:
        """Nobody here knows."""
        return True

    def _announce(self, what: str, *values: Any) -> None:
        """To every worker, through every server, for one may just be dying: it is heard more than once."""
        framed = self._framed(b"PUBLISH", self._names.all, msgspec.msgpack.encode((what, *values)))
        for node in self._nodes.all():
            if node.connected:
                node.publish(framed)

    def _tell_all_of_a_gap(self) -> bool:
        if not any(node.connected for node in self._nodes.all()):
            return False
        self._announce("gap", next(self._numbers), not self._is_whole())
        return True

    def _is_whole(self) -> bool:
        return all(node.up for node in self._nodes.all())

    def _send_canary(self) -> None:
        if up := [node for node in self._nodes.all() if node.up]:
            number = self._canary.sent()
            data = msgspec.msgpack.encode(("canary", number))
            up[number % len(up)].publish(self._framed(b"PUBLISH", self.name.encode(), data))

    # ------------------------------------------------------------ subscribing

    async def subscribe(self, topics: Iterable[Topic]) -> None:
        """Cancelled: the topics may be subscribed; unsubscribe them."""
        if self._closing:
            return
        fresh = []
        for topic in topics:
            if topic not in self._own:
                channel = self._own[topic] = self._names.topic(topic)
                self._topics[channel] = topic
                fresh.append(channel)
        for node, channels in self._by_node(fresh).items():
            node.subscribe(channels)
        # Nothing fresh: still wait, for the topics may be on their way on behalf of another caller.
        waiting = [done for node in self._nodes.all() if (done := node.confirming) is not None]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=self._limits.answer_s)
        for done in late:
            done.add_done_callback(lambda done: self._gaps.tell())

    def unsubscribe(self, topics: Iterable[Topic]) -> None:
        gone = []
        for topic in topics:
            channel = self._own.pop(topic, None)
            if channel is not None:
                del self._topics[channel]
                gone.append(channel)
        for node, channels in self._by_node(gone).items():
            node.unsubscribe(channels)

    def _by_node(self, channels: Iterable[bytes]) -> dict[Node, list[bytes]]:
        """Those that nobody carries now are subscribed when somebody does."""
        found: dict[Node, list[bytes]] = {}
        for channel in channels:
            try:
                node = self._nodes.of(channel)
            except Unavailable:
                continue
            found.setdefault(node, []).append(channel)
        return found

    async def subscribed_elsewhere(self, topics: Collection[Topic]) -> set[Topic]:
        return await self._presence.subscribed_elsewhere(topics) if topics else set()

    # ------------------------------------------------------------ marks

    async def lock(self, key: int) -> bool:
        if not self._opened or self._closing:
            raise Unavailable("the bus is not open")
        return await self._locks.lock(key)

    def unlock(self, key: int) -> None:
        if self._opened and not self._closing:
            self._locks.unlock(key)

    # ------------------------------------------------------------ what is heard

    def heard(self, channel: bytes, raw: bytes) -> None:
        topic = self._topics.get(channel)
        if topic is None:
            self._heard_word(channel, raw)
        elif raw[envelope.TOKEN] != self._token:
            try:
                data = envelope.content(raw)
            except (envelope.TooNew, ValueError) as error:
                self._not_understood(error)
                return
            try:
                self._on_message(topic, data)
            except Exception:
                logger.exception("bus: a message failed", topic=topic, size=len(data))

    def _heard_word(self, channel: bytes, raw: bytes) -> None:
        """On the channels of all, and our own. What is not known comes from a later version."""
        if channel != self._names.all and channel != self._names.own(self._token.hex()):
            return  # a topic given up a moment ago
        try:
            what, *values = msgspec.msgpack.decode(envelope.content(raw))
            word = _WORDS.get(what)
            if word is not None:
                word(self, raw[envelope.TOKEN], *values)
        except (envelope.TooNew, ValueError, TypeError) as error:
            self._not_understood(error)

    def _on_canary(self, token: bytes, number: int, *_: Any) -> None:
        self._canary.heard(number)

    def _on_hello(self, token: bytes, worker: Any, *_: Any) -> None:
        self._membership.hello(msgspec.convert(worker, Worker))

    def _on_bye(self, token: bytes, who: str, *_: Any) -> None:
        self._membership.bye(who)

    def _on_gone(self, token: bytes, who: str, epoch: int, dead: bool = False, *_: Any) -> None:
        self._membership.gone(who, epoch, dead)

    def _on_gap_elsewhere(self, token: bytes, number: int, lasting: bool = False, *_: Any) -> None:
        if token != self._token and self._heard_gaps.get(token, 0) < number:
            if len(self._heard_gaps) > 10_000:
                self._heard_gaps.clear()
            self._heard_gaps[token] = number
            self._gaps.tell(lasting)

    def _not_understood(self, error: Exception) -> None:
        self._too_new += 1
        now = self._loop.time()
        if now - self._complained_at > _COMPLAIN_S:
            self._complained_at = now
            logger.error("bus: a message is not understood", why=str(error), times=self._too_new)
        self._gaps.tell()

    # ------------------------------------------------------------ what the nodes tell (redis_node.Owner)

    def plain_channels(self) -> list[bytes]:
        return [self._names.all, self._names.own(self._lease.token.hex())]

    def channels(self) -> Collection[bytes]:
        return self._topics

    def channels_of(self, node: Node) -> list[bytes]:
        return self._by_node(self._topics).get(node, [])

    def wants(self, channel: bytes) -> bool:
        return channel in self._topics

    def ended(self, channel: bytes) -> None:
        if channel in self._topics and not self._closing:
            self._nodes.look([channel])

    def rearranged(self) -> None:
        """Called while the subscriptions that moved are on their way."""
        for node in self._nodes.all():
            if (done := node.confirming) is not None:
                done.add_done_callback(lambda done: self._gaps.tell())
        self._gaps.tell()

    def dropped(self, node: Node) -> None:
        self._gaps.owe()

    def moved(self, channels: Collection[bytes] = ()) -> None:
        self._nodes.look(channels)

    def left(self, node: Node) -> None:
        if self._lease_is_on(node):
            self._locks.certain = False
        if not self._closing:
            self._nodes.look()

    def _lease_is_on(self, node: Node) -> bool:
        try:
            return self._nodes.of(self._names.lease(self._lease.owner)) is node
        except Unavailable:
            return True

    async def joined(self, node: Node, same_server: bool) -> None:
        if self._opened:
            await self._recover(same_server)

    async def _recover(self, remembers: bool) -> None:
        """Redis is back, or our lease was found gone."""
        async with self._recovering:
            kept = await self._lease.renew()
            if not (kept and remembers):
                self._membership.be_patient()
            await self._introduce()
            self._locks.certain = True
            self._gaps.settle()
            self._gaps.tell()
            self._tell_lost(await self._locks.take_again(all_of_them=not (kept and remembers)))

    def _tell_lost(self, keys: Iterable[int]) -> None:
        for key in keys:
            logger.warning("bus: another worker has taken a mark", key=key)
            try:
                self._on_lock_lost(key)
            except Exception:
                logger.exception("bus: giving up a mark failed")

    # ------------------------------------------------------------ rounds

    async def _keep(self) -> None:
        """Our sign of life, and everything that is done about once a second."""
        renew_s = min(1.0, self._lease_s / 5)
        renew_at = second_at = look_at = self._loop.time()
        while True:
            now = self._loop.time()
            await asyncio.sleep(max(0.0, min(renew_at, second_at, look_at) - now))
            now = self._loop.time()
            try:
                if now >= renew_at:
                    renew_at = now + renew_s
                    await self._renew()
                if now >= second_at:
                    second_at = now + 1.0
                    self._send_canary()
                    await self._membership.register(self._myself)
                    self._tell_lost(await self._locks.renew(1.0))
                if now >= look_at:
                    look_at = now + self._membership.period_s
                    await self._look()
                    look_at = min(look_at, now + self._membership.period_s)
            except Unavailable as error:
                logger.debug("bus: a round was cut short", why=str(error))
            except Exception:
                logger.exception("bus: a round failed")

    async def _renew(self) -> None:
        if not await self._lease.renew():
            await self._recover(remembers=False)
        self._locks.certain = True

    async def _look(self) -> None:
        for worker in await self._membership.look():
            dead = self._membership.is_known_dead(worker)
            if await self._membership.clear_away(worker):
                self._announce("gone", worker.token, worker.epoch, dead)
            self._membership.gone(worker.token, worker.epoch, dead)
        if self._presence.guessed and await self._presence.is_settled():
            self._presence.guessed = False
            self._gaps.tell()


_WORDS: dict[str, Callable[..., None]] = {
    "canary": RedisBus._on_canary,
    "hello": RedisBus._on_hello,
    "bye": RedisBus._on_bye,
    "gone": RedisBus._on_gone,
    "gap": RedisBus._on_gap_elsewhere,
}
