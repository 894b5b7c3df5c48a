"""All bridges of a worker.

Owns: Bridges: one Bridge per [[bridge]], registering them, and their figures for the scoreboard.
Elsewhere: one bridge (bridges.bridge), who is who (bridges.people).
Fails: open() raises Unavailable. Nothing else raises.

Made only where a bridge is configured. Every worker registers them, and knows their users; the one that leads its host
takes leases, so of a cluster, one worker moves the messages of each bridge.
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
from chatd.bridges.bridge import Bridge
from chatd.bridges.contract import BridgeParts, Doing
from chatd.bridges.people import People
from chatd.config.bridge_options import BridgeOptions
from chatd.config.schema import Config
from chatd.core.calls import Calls
from chatd.errors import Unavailable
from chatd.feeds.feed import Feed
from chatd.feeds.lease import LeaseParts
from chatd.scoreboard import Row
from chatd.store.bridge_contract import BRIDGE_READER, KINDS
from chatd.store.contract import Tables
from chatd.store.group_commit import GroupCommit
from chatd.store.open import configured, open_event_reader

_ID_BYTES = 6
_AGAIN_S = 1.0


class BridgeServices(msgspec.Struct, frozen=True, kw_only=True):
    """Of the worker. config: the configuration in force. leads: see core.services."""

    store: GroupCommit
    calls: Calls
    config: Callable[[], Config]
    row: Row
    leads: Callable[[], bool]
    loop: asyncio.AbstractEventLoop
    slot: int


class Bridges:
    """The bridges of a configuration change with the worker only."""

    def __init__(self, people: People, services: BridgeServices) -> None:
        config = services.config()
        people.use(services.store)
        self._options = config.bridge
        self._services = services
        self._tasks = BackgroundTasks(services.loop)
        location, store_s = configured(config), config.timeouts.store_s
        self._feed = Feed(partial(open_event_reader, location, store_s))
        lease = LeaseParts(
            store=services.store,
            holder=f"{os.uname().nodename}/{services.slot}/{secrets.token_hex(_ID_BYTES)}",
            leads=services.leads,
            lease_s=config.bus.lease_s,
            store_s=store_s,
            overlaps=location.mysql is not None,
        )
        self._bridges = [
            Bridge(
                BridgeParts(
                    options=one,
                    feed=self._feed,
                    lease=lease,
                    people=people,
                    calls=services.calls,
                    config=services.config,
                )
            )
            for one in config.bridge
        ]

    async def open(self, *, patient: bool) -> None:
        """When it returns, messages to users of the other sides are found by their reader; if patient and the store
        does not answer, as soon as it does. Raises: Unavailable, unless patient."""
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
        """Move messages, while this worker leads."""
        for one in self._bridges:
            self._tasks.start(one.run())

    async def close(self) -> None:
        """Other workers go on at once. The caller sets the time limit."""
        await self._tasks.cancel()
        for one in self._bridges:
            await one.give_back()
        await self._feed.close()

    def report(self) -> None:
        """Write the figures to the worker's row of the scoreboard."""
        figures, row = [one.figures for one in self._bridges], self._services.row
        row.bridge_received = sum(one.received for one in figures)
        row.bridge_sent = sum(one.sent for one in figures)
        row.bridge_returned = sum(one.returned for one in figures)
        row.bridge_dead_letters = sum(one.dead for one in figures)
        row.bridge_failures = sum(one.failures for one in figures)
        row.bridge_waiting = sum(one.waiting for one in figures)
        oldest = min((one.oldest_ms for one in figures if one.oldest_ms), default=0)
        row.bridge_lag_ms = max(0, wall_clock.now_ms() - oldest) if oldest else 0
        row.bridges_failing = sum(one.doing is Doing.FAILING for one in figures)


def _register(options: tuple[BridgeOptions, ...], tables: Tables) -> None:
    for one in options:
        tables.webhooks.register(BRIDGE_READER + one.name, KINDS)
        tables.bridges.reopen(one.name)
