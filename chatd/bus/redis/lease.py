"""The lease of one worker: a key in Redis that expires unless it is renewed. It proves that the worker is alive.

Owns: the worker's token and epoch, and until when the key is certain to exist.
Elsewhere: what depends on it (bus.redis.locks), checking the leases of others (bus.redis.membership).
Fails: Unavailable if Redis does not answer.

The epoch is raised whenever the key was found gone. So a holder name "TOKEN.EPOCH" whose lease is gone never comes
back, and a worker that finds it gone may take its locks, without any agreement and without a race.
"""

from __future__ import annotations

import asyncio

from chatd.bus.redis.keys import RedisKeys
from chatd.bus.redis.topology import Topology


class Lease:
    def __init__(self, topology: Topology, keys: RedisKeys, seconds: float, token: bytes) -> None:
        """seconds: the option lease_s of the bus. token: 8 random bytes, this worker's for good."""
        self._topology = topology
        self._keys = keys
        self.seconds = seconds
        self.token = token
        self.epoch = 0
        """0 before the first renew()."""
        self.valid_until = 0.0
        """Loop time before which the key cannot have expired, unless Redis lost its memory."""

    @property
    def holder(self) -> bytes:
        """The holder name in our locks."""
        return self._keys.holder(self.token.hex(), self.epoch)

    @property
    def is_valid(self) -> bool:
        return asyncio.get_running_loop().time() < self.valid_until

    async def renew(self) -> bool:
        """False: the key was gone, and with it everything that depended on it; the next epoch has begun.

        Raises:
            Unavailable: the key may or may not have been renewed.
        """
        began = asyncio.get_running_loop().time()
        kept = bool(self.epoch) and await self._prolong()
        if not kept:
            self.epoch += 1
            key = self._keys.lease(self.holder)
            await self._topology.of(key).call("SET", key, "1", "NX", "PX", self._ms)
        self.valid_until = began + self.seconds
        return kept

    async def _prolong(self) -> bool:
        """With PEXPIRE, which Redis allows even when it is out of memory, unlike SET."""
        key = self._keys.lease(self.holder)
        return bool(await self._topology.of(key).call("PEXPIRE", key, self._ms))

    @property
    def _ms(self) -> int:
        return int(self.seconds * 1000)

    async def is_alive(self, holder: bytes) -> bool:
        """The lease of this holder exists. Raises Unavailable."""
        key = self._keys.lease(holder)
        return bool(await self._topology.of(key).call("EXISTS", key))

    async def end(self) -> None:
        """End the lease, which releases everything that depends on it. Raises Unavailable."""
        self.valid_until = 0.0
        key = self._keys.lease(self.holder)
        await self._topology.of(key).call("DEL", key)
