"""Everything that a start, or a program that takes over, has before the master exists.

Owns: the struct.
Elsewhere: filling it (master.start, master.upgrade.resume), using it (master.master, master.upgrade.capture).
Fails: never.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from chatd.master.certificates import CertificateKeeper
from chatd.master.daemonize import StartReport
from chatd.master.instance_lock import InstanceLock
from chatd.master.listeners import Bound
from chatd.master.metrics.endpoint import Listening
from chatd.master.systemd import ServiceManager
from chatd.master.udp_sockets import UdpSockets
from chatd.penalty_table import PenaltyTable
from chatd.scoreboard import Scoreboard


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything that a start has bound, locked and opened before the master exists."""

    scoreboard: Scoreboard
    penalty_table: PenaltyTable
    bound: tuple[Bound, ...]
    """The stream sockets, one per listener."""
    adopted: frozenset[socket.socket]
    """Those of them that belong to systemd."""
    control: socket.socket | None = None
    """The control socket, if it belongs to systemd."""
    udp_sockets: UdpSockets
    certificates: CertificateKeeper
    metrics: Listening
    """The socket on which metrics are served, if they are."""
    lock: InstanceLock
    systemd: ServiceManager
    report: StartReport
