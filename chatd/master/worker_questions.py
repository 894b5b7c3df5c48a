"""Questions of an operator that one worker answers for the whole host.

Owns: choosing the worker, the order to it, and waiting for its answer.
Elsewhere: what is asked and how the reply looks (master.session_lists, master.penalties, master.broadcast, master.bans,
master.questions), orders to all workers (master.kick, master.questions.every_worker).
Fails: with one line, if no worker can be asked, or the one that was asked dies or does not answer. It may still carry
out the order then.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from chatd.errors import Exit
from chatd.master.replies import ControlReply, Respond, failed
from chatd.master.workers import WorkerPool
from chatd.orders import (
    Answer,
    BansApplied,
    BroadcastDone,
    ClientsDone,
    Order,
    OrderFailed,
    PenaltiesCleared,
    PenaltiesNotCleared,
    SessionsDone,
    UserFound,
)

FIRST_REF = 1 << 32
"""Other questions (master.questions.every_worker) count from 1, and some have the same kind of answer."""
ANSWER_S = 5.0
"""Longer than a worker takes (core.sessions.query.OPERATOR_ANSWER_S)."""


_ANSWERS = (
    SessionsDone,
    PenaltiesCleared,
    PenaltiesNotCleared,
    BroadcastDone,
    BansApplied,
    OrderFailed,
    ClientsDone,
    UserFound,
)
"""Those to questions."""


class _Pending(NamedTuple):
    """One question that its worker has not answered. pid, slot: the worker's."""

    pid: int
    slot: int
    deadline: float
    limit_s: float
    reply: Callable[[Any], ControlReply]
    respond: Respond


class WorkerQuestions:
    """take_answer() and check() are called by the master's loop."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._pending: dict[int, _Pending] = {}
        self._refs = itertools.count(FIRST_REF)

    def ask(
        self,
        order: Callable[[int], Order],
        reply: Callable[[Any], ControlReply],
        respond: Respond,
        limit_s: float | None = None,
    ) -> None:
        """Respond with a reply, or with a failure, within limit_s (None: ANSWER_S). order: makes the order with this
        ref. reply: makes the reply of the worker's answer."""
        limit_s = ANSWER_S if limit_s is None else limit_s
        ref = next(self._refs)
        made = order(ref)
        for slot in self._pool.ready():
            if slot.worker is not None and self._pool.order(slot, made):
                deadline = time.monotonic() + limit_s
                pid = slot.worker.child.pid
                self._pending[ref] = _Pending(pid, slot.index, deadline, limit_s, reply, respond)
                return
        respond(failed(Exit.TRY_AGAIN, "no worker is ready"))

    def take_answer(self, answer: Answer) -> None:
        """Take an answer of any worker to any order; those that are not to a question are ignored."""
        if not isinstance(answer, _ANSWERS):
            return
        pending = self._pending.pop(answer.ref, None)
        if pending is not None:
            pending.respond(pending.reply(answer))

    def check(self) -> None:
        """Once per turn of the loop: reply where the worker has died, or the time is over."""
        if not self._pending:
            return
        alive = {slot.worker.child.pid for slot in self._pool.present() if slot.worker}
        now = time.monotonic()
        for ref, pending in list(self._pending.items()):
            if pending.pid not in alive or now > pending.deadline:
                del self._pending[ref]
                why = f"no answer within {pending.limit_s:g} s from worker {pending.slot}"
                if pending.pid not in alive:
                    why = f"worker {pending.slot} died before it answered"
                pending.respond(failed(Exit.TRY_AGAIN, why))
