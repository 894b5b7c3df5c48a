"""Which server has which channel and key: of one server, all of them.

Owns: the contract between the bus and its servers, and its simple case. A cluster is bus.redis.cluster.
Fails: Unavailable where nobody has it now.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from chatd.bus.redis.connect import Limits
from chatd.bus.redis.node import Node, Owner
from chatd.bus.redis.settings import Place


class Nodes(Protocol):
    async def open(self) -> None:
        """Raises Unavailable."""
        ...

    async def close(self) -> None: ...

    def of(self, name: bytes) -> Node:
        """Raises Unavailable."""
        ...

    def is_steady(self, name: bytes | None) -> bool:
        """It, or (None) everything, has been where it is for so long that everybody knows."""
        ...

    def all(self) -> Collection[Node]:
        """Every one that carries some of it, connected or not."""
        ...

    def look(self, channels: Collection[bytes] = ()) -> None:
        """What was known is not true any more: find out, soon. channels: subscriptions that are not in force."""
        ...


class OneNode:
    def __init__(self, place: Place, owner: Owner, limits: Limits) -> None:
        self._node = Node(place, owner, limits)

    async def open(self) -> None:
        await self._node.open()

    async def close(self) -> None:
        await self._node.close()

    def of(self, name: bytes) -> Node:
        return self._node

    def is_steady(self, name: bytes | None) -> bool:
        return True

    def all(self) -> Collection[Node]:
        return (self._node,)

    def look(self, channels: Collection[bytes] = ()) -> None:
        """There is only one."""
