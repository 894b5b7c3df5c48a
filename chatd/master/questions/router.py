"""All questions of operators, as the master's loop sees them.

Owns: the parts that answer them, and which request goes to which.
Elsewhere: each part (its own module), the master's other requests (master.master).
Fails: never by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chatd.master.questions.asking import WorkerQuestions
from chatd.master.questions.bans import BanRequests
from chatd.master.questions.broadcast import BroadcastRequests
from chatd.master.questions.clients import ClientLists
from chatd.master.questions.kick import Kicks
from chatd.master.questions.log_levels import LogLevels
from chatd.master.questions.penalties import PenaltyRequests
from chatd.master.questions.sessions import SessionLists
from chatd.master.questions.tracing import Traces
from chatd.master.replies import Respond
from chatd.master.requests import (
    ApplyBansRequest,
    BroadcastRequest,
    ClearPenaltiesRequest,
    ClientsRequest,
    ControlRequest,
    KickRequest,
    ListTracesRequest,
    LogLevelRequest,
    LogLevelsRequest,
    PenaltiesRequest,
    SessionsRequest,
    TraceRequest,
)
from chatd.master.worker_slot import Slot
from chatd.master.workers import WorkerPool
from chatd.orders import Answer, Trouble
from chatd.penalty_table import PenaltyTable


class QuestionRouter:
    """take_answer() and check() are called by the master's loop. traces, kicks: have a state for a later program."""

    def __init__(self, pool: WorkerPool, penalty_table: PenaltyTable) -> None:
        questions = self._questions = WorkerQuestions(pool)
        self._penalties = PenaltyRequests(pool, penalty_table, questions)
        self._sessions = SessionLists(questions)
        self._clients = ClientLists(pool, questions)
        self.traces = Traces(pool, questions)
        self._log_levels = LogLevels(pool)
        self._broadcasts = BroadcastRequests(questions)
        self._bans = BanRequests(questions)
        self.kicks = Kicks(pool, questions)

    def handlers(self) -> dict[type[ControlRequest], Callable[[Any, Respond], None]]:
        return {
            PenaltiesRequest: self._penalties.show,
            ClearPenaltiesRequest: self._penalties.clear,
            SessionsRequest: self._sessions.begin,
            ClientsRequest: self._clients.begin,
            TraceRequest: self.traces.begin,
            ListTracesRequest: self.traces.show,
            LogLevelRequest: self._log_levels.set,
            LogLevelsRequest: self._log_levels.show,
            BroadcastRequest: self._broadcasts.begin,
            ApplyBansRequest: self._bans.apply,
            KickRequest: self.kicks.begin,
        }

    def take_answer(self, slot: Slot, answer: Answer) -> None:
        """Take an answer of any worker to any order, and what it says unasked; the others' are ignored."""
        if isinstance(answer, Trouble) and slot.worker is not None:
            slot.worker.troubles[answer.part] = answer.why
        self._questions.take_answer(slot, answer)

    def check(self) -> None:
        """Once per turn of the loop."""
        self._questions.check()
        self.kicks.check()
        self.traces.check()
