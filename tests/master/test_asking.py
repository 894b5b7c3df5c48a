"""Questions to workers: to one, or to every one; and what is known when some do not answer."""

from __future__ import annotations

import pytest

from chatd.errors import Exit
from chatd.master.questions import asking
from chatd.master.questions.asking import Answers, WorkerQuestions
from chatd.master.replies import ControlReply
from chatd.orders import ClientsOrder, KickDone, PenaltiesCleared, SessionsDone, SessionsOrder, WorkerReady
from tests.master.fake_pool import Pool, worker


class Asked:
    def __init__(self, pool: Pool) -> None:
        self.questions = WorkerQuestions(pool)  # type: ignore[arg-type]
        self.replies: list[ControlReply] = []
        self.found: list[Answers] = []

    def ask(self) -> None:
        self.questions.ask(lambda ref: SessionsOrder(ref=ref, user_id=1), lambda answer: answer, self.replies.append)

    def ask_every(self) -> None:
        self.questions.ask_every(lambda ref: SessionsOrder(ref=ref, user_id=1), self.found.append)


def test_the_answer_to_a_question_is_its_reply() -> None:
    pool = Pool()
    pool.busy = {0}
    asked = Asked(pool)
    asked.ask()
    ((index, order),) = pool.taken
    answer = SessionsDone(ref=order.ref, sessions=(), complete=True)
    asked.questions.take_answer(pool.slots[0], answer)
    asked.questions.take_answer(pool.slots[1], PenaltiesCleared(order.ref + 1, 0))
    asked.questions.take_answer(pool.slots[1], WorkerReady())
    assert asked.replies == [], "answers to other orders, or of other workers"
    asked.questions.take_answer(pool.slots[1], answer)
    asked.questions.take_answer(pool.slots[1], answer)
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
    monkeypatch.setattr(asking, "ANSWER_S", -1.0)
    asked = Asked(Pool())
    asked.ask()
    assert "from worker 0" in str(asked.replies[0].error)
    asked.ask_every()
    assert asked.found == [Answers([], [0, 1], [0, 1], [])]


def test_every_worker_is_asked_and_the_result_says_who_did_not_answer() -> None:
    """Also one that is leaving; not one that is starting, which has no clients."""
    pool = Pool()
    pool.busy = {2}
    pool.slots += [worker(2), worker(3)]
    pool.slots[3].worker.ready_at = 0.0
    asked = Asked(pool)
    asked.ask_every()
    assert [index for index, _ in pool.taken] == [0, 1]
    answer = KickDone(ref=pool.taken[0][1].ref, sessions=1, known=True)
    asked.questions.take_answer(pool.slots[1], answer)
    asked.questions.take_answer(pool.slots[1], answer)
    assert asked.found == []
    pool.replace(0)
    asked.questions.check()
    assert asked.found == [Answers([answer], [0, 1], [2], [0])]


def test_answers_to_an_earlier_program_are_not_taken() -> None:
    pool = Pool()
    before, after = Asked(pool), Asked(pool)
    before.ask()
    after.questions.ask(lambda ref: ClientsOrder(ref=ref, query=None), lambda answer: answer, after.replies.append)  # type: ignore[arg-type]
    (_, earlier), (_, later) = pool.taken
    assert later.ref != earlier.ref
    after.questions.take_answer(pool.slots[0], SessionsDone(ref=earlier.ref, sessions=(), complete=True))
    assert after.replies == []
