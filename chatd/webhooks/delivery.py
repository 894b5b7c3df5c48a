"""Delivering the events of one webhook: who does it, in which order, and how often.

Owns: Delivery: holding the lease, cutting the events into batches, sending each until it is answered, moving the
cursor.
Elsewhere: reading (webhooks.feed), one request (webhooks.sender), what is stored (store.sql.webhooks), which webhooks
there are (webhooks.webhooks).
Fails: never. A store that does not answer, a lease that is lost, a receiver that fails: it begins again where the store
says, so events are sent at least once.

One batch is sent at a time, so events arrive in order. While it is on its way the next one is read; then one commit
moves the cursor behind the first and claims the second. A batch that is claimed has the same events and the same id for
whoever sends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable
from typing import TypeVar

import msgspec

from chatd import log
from chatd.config.webhook_options import WebhookOptions, wanted
from chatd.errors import ChatdError, Unavailable
from chatd.store.contract import Tables
from chatd.store.event_contract import EventKind, Position, Progress, ReadLimits, Stretch, WebhookState
from chatd.store.group_commit import GroupCommit
from chatd.webhooks import back_off
from chatd.webhooks.feed import Feed, boot_time_s
from chatd.webhooks.payload import body_of
from chatd.webhooks.sender import Outcome, Sender
from chatd.webhooks.signature import batch_id

T = TypeVar("T")

_ASK_S = 0.5
"""Between two attempts to take a lease that somebody else holds, or to use a store that does not answer."""
_SHARE = 1 / 3
"""Of the length of a lease, after which it is renewed."""
_SETTLE = 5
"""Times timeouts.store_s: how old a webhook is before its first event is read. Transactions that had begun before the
store knew that there are webhooks do not enter the barrier (decision 0044)."""
_COUNT_S = 1.0
_SKIP_S = 5.0
"""How often the cursor of a webhook moves over events that it does not want."""


class Doing(enum.Enum):
    """What a delivery does at present."""

    STANDING_BY = "standing by"
    """Another worker delivers."""
    DISABLED = "disabled"
    """Nobody delivers, until an operator enables it."""
    DELIVERING = "delivering"
    FAILING = "failing"
    """The last attempt failed; it is repeated."""


class LeaseLost(ChatdError):
    """Another worker may have it, or an operator has moved the cursor. Nothing more may be written."""


class Figures(msgspec.Struct, kw_only=True):
    """delivered: events answered. failures: attempts that failed. Both since the worker started. waiting: events that
    are not answered yet; oldest_ms: when the first of them happened, since the epoch; 0 = none waits."""

    doing: Doing = Doing.STANDING_BY
    delivered: int = 0
    failures: int = 0
    waiting: int = 0
    oldest_ms: int = 0


class DeliveryParts(msgspec.Struct, frozen=True, kw_only=True):
    """store, feed: of the worker. holder: its name, which no other worker of the cluster has. leads: whether this
    worker may take leases. lease_s: how long a lease lasts. store_s: longest duration of a statement."""

    store: GroupCommit
    feed: Feed
    holder: str
    leads: Callable[[], bool]
    lease_s: float
    store_s: float
    overlaps: bool
    """Transactions of the store overlap."""


class Delivery:
    """One webhook, on one worker."""

    def __init__(self, options: WebhookOptions, parts: DeliveryParts) -> None:
        self.name = options.name
        self.figures = Figures()
        self._kinds = frozenset(EventKind(name) for name in wanted(options))
        self._limits = ReadLimits(events=options.batch, chars=options.batch_bytes)
        self._parts = parts
        self._sender = Sender(options)
        self._log = log.get()
        self._state: WebhookState | None = None
        """As it was taken; None = the lease is not held."""
        self._lease_until = 0.0
        """By boot_time_s(), and measured from before it was asked for: never later than the store's own time."""
        self._seen: tuple[int, int, float] | None = None
        """fence and lease_until_ms of another holder, and since when they are so."""
        self._counted_at = 0.0
        """When it was counted last what waits, by boot_time_s()."""
        self._told = ""
        """The trouble that was logged last."""

    async def run(self) -> None:
        """Until it is cancelled; then the lease is given back."""
        try:
            while True:
                with contextlib.suppress(LeaseLost):
                    try:
                        if self._parts.leads() and await self._take():
                            await self._hold()
                    except Unavailable as error:
                        self._report(f"the store does not answer: {error}")
                self._state = None
                if self.figures.doing is not Doing.DISABLED:
                    self.figures.doing = Doing.STANDING_BY
                self.figures.waiting = self.figures.oldest_ms = 0
                await asyncio.sleep(_ASK_S)
        finally:
            await self._sender.close()

    async def give_back(self) -> None:
        """After run() was cancelled: let another worker go on at once."""
        state, self._state = self._state, None
        if state is not None:
            with contextlib.suppress(Unavailable):
                await self._parts.store.write(lambda tables: tables.webhooks.release(state.name, state.fence))

    def _report(self, trouble: str, **more: object) -> None:
        if trouble != self._told:
            self._told = trouble
            self._log.warning("webhook: events wait", webhook=self.name, why=trouble, **more)

    # ---------------------------------------------------------------- the lease

    async def _take(self) -> bool:
        lease_ms, asked_at = int(self._parts.lease_s * 1000), boot_time_s()
        found = await self._parts.store.read(lambda tables: tables.webhooks.find(self.name))
        self.figures.doing = Doing.DISABLED if found is not None and found.disabled_at_ms else Doing.STANDING_BY
        if found is None or found.disabled_at_ms or self._is_taken(found):
            return False
        state = await self._parts.store.write(
            lambda tables: tables.webhooks.take(self.name, self._parts.holder, lease_ms)
        )
        if state is None:
            return False
        self._state, self._lease_until = state, asked_at + self._parts.lease_s
        self._log.info("webhook: this worker delivers", webhook=self.name, failures=state.failures)
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

    async def _hold(self) -> None:
        """Deliver, and renew the lease meanwhile. Raises: LeaseLost, Unavailable."""
        feed = self._parts.feed
        feed.start()
        tasks = [asyncio.create_task(work) for work in (self._deliver(), self._renew())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self) -> None:
        """Until this worker no longer leads; then the lease is given back. Raises: LeaseLost. While the store does not
        answer, the lease runs out by itself."""
        while self._parts.leads():
            await asyncio.sleep(self._parts.lease_s * _SHARE)
            with contextlib.suppress(Unavailable):
                await self._write(lambda tables, name, fence, ms: tables.webhooks.renew(name, fence, ms))
        await self.give_back()

    async def _write(self, work: Callable[[Tables, str, int, int], bool]) -> None:
        """Raises: LeaseLost: nothing was changed. Unavailable."""
        state = self._state
        if state is None:
            raise LeaseLost(self.name)
        asked_at, lease_ms = boot_time_s(), int(self._parts.lease_s * 1000)
        if not await self._parts.store.write(lambda tables: work(tables, state.name, state.fence, lease_ms)):
            self._log.info("webhook: another worker delivers, or an operator moved it", webhook=self.name)
            raise LeaseLost(self.name)
        self._lease_until = asked_at + self._parts.lease_s

    def _check_lease(self) -> None:
        """Before something is sent. Raises: LeaseLost. (A worker that is paused right after this sends what another one
        sends, too, with the same id.)"""
        if boot_time_s() >= self._lease_until:
            raise LeaseLost(self.name)

    # ---------------------------------------------------------------- batches

    async def _deliver(self) -> None:
        """Raises: LeaseLost, Unavailable."""
        assert self._state is not None
        state = self._state
        await self._wait_until_settled(state)
        position, claimed = state.position, state.claimed
        part = await self._claimed(position, claimed) if claimed != position else None
        while True:
            if part is None:
                part = await self._next(position)
                await self._move(Progress(position, part.upto, 0))
            following = asyncio.create_task(self._read(part.upto))
            try:
                await self._send(state, position, part)
                after = await following
            finally:
                following.cancel()
            has_more = bool(after.events)
            await self._move(Progress(part.upto, after.upto if has_more else part.upto, len(part.events)))
            self.figures.delivered += len(part.events)
            position, part = part.upto, after if has_more else None

    async def _wait_until_settled(self, state: WebhookState) -> None:
        age_s = (state.seen_at_ms - state.created_at_ms) / 1000
        if self._parts.overlaps:
            await asyncio.sleep(max(0.0, _SETTLE * self._parts.store_s - age_s))

    async def _claimed(self, position: Position, claimed: Position) -> Stretch:
        """The batch that a holder before had begun to send. Raises: Unavailable."""
        whole = ReadLimits(events=1 << 30)
        return await self._parts.feed.read(position, claimed, self._kinds, whole)

    async def _read(self, after: Position) -> Stretch:
        return await self._parts.feed.read(after, self._parts.feed.settled, self._kinds, self._limits)

    async def _next(self, position: Position) -> Stretch:
        """The next batch with something in it. Over events that are not wanted, the cursor moves now and then. Raises:
        LeaseLost, Unavailable."""
        skipped, moved_at = position, boot_time_s()
        while True:
            self.figures.waiting = self.figures.oldest_ms = 0
            self.figures.doing = Doing.DELIVERING
            if not await self._parts.feed.beyond(skipped, _SKIP_S):
                continue
            part = await self._read(skipped)
            if part.events:
                return part
            skipped = part.upto
            if boot_time_s() - moved_at > _SKIP_S:
                moved_at = boot_time_s()
                await self._move(Progress(skipped, skipped, 0))

    async def _move(self, progress: Progress) -> None:
        await self._write(lambda tables, name, fence, ms: tables.webhooks.move(name, fence, progress, ms))

    # ---------------------------------------------------------------- sending

    async def _send(self, state: WebhookState, after: Position, part: Stretch) -> None:
        """Until it is answered. Raises: LeaseLost, also when the receiver wants no more; Unavailable."""
        if not part.events:
            return
        figures, failures = self.figures, state.failures if self.figures.doing is Doing.STANDING_BY else 0
        message_id, body = batch_id(state, after, part.upto), body_of(self.name, part.events)
        figures.oldest_ms = part.events[0].at_ms
        await self._count(part)
        is_first = True
        while True:
            self._check_lease()
            outcome = await self._sender.send(message_id, body)
            if not outcome.error:
                break
            if is_first and not outcome.answered and not failures:
                is_first = False  # a connection that was kept open may have been closed by now: once more at once
                continue
            failures += 1
            await self._failed(outcome, failures)
        if self._told:
            self._told = ""
            self._log.info("webhook: the receiver answers again", webhook=self.name)
        figures.doing = Doing.DELIVERING

    async def _count(self, part: Stretch) -> None:
        """What waits; anew at most once in _COUNT_S. Raises: Unavailable."""
        if boot_time_s() - self._counted_at > _COUNT_S:
            self._counted_at = boot_time_s()
            self.figures.waiting = len(part.events) + await self._parts.feed.count(part.upto, self._kinds)

    async def _failed(self, outcome: Outcome, failures: int) -> None:
        """Record it, and wait. Raises: LeaseLost, also when the receiver wants no more; Unavailable."""
        self.figures.failures += 1
        self.figures.doing = Doing.FAILING
        error = outcome.error
        if outcome.gone:
            await self._write(lambda tables, name, fence, ms: tables.webhooks.disable(name, fence, error))
            self._log.error("webhook disabled, its receiver wants no more events", webhook=self.name, why=error)
            raise LeaseLost(self.name)
        delay_s = back_off.delay_s(failures, outcome.wait_s)
        self._report(error, failures=failures)
        await self._write(lambda tables, name, fence, ms: tables.webhooks.failed(name, fence, error, ms))
        await asyncio.sleep(delay_s)
