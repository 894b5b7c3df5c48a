"""One fork: from the master to a worker in its context.

Owns: what a child has, loses and ignores before the worker's own code runs (OPS-02), and its exit code afterwards.
Not here: what a worker does (worker, given as `serve`); when one is forked and what becomes of it (pool).
Fails: OSError from fork or socketpair, for the pool to try again later.
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

import msgspec

from chatd import log
from chatd.config.schema import Config
from chatd.errors import BootError, ConfigError, Exit, Unavailable
from chatd.master.listeners import Bound
from chatd.master.scoreboard import Scoreboard, clear
from chatd.master.udp_sockets import Datagrams
from chatd.scoreboard import State
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
"""Terminals and pkill reach whole groups; these are the master's."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What every worker is given."""

    scoreboard: Scoreboard
    listeners: tuple[Bound, ...]
    datagrams: Datagrams
    life_read: int
    serve: Serve
    leave_master: Callable[[], None]
    """In the child: close everything that is the master's."""


@dataclass(frozen=True, slots=True)
class Child:
    """The master's view of a new process. stacks: a memory file into which a dying worker dumps its stacks."""

    pid: int
    pidfd: int
    orders: socket.socket
    stacks: int

    def close(self) -> None:
        os.close(self.pidfd)
        os.close(self.stacks)
        self.orders.close()


def fork(slot: int, generation: int, config: Config, shared: Shared) -> Child:
    """A new worker in `slot`. Its row says BOOTING, with a fresh heartbeat, before it runs."""
    row = shared.scoreboard.rows[slot]
    datagrams = shared.datagrams.of(slot)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stacks = os.memfd_create("stacks")
    ours.setblocking(False)
    theirs.setblocking(False)
    clear(row)
    row.generation, row.state = generation, State.BOOTING
    row.started_ms, row.heartbeat_ns = time.time_ns() // 1_000_000, time.monotonic_ns()
    row.store_ok = row.bus_ok = 1  # nothing has failed yet
    held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            ours.close()
            context = WorkerContext(
                slot=slot,
                generation=generation,
                config=config,
                listeners=shared.listeners,
                life_fd=shared.life_read,
                order_fd=theirs.detach(),
                rows=shared.scoreboard.rows,
                master_row=shared.scoreboard.master_row,
                datagrams=datagrams,
            )
            _be_worker(context, shared, stacks)
    except OSError:
        ours.close()
        os.close(stacks)
        clear(row)
        raise
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    row.pid = pid
    return Child(pid, os.pidfd_open(pid), ours, stacks)


def _be_worker(context: WorkerContext, shared: Shared, stacks: int) -> None:
    """Never returns."""
    code = int(Exit.BUG)
    try:
        context.rows[context.slot].pid = os.getpid()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with contextlib.suppress(OSError, ValueError):  # the C library keeps two for itself
                signal.signal(number, signal.SIG_IGN if number in IGNORED else signal.SIG_DFL)
        shared.leave_master()
        shared.datagrams.keep_only(context.slot)
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
    except BaseException as error:  # noqa: BLE001  the last place where it can be told
        log.get().exception("worker ended by a bug")
        return _cannot_start(context, f"{type(error).__name__}: {error}", Exit.BUG)


def _cannot_start(context: WorkerContext, why: str, code: Exit) -> int:
    answer = msgspec.json.encode({"failed": context.generation, "why": why[:4096]})
    with contextlib.suppress(OSError):  # the master is gone: nobody is left to tell
        os.write(context.order_fd, answer)
    return code
