"""The worker pool: the number of workers, and supervising each.

Owns: forking into the slots, noticing that a worker is ready, hangs or has died, back-off, ending workers within a
deadline, and sending them orders.
Elsewhere: what is known of a worker (master.worker_slot), the fork itself (master.spawn), the orders (chatd.orders),
why workers reload or stop (master.reload, master.master), replacing one that runs (master.rolling.replacement).
Fails: a worker that cannot start is reported by `boot.failure` until all have been ready once; afterwards it is tried
again for ever, with growing pauses.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

from chatd import log, orders
from chatd.config.load import workers_of
from chatd.config.schema import Config
from chatd.errors import Exit
from chatd.master import back_off, boot, file_locks, spawn, udp_shares
from chatd.master.boot import Boot
from chatd.master.rolling.replacement import Replacements
from chatd.master.watcher import Watcher
from chatd.master.worker_slot import NONE, Slot, WorkerProcess, describe_end
from chatd.orders import CannotStart, DrainOrder
from chatd.scoreboard import MAX_WORKERS, State

AVOID_S = 0.8
"""While a slot waits for longer than this, others serve the UDP clients of its place. They have to log in again, and
once more when they come back."""
ABORT_TO_KILL_S, LOCK_ABORT_TO_KILL_S = 5.0, 1.0
"""Time from SIGABRT to SIGKILL: of a worker that hangs, and of one that holds a lock others wait for."""
LOCK_HANG_SHARE, LOCK_HANG_LEAST_S = 1 / 6, 2.0
"""A silent worker that holds a lock others wait for is given this share of hang_s, and at least this long."""
FRESH_S = 1.0
"""A worker whose heartbeat is younger than this is healthy."""
LATE_PATIENCE_S = 5.0
"""After the master itself was stopped, no worker counts as hung for this long, or for hang_s if that is shorter."""
STOP_GRACE_S = 2.0
FORKS_PER_TURN = 4
"""Maximum forks per turn: more would keep the master from its other work."""


class WorkerPool:
    """All worker slots. on_answer is called with every answer of a worker to an order; it is set before the first
    scale()."""

    def __init__(self, shared: spawn.Shared, config: Config, watcher: Watcher) -> None:
        self.shared = shared
        self.config = config
        """The configuration in force; changed by a reload and by `chatctl log-level`."""
        self.generation = 1
        """Generation of the configuration in force; changed by a reload."""
        self.wanted = workers_of(config)
        self.slots = [Slot(index, row) for index, row in enumerate(shared.scoreboard.rows)]
        self.started = False
        """All wanted workers have been ready at once; a worker that cannot start no longer ends the server."""
        self.stopping = False
        """The server is stopping: no worker is replaced."""
        self.suspended = False
        """The host is drained, or drains: no worker is forked until resume()."""
        self._suspensions = 0
        """Drains of the whole pool so far."""
        self.boot = Boot(config)
        self.on_stranger: Callable[[int, int], None] = lambda pid, status: None
        """Called with every other child that has ended, and its status as waitpid() gives it."""
        self.on_answer: Callable[[Slot, orders.Answer], None] = lambda slot, answer: None
        self.replacements = Replacements(self)
        self._watcher = watcher
        self._last_resort = back_off.LastResort()
        self._patience_until = 0.0
        """Until then no worker counts as hung, because the master itself was stopped."""

    # ------------------------------------------------------------ the slots

    def present(self) -> list[Slot]:
        """Slots with a process, in any state."""
        return [slot for slot in self.slots if slot.worker is not None]

    def serving(self) -> list[Slot]:
        """One slot for each place: it has a worker that is to stay, or one is due."""
        return [slot for slot in self.slots if slot.fork_at or (slot.worker is not None and slot.worker.has_place)]

    def ready(self) -> list[Slot]:
        """Slots with a worker that is ready and is to stay."""
        return [slot for slot in self.slots if slot.worker and slot.worker.ready_at and slot.worker.has_place]

    def leaving_generations(self) -> int:
        """Of how many drains of the whole pool workers are still leaving."""
        return len({slot.worker.left_in for slot in self.slots if slot.worker and slot.worker.leaving})

    # ------------------------------------------------------------ how many

    def scale(self, wanted: int) -> None:
        """Change the number of workers: missing ones are forked by manage(), the highest slots drain."""
        self.wanted = self.shared.udp_sockets.places = max(1, min(wanted, MAX_WORKERS))
        if self.suspended:
            return
        serving = self.serving()
        now = time.monotonic()
        for slot in serving[self.wanted :]:
            slot.fork_at = 0.0
            slot.failures = 0
            if slot.worker is None:
                slot.row.clear()
                self.shared.udp_sockets.release(slot.index)
            else:
                self.shared.udp_sockets.avoid(slot.index)
                self.replacements.cancel(slot)
                self.drain(slot.worker)
        udp_shares.hand_out(self)
        free = [slot for slot in self.slots if slot.worker is None and not slot.fork_at]
        for slot in free[: max(0, self.wanted - len(serving))]:
            slot.fork_at = now
        self.manage(now)

    def manage(self, now: float) -> None:
        """Fork what is due, a few workers per turn of the master's loop."""
        if self.stopping or self.suspended:
            return
        if self.started and not any(one.worker and not one.worker.hung and one.worker.has_place for one in self.slots):
            self._last_resort.advance(self.slots, now)
        due = [slot for slot in self.slots if slot.worker is None and 0 < slot.fork_at <= now]
        at_once = FORKS_PER_TURN
        if self.boot.waiting_for:  # one finds out whether the others can start
            at_once = 0 if self.starting() else 1
        for slot in due[:at_once]:
            self._fork_due(slot, now)

    def next_deadline(self) -> float:
        """When a fork or a kill is due; infinity = none is."""
        due = [slot.fork_at for slot in self.slots if slot.fork_at]
        due += [slot.worker.kill_at for slot in self.slots if slot.worker and slot.worker.kill_at]
        return min(due, default=float("inf"))

    def starting(self) -> bool:
        """Whether a worker has been forked that is not ready yet."""
        return any(slot.worker is not None and not slot.worker.ready_at for slot in self.slots)

    def fork(self, slot: Slot, now: float, *, replaces: int = NONE) -> None:
        """Fork a worker into a free slot. replaces: slot of the worker that it is to replace. Raises: OSError."""
        is_successor = replaces != NONE
        patient = self.started and not is_successor
        child = spawn.fork(
            slot.index, self.generation, self.config, self.shared, is_successor=is_successor, patient=patient
        )
        slot.worker = WorkerProcess(
            child=child, born=self.config, generation=self.generation, started=now, replaces=replaces
        )
        self._watcher.watch(child.orders.fileno(), lambda: self.read_answers(slot))
        log.get().debug("worker forked", slot=slot.index, worker_pid=child.pid)

    def _fork_due(self, slot: Slot, now: float) -> None:
        slot.fork_at = 0.0
        try:
            self.fork(slot, now)
        except OSError as error:
            log.get().error("cannot fork a worker", slot=slot.index, why=error.strerror)
            self._fork_later(slot, now)
            if not self.started and slot.failures >= boot.TRIES:
                self.boot.fail(Exit.OS, f"cannot fork a worker: {error.strerror}")

    def adopt(self, slot: Slot, worker: WorkerProcess) -> None:
        """The slot has this worker from now on."""
        slot.worker = worker
        self._watcher.watch(worker.child.orders.fileno(), lambda: self.read_answers(slot))

    def _fork_later(self, slot: Slot, now: float) -> None:
        delay_s = back_off.wait(slot, now)
        slot.row.clear()
        slot.row.state = State.DEGRADED
        if delay_s >= AVOID_S:
            self.shared.udp_sockets.avoid(slot.index)
            udp_shares.hand_out(self)

    # ------------------------------------------------------------ deaths

    def reap(self) -> None:
        """Collect every child that has ended; unknown ones (chatd as process 1 has some) go to on_stranger."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for slot in self.slots:
                if slot.worker is not None and slot.worker.child.pid == pid:
                    self._ended(slot, slot.worker, os.waitstatus_to_exitcode(status))
                    break
            else:
                self.on_stranger(pid, status)

    def _ended(self, slot: Slot, worker: WorkerProcess, code: int) -> None:
        """code: negative = ended by that signal."""
        now = time.monotonic()
        self.read_answers(slot)
        drained = code == 0 and slot.row.state == State.DRAINING
        self._log_end(slot, worker, code, drained)
        self._watcher.unwatch(worker.child.orders.fileno())
        worker.child.close()
        slot.worker = None
        self.shared.scoreboard.keep_sums(slot.row)
        if self.replacements.ended(slot, worker):
            return
        if self.stopping or self.suspended or worker.leaving or drained:
            slot.row.clear()
            self._leave_slot(slot, worker, now)
            return
        slot.restarts += 1
        back_off.forget(slot, now - worker.ready_at if worker.ready_at else 0.0)
        slot.why = worker.why or describe_end(code)
        self._fork_later(slot, now)
        if not self.started:
            self._boot_failed(slot, worker, code, now)

    def _leave_slot(self, slot: Slot, worker: WorkerProcess, now: float) -> None:
        """The slot's worker has left as it should."""
        if self.stopping or self.suspended:  # the sockets stay bound
            return
        if len(self.serving()) < self.wanted:
            slot.fork_at = now
        elif worker.leaving:
            self.shared.udp_sockets.release(slot.index)
            udp_shares.hand_out(self)

    def _boot_failed(self, slot: Slot, worker: WorkerProcess, code: int, now: float) -> None:
        """Before all workers have been ready once."""
        line = worker.why or f"worker {slot.index} ended while starting ({describe_end(code)})"
        if self.boot.worker_failed(code, line, slot.failures, now) and self.boot.waiting_for:
            for due in (one for one in self.slots if one.fork_at):
                due.failures = 0
                due.fork_at = now + boot.RETRY_S

    def _log_end(self, slot: Slot, worker: WorkerProcess, code: int, drained: bool) -> None:
        stacks = os.pread(worker.child.stacks, log.RECORD_BYTES, 0).decode("utf-8", "replace")
        fields = {"slot": slot.index, "worker_pid": worker.child.pid, "end": describe_end(code)}
        if code == 0 and worker.leaving:
            log.get().info("worker has left", **fields)
        elif worker.leaving:
            log.get().warning("worker did not leave cleanly", **fields)
        elif drained:
            log.get().info("worker drained and left without an order, it is replaced", **fields)
        elif not self.started and code == Exit.UNAVAILABLE:
            log.get().debug("worker cannot start yet", why=worker.why, **fields)
        else:
            if worker.why:
                fields["why"] = worker.why
            log.get().error("worker died", **fields)
        if stacks:
            log.get(slot=slot.index, worker_pid=worker.child.pid).error("stacks of a worker", stacks=stacks)

    # ------------------------------------------------------------ health

    def supervise(self, now: float, late: bool) -> None:
        """Once per turn of the master's loop: see which workers have become ready, and end those that hang or are
        past their deadline.

        late: the master itself did not run for a while; then the workers are given time to run first.
        """
        timeouts = self.config.timeouts
        if late:
            self._patience_until = now + min(LATE_PATIENCE_S, timeouts.hang_s)
            log.get().warning("the master was stopped for a while, hang detection waits")
        for slot in self.present():
            worker = slot.worker
            if worker is None:
                continue
            if not worker.ready_at and slot.row.state == State.READY:
                worker.ready_at = now
                slot.why = ""
                self.boot.succeeded()
                log.get().info("worker is ready", slot=slot.index, worker_pid=worker.child.pid)
                self.replacements.ready(slot)
                self.shared.udp_sockets.use(slot.index)
            if worker.kill_at:
                if now >= worker.kill_at:
                    self._signal(worker, signal.SIGKILL)
            elif now >= self._patience_until:
                self._judge(slot, worker, now)
        if not self.started and len(self.ready()) >= self.wanted:
            self.started = True

    def _judge(self, slot: Slot, worker: WorkerProcess, now: float) -> None:
        """Abort the worker if its heartbeat is too old."""
        hang_s, boot_s = self.config.timeouts.hang_s, self.config.timeouts.boot_s
        silent_s = now - slot.row.heartbeat_ns / 1e9
        if not worker.ready_at:
            if now - worker.started >= boot_s:
                why = f"worker {slot.index} did not start within timeouts.boot_s ({boot_s:g} s)"
                self._abort(slot, worker, "worker does not start", why, ABORT_TO_KILL_S)
        elif silent_s >= hang_s:
            why = f"no heartbeat within timeouts.hang_s ({hang_s:g} s)"
            self._abort(slot, worker, "worker hangs", why, ABORT_TO_KILL_S)
        elif silent_s >= max(LOCK_HANG_LEAST_S, hang_s * LOCK_HANG_SHARE) and self._is_waited_for(worker, now):
            why = "it holds a file lock that other workers wait for"
            self._abort(slot, worker, "worker hangs while others wait for its lock", why, LOCK_ABORT_TO_KILL_S)

    def _abort(self, slot: Slot, worker: WorkerProcess, event: str, why: str, kill_after_s: float) -> None:
        """Make it write its stacks and end; kill it if it does not."""
        now = time.monotonic()
        silent_s = round(now - slot.row.heartbeat_ns / 1e9, 1)
        log.get().error(event, slot=slot.index, worker_pid=worker.child.pid, silent_s=silent_s, why=why)
        worker.hung = True
        worker.why = worker.why or why
        worker.kill_at = now + kill_after_s
        self._signal(worker, signal.SIGABRT)

    def _is_waited_for(self, worker: WorkerProcess, now: float) -> bool:
        """Whether a healthy worker waits for a lock of this one. While none is healthy, the machine may be slow."""
        waiting = file_locks.waiting_for(worker.child.pid)
        return any(
            slot.worker.child.pid in waiting and now - slot.row.heartbeat_ns / 1e9 < FRESH_S
            for slot in self.slots
            if slot.worker is not None
        )

    def any_fresh(self, now: float) -> bool:
        """Whether any worker's event loop turned lately, which decides whether systemd's watchdog is fed."""
        limit = self.config.timeouts.hang_s
        return any(slot.worker and now - slot.row.heartbeat_ns / 1e9 < limit for slot in self.slots)

    # ------------------------------------------------------------ orders

    def order(self, slot: Slot, order: orders.Order, descriptor: int | None = None) -> bool:
        """Send one, with a copy of a descriptor. False: it could not be sent, because the worker does not read. A
        worker that has just died needs no order: its replacement starts with the configuration in force then."""
        if slot.worker is None:
            return False
        descriptors = [] if descriptor is None else [descriptor]
        try:
            socket.send_fds(slot.worker.child.orders, [orders.encode(order)], descriptors)
        except (BrokenPipeError, ConnectionError):
            return True
        except OSError:
            return False
        return True

    def read_answers(self, slot: Slot) -> None:
        """Take all answers that have arrived from the slot's worker."""
        while slot.worker is not None:
            try:
                data = slot.worker.child.orders.recv(orders.MAX_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._watcher.unwatch(slot.worker.child.orders.fileno())
                return
            try:
                answer = orders.decode_answer(data)
            except orders.MalformedMessage as error:
                log.get().error("malformed answer from a worker", slot=slot.index, why=str(error))
                continue
            if isinstance(answer, CannotStart):
                slot.worker.why = answer.why
            self.on_answer(slot, answer)

    # ------------------------------------------------------------ endings

    def drain(self, worker: WorkerProcess) -> None:
        """Tell it to leave, within timeouts.drain_s."""
        self.expect_end(worker)
        self._signal(worker, signal.SIGTERM)

    def expect_end(self, worker: WorkerProcess) -> None:
        """It was told to leave within timeouts.drain_s; later it is killed."""
        worker.leaving = True
        worker.left_in = self._suspensions
        worker.kill_at = time.monotonic() + self.config.timeouts.drain_s + STOP_GRACE_S

    def stop(self) -> None:
        """All workers drain; none is replaced."""
        self.stopping = True
        self._drain_all()

    def suspend(self) -> None:
        """All workers drain; none is forked until resume()."""
        self.suspended = True
        self._suspensions += 1
        self._drain_all()

    def resume(self) -> None:
        """Fork as many workers as are wanted; those that are leaving go on."""
        self.suspended = False
        self.shared.scoreboard.master_row.state = State.READY
        self.scale(self.wanted)

    def _drain_all(self) -> None:
        self.shared.scoreboard.master_row.state = State.DRAINING
        for slot in self.slots:
            slot.fork_at = 0.0
            if slot.worker is not None and not slot.worker.leaving:
                self.drain(slot.worker)

    def hurry(self, within_s: float) -> None:
        """All workers are gone within this time, drained or not."""
        limit = time.monotonic() + within_s
        for slot in self.present():
            if slot.worker is not None:
                self.order(slot, DrainOrder(within_s * 0.8))
                slot.worker.kill_at = min(slot.worker.kill_at or limit, limit)

    def kill(self) -> None:
        """All workers end now."""
        for slot in self.present():
            if slot.worker is not None:
                slot.worker.kill_at = time.monotonic()
                self._signal(slot.worker, signal.SIGKILL)

    def _signal(self, worker: WorkerProcess, number: signal.Signals) -> None:
        """By pidfd, so never to another process that got the same pid meanwhile."""
        try:
            signal.pidfd_send_signal(worker.child.pidfd, number)
        except ProcessLookupError:
            log.get().debug("worker had ended already", worker_pid=worker.child.pid)
