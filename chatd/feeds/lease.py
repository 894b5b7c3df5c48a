"""Who reads on: of all workers of a cluster, one at a time has the lease of a reader, and moves its cursor.

Owns: Lease: taking it, renewing it, writing under its fence, giving it back, and doing the work of its holder.
Elsewhere: what is stored (store.event_contract.WebhookTables), reading (feeds.feed), the work (webhooks.delivery,
bridges.bridge).
Fails: never, except as its methods say. A store that does not answer and a lease that is lost end the work, which
begins again where the store says.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from chatd import log
from chatd.errors import ChatdError, Unavailable
from chatd.store.contract import Tables
from chatd.store.event_contract import WebhookState
from chatd.store.group_commit import GroupCommit

Work = Coroutine[Any, Any, None]
_ASK_S = 0.5
"""Between two attempts to take a lease that somebody else holds, or to use a store that does not answer."""
_SHARE = 1 / 3
"""Of the length of a lease, after which it is renewed."""
_SETTLE = 5
"""Times store_s: how old a reader is before its first event is read. Transactions that had begun before the store knew
that there are readers do not enter the barrier (decision 0044)."""


class LeaseLost(ChatdError):
    """Another worker may have it, or an operator has moved the cursor. Nothing more may be written."""


class LeaseParts(msgspec.Struct, frozen=True, kw_only=True):
    """store: of the worker. holder: its name, which no other worker of the cluster has. leads: whether this worker may
    take leases. lease_s: how long a lease lasts. store_s: longest duration of a statement. overlaps: transactions of
    the store overlap."""

    store: GroupCommit
    holder: str
    leads: Callable[[], bool]
    lease_s: float
    store_s: float
    overlaps: bool


class Lease:
    """Of one reader, on one worker. what: the kind of reader, a field of log lines ("webhook", "bridge"). name: of it
    in the store. shown: its name for people.

    state: as the lease was taken; None = it is not held. disabled: nobody may take it until an operator says so.
    """

    def __init__(self, what: str, name: str, parts: LeaseParts, shown: str = "") -> None:
        self.state: WebhookState | None = None
        self.disabled = False
        self._name = name
        self._shown = {what: shown or name}
        self._parts = parts
        self._log = log.get()
        self._until = 0.0
        """By boot_time_s(), and measured from before it was asked for: never later than the store's own time."""
        self._seen: tuple[int, int, float] | None = None
        """fence and lease_until_ms of another holder, and since when they are so."""
        self._told = ""
        """The trouble that was logged last."""

    # ---------------------------------------------------------------- the work of the holder

    async def run(self, works: Callable[[], Sequence[Work]], ended: Callable[[], None]) -> None:
        """Until it is cancelled: whenever the lease can be taken, do the works for as long as it is held; all end with
        the first that ends. ended: called after each attempt."""
        while True:
            with contextlib.suppress(LeaseLost):
                try:
                    if self._parts.leads() and await self._take():
                        await self._hold(works())
                except Unavailable as error:
                    self.report(f"the store does not answer: {error}")
            self.state = None
            ended()
            await asyncio.sleep(_ASK_S)

    async def _hold(self, works: Sequence[Work]) -> None:
        """Raises: LeaseLost, Unavailable."""
        tasks = [asyncio.create_task(one) for one in (*works, self._renew())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Before the holder reads its first event: wait until a reader that is new may be sure to miss none."""
        if self.state is not None and self._parts.overlaps:
            age_s = (self.state.seen_at_ms - self.state.created_at_ms) / 1000
            await asyncio.sleep(max(0.0, _SETTLE * self._parts.store_s - age_s))

    # ---------------------------------------------------------------- the lease

    async def _take(self) -> bool:
        lease_ms, asked_at = int(self._parts.lease_s * 1000), boot_time_s()
        found = await self._parts.store.read(lambda tables: tables.webhooks.find(self._name))
        self.disabled = found is not None and bool(found.disabled_at_ms)
        if found is None or self.disabled or self._is_taken(found):
            return False
        state = await self._parts.store.write(
            lambda tables: tables.webhooks.take(self._name, self._parts.holder, lease_ms)
        )
        if state is None:
            return False
        self.state, self._until = state, asked_at + self._parts.lease_s
        self._log.info("this worker delivers", failures=state.failures, **self._shown)
        return True

    def _is_taken(self, found: WebhookState) -> bool:
        """Whether another worker has the lease, as far as can be said without the clock of the store: it has renewed it
        since this was asked last."""
        seen, self._seen = self._seen, (found.fence, found.lease_until_ms, boot_time_s())
        if found.holder in ("", self._parts.holder):
            return False
        if seen is None or seen[:2] != self._seen[:2]:
            return True
        self._seen = seen
        return boot_time_s() - seen[2] < self._parts.lease_s

    async def _renew(self) -> None:
        """Until this worker no longer leads; then the lease is given back. Raises: LeaseLost. While the store does not
        answer, the lease runs out by itself."""
        while self._parts.leads():
            await asyncio.sleep(self._parts.lease_s * _SHARE)
            with contextlib.suppress(Unavailable):
                await self.write(lambda tables, name, fence, ms: tables.webhooks.renew(name, fence, ms))
        await self.give_back()

    async def write(self, work: Callable[[Tables, str, int, int], bool]) -> None:
        """Change the store, if the lease is held still. work: called with the tables, the name of the reader, the fence
        and the length of the lease in milliseconds, which it renews; False = the fence is another one.

        Raises: LeaseLost: nothing was changed. Unavailable."""
        state = self.state
        if state is None:
            raise LeaseLost(self._name)
        asked_at, lease_ms = boot_time_s(), int(self._parts.lease_s * 1000)
        if not await self._parts.store.write(lambda tables: work(tables, state.name, state.fence, lease_ms)):
            self._log.info("another worker delivers, or an operator moved the cursor", **self._shown)
            raise LeaseLost(self._name)
        self._until = asked_at + self._parts.lease_s

    def check(self) -> None:
        """Before something is sent. Raises: LeaseLost. (A worker that is paused right after this sends what another one
        sends, too.)"""
        if boot_time_s() >= self._until:
            raise LeaseLost(self._name)

    async def give_back(self) -> None:
        """After run() was cancelled: let another worker go on at once."""
        state, self.state = self.state, None
        if state is not None:
            with contextlib.suppress(Unavailable):
                await self._parts.store.write(lambda tables: tables.webhooks.release(state.name, state.fence))

    # ---------------------------------------------------------------- the log

    def report(self, trouble: str, **more: object) -> None:
        """Log why nothing is delivered; once for each trouble."""
        if trouble != self._told:
            self._told = trouble
            self._log.warning("events wait", why=trouble, **self._shown, **more)

    def is_well(self) -> None:
        """Log that the trouble is over, if one was logged before."""
        if self._told:
            self._told = ""
            self._log.info("events are delivered again", **self._shown)


def boot_time_s() -> float:
    """A clock that also goes on while the host or the process is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
