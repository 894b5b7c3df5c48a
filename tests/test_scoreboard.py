"""The scoreboard: one definition per number, a row of its own for each, and values that do not disturb each other."""

from __future__ import annotations

import mmap
from typing import get_type_hints

import msgspec
import pytest

from chatd.counters import Counters, State
from chatd.scoreboard import (
    FIELDS,
    MAX_WORKERS,
    ROW_BYTES,
    TOTALS,
    LayoutUnknown,
    Scoreboard,
    ScoreboardState,
    leader,
)
from chatd.tallies import COMMIT, REFUSALS

FLAGS = {name for name, kind in get_type_hints(Counters).items() if kind is bool}


def test_every_number_has_a_cell_of_its_own() -> None:
    row = Scoreboard().rows[0]
    assert len(FIELDS) * 8 <= ROW_BYTES
    for number, name in enumerate(FIELDS, 1):
        setattr(row, name, number)
    assert "store_ok" in FLAGS
    for number, name in enumerate(FIELDS, 1):
        value = getattr(row, name)
        assert value is True if name in FLAGS else value == number


def test_every_number_is_explained() -> None:
    assert all(field.meaning for field in FIELDS.values())
    assert set(Counters.__struct_fields__) < set(FIELDS)


def test_rows_do_not_overlap_and_can_be_cleared() -> None:
    board = Scoreboard()
    rows = [*board.rows, board.master_row]
    assert len(rows) == MAX_WORKERS + 1
    for number, row in enumerate(rows):
        row.messages_in = row.log_generation = number
    assert [row.messages_in for row in rows] == list(range(MAX_WORKERS + 1))
    rows[5].clear()
    assert (rows[4].messages_in, rows[5].messages_in, rows[6].messages_in) == (4, 0, 6)


def test_what_is_shown_is_a_copy() -> None:
    row = Scoreboard().rows[0]
    row.messages_in, row.store_ok = 7, True
    shown = row.counters()
    row.messages_in, row.store_ok = 8, False
    assert (shown.messages_in, shown.store_ok) == (7, True)
    assert '"store_ok":true' in msgspec.json.encode(shown).decode()


def test_totals_outlive_the_worker_that_counted_them() -> None:
    board = Scoreboard()
    board.rows[0].logins, board.rows[3].logins, board.master_row.log_held_back = 3, 4, 1
    board.rows[0].sessions = 9
    board.keep_sums(board.rows[0])
    board.keep_sums(board.rows[0])
    board.rows[0].clear()
    board.rows[0].logins = 10
    assert {name: number for name, number in board.totals().items() if number} == {"logins": 17, "log_held_back": 1}
    assert "sessions" not in TOTALS


def memory_of(*names: str, workers: int = MAX_WORKERS) -> ScoreboardState:
    """Of another version, whose rows have these numbers."""
    made = Scoreboard().state
    return msgspec.structs.replace(made, names=names, workers=workers)


def test_another_version_finds_every_number_in_its_cell() -> None:
    """It had the numbers in another order, some that are gone, and lacked some of today's."""
    kept = [name for name in FIELDS if name not in ("sessions", "log_dropped")]
    names = ("gone_long_ago", *reversed(kept), "gone_lately")
    state = memory_of(*names)
    old = memoryview(mmap.mmap(state.descriptor, state.row_bytes * (MAX_WORKERS + 1))).cast("q")
    cells = old[3 * state.row_bytes // 8 :]
    for number, name in enumerate(names, 1):
        cells[names.index(name)] = number
    board = Scoreboard(state)
    assert board.state.names == (*names, "sessions", "log_dropped")
    row = board.rows[3]
    assert [getattr(row, name) for name in kept] == [True if name in FLAGS else names.index(name) + 1 for name in kept]
    row.sessions = 77
    row.messages_in = 78
    assert cells[len(names)] == 77
    assert cells[names.index("messages_in")] == 78
    assert row.counters().messages_in == 78
    assert (cells[0], cells[len(names) - 1]) == (1, len(names)), "cells of other versions are left alone"


def test_memory_comes_back_to_the_version_that_made_it() -> None:
    """Upgrade and downgrade: the numbers of both stay where they are."""
    made = Scoreboard()
    made.master_row.logins = 5
    newer = msgspec.structs.replace(made.state, names=(*made.state.names, "a_number_of_the_future"))
    again = Scoreboard(newer)
    again.rows[1].sessions = 9
    assert (again.master_row.logins, made.rows[1].sessions) == (5, 9)
    assert again.state.names[-1] == "a_number_of_the_future"


def test_numbers_without_room_are_kept_in_another_memory() -> None:
    """The memory of an earlier version has short rows, and grows no longer."""
    old = memory_of(*(f"old_{number}" for number in range(ROW_BYTES // 8 - 3)))
    board = Scoreboard(old)
    assert len(board.state.names) == ROW_BYTES // 8
    assert [len(one.names) for one in board.state.added] == [len(FIELDS) - 3]
    assert [*board.state.descriptors()] == [old.descriptor, board.state.added[0].descriptor]
    for number, name in enumerate(FIELDS, 1):
        setattr(board.rows[5], name, number)
    later = Scoreboard(board.state)
    assert later.state.names == board.state.names
    assert later.state.added == board.state.added
    for number, name in enumerate(FIELDS, 1):
        assert getattr(later.rows[5], name) == (True if name in FLAGS else number)
        assert not getattr(later.rows[4], name)
        assert not getattr(later.rows[6], name)
    later.rows[5].clear()
    assert not any(getattr(board.rows[5], name) for name in FIELDS)


def test_a_second_memory_is_not_made_again_for_numbers_of_a_third_version() -> None:
    """Its own numbers go into a third memory; those of the second stay where they are."""
    second = Scoreboard(memory_of(*(f"old_{number}" for number in range(ROW_BYTES // 8))))
    known = second.state.added[0]
    renamed = tuple("gone" if name == "sessions" else name for name in known.names)
    before = msgspec.structs.replace(second.state, added=(msgspec.structs.replace(known, names=renamed),))
    third = Scoreboard(before)
    assert [one.names for one in third.state.added][1:] == [("sessions",)]
    third.rows[0].sessions, third.rows[0].logins = 3, 4
    assert (third.rows[0].sessions, second.rows[0].logins) == (3, 4)


def test_memory_for_another_number_of_workers_is_refused() -> None:
    with pytest.raises(LayoutUnknown, match="rows"):
        Scoreboard(memory_of(*FIELDS, workers=MAX_WORKERS - 1))


def test_counts_go_on_when_workers_are_replaced_and_when_the_program_changes() -> None:
    board = Scoreboard()
    first, second = board.rows[0], board.rows[1]
    first.messages_in, first.logins, first.sessions = 10, 2, 5
    first.observe(COMMIT, [400.0, 3_000.0, 7e6])
    first.add(REFUSALS.cell("too_fast"), 3)
    second.messages_in = 1
    board.master_row.errors = 4
    before = board.sums([first, second])
    board.keep_sums(first)
    board.keep_sums(first)
    first.clear()
    assert board.sums([second]) == before
    later = Scoreboard(board.state)
    assert later.sums([later.rows[1]]) == before
    assert (before["messages_in"], before["logins"], before["errors"], before["refusals_too_fast"]) == (11, 2, 4, 3)
    assert [before[name] for name in COMMIT.buckets] == [1, 0, 0, 1, *[0] * 6, 1]
    assert before[COMMIT.sum] == 7_003_400
    assert "sessions" not in before


def test_a_duration_belongs_to_the_first_bucket_that_it_fits_into() -> None:
    bounds = COMMIT.bounds_us
    assert COMMIT.sorted([bounds[0]]) == {COMMIT.buckets[0]: 1, COMMIT.sum: bounds[0]}
    assert COMMIT.sorted([bounds[0] + 1]) == {COMMIT.buckets[1]: 1, COMMIT.sum: bounds[0] + 1}
    assert COMMIT.sorted([bounds[-1] + 1]) == {COMMIT.buckets[-1]: 1, COMMIT.sum: bounds[-1] + 1}
    assert COMMIT.sorted([]) == {}


def test_values_that_are_not_declared_are_refused() -> None:
    with pytest.raises(ValueError, match="no code of_nobody"):
        REFUSALS.cell("of_nobody")


def test_the_ready_worker_with_the_lowest_slot_leads() -> None:
    board = Scoreboard()
    assert leader(board.rows) is None
    for slot, state in ((0, State.DRAINING), (1, State.BOOTING), (3, State.READY), (5, State.READY)):
        board.rows[slot].state = state
    assert leader(board.rows) == 3
    board.rows[1].state = State.READY
    assert leader(board.rows) == 1
