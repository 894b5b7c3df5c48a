"""Which server has which channel and key: the contract between the bus and its servers, and the simple case.

Owns: Topology, and its implementation for one server (also behind sentinels).
Elsewhere: a Redis Cluster (bus.redis.cluster).
Fails: Unavailable if no server has it now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from chatd.bus.redis.node import NodeContext, Placement, RedisNode
from chatd.bus.redis.settings import RedisServerAddress
from chatd.errors import Unavailable


class Topology(Placement, Protocol):
    async def open(self) -> None:
        """Connect. Raises Unavailable if no server can be used."""
        ...

    def start(self) -> None:
        """Connect as soon as that is possible. Also after open() has failed and close() was called."""
        ...

    async def close(self) -> None: ...

    def of(self, name: bytes) -> RedisNode:
        """The node that has this channel or key. Raises Unavailable if none has it now."""
        ...

    def all(self) -> Collection[RedisNode]:
        """Every node that carries something, connected or not."""
        ...

    def is_steady(self, name: bytes | None) -> bool:
        """The channel or key (None: everything) has been on its node long enough for every worker to know."""
        ...


class SingleTopology:
    """One server has everything."""

    def __init__(self, context: NodeContext) -> None:
        self._channels = context.channels
        self._node = RedisNode(context, self)

    async def open(self) -> None:
        await self._node.open()

    def start(self) -> None:
        self._node.start()

    async def close(self) -> None:
        await self._node.close()

    def of(self, name: bytes) -> RedisNode:
        return self._node

    def all(self) -> Collection[RedisNode]:
        return (self._node,)

    def is_steady(self, name: bytes | None) -> bool:
        return True

    def channels_of(self, node: RedisNode) -> list[bytes]:
        return list(self._channels)

    def refresh(self, resubscribe: Collection[bytes] = ()) -> None:
        """Nothing to find out: one server has everything."""

    def node_at(self, address: RedisServerAddress) -> RedisNode | None:
        return None


def is_whole(topology: Topology) -> bool:
    """Every node is up."""
    return all(node.is_up for node in topology.all())


def by_node(topology: Topology, channels: Iterable[bytes]) -> dict[RedisNode, list[bytes]]:
    """Without the channels that no node has now: those are subscribed to when one has them."""
    found: dict[RedisNode, list[bytes]] = {}
    for channel in channels:
        try:
            node = topology.of(channel)
        except Unavailable:
            continue
        found.setdefault(node, []).append(channel)
    return found
