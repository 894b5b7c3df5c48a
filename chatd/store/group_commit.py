"""Group commit: what many sessions write during one turn of the loop, and while the previous commit runs,
becomes one transaction.

Owns: the queue in front of a store, the store thread, the order "writes, commit, reads", running a transaction again
that met another, the threads that read beside the commits, and the time limit.
Not here: SQL (the Tables it is given); what a message means (core.messages).
Fails: a draft is answered UNAVAILABLE when the store refuses, or when it has not answered within
`wait_s` (P10); a write or read raises Unavailable. Nothing is ever reported stored before the commit (P1).

One commit is in flight. Without readers the same thread runs the reads of a batch after its commit; with readers, they
run beside the next commits. A draft answered UNAVAILABLE because the commit hangs may be answered a second time, with
Stored, when the commit succeeds after all (P2: repeating is safe).
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from chatd import log
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import ConversationId, Seq, UserId
from chatd.scoreboard import Row
from chatd.store.contract import Advance, Again, Draft, Stored, Tables

T = TypeVar("T")
Results = list[Stored | ErrorCode]
OnResults = Callable[[list[Draft], list[Any], Results], None]

_BATCH = 2000
"""Drafts of one transaction at most, so that a commit stays short."""
_ATTEMPTS = 8
"""A transaction that met another is run so often at most, with pauses of up to _PAUSE_S, twice that, and so on."""
_PAUSE_S = 0.002
_CURSOR_DELAY_S = 0.2
"""Cursors wait this long for company; a crash gives again at most this much (P2 makes that safe)."""


class _Call:
    """One write or read and the future of its caller."""

    __slots__ = ("error", "future", "value", "work")

    def __init__(self, work: Callable[[Tables], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self, tables: Tables) -> None:
        self.error = None
        try:
            self.value = self.work(tables)
        except Refused as refused:
            self.error = refused

    def read(self, tables: Tables) -> None:
        """One that fails is told to its caller alone."""
        try:
            self.run(tables)
        except Exception as error:  # noqa: BLE001  told to the caller; what was committed stays reported as committed
            self.error = Unavailable(f"read failed: {error}")

    def refuse(self) -> None:
        if not self.future.done():
            self.future.set_exception(Unavailable("the store does not answer"))

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)


class _Batch:
    """What the thread is given at once. `gate` guards abandoned/started between loop and thread."""

    __slots__ = (
        "abandoned", "advances", "drafts", "error", "gate", "late", "origins", "reads", "results", "seconds",
        "seen", "since", "started", "writes",
    )  # fmt: skip

    def __init__(self, since: float) -> None:
        self.since = since
        self.drafts: list[Draft] = []
        self.origins: list[Any] = []
        self.advances: list[Advance] = []
        self.seen: list[tuple[UserId, int]] = []
        self.writes: list[_Call] = []
        self.reads: list[_Call] = []
        self.results: Results = []
        self.error: Exception | None = None
        self.gate = threading.Lock()
        self.started = False
        self.abandoned = False
        self.late = False
        self.seconds = 0.0

    @property
    def changes(self) -> bool:
        """Whether it needs a transaction."""
        return bool(self.drafts or self.advances or self.seen or self.writes)


class GroupCommit:
    """The store as the loop sees it. Every method is called from the loop.

    readers: further tables of the same store, each for a thread that only reads."""

    def __init__(
        self,
        tables: Tables,
        loop: asyncio.AbstractEventLoop,
        row: Row,
        on_results: OnResults,
        readers: Sequence[Tables] = (),
    ) -> None:
        self._tables = tables
        self._gather_s = tables.gather_s
        self._loop = loop
        self._row = row
        self._on_results = on_results
        self._next = _Batch(0.0)
        self._flying: _Batch | None = None
        self._cursors: dict[tuple[UserId, ConversationId], Seq] = {}
        self._seen: dict[UserId, int] = {}
        self._cursor_timer: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._started_at = 0.0
        self._idle: list[asyncio.Future[None]] = []
        self._last_ms = 0
        self._seconds: list[float] = []
        self._orders: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="store", daemon=True)
        self._thread.start()
        self._reading: dict[_Call, float] = {}
        """What readers were given, and since when it waits."""
        self._questions: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._serve_reads, args=(one,), name="store reader", daemon=True) for one in readers
        ]
        for reader in self._readers:
            reader.start()
        self._log = log.get()

    # ---------------------------------------------------------------- asking

    @property
    def queued(self) -> int:
        """Drafts not yet answered."""
        return len(self._next.drafts) + (len(self._flying.drafts) if self._flying else 0)

    def append(self, draft: Draft, origin: object) -> None:
        """Answered through on_results(drafts, origins, results), in the order of the calls."""
        batch = self._next
        batch.drafts.append(draft)
        batch.origins.append(origin)
        if not self._scheduled:
            self._schedule()

    def advance(self, user_id: UserId, conversation: ConversationId, seq: Seq) -> None:
        """Move a cursor, within _CURSOR_DELAY_S or with the next read or write. Of several the highest counts:
        a user's sessions acknowledge at their own speed."""
        key = user_id, conversation
        if seq > self._cursors.get(key, 0):
            self._cursors[key] = seq
        if self._cursor_timer is None:
            self._cursor_timer = self._loop.call_later(_CURSOR_DELAY_S, self.flush_cursors)

    def _advance_again(self, advances: list[Advance]) -> None:
        """The cursors of a transaction that has failed."""
        for advance in advances:
            self.advance(*advance)

    def saw(self, user_id: UserId, at_ms: int) -> None:
        """The user was online until now; written with the cursors."""
        self._seen[user_id] = at_ms
        if self._cursor_timer is None:
            self._cursor_timer = self._loop.call_later(_CURSOR_DELAY_S, self.flush_cursors)

    def flush_cursors(self) -> None:
        """Send the cursors that wait into the next batch."""
        if self._cursor_timer is not None:
            self._cursor_timer.cancel()
            self._cursor_timer = None
        if self._seen:
            self._next.seen += self._seen.items()
            self._seen.clear()
            self._schedule()
        if self._cursors:
            self._next.advances += [Advance(user, conv, seq) for (user, conv), seq in self._cursors.items()]
            self._cursors.clear()
            self._schedule()

    async def write(self, work: Callable[[Tables], T]) -> T:
        """Run in the next transaction; returns after its commit. `work` raises Refused before it writes."""
        return await self._call(work, self._next.writes)

    async def read(self, work: Callable[[Tables], T]) -> T:
        """Run after the next commit; sees everything asked for before."""
        return await self._call(work, self._next.reads)

    async def _call(self, work: Callable[[Tables], T], calls: list[_Call]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        calls.append(_Call(work, future))
        self.flush_cursors()
        self._schedule()
        return await future

    async def settle(self) -> None:
        """Returns when everything asked for so far has been answered."""
        self.flush_cursors()
        while not self._is_idle():
            future = self._loop.create_future()
            self._idle.append(future)
            await future

    def close(self) -> None:
        """After settle(). The threads close their tables and end."""
        self._orders.put(None)
        for _ in self._readers:
            self._questions.put(None)
        ends = time.monotonic() + 1.0
        for thread in (self._thread, *self._readers):
            thread.join(max(0.0, ends - time.monotonic()))

    # ---------------------------------------------------------------- batches, on the loop

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            if not self._next.since:
                self._next.since = self._loop.time()
            if self._flying is None:
                self._start_soon()

    def _start_soon(self) -> None:
        """At the end of this turn, or when the last batch is old enough to be followed."""
        wait_s = self._started_at + self._gather_s - self._loop.time()
        if wait_s > 0:
            self._loop.call_later(wait_s, self._start)
        else:
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        batch, rest = self._next, _Batch(0.0)
        if len(batch.drafts) > _BATCH:
            rest.drafts, rest.origins = batch.drafts[_BATCH:], batch.origins[_BATCH:]
            batch.drafts, batch.origins = batch.drafts[:_BATCH], batch.origins[:_BATCH]
            rest.since = batch.since
        self._next, self._flying, self._scheduled = rest, batch, False
        if self._readers and not batch.changes:
            self._finish(batch)
            return
        self._started_at = self._loop.time()
        if rest.drafts:
            self._schedule()
        self._orders.put(batch)

    def _finish(self, batch: _Batch) -> None:
        self._flying = None
        if self._scheduled:
            if self._loop.time() - self._started_at >= self._gather_s:
                self._start()  # first: the store works while the answers below are made
            else:
                self._start_soon()
        if not batch.abandoned:
            if batch.seconds:
                self._seconds.append(batch.seconds)
                self._row.store_ok = int(batch.error is None)
            if batch.error is not None:
                self._failed(batch)
            else:
                self._answer(batch)
        self._tell_idle()

    def _answer(self, batch: _Batch) -> None:
        if batch.drafts:
            self._on_results(batch.drafts, batch.origins, batch.results)
        for call in batch.writes:
            call.settle()
        for call in batch.reads:
            if self._readers and not call.future.done():
                self._reading[call] = batch.since
                self._questions.put(call)
            else:
                call.settle()

    def _has_read(self, call: _Call) -> None:
        if self._reading.pop(call, None) is not None:
            self._row.store_ok = int(not isinstance(call.error, Unavailable))
        call.settle()
        self._tell_idle()

    def _is_idle(self) -> bool:
        return self._flying is None and not self._scheduled and not self._reading

    def _tell_idle(self) -> None:
        if self._idle and self._is_idle():
            for future in self._idle:
                future.set_result(None)
            self._idle.clear()

    def _failed(self, batch: _Batch) -> None:
        self._log.error("store failed", why=str(batch.error), drafts=len(batch.drafts))
        self._advance_again(batch.advances)
        self._refuse(batch)

    def _refuse(self, batch: _Batch) -> None:
        if batch.drafts and not batch.late:
            self._on_results(batch.drafts, batch.origins, [ErrorCode.UNAVAILABLE] * len(batch.drafts))
        for call in batch.writes + batch.reads:
            call.refuse()
        batch.late = True

    def tick(self, wait_s: float) -> None:
        """A few times a second: refuse what has waited longer than wait_s."""
        self._row.queue_messages = self.queued
        now = self._loop.time()
        flying = self._flying
        if flying is not None and now - flying.since > wait_s and not flying.late:
            with flying.gate:
                flying.abandoned = not flying.started
            self._row.store_ok = 0
            self._log.error("store is slow", started=flying.started, drafts=len(flying.drafts))
            if flying.abandoned:
                self._advance_again(flying.advances)
            self._refuse(flying)
        if flying is not None and self._next.since and now - self._next.since > wait_s:
            stale, self._next = self._next, _Batch(0.0)
            self._next.advances = stale.advances
            self._next.since = now
            self._refuse(stale)
        for call in [call for call, since in self._reading.items() if now - since > wait_s]:
            del self._reading[call]
            call.refuse()
            self._row.store_ok = 0
        self._tell_idle()

    def commit_p99_us(self) -> int:
        """Of the commits since the last call."""
        seconds, self._seconds = sorted(self._seconds), []
        return int(seconds[int(0.99 * (len(seconds) - 1))] * 1e6) if seconds else 0

    # ---------------------------------------------------------------- the store thread

    def _serve(self) -> None:
        while (batch := self._orders.get()) is not None:
            begun = time.monotonic()
            try:
                self._run(batch)
            except Exception as error:  # noqa: BLE001  told to every caller by _failed, which logs it
                batch.error = error
            batch.seconds = time.monotonic() - begun
            self._loop.call_soon_threadsafe(self._finish, batch)
        self._tables.close()

    def _run(self, batch: _Batch) -> None:
        if batch.changes:
            self._commit(batch)
        if not self._readers:
            for call in batch.reads:
                call.read(self._tables)

    def _commit(self, batch: _Batch) -> None:
        """Once more when it met another transaction: nobody is told. Not for ever, nor when nobody waits any more."""
        for attempt in range(_ATTEMPTS):
            try:
                self._transact(batch)
                return
            except Again:
                self._tables.rollback()
            if batch.late:
                break
            time.sleep(random.uniform(0, _PAUSE_S * 2**attempt))
        raise Unavailable("met other transactions too often")

    def _transact(self, batch: _Batch) -> None:
        tables = self._tables
        tables.begin()
        try:
            with batch.gate:
                batch.started = True
                if batch.abandoned:
                    tables.rollback()
                    return
            now_ms = self._last_ms = max(self._last_ms, time.time_ns() // 1_000_000)
            if batch.drafts:
                batch.results = tables.append(batch.drafts, now_ms)
            if batch.advances:
                tables.advance(batch.advances)
            if batch.seen:
                tables.update_last_seen(batch.seen)
            for call in batch.writes:
                call.run(tables)
        except BaseException:
            tables.rollback()
            raise
        tables.commit()

    # ---------------------------------------------------------------- the threads that read

    def _serve_reads(self, tables: Tables) -> None:
        while (call := self._questions.get()) is not None:
            if not call.future.done():  # else it was refused or given up meanwhile
                call.read(tables)
            self._loop.call_soon_threadsafe(self._has_read, call)
        tables.close()
