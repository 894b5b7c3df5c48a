"""The figures of an ordeal, from journals written by hand: each finds what it is for, and counts nothing else."""

from __future__ import annotations

from tests.cluster.figures import Longest, caught_up, longest_answer, unanswered_for
from tests.cluster.watchers import Told, Watchers
from tests.harness.journal import Event, Line

S = 10**9


def line(at_s: float, event: Event, user: str, conn: int = 1, message: str = "", *, dedupe: bool = True) -> Line:
    return Line(int(at_s * S), event, user, conn, id=message, dedupe=dedupe)


def test_an_answer_on_the_same_connection_counts() -> None:
    lines = [
        line(1, "send", "a", 1, "m1"),
        line(2, "ok", "a", 1, "m1"),
        line(3, "send", "a", 1, "m2"),
        line(6, "refused", "a", 1, "m2"),
        line(7, "send", "a", 1, "m3"),
        line(8, "close", "a", 1),
        line(20, "ok", "a", 2, "m3"),
    ]
    assert longest_answer(lines) == Longest(3.0, 2)
    assert longest_answer(lines, since=0, before=2 * S) == Longest(1.0, 1)


def test_who_waits_too_long_is_named_but_not_who_is_never_answered_by_its_wire() -> None:
    lines = [
        line(1, "send", "a", 1, "m1"),
        line(2, "ok", "a", 1, "m1"),
        line(3, "send", "a", 1, "m2"),
        line(3, "send", "old", 2, "m3"),
        line(9, "close", "a", 1),
        line(9, "close", "old", 2),
    ]
    assert unanswered_for(lines, 7.0) == []
    assert unanswered_for(lines, 3.0) == ["a m2: 6.00 s"]


def test_what_waited_and_arrives_after_the_return_is_measured() -> None:
    lines = [
        line(0, "connect", "old", 3, dedupe=False),
        line(1, "login", "b", 1),
        line(1, "login", "c", 2),
        line(1, "login", "old", 3),
        line(2, "ok", "a", 9, "before the loss"),
        line(5, "ok", "a", 9, "m1"),
        line(5, "receive", "c", 2, "m1"),
        line(12, "receive", "b", 1, "m1"),
        line(13, "receive", "c", 2, "m1"),
        line(14, "receive", "old", 3, "m1"),
        line(15, "ok", "a", 9, "after the return"),
        line(18, "receive", "b", 1, "after the return"),
    ]
    assert caught_up(lines, 4 * S, 10 * S) == Longest(2.0, 1)


def test_a_live_user_shown_offline_is_found_and_one_who_came_or_went_just_then_is_not() -> None:
    lines = [line(10, "login", "b", 1), line(30, "close", "b", 1)]

    def found(at_s: float, *, online: bool = False) -> int:
        told = [Told(int(at_s * S), "w", "b", online)]
        return len(Watchers([], told).falsely_offline(lines, ["b"]))

    assert found(20) == 1
    assert found(20, online=True) == 0
    assert found(11) == 0
    assert found(29.5) == 0
    assert found(40) == 0
