"""Delivering the events of one webhook: in which order, and how often.

Owns: Delivery: cutting the events into batches, sending each until it is answered, moving the cursor.
Elsewhere: who does it (feeds.lease), reading (feeds.feed), one request (webhooks.sender), what is stored
(store.sql.webhooks), which webhooks there are (webhooks.webhooks).
Fails: never. A store that does not answer, a lease that is lost, a receiver that fails: it begins again where the store
says, so events are sent at least once.

One batch is sent at a time, so events arrive in order. While it is on its way the next one is read; then one commit
moves the cursor behind the first and claims the second. A batch that is claimed has the same events and the same id for
whoever sends it.
"""

from __future__ import annotations

import asyncio
import enum

import msgspec

from chatd import log
from chatd.config.webhook_options import WebhookOptions, wanted
from chatd.feeds import back_off
from chatd.feeds.feed import Feed
from chatd.feeds.lease import Lease, LeaseLost, LeaseParts, boot_time_s
from chatd.store.event_contract import EventKind, Position, Progress, ReadLimits, Stretch, WebhookState
from chatd.webhooks.payload import body_of
from chatd.webhooks.sender import Outcome, Sender
from chatd.webhooks.signature import batch_id

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


class Figures(msgspec.Struct, kw_only=True):
    """delivered: events answered. failures: attempts that failed. Both since the worker started. waiting: events that
    are not answered yet; oldest_ms: when the first of them happened, since the epoch; 0 = none waits."""

    doing: Doing = Doing.STANDING_BY
    delivered: int = 0
    failures: int = 0
    waiting: int = 0
    oldest_ms: int = 0


class Delivery:
    """One webhook, on one worker. feed: of the worker, shared by all its webhooks."""

    def __init__(self, options: WebhookOptions, feed: Feed, parts: LeaseParts) -> None:
        self.name = options.name
        self.figures = Figures()
        self._kinds = frozenset(EventKind(name) for name in wanted(options))
        self._limits = ReadLimits(events=options.batch, chars=options.batch_bytes)
        self._feed = feed
        self._lease = Lease("webhook", options.name, parts)
        self._sender = Sender(options)
        self._log = log.get()
        self._counted_at = 0.0
        """When it was counted last what waits, by boot_time_s()."""

    async def run(self) -> None:
        """Until it is cancelled; then give_back() is to be called."""
        try:
            await self._lease.run(lambda: [self._deliver()], self._ended)
        finally:
            await self._sender.close()

    def _ended(self) -> None:
        self.figures.doing = Doing.DISABLED if self._lease.disabled else Doing.STANDING_BY
        self.figures.waiting = self.figures.oldest_ms = 0

    async def give_back(self) -> None:
        """After run() was cancelled: let another worker go on at once."""
        await self._lease.give_back()

    # ---------------------------------------------------------------- batches

    async def _deliver(self) -> None:
        """Raises: LeaseLost, Unavailable."""
        state = self._lease.state
        assert state is not None
        with self._feed.followed():
            await self._lease.settled()
            await self._batches(state)

    async def _batches(self, state: WebhookState) -> None:
        """Raises: LeaseLost, Unavailable."""
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

    async def _claimed(self, position: Position, claimed: Position) -> Stretch:
        """The batch that a holder before had begun to send. Raises: Unavailable."""
        whole = ReadLimits(events=1 << 30)
        return await self._feed.read(position, claimed, self._kinds, whole)

    async def _read(self, after: Position) -> Stretch:
        return await self._feed.read(after, self._feed.settled, self._kinds, self._limits)

    async def _next(self, position: Position) -> Stretch:
        """The next batch with something in it. Over events that are not wanted, the cursor moves now and then. Raises:
        LeaseLost, Unavailable."""
        skipped, moved_at = position, boot_time_s()
        while True:
            self.figures.waiting = self.figures.oldest_ms = 0
            self.figures.doing = Doing.DELIVERING
            if not await self._feed.beyond(skipped, _SKIP_S):
                continue
            part = await self._read(skipped)
            if part.events:
                return part
            skipped = part.upto
            if boot_time_s() - moved_at > _SKIP_S:
                moved_at = boot_time_s()
                await self._move(Progress(skipped, skipped, 0))

    async def _move(self, progress: Progress) -> None:
        await self._lease.write(lambda tables, name, fence, ms: tables.webhooks.move(name, fence, progress, ms))

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
            self._lease.check()
            outcome = await self._sender.send(message_id, body)
            if not outcome.error:
                break
            if is_first and outcome.broke and not failures:
                is_first = False  # a connection that was kept open may have been closed by now: once more at once
                continue
            failures += 1
            await self._failed(outcome, failures)
        self._lease.is_well()
        figures.doing = Doing.DELIVERING

    async def _count(self, part: Stretch) -> None:
        """What waits; anew at most once in _COUNT_S. Raises: Unavailable."""
        if boot_time_s() - self._counted_at > _COUNT_S:
            self._counted_at = boot_time_s()
            self.figures.waiting = len(part.events) + await self._feed.count(part.upto, self._kinds)

    async def _failed(self, outcome: Outcome, failures: int) -> None:
        """Record it, and wait. Raises: LeaseLost, also when the receiver wants no more; Unavailable."""
        self.figures.failures += 1
        self.figures.doing = Doing.FAILING
        error = outcome.error
        if outcome.gone:
            await self._lease.write(lambda tables, name, fence, ms: tables.webhooks.disable(name, fence, error))
            self._log.error("webhook disabled, its receiver wants no more events", webhook=self.name, why=error)
            raise LeaseLost(self.name)
        delay_s = back_off.delay_s(failures, outcome.wait_s)
        self._lease.report(error, failures=failures)
        await self._lease.write(lambda tables, name, fence, ms: tables.webhooks.failed(name, fence, error, ms))
        await asyncio.sleep(delay_s)
