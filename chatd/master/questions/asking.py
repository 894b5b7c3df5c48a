"""Asking workers, as an operator's request needs it: one of them, or every one.

Owns: the number of each question, sending the order, which workers are waited for and for how long, and their answers.
Elsewhere: what is asked and how the reply looks (the other modules of master.questions), questions of one worker to
those of other hosts (bus.survey).
Fails: never; the result names the workers that have died or have not answered. Those may still carry out the order.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from chatd.errors import Exit
from chatd.master.replies import ControlReply, Respond, failed
from chatd.master.worker_slot import Slot
from chatd.master.workers import WorkerPool
from chatd.orders import Answer, Order, QuestionAnswer

ANSWER_S = 5.0
"""How long to wait, unless the question says otherwise: longer than a worker waits for others before it answers
(core.sessions.query.OPERATOR_ANSWER_S, core.sessions.kick.ANSWER_S)."""


class Answers(NamedTuple):
    """asked: slots of the workers that were sent the order. silent: of those that take no orders, or did not answer in
    time. died: of those that ended before they answered."""

    answers: list[Any]
    asked: list[int]
    silent: list[int]
    died: list[int]


@dataclass(slots=True, kw_only=True)
class _Pending:
    """A question that some workers have not answered. waiting: their slots, by process id."""

    deadline: float
    take: Callable[[Answers], None]
    waiting: dict[int, int] = field(default_factory=dict)
    found: Answers = field(default_factory=lambda: Answers([], [], [], []))


class WorkerQuestions:
    """take_answer() and check() are called by the master's loop."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._pending: dict[int, _Pending] = {}
        self._refs = itertools.count(time.monotonic_ns())
        """Answers to an earlier program of this process, which counted from an earlier time, are not taken for
        ours."""

    def ask(
        self,
        order: Callable[[int], Order],
        reply: Callable[[Any], ControlReply],
        respond: Respond,
        limit_s: float | None = None,
    ) -> None:
        """Have one worker answer for the whole host. Responds with a reply, or with a failure, within limit_s (None:
        ANSWER_S). order: makes the order with this ref. reply: makes the reply of the worker's answer."""
        limit_s = ANSWER_S if limit_s is None else limit_s

        def take(found: Answers) -> None:
            respond(reply(found.answers[0]) if found.answers else failed(Exit.TRY_AGAIN, _why(found, limit_s)))

        self.ask_one(order, take, limit_s)

    def ask_one(self, order: Callable[[int], Order], take: Callable[[Answers], None], limit_s: float) -> None:
        """As ask_every(), but only the first ready worker that takes orders is asked. asked is empty if there is
        none."""
        self._ask(order, take, limit_s, self._pool.ready(), every=False)

    def ask_every(
        self, order: Callable[[int], Order], take: Callable[[Answers], None], limit_s: float | None = None
    ) -> None:
        """Ask every worker that has clients, also those that are leaving. take: called once, within limit_s (None:
        ANSWER_S), perhaps before this returns."""
        serving = [slot for slot in self._pool.present() if slot.worker is not None and slot.worker.ready_at]
        self._ask(order, take, ANSWER_S if limit_s is None else limit_s, serving, every=True)

    def _ask(
        self,
        order: Callable[[int], Order],
        take: Callable[[Answers], None],
        limit_s: float,
        slots: Iterable[Slot],
        *,
        every: bool,
    ) -> None:
        ref = next(self._refs)
        pending = self._pending[ref] = _Pending(deadline=time.monotonic() + limit_s, take=take)
        made = order(ref)
        for slot in slots:
            if slot.worker is None:
                continue
            if self._pool.order(slot, made):
                pending.waiting[slot.worker.child.pid] = slot.index
                pending.found.asked.append(slot.index)
                if not every:
                    break
            elif every:
                pending.found.silent.append(slot.index)
        self.check()

    def take_answer(self, slot: Slot, answer: Answer) -> None:
        """Take an answer of any worker to any order; those that are not to a question that is open are ignored."""
        if not isinstance(answer, QuestionAnswer) or slot.worker is None:
            return
        pending = self._pending.get(answer.ref)
        if pending is not None and pending.waiting.pop(slot.worker.child.pid, None) is not None:
            pending.found.answers.append(answer)
            self.check()

    def check(self) -> None:
        """Once per turn of the loop: finish what every living worker has answered, and what has taken too long."""
        if not self._pending:
            return
        alive = {slot.worker.child.pid for slot in self._pool.present() if slot.worker}
        now = time.monotonic()
        for ref, pending in list(self._pending.items()):
            for pid in pending.waiting.keys() - alive:
                pending.found.died.append(pending.waiting.pop(pid))
            if not pending.waiting or now > pending.deadline:
                del self._pending[ref]
                pending.found.silent.extend(pending.waiting.values())
                pending.take(pending.found)


def listed(slots: Iterable[int]) -> str:
    """For people: "worker 0, 2"."""
    return f"worker {', '.join(map(str, sorted(slots)))}"


def _why(found: Answers, limit_s: float) -> str:
    """There is no answer of the one worker that was asked."""
    if found.died:
        return f"{listed(found.died)} died before it answered"
    return f"no answer within {limit_s:g} s from {listed(found.silent)}" if found.asked else "no worker is ready"
