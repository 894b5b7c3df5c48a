"""The pauses of slots that fail again and again, by a clock of the test."""

from __future__ import annotations

import itertools

import pytest

from chatd.master import back_off
from chatd.master.worker_slot import Slot
from chatd.scoreboard import ROW_BYTES, Row

BEGIN_S = 1000.0
"""The clock is never 0, which means that nothing is due."""


def slots(count: int) -> list[Slot]:
    return [Slot(index, Row(memoryview(bytearray(ROW_BYTES)).cast("q"))) for index in range(count)]


def test_pauses_grow_to_a_limit_and_are_forgotten_by_good_health() -> None:
    (slot,) = slots(1)
    longest = [back_off.wait(slot, 100.0) for _ in range(12)]
    assert longest[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert longest[-1] == back_off.LONGEST_S
    assert 100.0 + back_off.LONGEST_S / 2 <= slot.fork_at <= 100.0 + back_off.LONGEST_S
    back_off.forget(slot, back_off.STEADY_S)
    assert slot.failures == 6
    back_off.forget(slot, back_off.HEALTHY_S)
    assert slot.failures == 0


def crash_loop(seconds: float) -> list[float]:
    """When workers are forked, all of which die at once, while the clock of the master goes on in small steps."""
    pool, last_resort = slots(2), back_off.LastResort()
    for slot in pool:
        slot.failures = 10
        back_off.wait(slot, BEGIN_S)
    forked, now = [], BEGIN_S
    while now < BEGIN_S + seconds:
        last_resort.advance(pool, now)
        for slot in pool:
            if 0 < slot.fork_at <= now:
                forked.append(now - BEGIN_S)
                back_off.wait(slot, now)
        now += 0.01
    return forked


def test_one_is_forked_at_once_while_no_other_accepts() -> None:
    assert crash_loop(1.0)[0] < 0.02


def test_a_crash_loop_leaves_the_core_to_others() -> None:
    """After the first seconds there is one start in LONELY_S, although nobody accepts; each slot alone would wait
    longer."""
    forked = crash_loop(60.0)
    late = [at for at in forked if at > 10]
    assert 20 <= len(late) <= 35
    pauses = [after - before for before, after in itertools.pairwise(late)]
    assert max(pauses) <= back_off.LONELY_S + 0.02


def test_after_a_calm_time_the_next_one_is_at_once_again() -> None:
    pool, last_resort = slots(1), back_off.LastResort()
    now = BEGIN_S
    for _ in range(10):
        back_off.wait(pool[0], now)
        last_resort.advance(pool, now)
        now = pool[0].fork_at
    now += 2 * back_off.LONELY_CALM_S
    for _ in range(2):
        back_off.wait(pool[0], now)
        last_resort.advance(pool, now)
        assert pool[0].fork_at <= now + back_off.FIRST_S
        now = pool[0].fork_at
