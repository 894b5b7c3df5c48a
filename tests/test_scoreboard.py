"""The scoreboard: one definition per number, a row of its own for each, and values that do not disturb each other."""

from __future__ import annotations

from typing import get_type_hints

import msgspec

from chatd.scoreboard import FIELDS, MAX_WORKERS, ROW_BYTES, TOTALS, Counters, Scoreboard


def test_every_number_has_a_cell_of_its_own() -> None:
    row = Scoreboard().rows[0]
    assert len(FIELDS) * 8 <= ROW_BYTES
    for number, name in enumerate(FIELDS, 1):
        setattr(row, name, number)
    flags = {name for name, kind in get_type_hints(Counters).items() if kind is bool}
    assert "store_ok" in flags
    for number, name in enumerate(FIELDS, 1):
        value = getattr(row, name)
        assert value is True if name in flags else value == number


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
    board.keep_totals(board.rows[0])
    board.keep_totals(board.rows[0])
    board.rows[0].clear()
    board.rows[0].logins = 10
    assert {name: number for name, number in board.totals().items() if number} == {"logins": 17, "log_held_back": 1}
    assert "sessions" not in TOTALS
