"""Records that repeat: what one source, and all together, can have written; and how much is remembered of it."""

from __future__ import annotations

import threading

from chatd.repeats import GRACE_S, MAX_KEYS, WINDOW_S, HeldBack, Limits, Repeats

LIMITS = Limits(per_source=5, per_key=100)


def test_one_source_has_a_few_in_each_window() -> None:
    repeats = Repeats()
    assert sum(repeats.admit("failed", "a", LIMITS, 0.0) for _ in range(100_000)) == 5
    assert repeats.over(WINDOW_S) == []
    assert repeats.over(WINDOW_S + 0.1) == [HeldBack("failed", "a", 99_995)]
    assert repeats.over(WINDOW_S + 0.1) == []
    assert repeats.admit("failed", "a", LIMITS, WINDOW_S + 0.2)


def test_a_source_that_repeats_takes_nothing_from_others() -> None:
    repeats = Repeats()
    for _ in range(1000):
        repeats.admit("failed", "a", LIMITS, 0.0)
    assert sum(repeats.admit("failed", f"b{number}", LIMITS, 1.0) for number in range(200)) == 95


def test_all_sources_together_are_limited_and_only_those_written_are_remembered() -> None:
    repeats = Repeats()
    written = sum(repeats.admit("failed", f"s{number}", LIMITS, 0.0) for number in range(100_000))
    assert written == LIMITS.per_key
    assert repeats.over(WINDOW_S + 1) == [HeldBack("failed", "", 100_000 - LIMITS.per_key)]


def test_keys_do_not_hold_each_other_back() -> None:
    repeats = Repeats()
    for key in ("one", "two"):
        assert sum(repeats.admit(key, "a", LIMITS, 0.0) for _ in range(10)) == 5
    told = repeats.over(WINDOW_S + 1)
    assert told == [HeldBack("one", "a", 5), HeldBack("two", "a", 5)]


def test_the_number_of_summaries_is_bounded() -> None:
    repeats = Repeats()
    for number in range(100_000):
        repeats.admit("failed", f"s{number % 1000}", LIMITS, 0.0)
    told = repeats.over(WINDOW_S + 1)
    assert len(told) <= LIMITS.per_key + 1
    assert sum(one.times for one in told) == 100_000 - LIMITS.per_key


def test_a_window_ends_also_in_a_process_that_is_stuck() -> None:
    repeats = Repeats()
    for _ in range(10):
        repeats.admit("failed", "a", LIMITS, 0.0)
    later = WINDOW_S + GRACE_S + 1
    assert repeats.admit("failed", "a", LIMITS, later)
    assert repeats.over(later + WINDOW_S + 1) == [HeldBack("failed", "", 5)]


def test_more_keys_than_there_is_room_for_are_not_limited() -> None:
    repeats = Repeats()
    for number in range(MAX_KEYS):
        repeats.admit(f"key {number}", "", LIMITS, 0.0)
    assert all(repeats.admit("one more", "", LIMITS, 0.0) for _ in range(1000))


def test_threads_count_together() -> None:
    repeats = Repeats()
    written: list[int] = []

    def many() -> None:
        written.append(sum(repeats.admit("failed", "a", LIMITS, 0.0) for _ in range(5000)))

    threads = [threading.Thread(target=many) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(written) == LIMITS.per_source
    assert repeats.over(WINDOW_S + 1) == [HeldBack("failed", "a", 20_000 - LIMITS.per_source)]
