"""All webhooks of a worker.

Owns: Webhooks: one delivery per [[webhook]], what the store is told of them, what is shown of them, and their figures
for the scoreboard.
Elsewhere: running them (feeds.readers), one delivery (webhooks.delivery).
Fails: open() raises Unavailable. Nothing else raises.

Made only where a webhook is configured.
"""

from __future__ import annotations

from functools import partial

from chatd import wall_clock
from chatd.config.schema import Config
from chatd.config.webhook_options import WebhookOptions, wanted
from chatd.feeds.readers import Readers, ReaderServices, lag_ms
from chatd.store.contract import Tables
from chatd.store.open import EventReader
from chatd.webhooks import overview
from chatd.webhooks.delivery import Delivery, Doing
from chatd.webhooks.overview import WebhookView


class Webhooks(Readers[Delivery]):
    def __init__(self, config: Config, services: ReaderServices) -> None:
        """config: its webhooks change with the worker only."""
        super().__init__(config, services, partial(_register, config.webhook))
        self._config = config
        self.members = [Delivery(one, self.feed, self.lease) for one in config.webhook]

    async def listed(self) -> list[WebhookView]:
        """Those that the store knows, by name. What waits is counted by the thread of the feed, so no commit waits for
        it. Raises Unavailable."""
        states = await self.services.store.read(overview.all_of)

        def count(reader: EventReader) -> list[overview.Backlog]:
            return [overview.backlog(reader.events, one) for one in states]

        waiting, now_ms = await self.feed.ask(count), wall_clock.now_ms()
        return [overview.view(one, waits, self._config, now_ms) for one, waits in zip(states, waiting, strict=True)]

    def report(self) -> None:
        """Write the figures to the worker's row of the scoreboard."""
        figures, row = [one.figures for one in self.members], self.services.row
        row.webhook_events = sum(one.delivered for one in figures)
        row.webhook_failures = sum(one.failures for one in figures)
        row.webhook_waiting = sum(one.waiting for one in figures)
        row.webhook_lag_ms = lag_ms(one.oldest_ms for one in figures)
        row.webhooks_failing = sum(one.doing is Doing.FAILING for one in figures)
        row.webhooks_disabled = sum(one.doing is Doing.DISABLED for one in figures)


def _register(options: tuple[WebhookOptions, ...], tables: Tables) -> None:
    for one in options:
        tables.webhooks.register(one.name, wanted(one))
