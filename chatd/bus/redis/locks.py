"""Exclusive marks in Redis: one key each, which names its holder.

Owns: taking and freeing marks, exact under races; taking ours again after Redis lost them; what others took meanwhile.
Not here: whose life they depend on (bus.redis.lease); who claims what (core.sessions.session).
Fails: Unavailable when Redis does not answer. What was asked and may have happened is undone when Redis is back.

A mark is taken by one script on one key, so it is exact, also in a cluster. A mark whose holder's lease is gone is
taken from that holder by name: the script does it only while the name is still there, and such a name never lives
again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from itertools import islice

from chatd.bus.redis.keys import Names
from chatd.bus.redis.lease import Lease
from chatd.bus.redis.node import MOVES, Refusal, Script
from chatd.bus.redis.topology import Nodes
from chatd.errors import Unavailable

KEEP_S = 24 * 3600
"""A mark that nobody renewed for so long is forgotten: garbage of the dead."""
RENEW_S = KEEP_S / 8
_AT_ONCE = 500
_ATTEMPTS = 8
MOVED_S = 0.1
"""When a slot has moved, ask again after this."""

CLAIM = Script("""
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[2] and string.sub(owner, 1, #ARGV[3]) ~= ARGV[3] then return owner end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
return 1
""")
"""ARGV: us; a dead owner, or nothing; what our own names begin with; how long it is kept."""
RELEASE = Script("""
local owner = redis.call('GET', KEYS[1])
if owner and string.sub(owner, 1, #ARGV[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")


class RedisLocks:
    """is_dead: knows of an owner more than its lease does. settled: a claim that took too long is over."""

    def __init__(
        self,
        nodes: Nodes,
        names: Names,
        lease: Lease,
        wait_s: float,
        is_dead: Callable[[bytes], bool],
        settled: Callable[[], None],
    ) -> None:
        self._nodes = nodes
        self._names = names
        self._lease = lease
        self._wait_s = wait_s
        self._is_dead = is_dead
        self._settled = settled
        self._mine = lease.token.hex().encode() + b"."
        self._held: dict[int, int] = {}
        self._generation = 0
        self._asking: Counter[int] = Counter()
        self._leaving: set[int] = set()
        self._tasks: set[asyncio.Task[bool]] = set()
        self._renewed = 0
        self.certain = False
        """Our lease is in force: what is claimed under it counts."""

    def __len__(self) -> int:
        return len(self._held)

    async def lock(self, key: int) -> bool:
        loop = asyncio.get_running_loop()
        living = loop.time() < self._lease.valid_until
        if living and self._held.get(key) == self._generation:
            return True
        if not (living and self.certain):
            raise Unavailable("redis is not there: who holds the mark is not known")
        task = loop.create_task(self._take(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._asking[key] += 1
        try:
            await asyncio.wait([task], timeout=self._wait_s)
        except BaseException:
            self._abandon(key, task)
            raise
        if not task.done():
            self._abandon(key, task)
            raise Unavailable("redis does not answer: who holds the mark is not known")
        self._answered(key)
        if task.result():
            self._held[key] = self._generation
            self._leaving.discard(key)
            return True
        return False

    def _abandon(self, key: int, task: asyncio.Task[bool]) -> None:
        """Nobody waits any more for a claim that may yet succeed: then it is undone."""

        def done(task: asyncio.Task[bool]) -> None:
            self._answered(key)
            if task.cancelled():
                return
            failed = task.exception() is not None
            if not failed and task.result() and key not in self._held and not self._asking[key]:
                self.unlock(key, held=False)
            if not failed:
                self._settled()

        task.add_done_callback(done)

    def _answered(self, key: int) -> None:
        self._asking[key] -= 1
        if not self._asking[key]:
            del self._asking[key]

    async def _take(self, key: int) -> bool:
        name = self._names.mark(key)
        dead = b""
        for _ in range(_ATTEMPTS):
            try:
                found = await self._run_claim(name, dead)
            except Unavailable as error:
                if isinstance(error, Refusal) and error.code in MOVES:  # nothing was taken, and it is soon known where
                    await asyncio.sleep(MOVED_S)
                    continue
                if key not in self._held:
                    self._leaving.add(key)
                raise
            if found is None:
                return True
            if not self._is_dead(found) and await self._lease.is_alive(found):
                return False
            dead = found
        raise Unavailable("redis does not say who holds the mark")

    async def _run_claim(self, name: bytes, dead: bytes) -> bytes | None:
        """None: it is ours. Else the owner."""
        node = self._nodes.of(name)
        found = await node.run(CLAIM, name, self._lease.owner, dead, self._mine, KEEP_S * 1000)
        return None if found == 1 else found

    def unlock(self, key: int, held: bool = True) -> None:
        """Also while Redis is away: then it is done when it is back."""
        if held and key not in self._held:
            return
        self._held.pop(key, None)
        self._leaving.add(key)
        task = asyncio.get_running_loop().create_task(self._free(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _free(self, key: int) -> bool:
        name = self._names.mark(key)
        try:
            await self._nodes.of(name).run(RELEASE, name, self._mine)
        except Unavailable:
            return False  # it stays among the leaving
        if key not in self._held:
            self._leaving.discard(key)
        return True

    async def renew(self, period_s: float) -> list[int]:
        """A slice of them, so that each is renewed in RENEW_S; called every period_s. Gives those another worker
        has."""
        await self._free_leaving()
        count = int(len(self._held) * period_s / RENEW_S) + 1
        keys = list(islice(self._held, count))
        for key in keys:
            self._held[key] = self._held.pop(key)  # the next slice begins behind it
        return await self._again(keys)

    async def take_again(self, all_of_them: bool) -> list[int]:
        """After Redis was away: free what was released meanwhile, and take again what is held, where that may have been
        forgotten. Gives those another worker has now; they are not held any more."""
        await self._free_leaving()
        lost: list[int] = []
        if all_of_them:
            self._generation += 1
        keys = list(self._held) if all_of_them else []
        for at in range(0, len(keys), _AT_ONCE):
            lost += await self._again(keys[at : at + _AT_ONCE])
        return lost

    async def _free_leaving(self) -> None:
        """What was released when Redis could not be told. A claim that is on its way is not overtaken."""
        leaving = [key for key in self._leaving if key not in self._held and key not in self._asking]
        for at in range(0, len(leaving), _AT_ONCE):
            await asyncio.gather(*(self._free(key) for key in leaving[at : at + _AT_ONCE]))

    async def _again(self, keys: Collection[int]) -> list[int]:
        keys = [key for key in keys if key in self._held]
        results = await asyncio.gather(*(self._take(key) for key in keys), return_exceptions=True)
        lost = []
        for key, result in zip(keys, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            if key not in self._held:  # released meanwhile
                self.unlock(key, held=False)
            elif result:
                self._held[key] = self._generation
            else:
                del self._held[key]
                lost.append(key)
        return lost

    async def close(self) -> None:
        """All are free at once when the lease ends; here they are only tidied away."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        keys = [*self._held, *self._leaving]
        self._held.clear()
        self.certain = False
        for at in range(0, len(keys), _AT_ONCE):
            if not all(await asyncio.gather(*(self._free(key) for key in keys[at : at + _AT_ONCE]))):
                return
