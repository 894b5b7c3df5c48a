"""The events of the store, as far as they may be read.

Owns: Feed: one thread that reads, and how far everything has settled.
Elsewhere: the SQL (store.sql.events, store.sql.bridges), why a row may not be read yet (decision 0044), who reads
(webhooks.delivery, bridges.outgoing).
Fails: read() raises Unavailable. A store that does not answer is asked again.

The thread and its connection are the feed's own, so that readers keep no commit waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from chatd.errors import ChatdError, Unavailable
from chatd.store.event_contract import EventKind, Position, ReadLimits, Stretch
from chatd.store.open import EventReader

T = TypeVar("T")

POLL_S = 0.05
"""Between two looks for new events. A commit that told of itself would do so on the path of every message."""
_FREE_S = 0.01
"""Between two looks whether transactions have ended."""
_AGAIN_S = 1.0
"""After a failure."""


class Feed:
    """Made and used on the worker's loop. open: opens the store, in the thread."""

    def __init__(self, open_reader: Callable[[], EventReader]) -> None:
        self._open = open_reader
        self._reader: EventReader | None = None
        """Only the thread uses it."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed")
        self._settled = Position()
        self._moved = asyncio.Event()
        """Set, and replaced by another one, whenever `settled` has moved."""
        self._task: asyncio.Task[None] | None = None
        self._followers = 0
        """How many of those who share it read at present."""
        self.trouble = ""
        """Why the store cannot be read, for people; "" = it can."""

    @property
    def settled(self) -> Position:
        """Everything up to here may be read."""
        return self._settled

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Inside, it looks for events: while at least one reader is inside."""
        self._followers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._follow())
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers:
                self._stop()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def beyond(self, position: Position, within_s: float) -> bool:
        """Whether something may be read beyond the position, within this time."""
        ends = asyncio.get_running_loop().time() + within_s
        while not _is_beyond(self._settled, position):
            moved, left = self._moved, ends - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await moved.wait()
            except TimeoutError:
                return False
        return True

    async def read(self, after: Position, upto: Position, kinds: Collection[EventKind], limits: ReadLimits) -> Stretch:
        """As EventTables.read(); nothing where `upto` is behind `after`. Raises: Unavailable."""
        end = Position(max(after.message, upto.message), max(after.event, upto.event))
        return await self.ask(lambda reader: reader.events.read(after, end, kinds, limits))

    async def count(self, after: Position, kinds: Collection[EventKind]) -> int:
        """As EventTables.count(), up to what has settled. Raises: Unavailable."""
        return await self.ask(lambda reader: reader.events.count(after, self._settled, kinds))

    async def ask(self, work: Callable[[EventReader], T]) -> T:
        """Run it in the thread. The rest of the store is asked through it, too. Raises: Unavailable."""

        def ask() -> T:
            if self._reader is None:
                self._reader = self._open()
            try:
                return work(self._reader)
            except BaseException:
                self._close_reader()
                raise

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, ask)
        except Unavailable:
            raise
        except (sqlite3.Error, OSError, ChatdError) as error:
            raise Unavailable(f"events cannot be read: {error}") from error

    async def close(self) -> None:
        self._stop()
        self._thread.submit(self._close_reader)
        self._thread.shutdown(wait=False)

    # ---------------------------------------------------------------- following the store

    async def _follow(self) -> None:
        while True:
            try:
                marks = await self.ask(lambda reader: reader.events.marks())
                if _is_beyond(marks, self._settled):
                    await self._wait_for_transactions()
                    self._settled = marks
                    self._moved.set()
                    self._moved = asyncio.Event()
                self.trouble = ""
                await asyncio.sleep(POLL_S)
            except Unavailable as error:
                self.trouble = str(error)
                await asyncio.sleep(_AGAIN_S)

    async def _wait_for_transactions(self) -> None:
        """Until all that were under way when it was called have ended."""
        left = await self.ask(lambda reader: reader.events.slots())
        while left:
            left -= await self.ask(lambda reader: reader.events.free())
            if left:
                await asyncio.sleep(_FREE_S)

    def _close_reader(self) -> None:
        """In the thread."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def _is_beyond(one: Position, other: Position) -> bool:
    return one.message > other.message or one.event > other.event
