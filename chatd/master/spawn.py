"""One fork: from the master to a worker in its context.

Owns: the descriptors, signals and privileges of a child before the worker's own code runs, and its exit code
afterwards.
Elsewhere: the work of a worker (worker, given as `serve`); when to fork one, and supervising it (master.workers).
Fails: OSError, for the pool to try again later. No child is left behind then, and the slot's row is empty.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from chatd import log, orders, wall_clock
from chatd.config.schema import Config
from chatd.errors import BootError, ConfigError, Exit, Unavailable
from chatd.master.certificates import CertificateKeeper
from chatd.master.listeners import Bound
from chatd.master.udp_sockets import UdpSockets
from chatd.penalty_table import PenaltyTable
from chatd.scoreboard import Row, Scoreboard, State
from chatd.worker_context import WorkerContext

Serve = Callable[[WorkerContext], int]

IGNORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGPIPE,
)
"""Signals for the master, which terminals and `pkill` send to every process of the group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Given to every worker."""

    scoreboard: Scoreboard
    penalty_table: PenaltyTable
    listeners: tuple[Bound, ...]
    udp_sockets: UdpSockets
    certificates: CertificateKeeper
    life_read: int
    """Read end of a pipe whose only writer is the master: at its end the master is gone."""
    serve: Serve
    leave_master: Callable[[], None]
    """Called in the child: close everything that is the master's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """The master's view of a new process."""

    pid: int
    pidfd: int
    orders: socket.socket
    stacks: int
    """A memory file into which a worker that is aborted writes the stacks of its threads."""
    hand_over: socket.socket | None = None
    """Of a successor: what the worker that it replaces is sent to hand over to it. Closed once it has been."""

    def close(self) -> None:
        os.close(self.pidfd)
        os.close(self.stacks)
        _close(self.orders, self.hand_over)


def fork(
    slot: int, generation: int, config: Config, shared: Shared, *, is_successor: bool = False, patient: bool = False
) -> Child:
    """A new worker in `slot`. Its row says BOOTING, with a fresh heartbeat, before it runs. is_successor: a worker that
    runs will hand over to it. patient: as in its context.

    Raises: OSError when a descriptor or a process cannot be created; then no child is left and the row is empty.
    """
    row = shared.scoreboard.rows[slot]
    udp_sockets = shared.udp_sockets.of(slot)
    ours, theirs = _pair()
    hand_over, predecessor = _pair() if is_successor else (None, None)
    stacks = os.memfd_create("stacks")
    context = WorkerContext(
        slot=slot,
        generation=generation,
        config=config,
        patient=patient,
        listeners=shared.listeners,
        life_fd=shared.life_read,
        orders=theirs,
        penalty_table=shared.penalty_table,
        rows=shared.scoreboard.rows,
        master_row=shared.scoreboard.master_row,
        udp_sockets=udp_sockets,
        certificates=shared.certificates.current(),
        predecessor=predecessor,
    )
    _begin_row(row, generation)
    try:
        pid, pidfd = _fork(context, shared, stacks, ours, hand_over)
    except OSError:
        _close(ours, hand_over)
        os.close(stacks)
        row.clear()
        raise
    finally:
        _close(theirs, predecessor)
    row.pid = pid
    return Child(pid=pid, pidfd=pidfd, orders=ours, stacks=stacks, hand_over=hand_over)


def _fork(context: WorkerContext, shared: Shared, stacks: int, *of_master: socket.socket | None) -> tuple[int, int]:
    """The pid and a pidfd of the new process; in that, never returns. of_master: the other ends of its sockets. Raises:
    OSError."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _close(*of_master)
            _be_worker(context, shared, stacks)
        return pid, _open_pidfd(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _pair() -> tuple[socket.socket, socket.socket]:
    """Non-blocking, and closed on exec."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def _close(*sockets: socket.socket | None) -> None:
    for one in sockets:
        if one is not None:
            one.close()


def _begin_row(row: Row, generation: int) -> None:
    row.clear()
    row.generation, row.state = generation, State.BOOTING
    row.started_ms, row.heartbeat_ns = wall_clock.now_ms(), time.monotonic_ns()
    row.store_ok = row.bus_ok = True  # nothing has failed yet


def _open_pidfd(pid: int) -> int:
    """A pidfd of our own new child. If none can be opened, the child is killed, because it could not be supervised."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own
        os.waitpid(pid, 0)
        raise


def _be_worker(context: WorkerContext, shared: Shared, stacks: int) -> None:
    """Never returns."""
    code = int(Exit.BUG)
    try:
        context.rows[context.slot].pid = os.getpid()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with contextlib.suppress(OSError, ValueError):  # the C library reserves two
                signal.signal(number, signal.SIG_IGN if number in IGNORED else signal.SIG_DFL)
        shared.leave_master()
        shared.udp_sockets.keep_only(context.slot)
        faulthandler.enable(file=stacks, all_threads=True)
        log.setup(
            context.config.log,
            context.config.server.log_dir,
            context.rows[context.slot],
            context.master_row,
            worker=context.slot,
        )
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        code = _serve(context, shared.serve)
    finally:
        os._exit(code)


def _serve(context: WorkerContext, serve: Serve) -> int:
    try:
        return serve(context)
    except BootError as error:
        return _cannot_start(context, str(error), error.exit_code)
    except ConfigError as error:
        return _cannot_start(context, str(error), Exit.CONFIG)
    except Unavailable as error:
        return _cannot_start(context, str(error), Exit.UNAVAILABLE)
    except BaseException as error:  # noqa: BLE001  the last place where it can be reported
        log.get().exception("worker ended by a bug")
        return _cannot_start(context, f"{type(error).__name__}: {error}", Exit.BUG)


def _cannot_start(context: WorkerContext, why: str, code: Exit) -> int:
    answer = orders.CannotStart(why[: orders.WHY_CHARS])
    with contextlib.suppress(OSError):  # the master is gone: nobody is left to be told
        context.orders.send(orders.encode(answer))
    return code
