"""Background tasks: work that no caller awaits, owned by the component that started it.

Owns: BackgroundTasks, the one way to start such work. It keeps the task alive until it ends, logs an unexpected
exception once, with its traceback, and can wait for the tasks or cancel them when the component ends.
Elsewhere: what the work does, and how many tasks there may be (the component that starts them).
Fails: never; an exception in a task ends only that task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from chatd import log


class BackgroundTasks:
    """The background tasks of one component. All methods are called from the loop's thread."""

    __slots__ = ("_log", "_loop", "_tasks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = log.get()

    def __len__(self) -> int:
        """Tasks that have not ended."""
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside everything else, from the next turn of the loop on."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("unexpected exception in a background task", exc_info=error)

    async def settle(self) -> None:
        """Return when every task has ended, including those started meanwhile. The caller sets the time limit."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """Cancel every task and return when all have ended."""
        for task in self._tasks:
            task.cancel()
        await self.settle()
