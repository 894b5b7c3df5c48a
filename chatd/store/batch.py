"""A batch of group commit: the operations stored in one transaction, and which side may touch it when.

Owns: Batch, its states and the transitions between them; Call, one read or write and the future of its caller.
Elsewhere: the queue of batches and all answers (store.group_commit), running a batch (store.committer), reads that
run beside the commits (store.readers).
Fails: nothing here raises. A transition that is not in the table is not made; move() returns the state.

A batch belongs to one side at a time. The event loop fills it (WAITING), hands it to the store thread (SUBMITTED,
COMMITTING, OVERDUE, CANCELLED) and gets it back when that thread is done with it (DONE). While the store thread has it,
only that thread writes `results`, `error` and `seconds`; nobody changes the lists of operations; the loop may read
them, and it settles futures, which are always the loop's. The state itself is the one thing both sides change, under
a lock: the store thread begins the transaction, or the loop cancels it, whichever comes first.
"""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Callable
from typing import Any

from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import UserId
from chatd.store.contract import Advance, Draft, Stored, Tables

Results = list[Stored | ErrorCode]


class BatchState(enum.IntEnum):
    """WAITING: in the queue; the last one of the queue takes further operations.

    SUBMITTED: the store thread has it, and may be waiting for the store's write lock.
    COMMITTING: its transaction has begun; its outcome is known when that ends.
    OVERDUE: as COMMITTING, but it took too long and its callers have been refused. If it is committed after all, the
    senders of its messages are answered again.
    CANCELLED: it took too long before its transaction began; its callers have been refused and nothing is stored.
    DONE: the store thread has returned it.

    The order of the numbers means nothing. An IntEnum is hashed without a call of Python code, and a lone message pays
    for all transitions of its batch.
    """

    WAITING = enum.auto()
    SUBMITTED = enum.auto()
    COMMITTING = enum.auto()
    OVERDUE = enum.auto()
    CANCELLED = enum.auto()
    DONE = enum.auto()


TRANSITIONS: dict[BatchState, tuple[BatchState, ...]] = {
    BatchState.WAITING: (BatchState.SUBMITTED, BatchState.CANCELLED),
    BatchState.SUBMITTED: (BatchState.COMMITTING, BatchState.CANCELLED, BatchState.DONE),
    BatchState.COMMITTING: (BatchState.OVERDUE, BatchState.DONE),
    BatchState.OVERDUE: (BatchState.DONE,),
    BatchState.CANCELLED: (BatchState.DONE,),
    BatchState.DONE: (),
}
"""The loop makes SUBMITTED, OVERDUE, CANCELLED and DONE; the store thread makes COMMITTING. SUBMITTED to DONE: a batch
that only reads, or whose transaction could not begin."""


class Call:
    """One read or write and the future of its caller. `value` and `error` belong to the thread that runs it."""

    __slots__ = ("error", "future", "value", "work")

    def __init__(self, work: Callable[[Tables], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.value: Any = None
        self.error: BaseException | None = None

    def run_write(self, tables: Tables) -> None:
        """A refusal goes only to the caller; any other exception is raised and fails the transaction."""
        self.error = None
        try:
            self.value = self.work(tables)
        except Refused as refused:
            self.error = refused

    def run_read(self, tables: Tables) -> None:
        """An exception goes only to the caller: what was committed stays committed."""
        try:
            self.run_write(tables)
        except Exception as error:  # noqa: BLE001  passed to the caller
            self.error = Unavailable(f"read failed: {error}")

    def answer(self) -> None:
        """On the loop, after it has run."""
        if self.future.done():  # refused, or its caller has gone
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)

    def refuse(self) -> None:
        """On the loop, whether or not it runs."""
        if not self.future.done():
            self.future.set_exception(Unavailable("the store does not answer"))


class Batch:
    """Operations that share a transaction. They run in the order: drafts, cursors, last-seen times, writes, commit,
    reads. Callers cannot distinguish this from the order in which they asked, because none was answered in between.

    since: when its first operation was asked for, by the loop's clock; 0 = it has none.
    origins: what on_results is given back with each draft.
    results: one per draft. error: why nothing of it is stored. seconds: the time that the store thread needed.
    """

    __slots__ = (
        "_lock", "advances", "drafts", "error", "origins", "reads", "results", "seconds", "seen", "since", "state",
        "writes",
    )  # fmt: skip

    def __init__(self, since: float = 0.0) -> None:
        self.since = since
        self.state = BatchState.WAITING
        self._lock = threading.Lock()
        self.drafts: list[Draft] = []
        self.origins: list[Any] = []
        self.advances: list[Advance] = []
        self.seen: list[tuple[UserId, int]] = []
        self.writes: list[Call] = []
        self.reads: list[Call] = []
        self.results: Results = []
        self.error: Exception | None = None
        self.seconds = 0.0

    @property
    def has_changes(self) -> bool:
        """Whether it needs a transaction."""
        return bool(self.drafts or self.advances or self.seen or self.writes)

    def move(self, *targets: BatchState) -> BatchState:
        """To the first of `targets` that can follow the present state, if any. Returns the state it is in then."""
        with self._lock:
            possible = TRANSITIONS[self.state]
            for target in targets:
                if target in possible:
                    self.state = target
                    break
            return self.state
