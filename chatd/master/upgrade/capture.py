"""The state of the running master, to be handed over.

Owns: collecting it.
Elsewhere: its form (master.upgrade.state), each part (the module that it describes).
Fails: never.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from chatd import __version__
from chatd.master.control import ControlSocket
from chatd.master.metrics.endpoint import MetricsEndpoint
from chatd.master.prepared import Prepared
from chatd.master.questions.router import QuestionRouter
from chatd.master.reload import Reload
from chatd.master.upgrade import workers
from chatd.master.upgrade.program import Program
from chatd.master.upgrade.state import FORMAT, ListenerState, MasterState, UpgradeOrder
from chatd.master.watcher import Watcher
from chatd.master.workers import WorkerPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a master. life: the pipe by which workers notice that it is gone. began: monotonic seconds, of the
    start. programs: how many programs this process has run, this one included; an upgrade adds one."""

    prepared: Prepared
    life: tuple[int, int]
    began: float
    programs: int
    watcher: Watcher
    pool: WorkerPool
    reload: Reload
    control: ControlSocket
    questions: QuestionRouter
    metrics: MetricsEndpoint


def capture(
    parts: Parts, program: Program, order: UpgradeOrder, caught: Iterable[tuple[signal.Signals, int]] = ()
) -> MasterState:
    """Everything as it is now. caught: signals that were not acted on, and how often each came."""
    prepared = parts.prepared
    return MasterState(
        format=FORMAT,
        pid=os.getpid(),
        version=__version__,
        programs=parts.programs,
        began=parts.began,
        order=order,
        program=program,
        config=msgspec.Raw(msgspec.json.encode(parts.pool.config)),
        secrets=dict(parts.reload.secrets),
        scoreboard=prepared.scoreboard.state,
        penalties=prepared.penalty_table.state,
        listeners=tuple(
            ListenerState(address=one.address, descriptor=sock.fileno(), adopted=sock in prepared.adopted)
            for one, sock in prepared.bound
        ),
        udp=prepared.udp_sockets.state(),
        certificates=dict(prepared.certificates.current()),
        locks=tuple(prepared.lock.descriptors),
        life=parts.life,
        service=prepared.systemd.state,
        control=parts.control.state(),
        reloads=parts.reload.state(),
        pool=workers.capture(parts.pool),
        traces=parts.questions.traces.state(),
        kicks=parts.questions.kicks.state(),
        metrics=parts.metrics.state(),
        signals=tuple((int(number), times) for number, times in caught),
    )
