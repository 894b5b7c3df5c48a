"""The bus of a cluster: workers of many hosts, over the channels and keys of Redis.

Owns: joining and leaving, publishing, subscribing, and what to do with a message that arrives.
Elsewhere: the bytes (bus.redis.connection, bus.redis.envelope), keys (bus.redis.keyring), one server (bus.redis.node),
which server has what (bus.redis.topology, bus.redis.cluster), locks (bus.redis.locks, bus.redis.lease), the other
workers (bus.redis.membership, bus.redis.control), who is subscribed elsewhere (bus.redis.subscribers), reports of gaps
(bus.redis.gaps), and the background work (bus.redis.upkeep).
Fails: as bus.contract says. While Redis is away, publishes are dropped, lock() raises Unavailable, and
subscribed_elsewhere() answers as last seen. When it is back, on_gap is called here; and on every worker, if something
published here may have been lost.

A topic is a channel, and a message is one PUBLISH, however many workers receive it
(docs/decisions/0011-a-channel-per-topic.md). Redis executes all commands of a connection in their order, so a
subscription that it has confirmed is in force for every publisher, and no worker waits for another.

Messages arrive in the publisher's order over all of its topics; in a Redis Cluster, over the topics of one server.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterable
from functools import partial
from weakref import WeakKeyDictionary

from chatd import log
from chatd.bus.contract import LockShare, OnGap, OnLockLost, OnMessage, Topic
from chatd.bus.lifecycle import BusState, Lifecycle
from chatd.bus.redis.canary import FRESH_S, Canary
from chatd.bus.redis.channels import SubscribedChannels
from chatd.bus.redis.control import ControlReceiver, ControlSender
from chatd.bus.redis.envelope import TOKEN, Forged, Forgery, Opener, Sealer, TooNew
from chatd.bus.redis.gaps import GapReporter
from chatd.bus.redis.keyring import Keyring
from chatd.bus.redis.keys import RedisKeys
from chatd.bus.redis.lease import Lease
from chatd.bus.redis.lock_keys import GIVE, RELEASE, TAKE, LockKeys
from chatd.bus.redis.locks import RedisLocks
from chatd.bus.redis.membership import ClusterMembership, EntryCheck
from chatd.bus.redis.node import NodeContext, RedisNode
from chatd.bus.redis.refusals import Refusals
from chatd.bus.redis.settings import RedisLimits, read_settings
from chatd.bus.redis.subscribers import RemoteSubscribers
from chatd.bus.redis.topology import SingleTopology, Topology, by_node, is_whole
from chatd.bus.redis.upkeep import RedisParts, Upkeep
from chatd.config.schema import BusOptions
from chatd.errors import Unavailable

_COMPLAIN_S = 60.0
"""The shortest time between two log records about messages that are not understood."""

logger = log.get()


class RedisBus:
    """Also the NodeListener of its nodes."""

    # Set by open():
    _loop: asyncio.AbstractEventLoop
    _on_message: OnMessage
    _parts: RedisParts
    _topology: Topology
    """This and `_gaps` are those of `_parts`: every message needs them, so one lookup is saved."""
    _gaps: GapReporter
    _control: ControlReceiver
    _upkeep: Upkeep

    def __init__(
        self, options: BusOptions, slot: int, keyring: Keyring | None = None, limits: RedisLimits | None = None
    ) -> None:
        """slot: this worker's, written to Redis for diagnosis. keyring: its keys may change while the bus is open; by
        default those of `options`, for good.

        Raises:
            BootError: the URL is invalid, or a file named in it cannot be used.
        """
        self._settings = read_settings(options.url)
        self._sharded = self._settings.kind == "cluster"
        self._limits = limits or RedisLimits()
        self._lease_s = options.lease_s
        self._slot = slot
        self._lifecycle = Lifecycle()
        self._keys = RedisKeys(options.prefix)
        self._keyring = keyring or Keyring(options.keys, accepts_unsigned=options.insecure_unsigned)
        self._refusals = Refusals()
        self._token = secrets.token_bytes(8)
        self._sealer = Sealer(self._token, self._keyring)
        self._openers: WeakKeyDictionary[RedisNode, Opener] = WeakKeyDictionary()
        """For the messages on topics: one for each server, because between servers there is no order."""
        self._publish_command = b"SPUBLISH" if self._sharded else b"PUBLISH"
        self._channels = SubscribedChannels(self._keys, self._keys.worker(self._token.hex()))
        self._background: asyncio.Task[None] | None = None
        """Runs the upkeep while the bus is open."""
        self._not_understood_count = 0
        """Messages that were not understood, since the start."""
        self._complained_at = float("-inf")
        """Loop time of the last log record about one of them."""

    # ------------------------------------------------------------ joining and leaving

    async def open(
        self, on_message: OnMessage, on_gap: OnGap, on_lock_lost: OnLockLost, *, patient: bool = False
    ) -> None:
        self._lifecycle.become(BusState.JOINING)
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._parts = parts = self._build(on_gap)
        self._topology, self._gaps = parts.topology, parts.gaps
        opener = Opener(self._keyring)
        self._control = ControlReceiver(parts.membership, parts.gaps, parts.canary, self._token, opener)
        self._upkeep = Upkeep(parts, self._slot, on_lock_lost)
        try:
            await parts.topology.open()
            await self._upkeep.join(2 * self._limits.answer_s)
        except Unavailable as error:
            await parts.topology.close()
            if not patient:
                self._lifecycle.become(BusState.CLOSED)
                raise
            logger.warning("bus: cannot join yet", why=str(error))
            parts.topology.start()
        self._lifecycle.become(BusState.OPEN)
        parts.gaps.open()
        self._background = self._loop.create_task(self._upkeep.run())

    def _build(self, on_gap: OnGap) -> RedisParts:
        keys, canary = self._keys, Canary()
        topology = self._make_topology()
        control = ControlSender(topology, keys, self._token, self._sealer)
        gaps = GapReporter(on_gap, control.gap, lambda: is_whole(topology))
        lease = Lease(topology, keys, self._lease_s, self._token)
        entries = EntryCheck(self._keyring, self._refusals)
        membership = ClusterMembership(topology, keys, lease, entries, gaps.report)
        lock_keys = LockKeys(topology, keys, lease, membership.is_dead)
        return RedisParts(
            topology=topology,
            keys=keys,
            lease=lease,
            membership=membership,
            locks=RedisLocks(lock_keys, lease, self._limits.answer_s, gaps.report),
            subscribers=RemoteSubscribers(topology, keys, membership, self._channels, self._sharded),
            gaps=gaps,
            canary=canary,
            control=control,
        )

    def _make_topology(self) -> Topology:
        context = NodeContext(
            settings=self._settings,
            limits=self._limits,
            client_name=self.name,
            scripts=(TAKE, RELEASE, GIVE),
            channels=self._channels,
            listener=self,
        )
        if not self._sharded:
            return SingleTopology(context)
        from chatd.bus.redis.cluster import ClusterTopology  # it needs redis-py: 9 MB of memory

        return ClusterTopology(context)

    async def close(self) -> None:
        self._lifecycle.become(BusState.CLOSED)
        if self._background is not None:
            self._gaps.close()
            self._background.cancel()
            await asyncio.wait([self._background])
            self._background = None
            try:
                async with asyncio.timeout(self._limits.answer_s):
                    await self._upkeep.leave()
            except (Unavailable, TimeoutError) as error:
                logger.debug("bus: left without saying bye", why=str(error))
            await self._topology.close()
        self._channels.clear()

    @property
    def name(self) -> str:
        return self._channels.own.decode()

    def other_workers(self) -> dict[str, str]:
        return {self._keys.worker(token).decode(): host for token, host in self._parts.membership.hosts().items()}

    @property
    def healthy(self) -> bool:
        return self._lifecycle.is_open and is_whole(self._topology) and self._parts.canary.is_fresh

    @property
    def trouble(self) -> str:
        if self.healthy:
            return ""
        if not self._lifecycle.is_open:
            return "this worker has not joined it, or has left it"
        away = [node for node in self._topology.all() if not node.is_up]
        if away:
            return "; ".join(f"redis at {node.address}: {node.trouble or 'is not ready yet'}" for node in away)
        return f"what is published to redis has not come back for {FRESH_S:g} s"

    @property
    def round_trip_us(self) -> int:
        return self._parts.canary.round_trip_us if self._lifecycle.is_open else 0

    @property
    def refused(self) -> int:
        return self._refusals.count

    @property
    def queued_bytes(self) -> int:
        """Bytes waiting to be sent to Redis. For tests and diagnosis; valid once open."""
        return sum(node.queued_bytes for node in self._topology.all())

    # ------------------------------------------------------------ publishing

    def publish(self, topic: Topic, data: bytes) -> None:
        if self._lifecycle.is_closed:
            return
        channel = self._channels.by_topic.get(topic) or self._keys.topic(topic)
        try:
            node = self._topology.of(channel)
        except Unavailable:
            self._gaps.owe()
            return
        node.publish(self._sealer.command(self._publish_command, channel, data))

    def has_subscribers(self, topic: Topic) -> bool:
        """Redis would have to be asked, which costs more than a publish."""
        return True

    # ------------------------------------------------------------ subscribing

    async def subscribe(self, topics: Iterable[Topic]) -> None:
        if self._lifecycle.is_closed:
            return
        for node, channels in by_node(self._topology, self._channels.add(topics)).items():
            node.subscribe(channels)
        # Even without new topics: another caller may be waiting for the same ones.
        waiting = [done for node in self._topology.all() if (done := node.confirming) is not None]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=self._limits.answer_s)
        for done in late:
            done.add_done_callback(lambda done: self._gaps.report())

    def unsubscribe(self, topics: Iterable[Topic]) -> None:
        for node, channels in by_node(self._topology, self._channels.remove(topics)).items():
            node.unsubscribe(channels)

    async def subscribed_elsewhere(self, topics: Collection[Topic]) -> set[Topic]:
        return await self._parts.subscribers.among(topics) if topics else set()

    # ------------------------------------------------------------ locks

    async def lock(self, key: int) -> bool:
        if not self._lifecycle.is_open:
            raise Unavailable("the bus is not open")
        return await self._parts.locks.lock(key)

    def unlock(self, key: int) -> None:
        if self._lifecycle.is_open:
            self._parts.locks.unlock(key)

    def lock_share(self) -> LockShare:
        return LockShare(self._parts.lease.holder)

    async def give_lock(self, key: int, to: LockShare) -> bool:
        if not self._lifecycle.is_open:
            raise Unavailable("the bus is not open")  # closing releases every lock
        return await self._parts.locks.give(key, to.name)

    async def take_lock_back(self, key: int, given: LockShare) -> bool:
        if not self._lifecycle.is_open:
            raise Unavailable("the bus is not open")
        return await self._parts.locks.take_back(key, given.name)

    def keep_lock(self, key: int) -> None:
        if self._lifecycle.is_open:
            self._parts.locks.keep(key)

    # ------------------------------------------------------------ what nodes report (node.NodeListener)

    def receiver(self, node: RedisNode) -> Callable[[bytes, bytes], None]:
        opener = self._openers.get(node)
        if opener is None:
            opener = self._openers[node] = Opener(self._keyring)
            Opener.level(self._openers.values())
        return partial(self._message, opener)

    def _message(self, opener: Opener, channel: bytes, raw: bytes) -> None:
        topic = self._channels.by_channel.get(channel)
        if topic is None:
            self._control_message(channel, raw)
        elif raw[TOKEN] != self._token:
            try:
                data = opener.content(channel, raw)
            except Forged as forged:
                self._refuse(channel, forged.reason)
                return
            except (TooNew, ValueError) as error:
                self._not_understood(error)
                return
            try:
                self._on_message(topic, data)
            except Exception:
                logger.exception("bus: handling a message failed", topic=topic, size=len(data))

    def _control_message(self, channel: bytes, raw: bytes) -> None:
        if channel not in self._channels.everywhere:
            return  # a topic unsubscribed a moment ago
        try:
            self._control.receive(channel, raw)
        except Forged as forged:
            if not (self._sharded and forged.reason is Forgery.REPLAYED):  # a copy, through another server
                self._refuse(channel, forged.reason)
        except (TooNew, ValueError, TypeError, RecursionError) as error:
            self._not_understood(error)

    def _refuse(self, channel: bytes, reason: Forgery) -> None:
        """It may be by a worker with another key, or come late: then it is missing here. Somebody who forges many
        must not make every session read the store each time, so this counts as a loss that goes on."""
        self._refusals.add(reason, channel)
        self._gaps.report(lasting=True)

    def _not_understood(self, error: Exception) -> None:
        self._not_understood_count += 1
        now = self._loop.time()
        if now - self._complained_at > _COMPLAIN_S:
            self._complained_at = now
            logger.error("bus: a message is not understood", why=str(error), times=self._not_understood_count)
        self._gaps.report()

    def publishes_lost(self) -> None:
        self._gaps.owe()

    def server_lost(self, node: RedisNode) -> None:
        self._upkeep.server_lost(node)
        if not self._lifecycle.is_closed:
            self._topology.refresh()

    async def server_back(self, node: RedisNode, remembers: bool) -> None:
        if self._lifecycle.is_open:
            await self._upkeep.server_back(remembers)

    def subscriptions_moved(self) -> None:
        Opener.level(self._openers.values())
        for node in self._topology.all():
            if (done := node.confirming) is not None:
                done.add_done_callback(lambda done: self._gaps.report())
        self._gaps.report()
