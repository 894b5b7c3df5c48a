"""Plug-ins that are told what has happened, beside everything else.

Owns: the queues of events for them, and the calls under way. Nobody waits for these.
Elsewhere: one call (core.plugins.plugin), what is told (core.plugins.pipeline).
Fails: never. Over limits.hook_queue events in all queues of the worker an event is dropped, counted and logged; what is
queued when the worker dies is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from chatd import log
from chatd.background import BackgroundTasks
from chatd.config.schema import Config
from chatd.core.plugins.contract import Point
from chatd.core.plugins.plugin import Plugin, PluginFailed
from chatd.errors import Unavailable

_AT_ONCE = 64
"""Calls to one plug-in under way. They begin in the order of the events."""
_TELL_EVERY_S = 10.0

Later = Callable[[], Awaitable[object | None]]
"""Makes the event when its turn comes; None = nobody needs to be told after all."""


class _Line:
    """One plug-in's events."""

    __slots__ = ("busy", "events", "plugin")

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin
        self.events: deque[tuple[Point, Later]] = deque()
        self.busy = 0


class Notifier:
    def __init__(
        self, plugins: Iterable[Plugin], config: Callable[[], Config], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._lines = [_Line(plugin) for plugin in plugins]
        self._config = config
        self._loop = loop
        self._tasks = BackgroundTasks(loop)
        self._tell_at = 0.0
        self._log = log.get()
        self.queued = 0
        """Events waiting."""
        self.dropped = 0
        """Events dropped because too many waited, total."""

    def tell(self, point: Point, event: Later) -> None:
        for line in self._lines:
            if point not in line.plugin.points:
                continue
            if self.queued >= self._config().limits.hook_queue:
                self._drop(line.plugin)
                continue
            self.queued += 1
            line.events.append((point, event))
            if line.busy < _AT_ONCE:
                line.busy += 1
                self._tasks.start(self._work(line))

    def _drop(self, plugin: Plugin) -> None:
        self.dropped += 1
        now = self._loop.time()
        if now >= self._tell_at:
            self._tell_at = now + _TELL_EVERY_S
            self._log.error("events for plug-ins dropped", hook=plugin.name, queued=self.queued, dropped=self.dropped)

    async def _work(self, line: _Line) -> None:
        try:
            while line.events:
                point, later = line.events.popleft()
                self.queued -= 1
                try:
                    event = await later()
                    if event is not None:
                        await line.plugin.call(point, event, 0)
                except PluginFailed:  # logged there
                    await asyncio.sleep(0)
                except Unavailable:
                    self._log.warning("a plug-in was not told, the store does not answer", hook=line.plugin.name)
        finally:
            line.busy -= 1

    async def settle(self) -> None:
        """Returns when everything was told. The caller has a limit."""
        await self._tasks.settle()
