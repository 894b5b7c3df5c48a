"""All questions of operators, as the master's loop sees them.

Owns: the parts that answer them, and which request goes to which.
Elsewhere: each part (its own module), the master's other requests (master.master).
Fails: never by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chatd.master.bans import BanDesk
from chatd.master.broadcast import BroadcastDesk
from chatd.master.penalties import PenaltyDesk
from chatd.master.questions.clients import ClientLists
from chatd.master.questions.every_worker import EveryWorker
from chatd.master.questions.log_levels import LogLevels
from chatd.master.questions.tracing import TraceDesk
from chatd.master.replies import Respond
from chatd.master.requests import (
    ApplyBansRequest,
    BroadcastRequest,
    ClearPenaltiesRequest,
    ClientsRequest,
    ControlRequest,
    ListTracesRequest,
    LogLevelRequest,
    LogLevelsRequest,
    PenaltiesRequest,
    SessionsRequest,
    TraceRequest,
)
from chatd.master.session_lists import SessionLists
from chatd.master.worker_questions import WorkerQuestions
from chatd.master.worker_slot import Slot
from chatd.master.workers import WorkerPool
from chatd.orders import Answer, Trouble
from chatd.penalty_table import PenaltyTable


class QuestionDesk:
    """take_answer() and check() are called by the master's loop. traces: to be handed to a later program."""

    def __init__(self, pool: WorkerPool, penalty_table: PenaltyTable) -> None:
        self._one_worker = WorkerQuestions(pool)
        self._every_worker = EveryWorker(pool)
        self._penalties = PenaltyDesk(pool, penalty_table, self._one_worker)
        self._sessions = SessionLists(self._one_worker)
        self._clients = ClientLists(pool, self._every_worker, self._one_worker)
        self.traces = TraceDesk(pool, self._one_worker)
        self._log_levels = LogLevels(pool)
        self._broadcasts = BroadcastDesk(self._one_worker)
        self._bans = BanDesk(self._one_worker)

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
        }

    def take_answer(self, slot: Slot, answer: Answer) -> None:
        """Take an answer of any worker to any order, and what it says unasked; the others' are ignored."""
        if isinstance(answer, Trouble) and slot.worker is not None:
            slot.worker.troubles[answer.part] = answer.why
        self._one_worker.take_answer(answer)
        self._every_worker.take_answer(slot, answer)

    def check(self) -> None:
        """Once per turn of the loop."""
        self._one_worker.check()
        self._every_worker.check()
        self.traces.check()
