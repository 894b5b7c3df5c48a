"""The nodes of a Redis Cluster: which one has which slot, and following slots that move.

Owns: the table of slots, one RedisNode for each master, and subscribing again when a slot has moved.
Elsewhere: one node (bus.redis.node), publishing (bus.redis.bus).
Fails: Unavailable for a slot that no node has. A node that dies is a gap for its topics; the others go on.

Topics are sharded channels: a message goes only to the node that has the slot, so each node that is added makes the
cluster carry more. A message for every worker uses a plain channel instead, published and received through every node:
it arrives while any node lives.

While a slot moves, its old node still has all of its channels, and the keys that have not moved yet; for other keys it
names the node to ask (ASK), perhaps one that has no slots yet. Once the slot belongs to the new node, the two nodes
learn of it at different times. So a subscription at the old node stays until that node ends it, and messages that are
still published there arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from redis.crc import key_slot

from chatd import log
from chatd.background import BackgroundTasks
from chatd.bus.redis.connect import CONNECT_ERRORS, ask_once, why_of
from chatd.bus.redis.connection import Reply
from chatd.bus.redis.node import NodeContext, RedisNode
from chatd.bus.redis.settings import RedisServerAddress
from chatd.bus.redis.topology import by_node
from chatd.errors import Unavailable

SLOTS = 16384
SETTLED_S = 10.0
"""Interval between readings of the table while nothing seems to be wrong with it."""
UNSETTLED_S = 0.25
"""The same while a slot has no node, or a node is not up."""
REFRESH_APART_S = 0.05
"""The shortest pause between two readings."""
STEADY_S = 5.0
"""How long a worker may need to follow a slot that has moved."""
ASKED_S = 30.0
"""How long a node without slots is kept after it was asked about a slot on its way there."""

logger = log.get()

SlotRange = tuple[int, int, RedisServerAddress]
"""First slot, last slot, their master."""


class ClusterTopology:
    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._nodes: dict[RedisServerAddress, RedisNode] = {}
        self._asked_at: dict[RedisServerAddress, float] = {}
        """When node_at() was last called for each address, in loop time."""
        self._table: list[RedisNode | None] = [None] * SLOTS
        """The node of each slot; None = no node has it."""
        self._to_resubscribe: set[bytes] = set()
        """Channels that we are not subscribed to now; subscribed to again with the next table."""
        self._moved_at: dict[int, float] = {}
        """When each slot last moved, in loop time."""
        self._last_move_at = float("-inf")
        """When any slot last moved, in loop time."""
        self._refresh_wanted = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        """Set once open."""
        self._closing = BackgroundTasks(asyncio.get_running_loop())
        """Close nodes that are not used any more."""

    async def open(self) -> None:
        """One node that can be used is enough; the others are tried again.

        Raises:
            Unavailable: no node can be used.
        """
        self._apply(await self._read_slots())
        nodes = list(self._nodes.values())
        results = await asyncio.gather(*(node.open() for node in nodes), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if len(failures) == len(nodes):
            raise failures[0] if failures else Unavailable("the redis cluster has no masters")
        for node, result in zip(nodes, results, strict=True):
            if isinstance(result, BaseException):
                logger.warning("bus: redis cannot be used", address=str(node.address), why=str(result))
                node.start()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def start(self) -> None:
        for node in self._nodes.values():
            node.start()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        await asyncio.gather(*(node.close() for node in self._nodes.values()), self._closing.settle())

    def of(self, name: bytes) -> RedisNode:
        node = self._table[key_slot(name)]
        if node is None:
            raise Unavailable("no node of the redis cluster has this slot")
        return node

    def all(self) -> Collection[RedisNode]:
        return tuple(self._nodes.values())

    def is_steady(self, name: bytes | None) -> bool:
        since = self._last_move_at if name is None else self._moved_at.get(key_slot(name), float("-inf"))
        return asyncio.get_running_loop().time() > since + STEADY_S

    def channels_of(self, node: RedisNode) -> list[bytes]:
        return by_node(self, self._context.channels).get(node, [])

    def refresh(self, resubscribe: Collection[bytes] = ()) -> None:
        self._to_resubscribe.update(resubscribe)
        self._refresh_wanted.set()

    def node_at(self, address: RedisServerAddress) -> RedisNode | None:
        self._asked_at[address] = asyncio.get_running_loop().time()
        node = self._nodes.get(address) or self._add(address)
        return node if node.is_connected else None

    def _add(self, address: RedisServerAddress) -> RedisNode:
        node = self._nodes[address] = RedisNode(self._context, self, address)
        if self._watcher is not None:
            node.start()
        return node

    # ------------------------------------------------------------ the table of slots

    async def _watch(self) -> None:
        """Read the table now and then, and soon after refresh()."""
        while True:
            settled = not self._to_resubscribe and all(node is not None and node.is_up for node in set(self._table))
            try:
                async with asyncio.timeout(SETTLED_S if settled else UNSETTLED_S):
                    await self._refresh_wanted.wait()
            except TimeoutError:
                pass  # time to read it without a reason
            self._refresh_wanted.clear()
            try:
                self._apply(await self._read_slots())
            except Unavailable as error:
                logger.debug("bus: cannot read the slots of the redis cluster", why=str(error))
            await asyncio.sleep(REFRESH_APART_S)

    async def _read_slots(self) -> list[SlotRange]:
        """As told by the first node that answers: the connected ones are asked first, then those of the settings.

        Raises:
            Unavailable: none answers.
        """
        for node in list(self._nodes.values()):
            if node.is_up:
                try:
                    return _parse_slots(await node.call("CLUSTER", "SLOTS"), node.address)
                except Unavailable as error:
                    logger.debug(
                        "bus: a redis node does not answer CLUSTER SLOTS", address=str(node.address), why=str(error)
                    )
        settings, limits = self._context.settings, self._context.limits
        failed: Exception | None = None
        for address in settings.addresses:
            try:
                slots = await ask_once(settings, limits, address, settings.login, "CLUSTER", "SLOTS")
                return _parse_slots(slots, address)
            except CONNECT_ERRORS as error:
                failed = failed or error
        assert failed is not None
        raise Unavailable(f"cannot use redis at {settings.addresses[0]}: {why_of(failed)}")

    def _apply(self, ranges: list[SlotRange]) -> None:
        table: list[RedisNode | None] = [None] * SLOTS
        for first, last, address in ranges:
            node = self._nodes.get(address) or self._add(address)
            table[first : last + 1] = [node] * (last + 1 - first)
        old, self._table = self._table, table
        resubscribe, self._to_resubscribe = self._to_resubscribe, set()
        moved = {slot for slot in range(SLOTS) if old[slot] is not table[slot]}
        if self._watcher is not None and (moved or resubscribe):
            self._last_move_at = asyncio.get_running_loop().time()
            self._moved_at |= dict.fromkeys(moved, self._last_move_at)
            self._subscribe_again(moved, resubscribe)
        self._close_unused(set(self._nodes.values()) - set(table))

    def _subscribe_again(self, moved: set[int], resubscribe: set[bytes]) -> None:
        """Subscriptions follow their slots. A node that is not connected yet subscribes to its channels when it is."""
        channels: dict[RedisNode, list[bytes]] = {}
        for channel in self._context.channels:
            slot = key_slot(channel)
            node = self._table[slot]
            if node is not None and (slot in moved or channel in resubscribe):
                channels.setdefault(node, []).append(channel)
        for node, some in channels.items():
            node.subscribe(some)
        self._context.listener.subscriptions_moved()

    def _close_unused(self, without_slots: Collection[RedisNode]) -> None:
        now = asyncio.get_running_loop().time()
        for address, node in list(self._nodes.items()):
            if node in without_slots and now > self._asked_at.get(address, float("-inf")) + ASKED_S:
                del self._nodes[address]
                self._asked_at.pop(address, None)
                self._closing.start(node.close())


def _parse_slots(slots: Reply, asked: RedisServerAddress) -> list[SlotRange]:
    """The masters in the answer to CLUSTER SLOTS. A node that does not know its own address is the one asked."""
    found = []
    for first, last, master, *_ in slots:
        host = (master[0] or b"").decode()
        address = RedisServerAddress(host if host not in ("", "?") else asked.host, int(master[1]))
        found.append((int(first), int(last), address))
    return found
