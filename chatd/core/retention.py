"""Data that ends: old messages, those of dissolved groups and of erased accounts, and the space they leave.

Owns: when a slice of this work is due, how large it is, the pause after it, whether the clock can be believed, and what
the status shows of it.
Elsewhere: the slices themselves (store), erasing an account (chatctl), the options (config.people_options).
Fails: never. What the store refuses is logged, shown in the status, and tried again.

One worker of each host does it (scoreboard.leader). How far the work has come is in the store: after a crash, the next
worker goes on, and two that work at once for a moment do no harm. A slice shares a transaction with the messages that
are stored at that moment, so it must be short: its size follows the time that the last one took, and between two slices
the store is left to the messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from chatd import wall_clock
from chatd.config.people_options import RetentionOptions
from chatd.core.event_upkeep import EventUpkeep
from chatd.core.file_upkeep import FileUpkeep
from chatd.core.services import Services
from chatd.errors import Unavailable
from chatd.files.content import FileContent
from chatd.scoreboard import Row
from chatd.store.contract import Kind, Slice, Tables

CHECK_S = 20.0
"""How often the store is looked at for old messages, and for erasures that nobody finishes."""
RETRY_S = 5.0
"""Pause after the store has failed."""
DAY_MS = 24 * 3600 * 1000
CLOCK_AHEAD_MS = 7 * DAY_MS
"""A clock further ahead of the last time that retention worked is not believed: it is wrong, or the server was off."""
BELIEVE_S = 24 * 3600.0
"""A clock that goes on like this for so long is believed after all. Time for an operator to see the error."""

_SLICE_S = 0.0015
"""How long a slice should take in the store thread, with its waits for the interpreter: about a dozen statements,
however many rows."""
_FIRST_ROWS, _LEAST_ROWS, _MOST_ROWS = 25, 10, 80
_REST = 8.0
"""A pause is at least this many times as long as the slice before it."""
_REST_AFTER_COMMIT = 2.0
"""And this many times as long as the slice with its commit, and the messages that it shared it with."""
_PAGES = 32
"""Unused pages that are given back at once."""

_Work = Callable[[Tables, int], Slice]
"""One slice; the second argument is its limit in rows."""


class Retention:
    """held_since: when the clock was first found too far ahead, by the loop's clock; None = it is not."""

    def __init__(
        self,
        services: Services,
        row: Row,
        wall_ms: Callable[[], int] = wall_clock.now_ms,
        content: FileContent | None = None,
    ) -> None:
        """wall_ms: the system clock. content: of files; None = this server takes none."""
        self._store = services.store
        self._config = services.config
        self._loop = services.loop
        self._log = services.log
        self._background = services.background
        self._leads = services.leads
        self._row = row
        self._wall_ms = wall_ms
        self._events = EventUpkeep(services)
        self._files = FileUpkeep(services, row, content)
        self._working = False
        self._next_at = 0.0
        """When the store is looked at again, by the loop's clock."""
        self._rows = _FIRST_ROWS
        self._held_since: float | None = None
        self._options: RetentionOptions | None = None
        """Those of the last time that the store was looked at."""

    def round(self) -> None:
        """Once a second."""
        self._events.round()
        self._files.round()
        if not self._leads():
            if self._options is not None and not self._working:
                self._forget()
            return
        options = self._config().retention
        due = self._loop.time() >= self._next_at or options != self._options
        if not self._working and due:
            self._options = options
            self._working = True
            self._background.start(self._run())

    def _forget(self) -> None:
        """Another worker does it now, and shows what there is to show."""
        row = self._row
        row.store_bytes = row.store_free_bytes = row.oldest_message_ms = row.retention_at_ms = row.erasures_pending = 0
        row.store_reclaims = row.retention_failed = row.retention_held = False
        self._options = self._held_since = None

    async def _run(self) -> None:
        pause_s = CHECK_S
        try:
            await self._work()
            self._row.retention_failed = False
        except Unavailable as error:
            self._row.retention_failed = True
            self._log.warning("retention: the store does not answer", why=str(error))
            pause_s = RETRY_S
        except Exception:
            self._row.retention_failed = True
            raise
        finally:
            self._working = False
            self._next_at = self._loop.time() + pause_s

    async def _work(self) -> None:
        await self._report()
        await self._finish_erasures()
        options = self._config().retention
        if not (options.private_days or options.group_days or options.dissolved_days):
            return
        if await self._clock_is_right():
            for work in self._kinds(options):
                await self._in_slices(work, options)
        await self._reclaim()
        self._row.retention_at_ms = self._wall_ms()
        await self._report()

    # ---------------------------------------------------------------- what is due

    def _kinds(self, options: RetentionOptions) -> Iterator[_Work]:
        now_ms = self._wall_ms()
        for kind, days in ((Kind.PRIVATE, options.private_days), (Kind.GROUPS, options.group_days)):
            if days:
                yield partial(_expire, kind, now_ms - int(days * DAY_MS), now_ms)
        if options.dissolved_days:
            yield partial(_expire_dissolved, now_ms - int(options.dissolved_days * DAY_MS), now_ms)

    async def _finish_erasures(self) -> None:
        for erasure in await self._store.read(lambda tables: tables.erasure.pending()):
            self._row.erasures_pending = max(1, self._row.erasures_pending)
            await self._in_slices(partial(_blank, erasure.user_id, self._wall_ms()), None)
        self._row.erasures_pending = len(await self._store.read(lambda tables: tables.erasure.pending()))

    async def _clock_is_right(self) -> bool:
        """Deleting cannot be undone, so a clock that has jumped ahead must not make everything old."""
        now_ms = self._wall_ms()
        last_ms = await self._store.read(lambda tables: tables.retention.clock())
        ahead_ms = now_ms - last_ms
        if last_ms and ahead_ms > CLOCK_AHEAD_MS:
            if self._held_since is None:
                self._held_since = self._loop.time()
                self._log.error(
                    "retention: nothing is deleted, because the clock is far ahead of when this was done last",
                    days=round(ahead_ms / DAY_MS, 1),
                    wait_hours=round(BELIEVE_S / 3600),
                )
            if self._loop.time() - self._held_since < BELIEVE_S:
                self._row.retention_held = True
                return False
        self._held_since = None
        self._row.retention_held = False
        await self._store.write(lambda tables: tables.retention.set_clock(now_ms))
        return True

    # ---------------------------------------------------------------- slices

    async def _in_slices(self, work: _Work, options: RetentionOptions | None) -> None:
        """Until there is no more to do, or the options are not these any more."""
        while True:
            begun = self._loop.time()
            rows = self._rows
            done, seconds = await self._store.write(partial(_timed, work, rows))
            took_s = self._loop.time() - begun
            changed = done.deleted + done.blanked
            self._row.retention_deleted += changed
            self._adapt(seconds)
            if not done.more or (options is not None and self._is_changed(options)) or not self._leads():
                return
            pace_s = changed / self._config().retention.rows_per_s - took_s
            await asyncio.sleep(max(_REST * seconds, _REST_AFTER_COMMIT * took_s, pace_s))

    def _is_changed(self, options: RetentionOptions) -> bool:
        now = self._config().retention
        return msgspec.structs.replace(now, rows_per_s=options.rows_per_s) != options

    def _adapt(self, seconds: float) -> None:
        if seconds > 2 * _SLICE_S:
            self._rows = max(_LEAST_ROWS, self._rows // 2)
        elif seconds < _SLICE_S:
            self._rows = min(_MOST_ROWS, self._rows + self._rows // 4)

    async def _reclaim(self) -> None:
        while True:
            given, seconds = await self._store.write(_reclaim)
            if not given:
                return
            await asyncio.sleep(_REST * seconds)

    async def _report(self) -> None:
        space = await self._store.read(lambda tables: tables.retention.space())
        row = self._row
        row.store_bytes, row.store_free_bytes = space.total, space.free
        row.store_reclaims, row.oldest_message_ms = space.reclaims, space.oldest_ms


def _timed(work: _Work, rows: int, tables: Tables) -> tuple[Slice, float]:
    begun = time.monotonic()
    done = work(tables, rows)
    return done, time.monotonic() - begun


def _expire(kind: Kind, before_ms: int, now_ms: int, tables: Tables, rows: int) -> Slice:
    return tables.retention.expire(kind, before_ms, now_ms, rows)


def _expire_dissolved(before_ms: int, now_ms: int, tables: Tables, rows: int) -> Slice:
    return tables.retention.expire_dissolved(before_ms, now_ms, rows)


def _blank(user_id: int, now_ms: int, tables: Tables, rows: int) -> Slice:
    return tables.erasure.blank(user_id, rows, now_ms)


def _reclaim(tables: Tables) -> tuple[int, float]:
    begun = time.monotonic()
    return tables.retention.reclaim(_PAGES), time.monotonic() - begun
