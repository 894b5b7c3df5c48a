"""What reads the store in order for others, put together for one worker: webhooks, bridges and notifications.

Owns: making those that are configured. What is not configured is not imported.
Elsewhere: what they do (webhooks, bridges, push), when they begin and end (worker).
Fails: open() raises Unavailable, unless it is patient.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from chatd.config.schema import Config
from chatd.core.core import Core
from chatd.worker_context import WorkerContext

if TYPE_CHECKING:
    from chatd.bridges.bridges import Bridges
    from chatd.bridges.people import People
    from chatd.feeds.readers import ReaderServices
    from chatd.push.push import Push
    from chatd.webhooks.webhooks import Webhooks


def make_people(config: Callable[[], Config]) -> People | None:
    """The users of other servers, which the core asks for. None: no bridge is configured."""
    if not config().bridge:
        return None
    from chatd.bridges.people import People

    return People(config().bridge, config)


class EventReaders:
    """config: the configuration in force. people: as make_people() gave it."""

    def __init__(self, context: WorkerContext, config: Callable[[], Config], core: Core, people: People | None) -> None:
        self.webhooks = _webhooks(context, config(), core)
        """None: none is configured."""
        made = self.webhooks, _bridges(context, config, core, people), _push(context, config, core)
        self._readers: list[Webhooks | Bridges | Push] = [one for one in made if one is not None]
        self._patient = context.patient

    async def open(self) -> None:
        """Begin to record, and then to read."""
        for one in self._readers:
            await one.open(patient=self._patient)
            one.start()

    def report(self) -> None:
        """Write the figures to the worker's row of the scoreboard."""
        for one in self._readers:
            one.report()

    async def close(self) -> None:
        """Other workers go on at once. The caller sets the time limit."""
        await asyncio.gather(*(one.close() for one in self._readers))


def _webhooks(context: WorkerContext, config: Config, core: Core) -> Webhooks | None:
    if not config.webhook:
        return None
    from chatd.webhooks.webhooks import Webhooks

    return Webhooks(config, _services(context, core))


def _bridges(context: WorkerContext, config: Callable[[], Config], core: Core, people: People | None) -> Bridges | None:
    if people is None:
        return None
    from chatd.bridges.bridges import Bridges

    return Bridges(people, _services(context, core), core.calls, core.file_addresses.links, config)


def _push(context: WorkerContext, config: Callable[[], Config], core: Core) -> Push | None:
    if not config().push.subject and not config().push.gateways:
        return None
    from chatd.push.push import Push

    return Push(config, _services(context, core), core)


def _services(context: WorkerContext, core: Core) -> ReaderServices:
    from chatd.feeds.readers import ReaderServices

    services = core.services
    return ReaderServices(
        store=core.store, row=services.row, leads=services.leads, loop=services.loop, slot=context.slot
    )
