"""What a master gives a worker it has forked, so that neither needs to know the other's insides.

Owns: the hand-over struct. Filled by master.spawn, read by worker.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from chatd.config.schema import Config, ListenerOptions
from chatd.scoreboard import Row


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """slot: 0..workers-1, kept over respawns. generation: of the configuration.

    listeners: one bound, listening, non-blocking socket per [[listen]], shared by all workers.
    datagrams: one bound, non-blocking UDP socket per udp [[listen]], this slot's own; the master holds them too,
    so that an address keeps its worker over a respawn.
    life_fd: read end of a pipe whose only writer is the master; EOF = the master is gone.
    order_fd: non-blocking SOCK_SEQPACKET socket of master -> worker orders and worker -> master answers,
    one JSON object per datagram: {"order": "reload", "generation": n, "config": {...}} ->
    {"done": n} or {"failed": n, "why": str}; {"order": "log", "level": "DEBUG"} (set the level; reopening needs no
    order); {"order": "drain", "within_s": x} (a fast stop: the drain that TERM began, or begins, may take x seconds).
    {"order": "kick", "ref": n, "user": name or number, or "user_id": id, "reason": str} -> {"kicked": n, "sessions": k,
    "known": bool, "unanswered": [host, ...], "cut_off": bool, "kept_s": n} or {"kicked": n, "why": str}.
    An order that is not known is ignored. A worker that cannot start raises ConfigError, BootError or Unavailable, or
    returns an exit code after it has sent {"failed": generation, "why": str}: the operator is told that line.
    rows: every slot's scoreboard row, for the accept gate; `rows[slot]` is this worker's own.
    master_row: the master's own row. The log is set up before the worker runs: `log.get()` is all it needs.
    """

    slot: int
    generation: int
    config: Config
    listeners: tuple[tuple[ListenerOptions, socket.socket], ...]
    life_fd: int
    order_fd: int
    rows: tuple[Row, ...]
    master_row: Row
    datagrams: tuple[tuple[ListenerOptions, socket.socket], ...] = ()
