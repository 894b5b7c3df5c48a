"""All readers of one kind on a worker: all its webhooks, or all its bridges.

Owns: Readers: making them known to the store, running them, and ending them.
Elsewhere: one reader (webhooks.delivery, bridges.bridge), which kinds there are (event_readers), reading (feeds.feed),
who reads (feeds.lease).
Fails: open() raises Unavailable. Nothing else raises.

Every worker registers the readers of its configuration; the one that leads its host takes leases, so of a cluster, one
worker does the work of each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

import msgspec

from chatd import wall_clock
from chatd.background import BackgroundTasks
from chatd.config.schema import Config
from chatd.errors import Unavailable
from chatd.feeds.feed import Feed
from chatd.feeds.lease import LeaseParts
from chatd.scoreboard import Row
from chatd.store.contract import Tables
from chatd.store.group_commit import GroupCommit
from chatd.store.open import configured, open_event_reader

_ID_BYTES = 6
_AGAIN_S = 1.0
"""Between two attempts to register."""


class Reader(Protocol):
    async def run(self) -> None:
        """Until it is cancelled; then give_back() is to be called."""
        ...

    async def give_back(self) -> None:
        """Let another worker go on at once."""
        ...


R = TypeVar("R", bound=Reader)


class ReaderServices(msgspec.Struct, frozen=True, kw_only=True):
    """Of the worker. leads: see core.services."""

    store: GroupCommit
    row: Row
    leads: Callable[[], bool]
    loop: asyncio.AbstractEventLoop
    slot: int


class Readers(Generic[R]):
    """members: set by the subclass. feed, lease: for its members."""

    members: Sequence[R]

    def __init__(self, config: Config, services: ReaderServices, register: Callable[[Tables], None]) -> None:
        """config: what it says of the readers changes with the worker only. register: makes them known to the store."""
        self.services = services
        self._register = register
        self._tasks = BackgroundTasks(services.loop)
        location, store_s = configured(config), config.timeouts.store_s
        self.feed = Feed(partial(open_event_reader, location, store_s))
        self.lease = LeaseParts(
            store=services.store,
            holder=f"{os.uname().nodename}/{services.slot}/{secrets.token_hex(_ID_BYTES)}",
            leads=services.leads,
            lease_s=config.bus.lease_s,
            store_s=store_s,
            overlaps=location.mysql is not None,
        )

    async def open(self, *, patient: bool) -> None:
        """When it returns, what they are to read is recorded; if patient and the store does not answer, as soon as it
        does. Raises: Unavailable, unless patient."""
        try:
            await self.services.store.write(self._register)
        except Unavailable:
            if not patient:
                raise
            self._tasks.start(self._register_later())

    async def _register_later(self) -> None:
        while True:
            await asyncio.sleep(_AGAIN_S)
            with contextlib.suppress(Unavailable):
                await self.services.store.write(self._register)
                return

    def start(self) -> None:
        """Do their work, while this worker leads."""
        for one in self.members:
            self._tasks.start(one.run())

    async def close(self) -> None:
        """Other workers go on at once. The caller sets the time limit."""
        await self._tasks.cancel()
        for one in self.members:
            await one.give_back()
        await self.feed.close()


def lag_ms(oldest_ms: Iterable[int]) -> int:
    """Age of the oldest of what waits. oldest_ms: when the oldest of each reader happened, since the epoch; 0 = none
    waits."""
    oldest = min((one for one in oldest_ms if one), default=0)
    return max(0, wall_clock.now_ms() - oldest) if oldest else 0
