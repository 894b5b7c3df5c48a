"""Deleting events that were read, or that nobody reads, and forgetting webhooks that nobody has.

Owns: when it is done.
Elsewhere: what is deleted (store.sql.events, store.sql.webhooks), the limits (config.people_options).
Fails: never; what the store refuses is tried again.

One worker of each host does it, also where no webhook is configured any more: until the store forgets it, its events
are recorded.
"""

from __future__ import annotations

from functools import partial

from chatd import wall_clock
from chatd.config.people_options import RetentionOptions
from chatd.core.services import Services
from chatd.errors import Unavailable
from chatd.store.contract import BRIDGE_READER, Tables

EVERY_ROUNDS = 60
"""Rounds between two looks."""
_ROWS = 500
"""Events deleted in one transaction, which messages share."""
_DAY_MS = 24 * 3600 * 1000


class EventUpkeep:
    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._config = services.config
        self._leads = services.leads
        self._background = services.background
        self._log = services.log
        self._rounds = 0
        self._working = False

    def round(self) -> None:
        """Once a second."""
        self._rounds += 1
        if self._rounds % EVERY_ROUNDS == 0 and self._leads() and not self._working:
            self._working = True
            self._background.start(self._run())

    async def _run(self) -> None:
        try:
            if await self._store.read(_has_work):
                await self._work(self._config().retention)
        except Unavailable as error:
            self._log.warning("events are not deleted, the store does not answer", why=str(error))
        finally:
            self._working = False

    async def _work(self, options: RetentionOptions) -> None:
        """Raises Unavailable."""
        before_ms = wall_clock.now_ms() - int(options.events_days * _DAY_MS)
        for name in await self._store.write(partial(_forget_unseen, before_ms)):
            self._log.warning("webhook forgotten, no host has had it for retention.events_days", webhook=name)
        dropped = await self._dropped()
        trim = partial(_trim, before_ms, options.events_rows)
        while await self._store.write(trim) == _ROWS:
            pass
        for name, count in (await self._dropped()).items():
            if count > dropped.get(name, 0):
                lost = count - dropped.get(name, 0)
                self._log.error("events deleted that a webhook has not taken", webhook=name, events=lost)

    async def _dropped(self) -> dict[str, int]:
        states = await self._store.read(lambda tables: tables.webhooks.all())
        return {state.name: state.dropped for state in states}


def _forget_unseen(before_ms: int, tables: Tables) -> list[str]:
    """Nobody can write to the users of a bridge that is forgotten."""
    forgotten = tables.webhooks.forget_unseen(before_ms)
    for name in forgotten:
        if name.startswith(BRIDGE_READER):
            tables.bridges.close(name.removeprefix(BRIDGE_READER))
    return forgotten


def _has_work(tables: Tables) -> bool:
    return bool(tables.webhooks.all()) or tables.events.marks().event > 0


def _trim(before_ms: int, most: int, tables: Tables) -> int:
    return tables.events.trim(before_ms, most, _ROWS)
