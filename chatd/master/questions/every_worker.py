"""A question to every worker of the host, and its answers.

Owns: sending the order, collecting the answers, and how long to wait for them.
Elsewhere: what is asked, and the reply that is made of the answers (master.questions.clients).
Fails: never; the result names the workers that have not answered.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from chatd.master.worker_slot import Slot
from chatd.master.workers import WorkerPool
from chatd.orders import Answer, ClientsDone, Order

ANSWER_S = 3.0
"""How long to wait: a worker that serves clients answers within milliseconds."""


class Answers(NamedTuple):
    """silent: slots of workers that did not answer."""

    answers: list[Any]
    silent: list[int]


@dataclass(slots=True)
class _Pending:
    deadline: float
    take: Callable[[Answers], None]
    waiting: dict[int, int] = field(default_factory=dict)
    """By process id, the slots of workers that have not answered."""
    answers: list[Any] = field(default_factory=list)
    silent: list[int] = field(default_factory=list)


class EveryWorker:
    """take_answer() and check() are called by the master's loop."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._pending: dict[int, _Pending] = {}
        self._refs = itertools.count(1)

    def ask(self, order: Callable[[int], Order], take: Callable[[Answers], None]) -> None:
        """order: makes the order with this ref. take: called once, within ANSWER_S, perhaps before this returns."""
        ref = next(self._refs)
        pending = self._pending[ref] = _Pending(time.monotonic() + ANSWER_S, take)
        made = order(ref)
        for slot in self._pool.ready():
            if slot.worker is None:
                continue
            if self._pool.order(slot, made):
                pending.waiting[slot.worker.child.pid] = slot.index
            else:
                pending.silent.append(slot.index)
        self.check()

    def take_answer(self, slot: Slot, answer: Answer) -> None:
        """Take an answer of any worker to any order; those that are not to such a question are ignored."""
        if not isinstance(answer, ClientsDone) or slot.worker is None:
            return
        pending = self._pending.get(answer.ref)
        if pending is not None and pending.waiting.pop(slot.worker.child.pid, None) is not None:
            pending.answers.append(answer)
            self.check()

    def check(self) -> None:
        """Once per turn of the loop: finish what every living worker has answered, and what has taken too long."""
        if not self._pending:
            return
        alive = {slot.worker.child.pid for slot in self._pool.present() if slot.worker}
        now = time.monotonic()
        for ref, pending in list(self._pending.items()):
            pending.waiting = {pid: slot for pid, slot in pending.waiting.items() if pid in alive}
            if not pending.waiting or now > pending.deadline:
                del self._pending[ref]
                pending.take(Answers(pending.answers, sorted([*pending.silent, *pending.waiting.values()])))
