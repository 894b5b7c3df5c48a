"""Group commit: operations of many sessions, asked for during one turn of the loop or while the previous commit runs,
become one transaction.

Owns: the queue in front of a store, when its next batch is committed, the answers to callers, and the time limit.
Elsewhere: a batch, and which side may touch it (store.batch); the store thread (store.committer); the threads that read
beside the commits (store.readers); SQL (the Tables it is given); the meaning of a message (core.messages).
Fails: a draft is answered UNAVAILABLE when the store refuses, or when it has not answered within `wait_s` (P10); a
write or read raises Unavailable. Nothing is reported stored before its commit (P1).

There is one queue, of batches, in the order in which operations were asked for: they are added to its last batch and
committed from its head, so a read or write never overtakes an earlier operation. One batch is being committed at a
time. A draft answered UNAVAILABLE because its commit takes too long is answered a second time, with Stored, if the
commit succeeds after all (P2: repeating is safe).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from chatd import log
from chatd.errors import ErrorCode
from chatd.model import ConversationId, Seq, UserId
from chatd.scoreboard import Row
from chatd.store.batch import Batch, BatchState, Call, Results
from chatd.store.committer import Committer
from chatd.store.contract import ANYTHING, Advance, Draft, SendingRules, Tables
from chatd.store.readers import Readers

T = TypeVar("T")
OnResults = Callable[[list[Draft], list[Any], Results], None]

DRAFTS_PER_BATCH = 2000
"""Maximum drafts of one batch, which keeps a commit short."""
_CURSOR_DELAY_S = 0.2
"""Cursors and last-seen times wait this long for others to share their transaction. A crash loses at most this much of
them, and delivers messages again that had been acknowledged since (P2)."""
_CLOSE_S = 1.0
"""How long close() waits for the threads."""


class Connections(NamedTuple):
    """A worker's connections to its store. readers: each for a thread that only reads. With none, reads run in the
    store thread, between the commits."""

    tables: Tables
    readers: Sequence[Tables] = ()


class GroupCommit:
    """The store as the loop sees it. Every method is called from the loop.

    on_results: called with drafts, their origins and a result for each, in the order of append().
    rules: those for messages, asked in the store thread.
    """

    def __init__(
        self,
        connections: Connections,
        loop: asyncio.AbstractEventLoop,
        row: Row,
        on_results: OnResults,
        rules: Callable[[], SendingRules] = lambda: ANYTHING,
    ) -> None:
        self._loop = loop
        self._row = row
        self._on_results = on_results
        self._log = log.get()
        self.queued = 0
        """Drafts in the queue or being committed. Other modules may read it."""
        self._trouble = ""
        """Why the last commit failed or does not end; "" = it succeeded."""
        self._filling = Batch()
        """The last batch of the queue, which operations are added to."""
        self._queue = deque([self._filling])
        self._has_work = False
        """Whether an operation is in the queue."""
        self._committing: Batch | None = None
        """The batch that the store thread has; None = it is idle."""
        self._gather_s = connections.tables.gather_s
        self._started_at = 0.0
        """When the last commit was started, by the loop's clock."""
        self._cursors: dict[tuple[UserId, ConversationId], Seq] = {}
        self._seen: dict[UserId, int] = {}
        """Cursors and last-seen times that are not yet in the queue: only the highest of each matters."""
        self._cursor_timer: asyncio.TimerHandle | None = None
        self._waiting_for_idle: list[asyncio.Future[None]] = []
        self._commit_seconds: list[float] = []
        """Durations of the commits since take_commit_seconds() was called last."""
        self._readers = Readers(connections.readers, loop, row, self._tell_idle)
        self._committer = Committer(connections.tables, not self._readers, self._return_soon, rules)

    # ---------------------------------------------------------------- asking

    def append(self, draft: Draft, origin: object) -> None:
        """Store a message. Answered through on_results, in the order of the calls."""
        batch = self._filling
        if len(batch.drafts) >= DRAFTS_PER_BATCH:
            batch = self._add_batch()
        batch.drafts.append(draft)
        batch.origins.append(origin)
        self.queued += 1
        if not self._has_work:
            self._schedule()

    def advance(self, user_id: UserId, conversation: ConversationId, seq: Seq) -> None:
        """Move a cursor, within _CURSOR_DELAY_S or with the next read or write. Of several positions the highest
        counts: a user's sessions acknowledge at their own speed."""
        key = user_id, conversation
        if seq > self._cursors.get(key, 0):
            self._cursors[key] = seq
        if self._cursor_timer is None:
            self._cursor_timer = self._loop.call_later(_CURSOR_DELAY_S, self.flush_cursors)

    def saw(self, user_id: UserId, at_ms: int) -> None:
        """The user was online until now (milliseconds since the epoch); written with the cursors."""
        if at_ms > self._seen.get(user_id, 0):
            self._seen[user_id] = at_ms
        if self._cursor_timer is None:
            self._cursor_timer = self._loop.call_later(_CURSOR_DELAY_S, self.flush_cursors)

    def flush_cursors(self) -> None:
        """Put the waiting cursors and last-seen times into the queue."""
        if self._cursor_timer is not None:
            self._cursor_timer.cancel()
            self._cursor_timer = None
        if self._seen:
            self._filling.seen += self._seen.items()
            self._seen.clear()
            self._schedule()
        if self._cursors:
            self._filling.advances += [Advance(user, conv, seq) for (user, conv), seq in self._cursors.items()]
            self._cursors.clear()
            self._schedule()

    async def write(self, work: Callable[[Tables], T]) -> T:
        """Run `work` in a transaction, after everything asked for before; returns when that is committed. `work` may
        be run more than once, and must raise Refused before it changes anything.

        Raises: Refused as `work` does. Unavailable: nothing is stored, or (it took too long) it may be stored later.
        """
        self.flush_cursors()
        return await self._call(work, self._filling.writes)

    async def read(self, work: Callable[[Tables], T]) -> T:
        """Run `work` when everything asked for before is committed.

        Raises: Refused as `work` does. Unavailable.
        """
        self.flush_cursors()
        return await self._call(work, self._filling.reads)

    async def _call(self, work: Callable[[Tables], T], calls: list[Call]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        calls.append(Call(work, future))
        self._schedule()
        return await future

    async def settle(self) -> None:
        """Returns when everything asked for so far has been answered."""
        self.flush_cursors()
        while not self._is_idle():
            future = self._loop.create_future()
            self._waiting_for_idle.append(future)
            await future

    def close(self) -> None:
        """After settle(). The threads close their connections and end."""
        self._committer.close()
        self._readers.close()
        ends = time.monotonic() + _CLOSE_S
        self._committer.join(_CLOSE_S)
        self._readers.join(max(0.0, ends - time.monotonic()))

    # ---------------------------------------------------------------- the queue

    def _add_batch(self) -> Batch:
        """For an operation that the last batch has no room for."""
        self._filling = Batch(self._loop.time())
        self._queue.append(self._filling)
        return self._filling

    def _schedule(self) -> None:
        """There is an operation in the queue."""
        if not self._has_work:
            self._has_work = True
            if not self._filling.since:
                self._filling.since = self._loop.time()
            if self._committing is None:
                self._commit_soon()

    def _commit_soon(self) -> None:
        """At the end of this turn, or when the last commit was started long enough ago."""
        wait_s = self._started_at + self._gather_s - self._loop.time()
        if wait_s > 0:
            self._loop.call_later(wait_s, self._commit_next)
        else:
            self._loop.call_soon(self._commit_next)

    def _take_batch(self) -> Batch:
        batch = self._queue.popleft()
        if not self._queue:
            self._filling = Batch()
            self._queue.append(self._filling)
            self._has_work = False
        return batch

    def _commit_next(self) -> None:
        """Hand the first batch to the store thread; nothing is being committed. One that only reads is not committed if
        there are readers."""
        batch = self._committing = self._take_batch()
        batch.move(BatchState.SUBMITTED)
        if self._readers and not batch.has_changes:
            self._returned(batch)
            return
        self._started_at = self._loop.time()
        self._committer.submit(batch)

    def _return_soon(self, batch: Batch) -> None:
        """In the store thread."""
        self._loop.call_soon_threadsafe(self._returned, batch)

    def _returned(self, batch: Batch) -> None:
        self._committing = None
        if self._has_work:
            if self._loop.time() - self._started_at >= self._gather_s:
                self._commit_next()  # first: the store works while the answers below are made
            else:
                self._commit_soon()
        self.queued -= len(batch.drafts)
        outcome = batch.state
        batch.move(BatchState.DONE)
        if outcome is not BatchState.CANCELLED:
            if batch.seconds:
                self._commit_seconds.append(batch.seconds)
                self._row.store_ok = batch.error is None
                self._trouble = "" if batch.error is None else str(batch.error) or type(batch.error).__name__
            if batch.error is None:
                self._answer(batch)
            else:
                self._log.error("commit failed", why=str(batch.error), drafts=len(batch.drafts))
                self._keep_cursors(batch)
                if outcome is not BatchState.OVERDUE:
                    self._refuse(batch)
        self._tell_idle()

    # ---------------------------------------------------------------- answers

    def _answer(self, batch: Batch) -> None:
        try:
            if batch.drafts:
                self._on_results(batch.drafts, batch.origins, batch.results)
        finally:  # a bug there must not leave others waiting
            for call in batch.writes:
                call.answer()
            for call in batch.reads:
                if self._readers and not call.future.done():
                    self._readers.submit(call, batch.since)
                else:
                    call.answer()

    def _refuse(self, batch: Batch) -> None:
        if batch.drafts:
            self._on_results(batch.drafts, batch.origins, [ErrorCode.UNAVAILABLE] * len(batch.drafts))
        for call in batch.writes + batch.reads:
            call.refuse()

    def _keep_cursors(self, batch: Batch) -> None:
        """Of a batch that is not stored: they are part of a later one, unless they have moved on since."""
        for advance in batch.advances:
            self.advance(*advance)
        for user_id, at_ms in batch.seen:
            self.saw(user_id, at_ms)

    def _is_idle(self) -> bool:
        return self._committing is None and not self._has_work and self._readers.idle

    def _tell_idle(self) -> None:
        if self._waiting_for_idle and self._is_idle():
            for future in self._waiting_for_idle:
                if not future.done():  # otherwise the caller has given up
                    future.set_result(None)
            self._waiting_for_idle.clear()

    # ---------------------------------------------------------------- the clock

    def tick(self, wait_s: float) -> None:
        """A few times a second: refuse operations that have waited longer than `wait_s`."""
        self._row.queue_messages = self.queued
        now = self._loop.time()
        committing = self._committing
        if committing is not None:
            if now - committing.since > wait_s:
                self._refuse_committing(committing)
            while (first := self._queue[0]).since and now - first.since > wait_s:
                self._take_batch()
                self._cancel(first)
        self._readers.refuse_overdue(now, wait_s)
        self._tell_idle()

    def _refuse_committing(self, batch: Batch) -> None:
        """Refuse the batch that the store thread has; at most once per batch."""
        if batch.state in (BatchState.OVERDUE, BatchState.CANCELLED):
            return
        outcome = batch.move(BatchState.CANCELLED, BatchState.OVERDUE)
        self._row.store_ok = False
        self._trouble = "a commit takes too long"
        self._log.error("commit takes too long", started=outcome is BatchState.OVERDUE, drafts=len(batch.drafts))
        if outcome is BatchState.CANCELLED:
            self._keep_cursors(batch)
        self._refuse(batch)

    def _cancel(self, batch: Batch) -> None:
        """One taken from the queue."""
        batch.move(BatchState.CANCELLED)
        self.queued -= len(batch.drafts)
        self._keep_cursors(batch)
        self._refuse(batch)

    @property
    def trouble(self) -> str:
        """Why Row.store_ok is false, in one line for an operator. While it is true this means nothing."""
        return self._trouble or self._readers.trouble

    def take_commit_seconds(self) -> list[float]:
        """Durations of the commits since the last call."""
        taken, self._commit_seconds = self._commit_seconds, []
        return taken
