"""The breaker's states. Nobody waits: the time is a number."""

from __future__ import annotations

from chatd.core.plugins.breaker import Breaker


def admitted(breaker: Breaker, now: float) -> int:
    turn = breaker.admit(now)
    assert turn is not None
    return turn


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(failures=3, open_s=10.0)
    assert [breaker.failed(admitted(breaker, at), at) for _ in range(3)] == [False, False, True]
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = opened()
    assert breaker.is_open
    assert breaker.admit(9.99) is None


def test_a_success_between_begins_the_count_again() -> None:
    breaker = Breaker(failures=2, open_s=10.0)
    for _ in range(5):
        assert not breaker.failed(admitted(breaker, 0.0), 0.0)
        assert not breaker.succeeded(admitted(breaker, 0.0))
    assert not breaker.is_open


def test_after_a_while_one_call_tries_it_and_closes_it() -> None:
    breaker = opened()
    trial = admitted(breaker, 10.0)
    assert breaker.admit(10.0) is None, "one only"
    assert breaker.is_open
    assert breaker.succeeded(trial)
    assert not breaker.is_open
    assert not breaker.failed(admitted(breaker, 10.0), 10.0), "it counts from nothing again"


def test_a_trial_that_fails_opens_it_for_as_long_again() -> None:
    breaker = opened()
    assert not breaker.failed(admitted(breaker, 10.0), 11.0), "it was open already"
    assert breaker.admit(20.9) is None
    assert breaker.succeeded(admitted(breaker, 21.0))


def test_news_of_calls_from_before_are_old() -> None:
    breaker = Breaker(failures=1, open_s=10.0)
    slow, slower, other = (admitted(breaker, 0.0) for _ in range(3))
    assert breaker.failed(other, 0.0)
    assert not breaker.succeeded(slow)
    assert breaker.is_open
    trial = admitted(breaker, 10.0)
    assert not breaker.failed(slower, 10.0)
    assert breaker.succeeded(trial)
    assert not breaker.failed(slower, 10.0)
    assert not breaker.is_open
