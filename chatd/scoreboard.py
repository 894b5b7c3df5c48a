"""The scoreboard: numbers that every process keeps about itself, in memory that all processes share.

Owns: the one definition of every number (name, meaning, unit, who writes it), the memory, and each process's row in it.
The status that `chatctl` shows is made from the same definitions (master.status, chatctl.render).
Elsewhere: acting on the numbers. The master watches heartbeats (master.workers), the acceptor compares connections
(net.acceptor).
Fails: Scoreboard() raises OSError when the memory cannot be mapped. Reading and writing a row cannot fail, whatever its
process is doing; this is why the scoreboard exists.

Concurrency: one memfd, mapped before the first fork and never moved. A cell has one writer at a time: the master until
the worker runs, then the worker. Cells are aligned 8-byte stores, so a reader never sees half a value, but two cells
read one after the other may be of different moments.

Upgrades: the memory outlives the program that made it, and processes of two versions use it at the same time. So a
number keeps its cell: a newer program takes over the names of the cells from the older one, and gives new numbers the
cells after them (adopt). A number whose meaning or unit changes needs a new name.
"""

from __future__ import annotations

import enum
import mmap
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, get_type_hints

import msgspec

from chatd.errors import ChatdError

MAX_WORKERS = 256
ROW_BYTES = 1024
"""Room for 128 numbers: those in FIELDS, and those of earlier versions since the server was started."""
_CELL_BYTES = 8

Unit = Literal["", "s", "ms", "us", "ns", "bytes", "per second", "%"]
"""Unit of a number; "" = it counts things."""


class State(enum.IntEnum):
    """The state of a worker in its row. Only the master knows whether it hangs."""

    EMPTY = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3
    DEGRADED = 4  # the worker died; a new one is due


class Field(NamedTuple):
    """One number. writer: the process that stores it once the worker runs. heading: of its column in `chatctl
    workers`, or after the number in `chatctl status`. total: the status also shows its sum over all processes since the
    server started, ended ones included."""

    meaning: str
    unit: Unit = ""
    writer: Literal["worker", "master"] = "worker"
    heading: str = ""
    total: bool = False


class Counters(msgspec.Struct, kw_only=True):
    """What `chatctl status --json` shows of a worker under the same names."""

    connections: Annotated[int, Field("open connections, UDP peers included", heading="CONNS")]
    sessions: Annotated[int, Field("users logged in", heading="SESS")]
    messages_in: Annotated[int, Field("messages accepted from clients and stored, since the worker started")]
    messages_out: Annotated[int, Field("messages written to clients, since the worker started")]
    loop_lag_us: Annotated[
        int, Field("largest delay of a timer of the event loop in the last 10 s", "us", heading="LAG/ms")
    ]
    commit_p99_us: Annotated[int, Field("99th percentile of store commits in the last 10 s", "us", heading="COM/ms")]
    queue_bytes: Annotated[int, Field("bytes waiting to be written to clients", "bytes", heading="QUEUE")]
    queue_messages: Annotated[int, Field("messages waiting for the store")]
    errors: Annotated[int, Field("log records of level ERROR or FATAL, since the worker started", heading="ERR")]
    refused: Annotated[
        int,
        Field("connections refused or ended to make room, since the worker started"),
    ]
    refused_full: Annotated[
        int,
        Field("of these, because the worker had no room or no descriptors for any client, since the worker started"),
    ]
    log_dropped: Annotated[int, Field("log records that could not be written, since the worker started")]
    store_ok: Annotated[bool, Field("the last commit succeeded")]
    bus_ok: Annotated[bool, Field("the message bus works; a worker that hangs does not make it false")]
    bus_round_trip_us: Annotated[int, Field("last round trip on the message bus; 0 = not measured by this bus", "us")]
    bus_forged: Annotated[bool, Field("a forged or replayed bus message was refused in the last 10 minutes")]
    udp_peers: Annotated[int, Field("UDP peers; they are included in `connections`")]
    udp_dropped: Annotated[int, Field("datagrams that could not be sent or served, since the worker started")]
    hooks_open: Annotated[
        int, Field("functions of plug-ins that are not called at the moment because they failed repeatedly")
    ]
    hook_users_held: Annotated[
        int, Field("users for whom a function of a plug-in is not called at the moment because it failed for them")
    ]
    hook_failures: Annotated[int, Field("calls of plug-ins that failed, since the worker started")]
    hook_dropped: Annotated[
        int, Field("events for plug-ins dropped because the queue was full, since the worker started")
    ]
    store_bytes: Annotated[
        int,
        Field("size of the store; only the ready worker with the lowest slot measures it, and does retention", "bytes"),
    ] = 0
    store_free_bytes: Annotated[int, Field("of these, bytes that hold nothing", "bytes")] = 0
    store_reclaims: Annotated[bool, Field("bytes that hold nothing are given back to the file system")] = False
    oldest_message_ms: Annotated[int, Field("when the oldest message that is kept was sent, since the epoch", "ms")] = 0
    retention_at_ms: Annotated[int, Field("when retention last completed its work, since the epoch", "ms")] = 0
    retention_failed: Annotated[bool, Field("the last attempt of retention failed; the log says why")] = False
    retention_held: Annotated[
        bool, Field("retention deletes nothing because the clock is far ahead of when it worked last")
    ] = False
    retention_deleted: Annotated[
        int, Field("messages deleted or blanked", heading="messages deleted or blanked", total=True)
    ] = 0
    erasures_pending: Annotated[int, Field("erased accounts whose messages are being blanked")] = 0
    webhook_waiting: Annotated[
        int, Field("events that the receivers of webhooks have not taken; of the webhooks that this worker delivers")
    ] = 0
    webhook_lag_ms: Annotated[int, Field("age of the oldest of them", "ms")] = 0
    webhooks_failing: Annotated[int, Field("of these webhooks, those whose last attempt failed")] = 0
    webhooks_disabled: Annotated[
        int, Field("webhooks that nobody delivers because their receiver wants no more; only the leader says so")
    ] = 0
    webhook_events: Annotated[
        int, Field("events that receivers of webhooks have taken", heading="events sent to webhooks", total=True)
    ] = 0
    webhook_failures: Annotated[
        int, Field("attempts to send to webhooks that failed", heading="failed attempts", total=True)
    ] = 0
    logins: Annotated[int, Field("logins that succeeded", heading="ok", total=True)]
    logins_failed: Annotated[
        int, Field("logins with an unknown name or a wrong password", heading="failed", total=True)
    ]
    logins_refused: Annotated[int, Field("logins refused for another reason", heading="refused", total=True)]
    registrations: Annotated[int, Field("accounts registered by clients", heading="accounts registered", total=True)]
    registrations_refused: Annotated[int, Field("registrations refused", heading="registrations refused", total=True)]
    passwords_changed: Annotated[
        int, Field("passwords changed by their users", heading="passwords changed", total=True)
    ]
    password_changes_failed: Annotated[
        int, Field("changes of a password refused", heading="changes of a password refused", total=True)
    ]
    connections_refused: Annotated[
        int,
        Field(
            "connections refused or ended: too many of a source, a banned address, or a page of another origin",
            heading="connections refused by source",
            total=True,
        ),
    ]
    datagrams_refused: Annotated[
        int, Field("datagrams refused because their token is missing or wrong", heading="datagrams refused", total=True)
    ]
    identities_refused: Annotated[
        int, Field("commands sent in another user's name", heading="claimed identities refused", total=True)
    ]
    penalties_begun: Annotated[
        int, Field("penalties begun, of sources and of accounts", heading="penalties begun", total=True)
    ]
    hooks_suspended: Annotated[
        int, Field("times a plug-in that decides was suspended", heading="plug-ins suspended", total=True)
    ]
    bus_forgeries: Annotated[
        int, Field("bus messages refused because of their signature", heading="bus messages refused", total=True)
    ]
    rate_refused: Annotated[
        int, Field("commands refused because their user exceeds a rate", heading="refused by rate", total=True)
    ]
    mailbox_refused: Annotated[
        int,
        Field(
            "messages refused because too many wait for their recipient",
            heading="refused by full mailboxes",
            total=True,
        ),
    ]
    api_keys_refused: Annotated[
        int, Field("requests to the HTTP API with a key that is not valid", heading="API keys refused", total=True)
    ] = 0
    api_scopes_missing: Annotated[
        int,
        Field(
            "requests to the HTTP API with a key without the scope that is needed",
            heading="API scopes missing",
            total=True,
        ),
    ] = 0
    http_requests: Annotated[
        int, Field("requests to the HTTP API answered", heading="API requests answered", total=True)
    ] = 0
    http_client_errors: Annotated[
        int, Field("of these, with a status from 400 to 499", heading="API requests refused", total=True)
    ] = 0
    http_server_errors: Annotated[
        int, Field("of these, with a status from 500 to 599", heading="API requests failed", total=True)
    ] = 0
    log_held_back: Annotated[
        int, Field("log records held back because they repeat", heading="log records held back", total=True)
    ]
    penalties_replaced: Annotated[
        int,
        Field(
            "records of the penalty table given up for others while they still counted, because there was no room",
            heading="penalties given up",
            total=True,
        ),
    ]


class _Cells(Counters, kw_only=True):
    """Everything a row holds: the counters, and what only the master reads."""

    pid: Annotated[int, Field("process id", writer="master")]
    generation: Annotated[int, Field("configuration the worker has applied")]
    state: Annotated[int, Field("one of State")]
    started_ms: Annotated[int, Field("when the worker was forked, since the epoch", "ms", writer="master")]
    heartbeat_ns: Annotated[int, Field("CLOCK_MONOTONIC of the event loop's last turn", "ns")]
    log_generation: Annotated[int, Field("rotations of the log files; in the master's row only", writer="master")]


_KINDS = get_type_hints(_Cells)
FIELDS: dict[str, Field] = {
    name: kind.__metadata__[0] for name, kind in get_type_hints(_Cells, include_extras=True).items()
}
"""Every number of a row, in the order of its cells."""
TOTALS: tuple[str, ...] = tuple(name for name, field in FIELDS.items() if field.total)
"""The numbers whose sum over all processes is shown."""


if TYPE_CHECKING:  # a row has the numbers as attributes; at run time they are properties, set below
    _Attributes = _Cells
else:
    _Attributes = object


class Row(_Attributes):
    """One process's line of the scoreboard. Every name in FIELDS is an attribute to read and to assign.

    cells: a memoryview of signed 64-bit integers (format "q"), ROW_BYTES long.
    """

    if not TYPE_CHECKING:
        __slots__ = ("cells",)

    def __init__(self, cells: memoryview) -> None:
        self.cells = cells

    def clear(self) -> None:
        """Set everything to zero, before another process uses the row."""
        for index in range(len(self.cells)):
            self.cells[index] = 0

    def counters(self) -> Counters:
        """A copy of what is shown in the status."""
        return Counters(**{name: getattr(self, name) for name in Counters.__struct_fields__})


def _attribute(index: int, kind: type) -> property:
    def get(self: Row) -> int:
        return self.cells[index]

    def get_flag(self: Row) -> bool:
        return self.cells[index] != 0

    def put(self: Row, value: int) -> None:
        self.cells[index] = value

    return property(get_flag if kind is bool else get, put)


for _index, _name in enumerate(FIELDS):
    setattr(Row, _name, _attribute(_index, _KINDS[_name]))


def leader(rows: Sequence[Row]) -> int | None:
    """Slot of the worker that does what one worker of a host does for all: the lowest that is ready. None = none is.
    For a moment two workers may each take themselves for it."""
    return next((slot for slot, row in enumerate(rows) if row.state == State.READY), None)


def _row_type(names: Sequence[str]) -> type[Row]:
    """A Row whose numbers are in the cells with these names."""
    if tuple(names[: len(FIELDS)]) == tuple(FIELDS):
        return Row
    places = {name: _attribute(names.index(name), _KINDS[name]) for name in FIELDS}
    return type("AdoptedRow", (Row,), {"__slots__": (), **places})


class LayoutFull(ChatdError):
    """The rows of the running server have no room for the numbers of this version. Caught by the preflight of an
    upgrade."""


class ScoreboardState(msgspec.Struct, frozen=True, kw_only=True):
    """All that another program needs to use the same memory.

    descriptor: of the memory. row_bytes: length of a row. names: of the cells of a row, in their order; those that the
    present program does not know keep their cells.
    """

    descriptor: int
    row_bytes: int
    workers: int
    names: tuple[str, ...]


class Scoreboard:
    """rows: one per worker slot. master_row: the master's own; its TOTALS include those of workers that have ended."""

    def __init__(self, before: ScoreboardState | None = None) -> None:
        """before: the memory of an earlier program; None = new memory.

        Raises: OSError; LayoutFull when the earlier program's rows are too short, or too few.
        """
        if before is None:
            before = _new_memory()
        self.state = extended(before)
        """To be given to a later program."""
        row_bytes, workers = self.state.row_bytes, self.state.workers
        self._memory = mmap.mmap(self.state.descriptor, row_bytes * (workers + 1))
        view = memoryview(self._memory)
        starts = range(0, row_bytes * (workers + 1), row_bytes)
        kind = _row_type(self.state.names)
        rows = [kind(view[start : start + row_bytes].cast("q")) for start in starts]
        self.rows = tuple(rows[:workers])
        self.master_row = rows[workers]

    def keep_totals(self, row: Row) -> None:
        """The worker of this row has ended: add its TOTALS to the master's. Called by the master, any number of
        times."""
        for name in TOTALS:
            setattr(self.master_row, name, getattr(self.master_row, name) + getattr(row, name))
            setattr(row, name, 0)

    def totals(self) -> dict[str, int]:
        """TOTALS of all processes since the server started."""
        rows = (self.master_row, *self.rows)
        return {name: sum(getattr(row, name) for row in rows) for name in TOTALS}


def _new_memory() -> ScoreboardState:
    descriptor = os.memfd_create("scoreboard", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, ROW_BYTES * (MAX_WORKERS + 1))
    return ScoreboardState(descriptor=descriptor, row_bytes=ROW_BYTES, workers=MAX_WORKERS, names=tuple(FIELDS))


def extended(before: ScoreboardState) -> ScoreboardState:
    """The same memory, with cells for the numbers that only this program knows as well. Raises LayoutFull."""
    names = (*before.names, *(name for name in FIELDS if name not in before.names))
    if len(names) * _CELL_BYTES > before.row_bytes or before.workers != MAX_WORKERS:
        raise LayoutFull(
            f"the scoreboard has {before.workers} rows of {before.row_bytes // _CELL_BYTES} numbers, "
            f"this version needs {MAX_WORKERS} of {len(names)}"
        )
    return msgspec.structs.replace(before, names=names)
