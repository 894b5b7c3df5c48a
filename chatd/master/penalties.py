"""Showing and clearing penalties, as an operator asks.

Owns: the list, read from the table that the workers share; the order to clear, given to one worker, and its answer.
Elsewhere: the table (penalty_table), what is cleared (core.penalty_clearing).
Fails: with one line; then nothing was cleared, or (a worker that does not answer) it may be cleared later.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from chatd import security_log
from chatd.config.schema import Config
from chatd.core.penalties import standing
from chatd.errors import Exit
from chatd.master.requests import ClearPenaltiesReply as Cleared
from chatd.master.requests import ClearPenaltiesRequest, PenaltiesReply, PenaltiesRequest, PenaltyRow, Respond, failed
from chatd.master.workers import Slot, WorkerPool
from chatd.orders import Answer, ClearPenaltiesOrder, PenaltiesCleared, PenaltiesNotCleared
from chatd.penalty_table import PenaltyTable, now_ms
from chatd.security_log import SecurityEvent

ANSWER_S = 5.0
MAX_ROWS = 10_000
"""Maximum records in one list: those with the longest penalties and the most offences."""


def rows(table: PenaltyTable, config: Config) -> list[PenaltyRow]:
    """The records that are not forgiven, the worst first. Cost: milliseconds, and some microseconds a record."""
    at_ms, wall_ms = now_ms(), time.time_ns() // 1_000_000
    found = []
    for listed in table.all():
        now = standing(listed.record, config.penalties, at_ms)
        if now.offences or now.remaining_s:
            row = PenaltyRow(
                kind=listed.kind.name.lower(),
                subject=listed.subject,
                offences=round(now.offences, 2),
                remaining_s=round(now.remaining_s, 1),
                since_ms=wall_ms - (at_ms - listed.record.since_ms),
            )
            found.append(row)
    found.sort(key=lambda row: (-row.remaining_s, -row.offences, row.subject))
    return found


@dataclass(slots=True)
class _Pending:
    """One order that its worker has not answered. pid: the worker's."""

    word: str
    pid: int
    deadline: float
    respond: Respond


class PenaltyDesk:
    """take_answer() and check() are called by the master's loop."""

    def __init__(self, pool: WorkerPool, table: PenaltyTable) -> None:
        self._pool = pool
        self._table = table
        self._refs = itertools.count(1)
        self._pending: dict[int, _Pending] = {}

    def show(self, _request: PenaltiesRequest, respond: Respond) -> None:
        found = rows(self._table, self._pool.config)
        respond(PenaltiesReply(penalties=found[:MAX_ROWS], left_out=max(0, len(found) - MAX_ROWS)))

    def clear(self, request: ClearPenaltiesRequest, respond: Respond) -> None:
        """Reply with a ClearPenaltiesReply, or with a failure, within ANSWER_S. One worker clears for the whole host,
        and tells the other hosts."""
        if bool(request.subject) is request.everything:
            respond(failed(Exit.USAGE, "name one source or user, or give --all"))
            return
        ref = next(self._refs)
        order = ClearPenaltiesOrder(ref=ref, subject=request.subject)
        for slot in self._pool.present():
            if slot.worker is not None and slot.worker.ready_at and self._pool.order(slot, order):
                deadline = time.monotonic() + ANSWER_S
                self._pending[ref] = _Pending(request.subject, slot.worker.child.pid, deadline, respond)
                return
        respond(failed(Exit.TRY_AGAIN, "no worker takes orders"))

    def take_answer(self, _slot: Slot, answer: Answer) -> None:
        """Take an answer of any worker to any order; those that are not to a clearing are ignored."""
        if not isinstance(answer, PenaltiesCleared | PenaltiesNotCleared):
            return
        pending = self._pending.pop(answer.ref, None)
        if pending is None:
            return
        if isinstance(answer, PenaltiesNotCleared):
            pending.respond(failed(Exit.UNAVAILABLE, answer.why))
            return
        security_log.record(
            SecurityEvent.PENALTIES_CLEARED, subject=pending.word or "all penalties", records=answer.records
        )
        pending.respond(Cleared(records=answer.records))

    def check(self) -> None:
        """Once per turn of the loop: reply where the worker has died, or the time is over."""
        alive = {slot.worker.child.pid for slot in self._pool.present() if slot.worker}
        now = time.monotonic()
        for ref, pending in list(self._pending.items()):
            if pending.pid not in alive or now > pending.deadline:
                del self._pending[ref]
                pending.respond(failed(Exit.TRY_AGAIN, f"no answer from the worker within {ANSWER_S:g} s"))
