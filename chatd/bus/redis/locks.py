"""The locks that this worker holds in Redis.

Owns: which locks are held, releasing when Redis could not be told at once, taking them again after Redis lost its
memory, and finding out which locks other workers took meanwhile.
Elsewhere: one lock in Redis (bus.redis.lock_keys); the lease that holds them (bus.redis.lease); what is locked
(core.sessions.exclusive).
Fails: Unavailable if Redis does not answer. A lock that may have been taken nevertheless is released when Redis is
back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from itertools import islice
from typing import Any, TypeVar

from chatd.bus.redis.lease import Lease
from chatd.bus.redis.lock_keys import EXPIRE_S, LockKeys
from chatd.errors import Unavailable

T = TypeVar("T")

RENEW_S = EXPIRE_S / 8
"""Each lock is renewed once in this time."""
_AT_ONCE = 500
"""Commands about locks that are sent before their answers are awaited."""


class RedisLocks:
    def __init__(self, keys: LockKeys, lease: Lease, wait_s: float, on_certain: Callable[[], None]) -> None:
        """wait_s: the longest that lock() waits. on_certain: a lock() that was given up is settled, so trying again is
        worthwhile."""
        self._keys = keys
        self._lease = lease
        self._wait_s = wait_s
        self._on_certain = on_certain
        self._held: dict[int, int] = {}
        """The generation in which each lock was last confirmed; in the order in which they are to be renewed."""
        self._generation = 0
        """Raised when Redis may have forgotten all locks: those of an older generation are not certain."""
        self._asking: Counter[int] = Counter()
        """Number of lock() calls under way for each key."""
        self._to_release: set[int] = set()
        """Keys that are not held here, though Redis may still have them as ours."""
        self._tasks: set[asyncio.Task[Any]] = set()
        """Tasks that ask for locks and release them. Not BackgroundTasks, because a lock that could not be taken is not
        an error to log."""
        self.lease_confirmed = False
        """Our lease is known to be in force on the server that has it, so locks taken under it count."""

    def __len__(self) -> int:
        return len(self._held)

    # ------------------------------------------------------------ taking

    async def lock(self, key: int) -> bool:
        """As Bus.lock."""
        valid = self._lease.is_valid
        if valid and self._held.get(key) == self._generation:
            return True
        if not (valid and self.lease_confirmed):
            raise Unavailable("redis is not connected: the holder of the lock is not known")
        task = self._start(self._take(key))
        self._asking[key] += 1
        try:
            await asyncio.wait([task], timeout=self._wait_s)
        except BaseException:
            self._abandon(key, task)
            raise
        if not task.done():
            self._abandon(key, task)
            raise Unavailable("redis does not answer: the holder of the lock is not known")
        self._asked(key)
        if task.result():
            self._held[key] = self._generation
            self._to_release.discard(key)
            return True
        return False

    async def _take(self, key: int) -> bool:
        try:
            return await self._keys.take(key)
        except Unavailable:
            if key not in self._held:
                self._to_release.add(key)
            raise

    def _abandon(self, key: int, task: asyncio.Task[bool]) -> None:
        """The caller no longer waits for the task. If it takes the lock after all, the lock is released."""

        def done(task: asyncio.Task[bool]) -> None:
            self._asked(key)
            if task.cancelled() or task.exception() is not None:
                return
            if task.result() and key not in self._held and not self._asking[key]:
                self._release_later(key)
            self._on_certain()

        task.add_done_callback(done)

    def _asked(self, key: int) -> None:
        self._asking[key] -= 1
        if not self._asking[key]:
            del self._asking[key]

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ------------------------------------------------------------ giving

    async def give(self, key: int, holder: bytes) -> bool:
        """As Bus.give_lock. From the first moment on the lock is not renewed here, which would take it back."""
        if self._held.pop(key, None) is None:
            return False
        if not (self._lease.is_valid and self.lease_confirmed):
            self._release_later(key)
            raise Unavailable("redis is not connected: the lock cannot be given")
        task = self._start(self._keys.give(key, holder))
        await asyncio.wait([task], timeout=self._wait_s)
        if not task.done() or task.exception() is not None:
            self._release_later(key)  # if it was not given, it is released; if it was, nothing happens
            raise Unavailable("redis does not answer: the lock may not have been given")
        return task.result()

    async def take_back(self, key: int, holder: bytes) -> bool:
        """As Bus.take_lock_back."""
        try:
            async with asyncio.timeout(self._wait_s):
                if await self._keys.take_back(key, holder):
                    self.keep(key)
                    return True
        except TimeoutError:
            self._release_later(key)
            raise Unavailable("redis does not answer: the holder of the lock is not known") from None
        return await self.lock(key)

    def keep(self, key: int) -> None:
        """As Bus.keep_lock."""
        self._held[key] = self._generation
        self._to_release.discard(key)

    # ------------------------------------------------------------ releasing

    def unlock(self, key: int) -> None:
        """As Bus.unlock."""
        if key in self._held:
            del self._held[key]
            self._release_later(key)

    def _release_later(self, key: int) -> None:
        self._to_release.add(key)
        self._start(self._release(key))

    async def _release(self, key: int) -> bool:
        """False: Redis could not be told; it is tried again."""
        try:
            await self._keys.release(key)
        except Unavailable:
            return False
        if key not in self._held:
            self._to_release.discard(key)
        return True

    async def _release_remaining(self) -> None:
        """Send the releases that Redis could not be told before. A lock() that is under way is not overtaken."""
        keys = [key for key in self._to_release if key not in self._held and key not in self._asking]
        for at in range(0, len(keys), _AT_ONCE):
            await asyncio.gather(*(self._release(key) for key in keys[at : at + _AT_ONCE]))

    async def close(self) -> None:
        """Remove our keys. It need not succeed: when the lease ends, all locks are free at once."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        keys = [*self._held, *self._to_release]
        self._held.clear()
        self.lease_confirmed = False
        for at in range(0, len(keys), _AT_ONCE):
            if not all(await asyncio.gather(*(self._release(key) for key in keys[at : at + _AT_ONCE]))):
                return

    # ------------------------------------------------------------ keeping

    async def renew_some(self, period_s: float) -> list[int]:
        """Renew the next few, so that with a call every period_s each is renewed once in RENEW_S. Returns those that
        another worker holds; they are not held here any more. Raises Unavailable."""
        await self._release_remaining()
        count = int(len(self._held) * period_s / RENEW_S) + 1
        keys = list(islice(self._held, count))
        for key in keys:
            self._held[key] = self._held.pop(key)  # the next call begins behind it
        return await self._take_again(keys)

    async def recover(self, forgotten: bool) -> list[int]:
        """Redis is back: release what was released meanwhile. forgotten: Redis may have forgotten the locks, or our
        lease had expired, so take all of them again. Returns those that another worker holds now; they are not held
        here any more. Raises Unavailable."""
        await self._release_remaining()
        lost: list[int] = []
        if forgotten:
            self._generation += 1
        keys = list(self._held) if forgotten else []
        for at in range(0, len(keys), _AT_ONCE):
            lost += await self._take_again(keys[at : at + _AT_ONCE])
        return lost

    async def _take_again(self, keys: Collection[int]) -> list[int]:
        """Those that another worker holds."""
        keys = [key for key in keys if key in self._held]
        results = await asyncio.gather(*(self._take(key) for key in keys), return_exceptions=True)
        lost = []
        for key, result in zip(keys, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            if key not in self._held:  # released meanwhile
                self._release_later(key)
            elif result:
                self._held[key] = self._generation
            else:
                del self._held[key]
                lost.append(key)
        return lost
