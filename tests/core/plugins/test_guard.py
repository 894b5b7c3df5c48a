"""Which calls are made. Nobody waits: the time is a number."""

from __future__ import annotations

import pytest

from chatd.core.plugins import guard as module
from chatd.core.plugins.guard import Admission, Cause, PointGuard, Verdict

FAILURES, OPEN_S, HELD_S = 3, 10.0, 20.0


def made() -> PointGuard:
    return PointGuard(FAILURES, OPEN_S)


def admitted(guard: PointGuard, cause: Cause, now: float = 0.0) -> Admission:
    call = guard.admit(cause, now)
    assert call is not None
    return call


def fail(guard: PointGuard, cause: Cause, now: float = 0.0) -> Verdict:
    return guard.failed(admitted(guard, cause, now), now)


def succeed(guard: PointGuard, cause: Cause, now: float = 0.0) -> Verdict:
    return guard.succeeded(admitted(guard, cause, now))


def suspended() -> PointGuard:
    guard = made()
    assert [fail(guard, cause) for cause in (1, 2, 3)] == [Verdict.NOTHING, Verdict.NOTHING, Verdict.SUSPENDED]
    return guard


def test_failures_for_several_users_suspend_it_for_all() -> None:
    guard = suspended()
    assert guard.is_suspended
    assert guard.admit(4, OPEN_S - 0.01) is None


def test_one_user_or_two_do_not() -> None:
    guard = made()
    for number in range(100):
        call = guard.admit(number % 2, 0.0)
        if call is not None:
            guard.failed(call, 0.0)
    assert not guard.is_suspended
    assert guard.held(0.0) == 2
    assert succeed(guard, 3) is Verdict.NOTHING


def test_a_user_is_held_back_after_failures_in_a_row_and_then_tried_once() -> None:
    guard = made()
    assert [fail(guard, 1) for _ in range(FAILURES)] == [Verdict.NOTHING, Verdict.NOTHING, Verdict.HELD]
    assert guard.admit(1, HELD_S - 0.01) is None
    assert (guard.held(HELD_S - 0.01), guard.held(HELD_S)) == (1, 0)
    assert fail(guard, 1, HELD_S) is Verdict.NOTHING, "held back for as long again, which was told"
    assert guard.admit(1, 2 * HELD_S - 0.01) is None
    assert guard.held(2 * HELD_S - 0.01) == 1
    assert succeed(guard, 1, 2 * HELD_S) is Verdict.RELEASED
    assert fail(guard, 1, 2 * HELD_S) is Verdict.NOTHING, "it counts from nothing again"


def test_a_success_between_begins_the_count_of_a_user_again() -> None:
    guard = made()
    for _ in range(5):
        assert [fail(guard, 1) for _ in range(FAILURES - 1)] == [Verdict.NOTHING] * (FAILURES - 1)
        assert succeed(guard, 1) is Verdict.NOTHING


def test_many_who_fail_do_not_suspend_what_works_for_others_meanwhile() -> None:
    """However many accounts an attacker has: others get their answers while the attacker's calls are under way."""
    guard = made()
    for number in range(5):
        slow = [admitted(guard, 100 * number + one) for one in range(10, 40)]
        assert succeed(guard, 1) is Verdict.NOTHING
        assert Verdict.SUSPENDED not in {guard.failed(call, 0.0) for call in slow}
    assert not guard.is_suspended


def test_what_works_for_nobody_is_suspended_even_if_it_worked_before() -> None:
    guard = made()
    assert succeed(guard, 1) is Verdict.NOTHING
    slow = [admitted(guard, cause) for cause in (1, 2, 3)]
    assert [guard.failed(call, 0.0) for call in slow][-1] is Verdict.SUSPENDED


def test_those_who_failed_leave_the_trial_to_others() -> None:
    guard = suspended()
    assert guard.admit(1, OPEN_S) is None
    trial = admitted(guard, 9, OPEN_S)
    assert guard.admit(10, OPEN_S) is None, "one only"
    assert guard.succeeded(trial) is Verdict.RESUMED
    assert succeed(guard, 1, OPEN_S) is Verdict.NOTHING, "and then they are served"


def test_if_nobody_else_comes_they_try_it() -> None:
    guard = suspended()
    assert fail(guard, 1, 2 * OPEN_S) is Verdict.NOTHING, "suspended for as long again"
    assert guard.admit(9, 3 * OPEN_S - 0.01) is None
    assert succeed(guard, 9, 3 * OPEN_S) is Verdict.RESUMED


def test_when_it_works_again_those_held_back_are_forgiven() -> None:
    guard = made()
    assert [fail(guard, 1) for _ in range(FAILURES)][-1] is Verdict.HELD
    assert [fail(guard, cause) for cause in (2, 3)] == [Verdict.NOTHING, Verdict.SUSPENDED]
    assert succeed(guard, 9, OPEN_S) is Verdict.RESUMED
    assert guard.held(OPEN_S) == 0
    assert succeed(guard, 1, OPEN_S) is Verdict.NOTHING


def test_a_call_that_goes_on_holds_its_user_back() -> None:
    guard = made()
    fail(guard, 1)
    guard.overdue(1)
    assert guard.admit(1, 1000.0) is None
    assert guard.held(1000.0) == 1
    assert succeed(guard, 2, 1000.0) is Verdict.NOTHING
    guard.overdue_ended(1)
    assert guard.held(1000.0) == 0
    assert succeed(guard, 1, 1000.0) is Verdict.NOTHING


def test_only_so_many_users_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CAUSES", 2)
    guard = made()
    for cause in (1, 2, 3):
        for _ in range(FAILURES):
            call = admitted(guard, cause)
            guard.failed(call, 0.0)
            assert succeed(guard, 9) is Verdict.NOTHING, "it works for others"
    assert guard.held(0.0) == 2
    assert guard.admit(1, 0.0) is not None, "forgotten"
    assert guard.admit(3, 0.0) is None
