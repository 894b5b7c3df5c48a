"""Questions that one worker answers: the reply, and what the operator is told when there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from chatd.errors import Exit
from chatd.master import worker_questions
from chatd.master.replies import ControlReply
from chatd.master.worker_questions import WorkerQuestions
from chatd.orders import KickDone, PenaltiesCleared, SessionsDone, SessionsOrder


class Pool:
    """Workers 0 and 1. taken: the orders, with the worker that took each. busy: workers that take none."""

    def __init__(self) -> None:
        self.slots = [
            SimpleNamespace(index=index, worker=SimpleNamespace(child=SimpleNamespace(pid=100 + index)))
            for index in range(2)
        ]
        self.taken: list[tuple[int, Any]] = []
        self.busy: set[int] = set()

    def ready(self) -> list[Any]:
        return self.slots

    present = ready

    def order(self, slot: Any, order: Any) -> bool:
        if slot.index not in self.busy:
            self.taken.append((slot.index, order))
        return slot.index not in self.busy


class Asked:
    def __init__(self, pool: Pool) -> None:
        self.questions = WorkerQuestions(pool)  # type: ignore[arg-type]
        self.replies: list[ControlReply] = []

    def ask(self) -> None:
        self.questions.ask(lambda ref: SessionsOrder(ref=ref, user_id=1), lambda answer: answer, self.replies.append)


def test_the_answer_to_a_question_is_its_reply() -> None:
    pool = Pool()
    pool.busy = {0}
    asked = Asked(pool)
    asked.ask()
    ((index, order),) = pool.taken
    answer = SessionsDone(ref=order.ref, sessions=(), complete=True)
    asked.questions.take_answer(KickDone(ref=order.ref, sessions=1, known=True))
    asked.questions.take_answer(PenaltiesCleared(order.ref + 1, 0))
    assert asked.replies == [], "answers to other orders"
    asked.questions.take_answer(answer)
    asked.questions.take_answer(answer)
    assert (index, asked.replies) == (1, [answer])


def test_a_question_that_no_worker_takes_fails_at_once() -> None:
    pool = Pool()
    pool.busy = {0, 1}
    asked = Asked(pool)
    asked.ask()
    (reply,) = asked.replies
    assert (reply.exit, reply.error) == (Exit.TRY_AGAIN, "no worker is ready")


def test_the_death_of_the_worker_that_was_asked_is_told_at_once() -> None:
    pool = Pool()
    asked = Asked(pool)
    asked.ask()
    asked.questions.check()
    assert asked.replies == []
    pool.slots = pool.slots[1:]
    asked.questions.check()
    (reply,) = asked.replies
    assert (reply.exit, reply.error) == (Exit.TRY_AGAIN, "worker 0 died before it answered")


def test_a_worker_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_questions, "ANSWER_S", -1.0)
    asked = Asked(Pool())
    asked.ask()
    asked.questions.check()
    assert "from worker 0" in asked.replies[0].error
