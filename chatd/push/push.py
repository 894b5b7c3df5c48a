"""Notifications of a worker.

Owns: Push: what the store is told of it, and its figures for the scoreboard.
Elsewhere: running it (feeds.readers), notifying (push.delivery).
Fails: open() raises Unavailable. Nothing else raises.

Made only where Web Push is configured, or a plug-in serves a gateway.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd.config.schema import Config
from chatd.core.core import Core
from chatd.feeds.readers import Readers, ReaderServices
from chatd.push.delivery import Delivery, DeliveryParts
from chatd.push.places import AT_ONCE
from chatd.push.sender import Sender
from chatd.store.contract import Tables
from chatd.store.push_contract import KINDS, PUSH_READER


class Push(Readers[Delivery]):
    def __init__(self, config: Callable[[], Config], services: ReaderServices, core: Core) -> None:
        """config: the configuration in force."""
        now = config()
        super().__init__(now, services, _register)
        self._delivery = Delivery(
            DeliveryParts(
                feed=self.feed,
                lease=self.lease,
                hub=core.hub,
                plugins=core.plugins,
                sender=Sender(now.push, AT_ONCE) if now.push.subject else None,
                options=lambda: config().push,
            )
        )
        self.members = [self._delivery]

    def report(self) -> None:
        """Write the figures to the worker's row of the scoreboard."""
        figures, row = self._delivery.figures, self.services.row
        row.push_sent = figures.sent
        row.push_failures = figures.failed
        row.push_removed = figures.removed


def _register(tables: Tables) -> None:
    tables.webhooks.register(PUSH_READER, KINDS)
