"""All webhooks of a worker.

Owns: Webhooks: one delivery per [[webhook]], registering them, and their figures for the scoreboard.
Elsewhere: one delivery (webhooks.delivery).
Fails: open() raises Unavailable. Nothing else raises.

Made only where a webhook is configured. Every worker registers them; the one that leads its host takes leases, so of a
cluster, one worker delivers each webhook.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable
from functools import partial

import msgspec

from chatd import wall_clock
from chatd.background import BackgroundTasks
from chatd.config.schema import Config
from chatd.config.webhook_options import WebhookOptions, wanted
from chatd.errors import Unavailable
from chatd.feeds.feed import Feed
from chatd.feeds.lease import LeaseParts
from chatd.scoreboard import Row
from chatd.store.contract import Tables
from chatd.store.group_commit import GroupCommit
from chatd.store.open import EventReader, configured, open_event_reader
from chatd.webhooks import overview
from chatd.webhooks.delivery import Delivery, Doing
from chatd.webhooks.overview import WebhookView

_ID_BYTES = 6
_AGAIN_S = 1.0


class WebhookServices(msgspec.Struct, frozen=True, kw_only=True):
    """Of the worker. leads: see core.services."""

    store: GroupCommit
    row: Row
    leads: Callable[[], bool]
    loop: asyncio.AbstractEventLoop
    slot: int


class Webhooks:
    def __init__(self, config: Config, services: WebhookServices) -> None:
        """config: its webhooks change with the worker only."""
        self._config = config
        self._options = config.webhook
        self._services = services
        self._tasks = BackgroundTasks(services.loop)
        location, store_s = configured(config), config.timeouts.store_s
        self._feed = Feed(partial(open_event_reader, location, store_s))
        parts = LeaseParts(
            store=services.store,
            holder=f"{os.uname().nodename}/{services.slot}/{secrets.token_hex(_ID_BYTES)}",
            leads=services.leads,
            lease_s=config.bus.lease_s,
            store_s=store_s,
            overlaps=location.mysql is not None,
        )
        self._deliveries = [Delivery(one, self._feed, parts) for one in config.webhook]

    async def open(self, *, patient: bool) -> None:
        """When it returns, events are recorded; if patient and the store does not answer, as soon as it does. Raises:
        Unavailable, unless patient."""
        try:
            await self._register()
        except Unavailable:
            if not patient:
                raise
            self._tasks.start(self._register_later())

    async def _register(self) -> None:
        await self._services.store.write(partial(_register, self._options))

    async def _register_later(self) -> None:
        while True:
            await asyncio.sleep(_AGAIN_S)
            with contextlib.suppress(Unavailable):
                await self._register()
                return

    def start(self) -> None:
        """Deliver, while this worker leads."""
        for one in self._deliveries:
            self._tasks.start(one.run())

    async def close(self) -> None:
        """Other workers go on at once. The caller sets the time limit."""
        await self._tasks.cancel()
        for one in self._deliveries:
            with contextlib.suppress(Unavailable):
                await one.give_back()
        await self._feed.close()

    async def listed(self) -> list[WebhookView]:
        """Those that the store knows, by name. What waits is counted by the thread of the feed, so no commit waits for
        it. Raises Unavailable."""
        states = await self._services.store.read(overview.all_of)

        def count(reader: EventReader) -> list[overview.Backlog]:
            return [overview.backlog(reader.events, one) for one in states]

        waiting, now_ms = await self._feed.ask(count), wall_clock.now_ms()
        return [overview.view(one, waits, self._config, now_ms) for one, waits in zip(states, waiting, strict=True)]

    def report(self) -> None:
        """Write the figures to the worker's row of the scoreboard."""
        figures, row = [one.figures for one in self._deliveries], self._services.row
        row.webhook_events = sum(one.delivered for one in figures)
        row.webhook_failures = sum(one.failures for one in figures)
        row.webhook_waiting = sum(one.waiting for one in figures)
        oldest = min((one.oldest_ms for one in figures if one.oldest_ms), default=0)
        row.webhook_lag_ms = max(0, wall_clock.now_ms() - oldest) if oldest else 0
        row.webhooks_failing = sum(one.doing is Doing.FAILING for one in figures)
        row.webhooks_disabled = sum(one.doing is Doing.DISABLED for one in figures)


def _register(options: tuple[WebhookOptions, ...], tables: Tables) -> None:
    for one in options:
        tables.webhooks.register(one.name, wanted(one))
