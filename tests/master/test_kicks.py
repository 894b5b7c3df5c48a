"""Kicks that some host has not answered: who repeats them, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from chatd.errors import Exit
from chatd.master.questions import kick
from chatd.master.questions.asking import WorkerQuestions
from chatd.master.questions.kick import KEPT_S, Kicks
from chatd.master.replies import ControlReply, KickReply
from chatd.master.requests import KickRequest
from chatd.orders import KickDone, KickOrder, OrderFailed
from tests.master.fake_pool import Pool


class Operator:
    """Kicks bob, whose id is 7. replies: what chatctl gets."""

    def __init__(self, pool: Pool, before: Operator | None = None) -> None:
        """before: of the earlier program of the master."""
        self.pool = pool
        self.questions = WorkerQuestions(pool)  # type: ignore[arg-type]
        self.kicks = Kicks(pool, self.questions)  # type: ignore[arg-type]
        self.replies: list[ControlReply] = []
        if before is not None:
            self.kicks.resume(before.kicks.state())

    def kick(self) -> list[tuple[int, KickOrder]]:
        """The orders that workers have got."""
        self.kicks.begin(KickRequest(user="bob", reason="tea"), self.replies.append)
        return self.orders()

    def orders(self) -> list[tuple[int, KickOrder]]:
        taken, self.pool.taken = self.pool.taken, []
        return taken

    def answer(self, index: int, order: KickOrder, *hosts: str) -> None:
        unanswered = {f"a worker of {host}": host for host in hosts}
        done = KickDone(ref=order.ref, sessions=1, known=True, unanswered=unanswered, user_id=7)
        self.questions.take_answer(self.pool.slots[index], done)

    def turn(self) -> list[tuple[int, KickOrder]]:
        """One turn of the master's loop: the orders that workers get."""
        self.questions.check()
        self.kicks.check()
        return self.orders()

    def missed(self) -> None:
        """Host h does not answer."""
        for index, order in self.kick():
            self.answer(index, order, "h")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kick, "AGAIN_S", 0.0)


@pytest.fixture
def age(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Time passes."""
    passed = [0.0]
    monotonic = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + sum(passed))
    return passed.append


def test_what_every_host_has_answered_is_over() -> None:
    operator = Operator(Pool())
    for index, order in operator.kick():
        operator.answer(index, order)
    assert operator.replies == [KickReply(sessions=2, unanswered=[], repeated_s=0)]
    assert operator.turn() == []
    assert operator.kicks.state() == ()


def test_one_worker_repeats_it_and_knows_how_old_it_is(age: Callable[[float], None]) -> None:
    """By the id: the name may be another account's by then."""
    operator = Operator(Pool())
    operator.missed()
    (reply,) = operator.replies
    assert (reply.exit, reply.error) == (
        Exit.TRY_AGAIN, "no answer from h (they are asked again for 10 min); 2 sessions ended",
    )  # fmt: skip
    age(30.0)
    ((index, order),) = operator.turn()
    assert (order.user, order.user_id, order.reason) == ("", 7, "tea")
    assert order.unanswered == {"a worker of h": "h"}
    assert 30.0 <= order.age_s < 31.0
    assert order.age_s + order.repeat_s == KEPT_S
    assert operator.turn() == []
    operator.answer(index, order)
    assert operator.turn() == []
    assert operator.kicks.state() == ()


@pytest.mark.usefixtures("at_once")
def test_another_worker_goes_on_when_the_one_that_repeats_it_ends() -> None:
    operator = Operator(Pool())
    operator.missed()
    for _ in range(3):
        ((index, _),) = operator.turn()
        operator.pool.replace(index)
    operator.pool.slots, kept = [], operator.pool.slots
    assert operator.turn() == []
    assert len(operator.kicks.state()) == 1, "the host is drained"
    operator.pool.slots = kept
    assert len(operator.turn()) == 1


@pytest.mark.usefixtures("at_once")
def test_the_next_program_goes_on(age: Callable[[float], None]) -> None:
    before = Operator(Pool())
    before.missed()
    ((_, earlier),) = before.turn()
    age(60.0)
    after = Operator(before.pool, before)
    ((index, order),) = after.turn()
    assert (order.user_id, round(order.age_s)) == (7, 60)
    after.answer(index, earlier)
    assert len(after.kicks.state()) == 1, "an answer to the program before"
    after.answer(index, order)
    assert after.kicks.state() == ()


@pytest.mark.usefixtures("at_once")
def test_it_is_given_up_in_the_end(age: Callable[[float], None]) -> None:
    operator = Operator(Pool())
    operator.missed()
    ((index, order),) = operator.turn()
    age(KEPT_S)
    operator.answer(index, order, "h")
    assert operator.turn() == []
    assert operator.kicks.state() == ()


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kick, "MAX_KEPT", 2)
    operator = Operator(Pool())
    for _ in range(3):
        operator.missed()
    assert [reply.repeated_s for reply in operator.replies if isinstance(reply, KickReply)] == [600, 600, 0]
    assert "asked again" not in str(operator.replies[-1].error)
    assert len(operator.kicks.state()) == 2


def test_a_worker_that_cannot_look_is_named() -> None:
    operator = Operator(Pool())
    (_, first), (_, second) = operator.kick()
    operator.questions.take_answer(operator.pool.slots[0], OrderFailed(ref=first.ref, why="worker 0: no store"))
    operator.answer(1, second)
    assert operator.replies[0].error == "worker 0: no store; 1 sessions ended"


def test_a_drained_host_says_that_no_worker_is_ready() -> None:
    operator = Operator(Pool())
    operator.pool.slots = []
    operator.kick()
    assert (operator.replies[0].exit, operator.replies[0].error) == (Exit.TRY_AGAIN, "no worker is ready")
