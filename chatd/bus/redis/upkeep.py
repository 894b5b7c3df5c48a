"""Being a member of the cluster: what a worker does when it joins, about once a second, and when a server is back.

Owns: the order of these steps. In the background it renews the lease and the locks, sends the canary, registers this
worker, and looks for workers that are lost.
Elsewhere: each step itself (bus.redis.lease, .locks, .membership, .gaps, .control, .subscribers).
Fails: joining raises Unavailable; a step in the background that fails is logged and repeated at its next time.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from chatd import log
from chatd.bus.contract import OnLockLost
from chatd.bus.redis.canary import Canary
from chatd.bus.redis.control import ControlSender
from chatd.bus.redis.gaps import GapReporter
from chatd.bus.redis.keys import RedisKeys
from chatd.bus.redis.lease import Lease
from chatd.bus.redis.locks import RedisLocks
from chatd.bus.redis.membership import ClusterMembership, RegisteredWorker
from chatd.bus.redis.node import RedisNode
from chatd.bus.redis.subscribers import RemoteSubscribers
from chatd.bus.redis.topology import Topology
from chatd.errors import Unavailable

_SECOND_S = 1.0
"""How often the canary is sent, this worker registered, and some of the locks are renewed."""

logger = log.get()


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisParts:
    """The parts of one open RedisBus."""

    topology: Topology
    keys: RedisKeys
    lease: Lease
    membership: ClusterMembership
    locks: RedisLocks
    subscribers: RemoteSubscribers
    gaps: GapReporter
    canary: Canary
    control: ControlSender


class Upkeep:
    def __init__(self, parts: RedisParts, slot: int, on_lock_lost: OnLockLost) -> None:
        """slot: this worker's, written to Redis for diagnosis. on_lock_lost: the bus's."""
        self._parts = parts
        self._slot = slot
        self._on_lock_lost = on_lock_lost
        self._loop = asyncio.get_running_loop()
        self._recovering = asyncio.Lock()
        """Servers may come back at the same time."""
        self._own: RegisteredWorker | None = None
        """What was said to the others last; None = this worker has not joined yet."""

    # ------------------------------------------------------------ joining and leaving

    async def join(self, limit_s: float) -> None:
        """limit_s: how long a canary may take.

        Raises:
            Unavailable: Redis does not answer, or does not deliver what is published.
        """
        await self._enter()
        parts = self._parts
        parts.control.canary(parts.canary)
        try:
            async with asyncio.timeout(limit_s):
                await parts.canary.returned.wait()
        except TimeoutError:
            raise Unavailable("redis does not deliver what is published") from None

    async def _enter(self) -> None:
        """Take part, for the first time. Raises Unavailable."""
        parts = self._parts
        await parts.lease.renew()
        parts.locks.lease_confirmed = True
        await parts.membership.find_lost()
        youngest_s = min(node.uptime_s for node in parts.topology.all())
        if youngest_s < parts.lease.seconds:
            parts.subscribers.doubt_until = self._loop.time() + parts.lease.seconds - youngest_s
        await self._introduce()

    async def leave(self) -> None:
        """Release everything and say bye. Returns when Redis has everything published before. Raises Unavailable."""
        parts = self._parts
        await parts.locks.close()
        await parts.membership.unregister()
        await parts.lease.end()
        parts.control.bye()
        for node in parts.topology.all():
            if node.is_connected:
                await node.call("PING")

    async def _introduce(self) -> None:
        """Tell the others who we are, and at which connections. Raises Unavailable."""
        own = self._parts.membership.describe_own(self._slot, socket.gethostname(), os.getpid())
        self._parts.control.hello(own)
        await self._parts.membership.register(own)
        self._own = own

    # ------------------------------------------------------------ a server is lost and comes back

    def server_lost(self, node: RedisNode) -> None:
        parts = self._parts
        try:
            has_lease = parts.topology.of(parts.keys.lease(parts.lease.holder)) is node
        except Unavailable:
            has_lease = True
        if has_lease:
            parts.locks.lease_confirmed = False

    async def server_back(self, remembers: bool) -> None:
        """A server can be used again, which is done for one server after the other. While this worker has not joined,
        nothing: it needs all of them for that, and joins when its lease is due. Raises as recover()."""
        if self._own is not None:
            await self.recover(remembers)

    async def recover(self, remembers: bool) -> None:
        """A server is back, or our lease was found gone. remembers: Redis has not lost its memory.

        Raises:
            Unavailable: it is lost again; recover() is needed again.
        """
        parts = self._parts
        async with self._recovering:
            if self._own is None:  # the bus was opened while no server could be used
                await self._enter()
            kept = await parts.lease.renew()
            if not (kept and remembers):
                parts.membership.be_patient()
            await self._introduce()
            parts.locks.lease_confirmed = True
            parts.gaps.tell_owed()
            parts.gaps.report()
            self._report_lost_locks(await parts.locks.recover(forgotten=not (kept and remembers)))

    def _report_lost_locks(self, keys: Iterable[int]) -> None:
        for key in keys:
            logger.warning("bus: another worker has taken a lock", key=key)
            try:
                self._on_lock_lost(key)
            except Exception:
                logger.exception("bus: giving up a lock failed", key=key)

    # ------------------------------------------------------------ in the background

    async def run(self) -> None:
        """Until cancelled."""
        membership = self._parts.membership
        renew_s = min(1.0, self._parts.lease.seconds / 5)
        jobs = [
            _PeriodicJob(self._renew_lease, lambda: renew_s),
            _PeriodicJob(self._every_second, lambda: _SECOND_S),
            _PeriodicJob(self._look_for_lost, lambda: membership.check_period_s),
        ]
        while True:
            await asyncio.sleep(max(0.0, min(job.due_at for job in jobs) - self._loop.time()))
            now = self._loop.time()
            for job in jobs:
                if job.due_at <= now:
                    await job.run()

    async def _renew_lease(self) -> None:
        kept = await self._parts.lease.renew()
        if not kept or self._own is None:
            await self.recover(remembers=False)
        self._parts.locks.lease_confirmed = True

    async def _every_second(self) -> None:
        parts = self._parts
        if self._own is None:
            return
        parts.control.canary(parts.canary)
        await parts.membership.register(self._own)
        self._report_lost_locks(await parts.locks.renew_some(_SECOND_S))

    async def _look_for_lost(self) -> None:
        parts = self._parts
        for worker in await parts.membership.find_lost():
            dead = parts.membership.is_known_dead(worker)
            if await parts.membership.clean_up_after(worker):
                parts.control.gone(worker, dead)
            parts.membership.lose(worker.token, worker.epoch, dead)
        if parts.subscribers.has_guessed and await parts.subscribers.is_certain():
            parts.subscribers.has_guessed = False
            parts.gaps.report()


class _PeriodicJob:
    """Work that is due every period_s(), asked after each time. It runs at once for the first time."""

    def __init__(self, work: Callable[[], Awaitable[None]], period_s: Callable[[], float]) -> None:
        self._work = work
        self._period_s = period_s
        self._loop = asyncio.get_running_loop()
        self.due_at = self._loop.time()

    async def run(self) -> None:
        """Never raises."""
        began = self._loop.time()
        try:
            await self._work()
        except Unavailable as error:
            logger.debug("bus: periodic work was cut short", work=self._work.__name__, why=str(error))
        except Exception:
            logger.exception("bus: periodic work failed", work=self._work.__name__)
        self.due_at = began + self._period_s()
