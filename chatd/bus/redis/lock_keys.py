"""The keys of locks in Redis: one for each lock that is held, with the holder name as its value.

Owns: taking and releasing one such key, exactly under races.
Elsewhere: which locks this worker holds (bus.redis.locks); what a holder name is (bus.redis.lease).
Fails: Unavailable if Redis does not answer; then it is not known whether the key was taken.

A key is taken by a script that uses only this key, so it is exact in a Redis Cluster too. The lock of a holder whose
lease is gone is taken from this holder by name: the script does so only while that name is still in the key, and it
never comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chatd.bus.redis.commands import MOVES, RedisRefusal, RedisScript
from chatd.bus.redis.keys import RedisKeys
from chatd.bus.redis.lease import Lease
from chatd.bus.redis.topology import Topology
from chatd.errors import Unavailable

EXPIRE_S = 24 * 3600
"""A key that was not renewed for this long expires: its holder is long dead."""
MOVED_S = 0.1
"""How long to wait before another attempt when the key is on its way to another node."""
_ATTEMPTS = 8

TAKE = RedisScript("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] and string.sub(holder, 1, #ARGV[3]) ~= ARGV[3] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
return 1
""")
"""ARGV: our holder name; a dead holder, or ""; what all our holder names begin with; how long the key lives, in ms."""
RELEASE = RedisScript("""
local holder = redis.call('GET', KEYS[1])
if holder and string.sub(holder, 1, #ARGV[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")
"""ARGV: what all our holder names begin with."""

GIVE = RedisScript("""
local holder = redis.call('GET', KEYS[1])
if not holder or string.sub(holder, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""")
"""ARGV: the name of the holder that has it, or its beginning; that of the worker that gets it; how long the key lives,
in ms."""


class LockKeys:
    def __init__(self, topology: Topology, keys: RedisKeys, lease: Lease, is_dead: Callable[[bytes], bool]) -> None:
        """is_dead: this holder is known to be dead, though its lease may not have expired."""
        self._topology = topology
        self._keys = keys
        self._lease = lease
        self._is_dead = is_dead
        self._ours = lease.token.hex().encode() + b"."

    async def take(self, key: int) -> bool:
        """Take the lock, or prolong it if we hold it. False: another worker holds it, and is alive.

        Raises:
            Unavailable: we may or may not hold it now.
        """
        name = self._keys.lock(key)
        dead = b""
        for _ in range(_ATTEMPTS):
            try:
                holder = await self._run_take(name, dead)
            except RedisRefusal as refusal:
                if refusal.code not in MOVES:
                    raise
                await asyncio.sleep(MOVED_S)  # nothing was taken, and it is soon known where to ask
                continue
            if holder is None:
                return True
            if not self._is_dead(holder) and await self._lease.is_alive(holder):
                return False
            dead = holder
        raise Unavailable("redis does not tell the holder of the lock")

    async def _run_take(self, name: bytes, dead: bytes) -> bytes | None:
        """None: it is ours now. Else the holder."""
        node = self._topology.of(name)
        found = await node.run(TAKE, name, self._lease.holder, dead, self._ours, EXPIRE_S * 1000)
        return None if found == 1 else found

    async def release(self, key: int) -> None:
        """Remove the key if it is ours. Raises Unavailable."""
        name = self._keys.lock(key)
        await self._topology.of(name).run(RELEASE, name, self._ours)

    async def take_back(self, key: int, holder: bytes) -> bool:
        """Put our holder name into the key, if it is this worker's to which it was given. Raises Unavailable."""
        name = self._keys.lock(key)
        return bool(await self._topology.of(name).run(GIVE, name, holder, self._lease.holder, EXPIRE_S * 1000))

    async def give(self, key: int, holder: bytes) -> bool:
        """Put another worker's holder name into the key, if it is ours. Raises Unavailable: it may have been done."""
        name = self._keys.lock(key)
        return bool(await self._topology.of(name).run(GIVE, name, self._ours, holder, EXPIRE_S * 1000))
