"""The workers: how many there are, and what becomes of each.

Owns: slots, forking into them, noticing READY, hangs and deaths, back-off, ending workers within a deadline, and the
orders they are sent.
Not here: the fork itself (spawn), why one reloads or stops (supervise, reload).
Fails: a worker that cannot start is told by `boot_failure` until the first time all are ready; afterwards it is
tried again for ever, ever more slowly (OPS-06).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chatd import log
from chatd.config.schema import Config
from chatd.errors import Exit
from chatd.master import file_locks, spawn
from chatd.master.scoreboard import MAX_WORKERS, clear
from chatd.scoreboard import Row, State

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 30.0
HEALTHY_S, STEADY_S = 60.0, 5.0
ABORT_TO_KILL_S, BLOCKER_TO_KILL_S = 5.0, 1.0
BLOCKER_PATIENCE, BLOCKER_LEAST_S = 1 / 6, 2.0
"""A worker that keeps others waiting for a lock is given this share of hang_s, and at least this long."""
FRESH_S = 1.0
"""Whose heartbeat is younger than this is well."""
STOP_GRACE_S = 2.0
BOOT_TRIES = 3
ANSWER_BYTES = 65536


@dataclass(slots=True)
class Worker:
    """A running process. born: the configuration it was forked with; generation: the one it has confirmed since.
    kill_at: when it is killed if it is still there. leaving: it was told to go."""

    child: spawn.Child
    born: Config
    generation: int
    started: float
    ready_at: float = 0.0
    kill_at: float = 0.0
    leaving: bool = False
    hung: bool = False
    why: str = ""


@dataclass(slots=True)
class Slot:
    """failures: deaths in a row, that decide the back-off. fork_at: when a worker is due; 0 = none is."""

    index: int
    row: Row
    worker: Worker | None = None
    failures: int = 0
    fork_at: float = 0.0
    restarts: int = 0


@dataclass(slots=True)
class BootFailure:
    """Why the server cannot start."""

    code: int
    line: str


@dataclass(slots=True)
class WorkerPool:
    """on_answer(slot, message): a worker answered an order. watch/unwatch: the loop's, for order sockets."""

    shared: spawn.Shared
    config: Config
    generation: int
    wanted: int
    on_answer: Callable[[Slot, dict[str, Any]], None]
    watch: Callable[[int, Callable[[], None]], None]
    unwatch: Callable[[int], None]
    slots: list[Slot] = field(default_factory=list)
    started: bool = False
    stopping: bool = False
    boot_failure: BootFailure | None = None
    patience_until: float = 0.0

    def __post_init__(self) -> None:
        self.slots = [Slot(index, row) for index, row in enumerate(self.shared.scoreboard.rows)]

    # ------------------------------------------------------------ who is there

    def present(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.worker is not None]

    def serving(self) -> list[Slot]:
        """Slots with a worker that stays, or one that is due."""
        return [slot for slot in self.slots if slot.fork_at or (slot.worker is not None and not slot.worker.leaving)]

    def ready(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.worker and slot.worker.ready_at and not slot.worker.leaving]

    def degraded(self) -> bool:
        return self.started and len(self.ready()) < self.wanted

    # ------------------------------------------------------------ how many

    def scale(self, wanted: int) -> None:
        """Live: fork what is missing, let the highest slots go."""
        self.wanted = max(1, min(wanted, MAX_WORKERS))
        serving = self.serving()
        now = time.monotonic()
        for slot in serving[self.wanted :]:
            slot.fork_at = 0.0
            slot.failures = 0
            self.shared.datagrams.release(slot.index)
            if slot.worker is None:
                clear(slot.row)
            else:
                self.let_go(slot.worker)
        free = [slot for slot in self.slots if slot.worker is None and not slot.fork_at]
        for slot in free[: max(0, self.wanted - len(serving))]:
            slot.fork_at = now
        self.fork_due(now)

    def fork_due(self, now: float) -> None:
        for slot in self.slots:
            if slot.fork_at and slot.fork_at <= now and slot.worker is None and not self.stopping:
                self._fork(slot, now)

    def _fork(self, slot: Slot, now: float) -> None:
        slot.fork_at = 0.0
        try:
            child = spawn.fork(slot.index, self.generation, self.config, self.shared)
        except OSError as error:
            log.get().error("worker cannot be forked", slot=slot.index, why=error.strerror)
            self._again_later(slot, now)
            if not self.started and slot.failures >= BOOT_TRIES:
                self.boot_failure = BootFailure(Exit.OS, f"worker cannot be forked: {error.strerror}")
            return
        slot.worker = Worker(child, self.config, self.generation, now)
        self.watch(child.orders.fileno(), lambda: self.read_answers(slot))
        log.get().debug("worker forked", slot=slot.index, worker_pid=child.pid)

    def _again_later(self, slot: Slot, now: float) -> None:
        slot.failures += 1
        delay = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(slot.failures - 1, 16))
        slot.fork_at = now + delay * random.uniform(0.5, 1.0)
        clear(slot.row)
        slot.row.state = State.DEGRADED

    # ------------------------------------------------------------ deaths

    def reap(self) -> None:
        """Every child that has ended; those we do not know (chatd as process 1) silently."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for slot in self.slots:
                if slot.worker is not None and slot.worker.child.pid == pid:
                    self._buried(slot, slot.worker, os.waitstatus_to_exitcode(status))
                    break

    def _buried(self, slot: Slot, worker: Worker, code: int) -> None:
        """code: negative = ended by that signal."""
        now = time.monotonic()
        self.read_answers(slot)
        self._report(slot, worker, code)
        self.unwatch(worker.child.orders.fileno())
        worker.child.close()
        slot.worker = None
        if self.stopping or worker.leaving:
            clear(slot.row)
            if not self.stopping and len(self.serving()) < self.wanted:
                slot.fork_at = now
            return
        slot.restarts += 1
        lived = now - worker.ready_at if worker.ready_at else 0.0
        if lived >= HEALTHY_S:
            slot.failures = 0
        elif lived >= STEADY_S:
            slot.failures //= 2
        self._again_later(slot, now)
        if not self.started:
            self._boot_failed(slot, worker, code)

    def _boot_failed(self, slot: Slot, worker: Worker, code: int) -> None:
        """Before READY: exit codes are final, anything else has three tries."""
        final = code in (Exit.CONFIG, Exit.UNAVAILABLE, Exit.OS, Exit.CANNOT_CREATE, Exit.PERMISSION)
        if not final and slot.failures < BOOT_TRIES:
            return
        line = worker.why or f"worker {slot.index} ended while starting ({_how(code)})"
        self.boot_failure = BootFailure(code if code > 0 else Exit.BUG, line)

    def _report(self, slot: Slot, worker: Worker, code: int) -> None:
        stacks = os.pread(worker.child.stacks, log.RECORD_BYTES, 0).decode("utf-8", "replace")
        told = {"slot": slot.index, "worker_pid": worker.child.pid, "end": _how(code)}
        if code == 0 and worker.leaving:
            log.get().info("worker has left", **told)
        elif worker.leaving:
            log.get().warning("worker did not leave well", **told)
        else:
            if worker.why:
                told["why"] = worker.why
            log.get().error("worker died", **told)
        if stacks:
            log.get(slot=slot.index, worker_pid=worker.child.pid).error("stacks of a worker", stacks=stacks)

    # ------------------------------------------------------------ health

    def look(self, now: float, late: bool) -> None:
        """At every turn of the loop. late: the master itself was stopped; then the workers get their turn first."""
        timeouts = self.config.timeouts
        if late:
            self.patience_until = now + min(5.0, timeouts.hang_s)
            log.get().warning("the master was stopped for a while; nobody is judged this round")
        for slot in self.slots:
            worker = slot.worker
            if worker is None:
                continue
            if not worker.ready_at and slot.row.state == State.READY:
                worker.ready_at = now
                log.get().info("worker is ready", slot=slot.index, worker_pid=worker.child.pid)
            if worker.kill_at:
                if now >= worker.kill_at:
                    self.signal(worker, signal.SIGKILL)
            elif now >= self.patience_until:
                self._judge(slot, worker, now, timeouts.hang_s, timeouts.boot_s)
        if not self.started and len(self.ready()) >= self.wanted:
            self.started = True
        self.fork_due(now)

    def _judge(self, slot: Slot, worker: Worker, now: float, hang_s: float, boot_s: float) -> None:
        silent = now - slot.row.heartbeat_ns / 1e9
        if not worker.ready_at:
            if now - worker.started >= boot_s:
                self._abort(slot, worker, "worker does not start", silent, now + ABORT_TO_KILL_S)
        elif silent >= hang_s:
            self._abort(slot, worker, "worker hangs", silent, now + ABORT_TO_KILL_S)
        elif silent >= max(BLOCKER_LEAST_S, hang_s * BLOCKER_PATIENCE) and self._is_waited_for(worker, now):
            self._abort(slot, worker, "worker hangs with a lock others wait for", silent, now + BLOCKER_TO_KILL_S)

    def _abort(self, slot: Slot, worker: Worker, what: str, silent: float, kill_at: float) -> None:
        log.get().error(what, slot=slot.index, worker_pid=worker.child.pid, silent_s=round(silent, 1))
        worker.hung = True
        worker.why = worker.why or what
        worker.kill_at = kill_at
        self.signal(worker, signal.SIGABRT)

    def _is_waited_for(self, worker: Worker, now: float) -> bool:
        """By a worker that is well. While none is, the machine may just be slow."""
        waiting = file_locks.waiting_for(worker.child.pid)
        return any(
            slot.worker.child.pid in waiting and now - slot.row.heartbeat_ns / 1e9 < FRESH_S
            for slot in self.slots
            if slot.worker is not None
        )

    def any_fresh(self, now: float) -> bool:
        """Whether a worker's loop turned lately: what the watchdog of systemd is told."""
        limit = self.config.timeouts.hang_s
        return any(slot.worker and now - slot.row.heartbeat_ns / 1e9 < limit for slot in self.slots)

    # ------------------------------------------------------------ orders and endings

    def order(self, slot: Slot, order: dict[str, Any]) -> bool:
        """False: it could not be sent; the worker does not read. One that has just died needs no order: its successor
        begins with what is in force then."""
        if slot.worker is None:
            return False
        try:
            slot.worker.child.orders.send(msgspec.json.encode(order))
        except (BrokenPipeError, ConnectionError):
            return True
        except OSError:
            return False
        return True

    def read_answers(self, slot: Slot) -> None:
        while slot.worker is not None:
            try:
                data = slot.worker.child.orders.recv(ANSWER_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.unwatch(slot.worker.child.orders.fileno())
                return
            try:
                answer = msgspec.json.decode(data, type=dict[str, Any])
            except msgspec.DecodeError:
                log.get().error("worker answers nonsense", slot=slot.index)
                continue
            slot.worker.why = str(answer.get("why", slot.worker.why))
            self.on_answer(slot, answer)

    def let_go(self, worker: Worker) -> None:
        """Drain, within timeouts.drain_s."""
        worker.leaving = True
        worker.kill_at = time.monotonic() + self.config.timeouts.drain_s + STOP_GRACE_S
        self.signal(worker, signal.SIGTERM)

    def stop(self) -> None:
        """All drain; nobody is replaced."""
        self.stopping = True
        for slot in self.slots:
            slot.fork_at = 0.0
            if slot.worker is not None and not slot.worker.leaving:
                self.let_go(slot.worker)

    def hurry(self, within_s: float) -> None:
        """All are gone in `within_s`, drained or not."""
        limit = time.monotonic() + within_s
        for slot in self.present():
            if slot.worker is not None:
                self.order(slot, {"order": "drain", "within_s": within_s * 0.8})
                slot.worker.kill_at = min(slot.worker.kill_at or limit, limit)

    def end_now(self) -> None:
        for slot in self.present():
            if slot.worker is not None:
                slot.worker.kill_at = time.monotonic()
                self.signal(slot.worker, signal.SIGKILL)

    def signal(self, worker: Worker, number: signal.Signals) -> None:
        """By pidfd: never to a stranger that has the number now."""
        try:
            signal.pidfd_send_signal(worker.child.pidfd, number)
        except ProcessLookupError:
            log.get().debug("worker had ended already", worker_pid=worker.child.pid)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
