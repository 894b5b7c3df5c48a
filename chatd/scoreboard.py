"""The numbers a worker keeps about itself, in shared memory, so that they can be read when it is stuck.

Owns: Row, one worker's line of the scoreboard. The memory is made by master.scoreboard before the first fork.
Single writer per field (the master writes pid, generation, state before the worker runs; then the worker
writes), aligned 8-byte stores: a reader never sees a torn value.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

ROW_BYTES = 256


class State(enum.IntEnum):
    EMPTY = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3
    DEGRADED = 4


FIELDS = (
    "pid",
    "generation",
    "state",
    "started_ms",  # epoch
    "heartbeat_ns",  # CLOCK_MONOTONIC, written by the loop itself
    "connections",
    "sessions",
    "loop_lag_us",  # highest of the last ten seconds
    "commit_p99_us",  # store: highest-percentile commit of the last ten seconds
    "messages_in",  # accepted from clients and stored, total
    "messages_out",  # given to clients, total
    "queue_bytes",  # in outboxes
    "queue_messages",  # waiting for the store
    "errors",  # error records logged, total
    "refused",  # connections refused, total
    "log_dropped",  # log records lost (disk full), total
    "log_generation",  # master's row only: bumped at each rotation
    "store_ok",  # 1 = the last commit succeeded
    "bus_ok",  # 1 = the bus works; a worker that hangs does not make it 0
    "bus_round_trip_us",  # the bus: how long the last canary took; 0 = there is none
    "udp_peers",  # of `connections`: those that are addresses, not sockets
    "udp_dropped",  # datagrams that could not be sent or served, total
    "hooks_open",  # plug-ins that are not called for now, because they fail
    "hook_failures",  # calls of plug-ins that failed, total
    "hook_dropped",  # events for plug-ins dropped, total
)


def _field(index: int) -> property:
    def get(self: Row) -> int:
        return self.cells[index]

    def put(self: Row, value: int) -> None:
        self.cells[index] = value

    return property(get, put)


class Row:
    """`cells` is a memoryview of signed 64-bit integers (format "q"), ROW_BYTES long."""

    if not TYPE_CHECKING:  # the fields below are properties, set at the end of this file
        __slots__ = ("cells",)

    def __init__(self, cells: memoryview) -> None:
        self.cells = cells

    pid: int
    generation: int
    state: int
    started_ms: int
    heartbeat_ns: int
    connections: int
    sessions: int
    loop_lag_us: int
    commit_p99_us: int
    messages_in: int
    messages_out: int
    queue_bytes: int
    queue_messages: int
    errors: int
    refused: int
    log_dropped: int
    log_generation: int
    store_ok: int
    bus_ok: int
    bus_round_trip_us: int
    udp_peers: int
    udp_dropped: int
    hooks_open: int
    hook_failures: int
    hook_dropped: int


for _index, _name in enumerate(FIELDS):
    setattr(Row, _name, _field(_index))
