"""Showing and clearing penalties, as an operator asks.

Owns: the list, read from the table that the workers share; the order to clear, and the reply.
Elsewhere: the table (penalty_table), asking a worker (master.questions.asking), clearing (core.penalty_clearing).
Fails: with one line; then nothing was cleared, or (a worker that does not answer) it may be cleared later.
"""

from __future__ import annotations

from chatd import security_log, wall_clock
from chatd.config.schema import Config
from chatd.core.penalties import standing
from chatd.errors import Exit
from chatd.master.questions.asking import WorkerQuestions
from chatd.master.replies import ClearPenaltiesReply as Cleared
from chatd.master.replies import ControlReply, PenaltiesReply, PenaltyRow, Respond, failed
from chatd.master.requests import ClearPenaltiesRequest, PenaltiesRequest
from chatd.master.workers import WorkerPool
from chatd.orders import ClearPenaltiesOrder, OrderFailed, PenaltiesCleared
from chatd.penalty_table import PenaltyTable, now_ms
from chatd.security_log import SecurityEvent

MAX_ROWS = 10_000
"""Maximum records in one list: those with the longest penalties and the most offences."""


def rows(table: PenaltyTable, config: Config) -> list[PenaltyRow]:
    """The records that are not forgiven, the worst first. Cost: milliseconds, and some microseconds a record."""
    at_ms, wall_ms = now_ms(), wall_clock.now_ms()
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


class PenaltyRequests:
    def __init__(self, pool: WorkerPool, table: PenaltyTable, questions: WorkerQuestions) -> None:
        self._pool = pool
        self._table = table
        self._questions = questions

    def show(self, _request: PenaltiesRequest, respond: Respond) -> None:
        found = rows(self._table, self._pool.config)
        respond(PenaltiesReply(penalties=found[:MAX_ROWS], left_out=max(0, len(found) - MAX_ROWS)))

    def clear(self, request: ClearPenaltiesRequest, respond: Respond) -> None:
        """Reply with a ClearPenaltiesReply, or with a failure. One worker clears for the whole host, and tells the
        other hosts."""
        if bool(request.subject) is request.everything:
            respond(failed(Exit.USAGE, "name one source or user, or give --all"))
            return

        def reply(answer: PenaltiesCleared | OrderFailed) -> ControlReply:
            if isinstance(answer, OrderFailed):
                return failed(Exit.UNAVAILABLE, answer.why)
            subject = request.subject or "all penalties"
            security_log.record(SecurityEvent.PENALTIES_CLEARED, subject=subject, records=answer.records)
            return Cleared(records=answer.records)

        self._questions.ask(lambda ref: ClearPenaltiesOrder(ref=ref, subject=request.subject), reply, respond)
