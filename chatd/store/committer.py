"""The store thread: runs one batch after the other on its own connection to the store.

Owns: the order of a transaction's steps, repeating a transaction that conflicted with another, the clock of stored
messages.
Elsewhere: which operations make a batch and the answers to its callers (store.group_commit).
Fails: a batch that cannot be stored comes back with `error`; the thread goes on with the next one.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable

from chatd.errors import Unavailable
from chatd.store.batch import Batch, BatchState
from chatd.store.contract import Again, SendingRules, Tables

ATTEMPTS = 8
"""Attempts at a transaction that conflicts each time, with random pauses of up to _PAUSE_S, twice that, and so on."""
_PAUSE_S = 0.002


class Committer:
    """run_reads: whether the reads of a batch run here, after its commit. on_returned: called in this thread with each
    batch that it is done with. rules: those in force, asked in this thread before each batch."""

    def __init__(
        self,
        tables: Tables,
        run_reads: bool,
        on_returned: Callable[[Batch], None],
        rules: Callable[[], SendingRules],
    ) -> None:
        self._tables = tables
        self._rules = rules
        self._run_reads = run_reads
        self._on_returned = on_returned
        self._last_ms = 0
        """No message is stored with an earlier time than the one before it, whatever the system clock does."""
        self._submitted: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="store", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        """From the loop. The next batch is submitted when this one has returned."""
        self._submitted.put(batch)

    def close(self) -> None:
        """Let the thread close its connection and end. Does not wait for it."""
        self._submitted.put(None)

    def join(self, limit_s: float) -> None:
        self._thread.join(limit_s)

    # ---------------------------------------------------------------- in the thread

    def _serve(self) -> None:
        while (batch := self._submitted.get()) is not None:
            begun = time.monotonic()
            try:
                self._run(batch)
            except Exception as error:  # noqa: BLE001  passed to every caller and logged by store.group_commit
                batch.error = error
            batch.seconds = time.monotonic() - begun
            self._on_returned(batch)
        self._tables.close()

    def _run(self, batch: Batch) -> None:
        if batch.has_changes:
            self._commit(batch)
        if self._run_reads and batch.state is not BatchState.CANCELLED:
            for call in batch.reads:
                call.run_read(self._tables)

    def _commit(self, batch: Batch) -> None:
        """Run the transaction, and repeat it silently when it conflicts with another: a limited number of times, and
        only while its callers still wait."""
        for attempt in range(ATTEMPTS):
            try:
                self._run_transaction(batch)
                return
            except Again:
                self._tables.rollback()
            if batch.state is BatchState.OVERDUE:
                break
            time.sleep(random.uniform(0, _PAUSE_S * 2**attempt))
        raise Unavailable("conflicted with other transactions too often")

    def _run_transaction(self, batch: Batch) -> None:
        tables = self._tables
        tables.begin()
        try:
            if batch.move(BatchState.COMMITTING) is BatchState.CANCELLED:
                tables.rollback()
                return
            now_ms = self._last_ms = max(self._last_ms, time.time_ns() // 1_000_000)
            if batch.drafts:
                batch.results = tables.append(batch.drafts, now_ms, self._rules())
            if batch.advances:
                tables.advance(batch.advances)
            if batch.seen:
                tables.update_last_seen(batch.seen)
            for call in batch.writes:
                call.run_write(tables)
        except BaseException:
            tables.rollback()
            raise
        tables.commit()
