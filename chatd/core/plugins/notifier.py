"""Telling plug-ins what has happened, in the background.

Owns: a queue of events per plug-in, and the calls under way, for which no client waits.
Elsewhere: one call (core.plugins.plugin), the events (core.plugins.pipeline).
Fails: never. If limits.hook_queue events wait in all queues of the worker, an event is dropped, counted and logged.
Events that wait when the worker dies are lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from chatd import log
from chatd.background import BackgroundTasks
from chatd.config.schema import Config
from chatd.core.plugins.contract import Point
from chatd.core.plugins.guard import Cause
from chatd.core.plugins.plugin import Plugin, PluginFailed
from chatd.errors import Unavailable

MAX_CALLS = 64
"""Maximum calls under way to one plug-in. They begin in the order of the events."""
_LOG_EVERY_S = 10.0
"""Dropped events are logged at most this often."""

MakeEvent = Callable[[], Awaitable[object | None]]
"""Makes an event when its turn comes; None = there is nothing to tell after all. May raise Unavailable."""


class _EventQueue:
    """One plug-in's events. running: calls under way."""

    __slots__ = ("events", "plugin", "running")

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin
        self.events: deque[tuple[Point, MakeEvent, Cause]] = deque()
        self.running = 0


class PluginNotifier:
    def __init__(
        self, plugins: Iterable[Plugin], config: Callable[[], Config], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._queues = [_EventQueue(plugin) for plugin in plugins]
        self._config = config
        self._loop = loop
        self._tasks = BackgroundTasks(loop)
        self._log_again_at = 0.0
        """Loop time before which no dropped event is logged."""
        self._log = log.get()
        self.queued = 0
        """Events waiting, in all queues."""
        self.dropped = 0
        """Events dropped because too many waited, total."""

    def tell(self, point: Point, event: MakeEvent, cause: Cause) -> None:
        """Tell every plug-in that has this point. cause: who caused the event."""
        for one in self._queues:
            if point not in one.plugin.points:
                continue
            if self.queued >= self._config().limits.hook_queue:
                self._drop(one.plugin)
                continue
            self.queued += 1
            one.events.append((point, event, cause))
            if one.running < MAX_CALLS:
                one.running += 1
                self._tasks.start(self._work(one))

    def _drop(self, plugin: Plugin) -> None:
        self.dropped += 1
        now = self._loop.time()
        if now >= self._log_again_at:
            self._log_again_at = now + _LOG_EVERY_S
            self._log.error(
                "events for plug-ins dropped, limits.hook_queue is reached",
                hook=plugin.name,
                queued=self.queued,
                dropped=self.dropped,
            )

    async def _work(self, one: _EventQueue) -> None:
        try:
            while one.events:
                point, make_event, cause = one.events.popleft()
                self.queued -= 1
                try:
                    event = await make_event()
                    if event is not None:
                        await one.plugin.call(point, event, cause)
                except PluginFailed:  # logged where it was raised
                    await asyncio.sleep(0)
                except Unavailable:
                    self._log.warning("event for a plug-in dropped, the store does not answer", hook=one.plugin.name)
        finally:
            one.running -= 1

    async def settle(self) -> None:
        """Return when everything was told. The caller sets the time limit."""
        await self._tasks.settle()
