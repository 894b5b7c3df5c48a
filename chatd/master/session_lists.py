"""Listing a user's sessions on every worker and host, as an operator asks.

Owns: the order to one worker, which asks all others, and waiting for its answer.
Elsewhere: finding the sessions (core.sessions.query).
Fails: with one line, if no worker can be asked or the one that was asked does not answer.
"""

from __future__ import annotations

import itertools
import time
from typing import NamedTuple

from chatd.errors import Exit
from chatd.master.requests import Respond, SessionsReply, SessionsRequest, failed
from chatd.master.workers import WorkerPool
from chatd.orders import Answer, SessionsDone, SessionsOrder

ANSWER_S = 5.0
"""Longer than a worker takes (core.sessions.query.OPERATOR_ANSWER_S)."""


class _Pending(NamedTuple):
    slot: int
    """The worker that was asked."""
    deadline: float
    respond: Respond


class PendingSessionLists:
    """take_answer() and check() are called by the master's loop."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._pending: dict[int, _Pending] = {}
        self._refs = itertools.count(1)

    def begin(self, request: SessionsRequest, respond: Respond) -> None:
        """Reply with a SessionsReply, or with a failure, within ANSWER_S."""
        ref = next(self._refs)
        order = SessionsOrder(ref=ref, user_id=request.user_id)
        for slot in self._pool.ready():
            if self._pool.order(slot, order):
                self._pending[ref] = _Pending(slot.index, time.monotonic() + ANSWER_S, respond)
                return
        respond(failed(Exit.TRY_AGAIN, "no worker is ready"))

    def take_answer(self, answer: Answer) -> None:
        """Take an answer of any worker to any order; those that are not to this one are ignored."""
        if not isinstance(answer, SessionsDone):
            return
        pending = self._pending.pop(answer.ref, None)
        if pending is not None:
            pending.respond(SessionsReply(sessions=answer.sessions, complete=answer.complete))

    def check(self) -> None:
        """Once per turn of the loop."""
        now = time.monotonic()
        for ref, pending in list(self._pending.items()):
            if now > pending.deadline:
                del self._pending[ref]
                pending.respond(failed(Exit.TRY_AGAIN, f"no answer within {ANSWER_S:g} s from worker {pending.slot}"))
