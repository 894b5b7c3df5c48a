"""Everything that the master hands to a worker it has forked.

Owns: the struct. Filled by master.spawn, read by worker, so that neither needs to know the other.
Elsewhere: what they exchange afterwards (orders, scoreboard).
Fails: never.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from chatd.config.schema import Config, ListenerOptions
from chatd.penalty_table import PenaltyTable
from chatd.scoreboard import Row
from chatd.tls.certificates import Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """The log is set up before the worker runs: `log.get()` is all it needs. A worker that cannot start raises
    ConfigError, BootError or Unavailable, and the operator is shown that line."""

    slot: int
    """Its row of the scoreboard. After a death the next worker gets the same slot; a successor has its own."""
    generation: int
    """Generation of the configuration."""
    config: Config
    patient: bool = False
    """The server has been ready before: start even if the store or the bus cannot be reached, and serve what can be
    served, as the workers do that were there when it went away."""
    listeners: tuple[tuple[ListenerOptions, socket.socket], ...]
    """One bound, listening, non-blocking socket per stream [[listen]], shared by all workers."""
    certificates: Mapping[str, tuple[Certificate, ...]]
    """Those of each listener with TLS, by its address; read by the master, so that a worker can be replaced while the
    files cannot be used."""
    udp_sockets: tuple[tuple[ListenerOptions, socket.socket], ...] = ()
    """One bound, non-blocking socket per udp [[listen]], of this worker's place only. The master holds them too, so
    that a client address keeps its place when the worker is replaced."""
    life_fd: int
    """Read end of a pipe whose only writer is the master; at its end the master is gone."""
    orders: socket.socket
    """Non-blocking SOCK_SEQPACKET socket on which orders come, some with a descriptor, and answers go (orders)."""
    penalty_table: PenaltyTable
    """Of the whole host."""
    rows: tuple[Row, ...]
    """Every slot's row of the scoreboard; `rows[slot]` is this worker's own."""
    master_row: Row
    """The master's own row."""
    predecessor: socket.socket | None = None
    """To the worker that this one replaces (SOCK_SEQPACKET, non-blocking); None = it replaces none. That worker gets
    the other end with a HandOverOrder once this one is ready. Until it says that it no longer reads the UDP sockets,
    this one must not read them; when it has ended, or nobody hands over, this end reads as closed."""
