"""All bridges of a worker.

Owns: Bridges: one Bridge per [[bridge]], what the store is told of them, and their figures for the scoreboard.
Elsewhere: running them (feeds.readers), one bridge (bridges.bridge), who is who (bridges.people).
Fails: open() raises Unavailable. Nothing else raises.

Made only where a bridge is configured. Every worker knows the users of the other sides.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from chatd.bridges.bridge import Bridge
from chatd.bridges.contract import BridgeParts, Doing
from chatd.bridges.people import People
from chatd.config.bridge_options import BridgeOptions
from chatd.config.schema import Config
from chatd.core.calls import Calls
from chatd.feeds.readers import Readers, ReaderServices, lag_ms
from chatd.model import Message
from chatd.store.bridge_contract import BRIDGE_READER, KINDS
from chatd.store.contract import Tables


class Bridges(Readers[Bridge]):
    """The bridges of a configuration change with the worker only."""

    def __init__(
        self,
        people: People,
        services: ReaderServices,
        calls: Calls,
        links_of: Callable[[Message], tuple[str, ...]],
        config: Callable[[], Config],
    ) -> None:
        """links_of: finds the addresses of a message's files. config: the configuration in force."""
        bridges = config().bridge
        super().__init__(config(), services, partial(_register, bridges))
        people.use(services.store)
        self.members = [
            Bridge(
                BridgeParts(
                    options=one,
                    feed=self.feed,
                    lease=self.lease,
                    people=people,
                    calls=calls,
                    links_of=links_of,
                    config=config,
                )
            )
            for one in bridges
        ]

    def report(self) -> None:
        """Write the figures to the worker's row of the scoreboard."""
        figures, row = [one.figures for one in self.members], self.services.row
        row.bridge_received = sum(one.received for one in figures)
        row.bridge_sent = sum(one.sent for one in figures)
        row.bridge_returned = sum(one.returned for one in figures)
        row.bridge_dead_letters = sum(one.dead for one in figures)
        row.bridge_failures = sum(one.failures for one in figures)
        row.bridge_waiting = sum(one.waiting for one in figures)
        row.bridge_lag_ms = lag_ms(one.oldest_ms for one in figures)
        row.bridges_failing = sum(one.doing is Doing.FAILING for one in figures)


def _register(options: tuple[BridgeOptions, ...], tables: Tables) -> None:
    for one in options:
        tables.webhooks.register(BRIDGE_READER + one.name, KINDS)
        tables.bridges.reopen(one.name)
