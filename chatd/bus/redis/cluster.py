"""Which node of a Redis Cluster has which slot: asked for, kept, and found out again when it moves.

Owns: the table of slots, one connection for each master, and taking subscriptions along when a slot moves.
Not here: one node (bus.redis.node), what is published (bus.redis.bus).
Fails: Unavailable for a slot that nobody has. A node that dies is a gap for its topics; the rest goes on.

Topics are sharded channels: a message goes to the one node that has the slot, so the cluster carries more with each
node that is added. What every worker must hear is a plain channel instead, said and heard through every node: it
works while any of them lives.

While a slot moves, the node that gives it away still has all of its channels, and those keys that have not moved yet;
for the others it says whom to ask (ASK), perhaps a node that has no slot yet. When the slot is the other's, each of
the two learns it in its own time. So a subscription at the old node is left there until that node ends it: whoever
still publishes there is heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from redis.crc import key_slot

from chatd import log
from chatd.bus.redis.connect import LOST, Limits, ask_once, why_of
from chatd.bus.redis.connection import Reply
from chatd.bus.redis.node import Node, Owner
from chatd.bus.redis.settings import Address, Place
from chatd.errors import Unavailable

SLOTS = 16384
SETTLED_S = 10.0
"""How often the table is asked for while nothing seems to be wrong with it."""
UNSETTLED_S = 0.25
STEADY_S = 5.0
"""How long a worker may need to follow a slot that moved."""
ASKED_S = 30.0
"""A node without slots is kept for so long after somebody had to ask it about a slot on its way there."""

logger = log.get()


class Cluster:
    def __init__(self, place: Place, owner: Owner, limits: Limits) -> None:
        self._place = place
        self._owner = owner
        self._limits = limits
        self._nodes: dict[Address, Node] = {}
        self._asked_at: dict[Address, float] = {}
        self._table: list[Node | None] = [None] * SLOTS
        self._again: set[bytes] = set()
        self._moved_at: dict[int, float] = {}
        self._moved_last = float("-inf")
        self._looking = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Those nodes that cannot be reached now are tried on; it is enough that one can."""
        self._arrange(await self._ask())
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

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        await asyncio.gather(*(node.close() for node in self._nodes.values()), *self._closing)

    def of(self, name: bytes) -> Node:
        node = self._table[key_slot(name)]
        if node is None:
            raise Unavailable("no node of the redis cluster has this slot")
        return node

    def _importing(self, address: Address) -> Node | None:
        """Whom a node names that gives a slot away. None: not connected yet, it is soon."""
        self._asked_at[address] = asyncio.get_running_loop().time()
        node = self._nodes.get(address) or self._make(address)
        return node if node.connected else None

    def _make(self, address: Address) -> Node:
        node = self._nodes[address] = Node(self._place, self._owner, self._limits, address, self._importing)
        if self._watcher is not None:
            node.start()
        return node

    def is_steady(self, name: bytes | None) -> bool:
        since = self._moved_last if name is None else self._moved_at.get(key_slot(name), float("-inf"))
        return asyncio.get_running_loop().time() > since + STEADY_S

    def all(self) -> Collection[Node]:
        return tuple(self._nodes.values())

    def look(self, channels: Collection[bytes] = ()) -> None:
        self._again.update(channels)
        self._looking.set()

    # ------------------------------------------------------------ the table

    async def _watch(self) -> None:
        while True:
            settled = not self._again and all(node is not None and node.up for node in set(self._table))
            try:
                async with asyncio.timeout(SETTLED_S if settled else UNSETTLED_S):
                    await self._looking.wait()
            except TimeoutError:
                pass  # time to look without a reason
            self._looking.clear()
            try:
                self._arrange(await self._ask())
            except Unavailable as error:
                logger.debug("bus: nobody tells the slots of the redis cluster", why=str(error))
            await asyncio.sleep(UNSETTLED_S / 5)

    async def _ask(self) -> list[tuple[int, int, Address]]:
        """First the nodes we are connected to, then those of the URL. Raises Unavailable."""
        for node in list(self._nodes.values()):
            if node.up:
                try:
                    return _ranges(await node.call("CLUSTER", "SLOTS"), node.address)
                except Unavailable as error:
                    logger.debug("bus: a node does not tell its slots", address=str(node.address), why=str(error))
        failed: Exception | None = None
        for address in self._place.addresses:
            try:
                command = ("CLUSTER", "SLOTS")
                return _ranges(await ask_once(self._place, self._limits, address, self._place.login, *command), address)
            except LOST as error:
                failed = failed or error
        assert failed is not None
        raise Unavailable(f"cannot use redis at {self._place.addresses[0]}: {why_of(failed)}")

    def _arrange(self, ranges: list[tuple[int, int, Address]]) -> None:
        table: list[Node | None] = [None] * SLOTS
        for first, last, address in ranges:
            node = self._nodes.get(address) or self._make(address)
            table[first : last + 1] = [node] * (last + 1 - first)
        old, self._table = self._table, table
        again, self._again = self._again, set()
        moved = {slot for slot in range(SLOTS) if old[slot] is not table[slot]}
        if self._watcher is not None and (moved or again):
            self._moved_last = asyncio.get_running_loop().time()
            self._moved_at |= dict.fromkeys(moved, self._moved_last)
            self._take_along(moved, again)
        self._part_from(set(self._nodes.values()) - set(table))

    def _part_from(self, idle: Collection[Node]) -> None:
        now = asyncio.get_running_loop().time()
        for address, node in list(self._nodes.items()):
            if node in idle and now > self._asked_at.get(address, float("-inf")) + ASKED_S:
                del self._nodes[address]
                self._asked_at.pop(address, None)
                task = asyncio.get_running_loop().create_task(node.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _take_along(self, moved: set[int], again: set[bytes]) -> None:
        """Subscriptions follow their slots. A node that is not connected yet takes its own when it is."""
        new: dict[Node, list[bytes]] = {}
        for channel in self._owner.channels():
            slot = key_slot(channel)
            node = self._table[slot]
            if node is not None and (slot in moved or channel in again):
                new.setdefault(node, []).append(channel)
        for node, channels in new.items():
            node.subscribe(channels)
        self._owner.rearranged()


def _ranges(slots: Reply, asked: Address) -> list[tuple[int, int, Address]]:
    """The masters of CLUSTER SLOTS. A node that does not know its own address is the one that was asked."""
    found = []
    for first, last, master, *_ in slots:
        host = (master[0] or b"").decode()
        found.append((int(first), int(last), Address(host if host not in ("", "?") else asked.host, int(master[1]))))
    return found
