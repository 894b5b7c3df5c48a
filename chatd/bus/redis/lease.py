"""The sign of life of one worker in Redis: a key that expires when it is not renewed.

Owns: the worker's token (never changed), its epoch (raised whenever the key was found gone), and until when we may
believe that the key is there.
Not here: what dies with it (bus.redis.locks), who looks at others' (bus.redis.membership).
Fails: Unavailable when Redis does not answer.

A name "TOKEN.EPOCH" that once was gone never comes back. So whoever finds that it is gone may take what it held,
without any agreement and without a race.
"""

from __future__ import annotations

import asyncio
import secrets

from chatd.bus.redis.keys import Names
from chatd.bus.redis.topology import Nodes


class Lease:
    """valid_until: loop time; before it the key cannot have expired, unless Redis lost its memory."""

    def __init__(self, nodes: Nodes, names: Names, seconds: float) -> None:
        self._nodes = nodes
        self._names = names
        self.seconds = seconds
        self.token = secrets.token_bytes(8)
        self.epoch = 0
        self.valid_until = 0.0

    @property
    def owner(self) -> bytes:
        return self._names.owner(self.token.hex(), self.epoch)

    async def renew(self) -> bool:
        """False: it was gone, and everything it meant; the next epoch has begun."""
        began = asyncio.get_running_loop().time()
        kept = bool(self.epoch) and await self._prolong()
        if not kept:
            self.epoch += 1
            key = self._names.lease(self.owner)
            await self._nodes.of(key).call("SET", key, "1", "NX", "PX", self._ms)
        self.valid_until = began + self.seconds
        return kept

    async def _prolong(self) -> bool:
        """Not by SET: this Redis allows also when it has no memory left."""
        key = self._names.lease(self.owner)
        return bool(await self._nodes.of(key).call("PEXPIRE", key, self._ms))

    @property
    def _ms(self) -> int:
        return int(self.seconds * 1000)

    async def is_alive(self, owner: bytes) -> bool:
        key = self._names.lease(owner)
        return bool(await self._nodes.of(key).call("EXISTS", key))

    async def end(self) -> None:
        """Everything that was held under it is free."""
        self.valid_until = 0.0
        key = self._names.lease(self.owner)
        await self._nodes.of(key).call("DEL", key)
