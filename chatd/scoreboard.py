"""The scoreboard: numbers that every process keeps about itself, in memory that all processes share.

Owns: the memory, each process's row in it, and the sums over all processes.
Elsewhere: which numbers there are (counters, tallies), acting on them. The master watches heartbeats (master.workers),
the acceptor compares connections (net.acceptor), operators are shown them (master.status, master.metrics).
Fails: Scoreboard() raises OSError when the memory cannot be mapped. Reading and writing a row cannot fail, whatever its
process is doing; this is why the scoreboard exists.

Concurrency: one memfd, mapped before the first fork and never moved. A cell has one writer at a time: the master until
the worker runs, then the worker. Cells are aligned 8-byte stores, so a reader never sees half a value, but two cells
read one after the other may be of different moments.

Upgrades: the memory outlives the program that made it, and processes of two versions use it at the same time. So a
number keeps its cell: a newer program takes over the names of the cells from the older one, and gives new numbers the
cells after them (adopt), in a second memory if the first has no room. A number whose meaning or unit changes needs a
new name.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, get_type_hints

import msgspec

from chatd.counters import Cells, Counters, Field
from chatd.counters import State as State
from chatd.errors import ChatdError
from chatd.tallies import HISTOGRAMS, TALLIES, Histogram, Tally

MAX_WORKERS = 256
ROW_BYTES = 2048
"""Room for 256 numbers: those in FIELDS, and those of earlier versions since the server was started. Numbers for which
the memory of an earlier version has no room are kept in another memory."""
_CELL_BYTES = 8


def _fields_of(one: Tally | Histogram) -> dict[str, Field]:
    if isinstance(one, Tally):
        return {one.cell(value): Field(one.meaning, counts=one.counts) for value in one.values}
    buckets = {name: Field(one.meaning, counts=True) for name in one.buckets}
    return buckets | {one.sum: Field(one.meaning, "us", counts=True)}


_KINDS = get_type_hints(Cells)
FIELDS: dict[str, Field] = {
    name: kind.__metadata__[0] for name, kind in get_type_hints(Cells, include_extras=True).items()
}
"""Every number of a row, in the order of its cells; those of tallies and histograms are the last."""
for _group in (*TALLIES, *HISTOGRAMS):
    FIELDS |= _fields_of(_group)
TOTALS: tuple[str, ...] = tuple(name for name, field in FIELDS.items() if field.total)
"""The numbers whose sum over all processes is shown."""
COUNTS: tuple[str, ...] = tuple(name for name, field in FIELDS.items() if field.counts)
"""The numbers whose sum over all processes is kept, and not shown in the status."""


if TYPE_CHECKING:  # a row has the numbers as attributes; at run time they are properties, set below
    _Attributes = Cells
else:
    _Attributes = object


class Row(_Attributes):
    """One process's line of the scoreboard. Every name in FIELDS is an attribute to read and to assign.

    cells: a memoryview of signed 64-bit integers (format "q"), ROW_BYTES long.
    added: the same, of each memory that was added at an upgrade.
    """

    if not TYPE_CHECKING:
        __slots__ = ("added", "cells")

    def __init__(self, cells: memoryview, added: tuple[memoryview, ...] = ()) -> None:
        self.cells = cells
        self.added = added

    def clear(self) -> None:
        """Set everything to zero, before another process uses the row."""
        for cells in (self.cells, *self.added):
            for index in range(len(cells)):
                cells[index] = 0

    def counters(self) -> Counters:
        """A copy of what is shown in the status."""
        return Counters(**{name: getattr(self, name) for name in Counters.__struct_fields__})

    def add(self, name: str, number: int = 1) -> None:
        """To a number by its name. Costs a fraction of a microsecond."""
        setattr(self, name, getattr(self, name) + number)

    def observe(self, histogram: Histogram, durations_us: Iterable[float]) -> None:
        """Count durations. Costs about half a microsecond for each."""
        for name, number in histogram.sorted(durations_us).items():
            self.add(name, number)


def _attribute(index: int, kind: type) -> property:
    def get(self: Row) -> int:
        return self.cells[index]

    def get_flag(self: Row) -> bool:
        return self.cells[index] != 0

    def put(self: Row, value: int) -> None:
        self.cells[index] = value

    return property(get_flag if kind is bool else get, put)


def _added_attribute(memory: int, index: int, kind: type) -> property:
    def get(self: Row) -> int:
        return self.added[memory][index]

    def get_flag(self: Row) -> bool:
        return self.added[memory][index] != 0

    def put(self: Row, value: int) -> None:
        self.added[memory][index] = value

    return property(get_flag if kind is bool else get, put)


for _index, _name in enumerate(FIELDS):
    setattr(Row, _name, _attribute(_index, _KINDS.get(_name, int)))


def leader(rows: Sequence[Row]) -> int | None:
    """Slot of the worker that does what one worker of a host does for all: the lowest that is ready. None = none is.
    For a moment two workers may each take themselves for it."""
    return next((slot for slot, row in enumerate(rows) if row.state == State.READY), None)


class LayoutUnknown(ChatdError):
    """The memory of the running server has another shape than this version can use. Caught by the preflight of an
    upgrade."""


class AddedMemory(msgspec.Struct, frozen=True, kw_only=True):
    """As ScoreboardState: a memory with as many rows, for the numbers that the first one has no room for."""

    descriptor: int
    row_bytes: int
    names: tuple[str, ...]


class ScoreboardState(msgspec.Struct, frozen=True, kw_only=True):
    """All that another program needs to use the same memory.

    descriptor: of the memory. row_bytes: length of a row. names: of the cells of a row, in their order; those that the
    present program does not know keep their cells. added: further memories. ended: of each of COUNTS, the sum over
    processes that have ended.
    """

    descriptor: int
    row_bytes: int
    workers: int
    names: tuple[str, ...]
    added: tuple[AddedMemory, ...] = ()
    ended: dict[str, int] = {}

    def descriptors(self) -> Iterator[int]:
        yield self.descriptor
        yield from (one.descriptor for one in self.added)

    def known(self) -> set[str]:
        """The numbers that have a cell."""
        return {*self.names, *(name for one in self.added for name in one.names)}


class Scoreboard:
    """rows: one per worker slot. master_row: the master's own; its TOTALS include those of workers that have ended."""

    def __init__(self, before: ScoreboardState | None = None) -> None:
        """before: the memory of an earlier program; None = new memory. Raises: OSError; LayoutUnknown."""
        if before is None:
            before = _new_memory()
        check(before)
        self._state = state = _extended(before)
        self._ended = dict.fromkeys(COUNTS, 0) | state.ended
        memories = [_rows_of(state.descriptor, state.row_bytes, state.workers)]
        memories += [_rows_of(one.descriptor, one.row_bytes, state.workers) for one in state.added]
        kind = _row_type(state)
        rows = [kind(cells, tuple(added)) for cells, *added in zip(*memories, strict=True)]
        self.rows = tuple(rows[: state.workers])
        self.master_row = rows[state.workers]

    @property
    def state(self) -> ScoreboardState:
        """To be given to a later program."""
        return msgspec.structs.replace(self._state, ended=dict(self._ended))

    def keep_sums(self, row: Row) -> None:
        """The worker of this row has ended: add its TOTALS to the master's, and keep its COUNTS. Called by the master,
        any number of times."""
        for name in TOTALS:
            setattr(self.master_row, name, getattr(self.master_row, name) + getattr(row, name))
            setattr(row, name, 0)
        for name in COUNTS:
            self._ended[name] += getattr(row, name)
            setattr(row, name, 0)

    def totals(self) -> dict[str, int]:
        """TOTALS of all processes since the server started."""
        rows = (self.master_row, *self.rows)
        return {name: sum(getattr(row, name) for row in rows) for name in TOTALS}

    def sums(self, rows: Sequence[Row]) -> dict[str, int]:
        """TOTALS and COUNTS of all processes since the server started. rows: of the workers that run."""
        own = self.master_row
        ended = self._ended
        return {
            name: ended.get(name, 0) + getattr(own, name) + sum(getattr(row, name) for row in rows)
            for name in (*TOTALS, *COUNTS)
        }


def check(before: ScoreboardState) -> None:
    """Whether this program can use the memory of an earlier one. Raises LayoutUnknown."""
    if before.workers != MAX_WORKERS:
        raise LayoutUnknown(f"the scoreboard has {before.workers} rows, this version needs {MAX_WORKERS}")


def _new_memory() -> ScoreboardState:
    return ScoreboardState(descriptor=_memory(ROW_BYTES), row_bytes=ROW_BYTES, workers=MAX_WORKERS, names=tuple(FIELDS))


def _memory(row_bytes: int) -> int:
    """A new memory file. Raises OSError."""
    descriptor = os.memfd_create("scoreboard", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, row_bytes * (MAX_WORKERS + 1))
    return descriptor


def _extended(before: ScoreboardState) -> ScoreboardState:
    """The same memory, with cells for the numbers that only this program knows as well. Raises OSError."""
    new = [name for name in FIELDS if name not in before.known()]
    room = 0 if before.added else before.row_bytes // _CELL_BYTES - len(before.names)
    state = msgspec.structs.replace(before, names=(*before.names, *new[:room]))
    left = tuple(new[room:])
    if not left:
        return state
    row_bytes = max(ROW_BYTES, len(left) * _CELL_BYTES)
    added = AddedMemory(descriptor=_memory(row_bytes), row_bytes=row_bytes, names=left)
    return msgspec.structs.replace(state, added=(*state.added, added))


def _rows_of(descriptor: int, row_bytes: int, workers: int) -> list[memoryview]:
    size = row_bytes * (workers + 1)
    view = memoryview(mmap.mmap(descriptor, size))
    return [view[start : start + row_bytes].cast("q") for start in range(0, size, row_bytes)]


def _row_type(state: ScoreboardState) -> type[Row]:
    """A Row whose numbers are in the cells with these names."""
    if state.names[: len(FIELDS)] == tuple(FIELDS):
        return Row
    places: dict[str, property] = {}
    for name in FIELDS:
        kind = _KINDS.get(name, int)
        if name in state.names:
            places[name] = _attribute(state.names.index(name), kind)
        else:
            memory = next(index for index, one in enumerate(state.added) if name in one.names)
            places[name] = _added_attribute(memory, state.added[memory].names.index(name), kind)
    return type("AdoptedRow", (Row,), {"__slots__": (), **places})
