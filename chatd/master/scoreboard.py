"""The shared memory in which workers keep their numbers.

Owns: one anonymous mmap, made before the first fork and never moved. What a row means is metrics.
"""

from __future__ import annotations

import mmap

from chatd.scoreboard import ROW_BYTES, Row

MAX_WORKERS = 256


class Scoreboard:
    """rows: one per slot. master_row: the master's own."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, ROW_BYTES * (MAX_WORKERS + 1))
        view = memoryview(self._memory)
        rows = [
            Row(view[start : start + ROW_BYTES].cast("q"))
            for start in range(0, ROW_BYTES * (MAX_WORKERS + 1), ROW_BYTES)
        ]
        self.rows = tuple(rows[:MAX_WORKERS])
        self.master_row = rows[MAX_WORKERS]


def clear(row: Row) -> None:
    """All zeros, before a slot is used by another process."""
    for index in range(len(row.cells)):
        row.cells[index] = 0
