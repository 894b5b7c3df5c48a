"""The master's loop.

Owns: the phases of a turn, the effects of signals and requests, announcing that the server is ready, and stopping.
Elsewhere: the workers one by one (master.workers), the steps of a start (master.start), the requests (master.requests).
Fails: a failed boot is returned as an exit code with its line; once all workers were ready, the loop ends only when
ordered to.

One thread. Everything here and in the master's other modules runs between two waits of the loop.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from chatd import log, security_log
from chatd.config.load import Loaded
from chatd.config.render import mask_config
from chatd.errors import ConfigError, Exit
from chatd.master.announcer import Announcer
from chatd.master.chatctl_records import write_record
from chatd.master.control import ControlSocket
from chatd.master.daemonize import has_terminal
from chatd.master.listeners import Bound, actual_address
from chatd.master.metrics.endpoint import Acceptor, MetricsEndpoint
from chatd.master.metrics.samples import Sources
from chatd.master.observing.health_monitor import HealthMonitor
from chatd.master.observing.status_collector import StatusCollector, Works
from chatd.master.prepared import Prepared
from chatd.master.questions.router import QuestionRouter
from chatd.master.reload import Reload
from chatd.master.replies import ConfigReply, ControlReply, Respond, failed
from chatd.master.requests import (
    ConfigDiffRequest,
    ConfigRequest,
    ControlRequest,
    DrainRequest,
    RecordRequest,
    ReloadRequest,
    ReopenRequest,
    RestartWorkersRequest,
    ScaleRequest,
    StatusRequest,
    StopRequest,
    UndrainRequest,
    UpgradeRequest,
)
from chatd.master.rolling.host import HostDrain, HostState
from chatd.master.rolling.listening import Listening
from chatd.master.rolling.restart import RollingRestart
from chatd.master.rotation import Rotation
from chatd.master.scaling import Scaling
from chatd.master.spawn import Serve, Shared
from chatd.master.status import StatusReply
from chatd.master.surroundings import Surroundings
from chatd.master.upgrade.capture import Parts
from chatd.master.upgrade.execute import restore_signals
from chatd.master.upgrade.program import Program
from chatd.master.upgrade.state import MasterState, config_of
from chatd.master.upgrade.upgrade import Upgrade, UpgradeTools, raise_again
from chatd.master.upgrade.workers import resume as adopt_workers
from chatd.master.watcher import Watcher
from chatd.master.worker_slot import Slot
from chatd.master.workers import WorkerPool
from chatd.orders import Answer
from chatd.security_log import SecurityEvent

FAST_STOP_S = 5.0
TURN_S = 1.0
LATE_S = 5.0
"""A turn that comes later than this, or than half of hang_s, means that the master itself was stopped."""

_CAUGHT = (
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGCHLD,
)


class Master:
    """Made when everything is bound and locked; run() forks the workers.

    Raises: BootError when the control socket cannot be made.
    """

    def __init__(
        self, loaded: Loaded, prepared: Prepared, serve: Serve, program: Program, before: MasterState | None = None
    ) -> None:
        """program: by which this process can be started again. before: of the earlier program of this process, whose
        workers are adopted."""
        config = loaded.config
        self._prepared = prepared
        self._watcher = Watcher()
        self._began = time.monotonic() if before is None else before.began
        self._life = os.pipe2(os.O_CLOEXEC) if before is None else before.life
        """A pipe that is never written to: the workers read its end when the master is gone."""
        self._pool = WorkerPool(self._shared(serve), config, self._watcher)
        self._pool.on_answer = self._take_answer
        self._pool.boot.on_wait = prepared.report.progress
        self._metrics = MetricsEndpoint(prepared.metrics, self._serve_metrics)
        self._reload = Reload(loaded, self._pool, prepared.certificates, self._metrics, lambda: self._announcer.ready())
        self._scaling = Scaling(self._pool)
        self._questions = QuestionRouter(self._pool, prepared.penalty_table)
        self._restart = RollingRestart(self._pool)
        self._listening = Listening(prepared.bound, prepared.udp_sockets, prepared.adopted)
        self._host = HostDrain(self._pool, self._listening)
        self._rotation = Rotation(config.server.log_dir, prepared.scoreboard.master_row)
        self._handlers = self._request_handlers()
        control = prepared.control if before is None else before.control
        self._control = ControlSocket(config.server.runtime_dir, self._handle, self._watcher, control)
        self._upgrade = self._make_upgrade(program, before)
        surroundings = self._surroundings = Surroundings(self._pool, self._reload, self._upgrade, self._bound)
        certificates = prepared.certificates.status
        self._health = HealthMonitor(self._pool, certificates, self._upgrade, surroundings.reasons)
        self._announcer = Announcer(prepared.systemd, self._pool, self._health)
        works = Works(self._restart, self._upgrade, self._health, surroundings)
        self._status = StatusCollector(self._pool, self._reload, works, self._bound, self._began)
        self._pool.on_stranger = self._upgrade.child_ended
        self._announced = before is not None
        """Clients can connect, and the process that started the server knows it."""
        self._stops_asked = 0
        """Stop signals so far: the second one makes the stop fast."""
        self._stop_responds: list[Respond] = []
        """The stop requests to reply to when the server has stopped."""
        self._next_second = 0.0
        self._before = before

    def _shared(self, serve: Serve) -> Shared:
        return Shared(
            scoreboard=self._prepared.scoreboard,
            penalty_table=self._prepared.penalty_table,
            listeners=self._prepared.bound,
            udp_sockets=self._prepared.udp_sockets,
            certificates=self._prepared.certificates,
            life_read=self._life[0],
            serve=serve,
            leave_master=self._leave_in_child,
        )

    def _make_upgrade(self, program: Program, before: MasterState | None) -> Upgrade:
        parts = Parts(
            prepared=self._prepared,
            life=self._life,
            began=self._began,
            programs=1 if before is None else before.programs + 1,
            watcher=self._watcher,
            pool=self._pool,
            reload=self._reload,
            control=self._control,
            questions=self._questions,
            metrics=self._metrics,
        )
        tools = UpgradeTools(parts=parts, restart=self._restart, settled=lambda: self._announcer.ready())
        return Upgrade(tools, program, before)

    def _serve_metrics(self) -> Acceptor:
        from chatd.master.metrics.serving import make_gate  # its libraries are loaded only where metrics are served

        sources = Sources(
            pool=self._pool,
            reload=self._reload,
            health=self._health,
            certificates=self._prepared.certificates.status,
            bound=self._bound,
            disks=self._surroundings.disks,
            began=self._began,
        )
        return make_gate(self._watcher, sources)

    def _bound(self) -> tuple[Bound, ...]:
        """One socket per listener."""
        return self._prepared.bound + self._prepared.udp_sockets.first()

    # ------------------------------------------------------------ the loop

    def run(self) -> int:
        """Serve until the server has stopped, and return the exit code."""
        self._watcher.catch(_CAUGHT)
        self._metrics.open()
        if self._before is not None:
            self._take_over(self._before)
        self._pool.scale(self._pool.wanted)
        now = time.monotonic()
        while not (self._pool.stopping and not self._pool.present()):
            timeout_s = self._timeout()
            self._watcher.wait(timeout_s)
            # From one wait to the next, so that a pause is noticed wherever in the turn it came.
            before, now = now, time.monotonic()
            self._handle_signals()
            self._pool.reap()
            self._pool.supervise(now, self._is_late(now - before - timeout_s))
            self._pool.manage(now)
            self._reload.check()
            self._restart.check()
            self._host.check()
            self._questions.check()
            self._upgrade.check(now)
            self._control.close_overdue(now)
            self._metrics.check(now)
            if now >= self._next_second:
                self._every_second(now)
            self._announce_ready()
            self._give_up_if_boot_failed()
        return self._finish()

    def _timeout(self) -> float:
        """Seconds until something is due."""
        due = min(self._pool.next_deadline(), self._upgrade.next_deadline(), self._next_second)
        return min(max(due - time.monotonic(), 0.001), TURN_S)

    def _is_late(self, late_s: float) -> bool:
        return late_s > min(LATE_S, self._pool.config.timeouts.hang_s / 2)

    def _every_second(self, now: float) -> None:
        self._next_second = now + TURN_S
        self._status.sample()
        self._prepared.certificates.check(self._pool)
        options = self._pool.config.log
        self._rotation.check(options.rotate_bytes, options.rotate_keep)
        log.tick()
        self._prepared.udp_sockets.step()
        self._health.sample()
        self._announcer.tick(now)

    def _leave_in_child(self) -> None:
        """In a forked worker: close what belongs to the master."""
        self._watcher.close()
        self._control.leave()
        self._metrics.leave()
        self._prepared.lock.close()
        self._prepared.report.leave()
        os.close(self._life[1])
        for slot in self._pool.present():
            if slot.worker is not None:
                slot.worker.child.close()

    def _take_over(self, before: MasterState) -> None:
        """From an earlier program of this process: its workers, its clients, its signals."""
        self._before = None
        adopt_workers(self._pool, before.pool, config_of(before))
        self._metrics.follow(self._pool.config.metrics)
        self._reload.tell_adopted()
        self._reload.resume(before.reloads)
        self._questions.traces.resume(before.traces)
        self._questions.kicks.resume(before.kicks)
        self._upgrade.resume(self._control.resume(before.control, UpgradeRequest()))
        restore_signals()
        raise_again(before.signals)
        self._announcer.ready()

    # ------------------------------------------------------------ signals

    def _handle_signals(self) -> None:
        for number, times in self._watcher.signals():
            if number != signal.SIGCHLD:  # every turn reaps
                self._on_signal(number, times)

    def _on_signal(self, number: signal.Signals, times: int) -> None:
        security_log.record(SecurityEvent.SIGNAL, name=number.name, by="unknown")
        match number:
            case signal.SIGHUP:
                self._rotation.reopen()
                self._begin_reload(_no_reply)
            case signal.SIGUSR1:
                self._rotation.reopen()
            case signal.SIGWINCH:
                self._drain_by_signal()
            case signal.SIGTTIN if self._host.state is not HostState.SERVING:
                self._host.undrain(_no_reply)
            case signal.SIGUSR2:
                self._upgrade.begin(_no_reply)
            case signal.SIGTTIN | signal.SIGTTOU:
                self._scaling.by_signals(times if number == signal.SIGTTIN else -times)
            case signal.SIGTERM:
                for _ in range(times):
                    self._stop(fast=self._stops_asked > 0)
            case signal.SIGINT:
                self._stop(fast=True)
            case signal.SIGQUIT:
                self._stop(fast=True)
                self._pool.kill()

    def _drain_by_signal(self) -> None:
        """Not where it may come from a terminal window that changes its size."""
        if has_terminal():
            log.get().warning("WINCH is ignored, because this process has a terminal; run: chatctl drain")
        else:
            self._host.drain(_no_reply)

    # ------------------------------------------------------------ starting and stopping

    def _announce_ready(self) -> None:
        """Once, when all workers are ready."""
        if self._announced or not self._pool.started:
            return
        self._announced = True
        listening = [actual_address(one, sock) for one, sock in self._bound()]
        log.get().info("ready", workers=self._pool.wanted, listening=listening)
        self._announcer.ready()
        self._prepared.report.send(Exit.OK, "")

    def _give_up_if_boot_failed(self) -> None:
        failure = self._pool.boot.failure
        if failure is not None and not self._pool.stopping:
            log.get().critical("cannot start", why=failure.line, exit=failure.code)
            self._stop(fast=True)

    def _stop(self, fast: bool) -> None:
        self._stops_asked += 1
        if not self._pool.stopping:
            log.get().info("stopping", fast=fast)
            self._listening.shut_streams()
            self._pool.stop()
            self._announcer.stopping()
        if fast:
            self._pool.hurry(FAST_STOP_S)

    def _finish(self) -> int:
        """The last worker has gone."""
        failure = self._pool.boot.failure
        code, line = (failure.code, failure.line) if failure else (int(Exit.OK), "")
        if not self._announced:
            self._prepared.report.send(code or Exit.TRY_AGAIN, line or "stopped while starting")
        log.get().info("stopped", exit=code)
        log.tick()
        for respond in self._stop_responds:
            respond(ControlReply())
        self._control.flush()
        self._control.close()
        self._metrics.close()
        return code

    # ------------------------------------------------------------ requests

    def _request_handlers(self) -> dict[type[ControlRequest], Callable[[Any, Respond], None]]:
        return self._questions.handlers() | {
            StatusRequest: self._on_status,
            ReloadRequest: lambda _, respond: self._begin_reload(respond),
            ReopenRequest: self._on_reopen,
            StopRequest: self._on_stop,
            DrainRequest: lambda _, respond: self._host.drain(respond),
            UndrainRequest: lambda _, respond: self._host.undrain(respond),
            RestartWorkersRequest: lambda _, respond: self._restart.begin(respond),
            UpgradeRequest: lambda _, respond: self._upgrade.begin(respond),
            ConfigRequest: self._on_config,
            ConfigDiffRequest: self._on_config_diff,
            ScaleRequest: self._scaling.by_request,
            RecordRequest: self._on_record,
        }

    def _handle(self, request: ControlRequest, respond: Respond) -> None:
        self._handlers[type(request)](request, respond)

    def _take_answer(self, slot: Slot, answer: Answer) -> None:
        """An answer of a worker to an order; reload, questions and certificates each recognise their own."""
        self._reload.take_answer(slot, answer)
        self._upgrade.take_answer(slot, answer)
        self._prepared.certificates.take_answer(slot.index, answer)
        self._questions.take_answer(slot, answer)

    def _on_status(self, _request: StatusRequest, respond: Respond) -> None:
        respond(StatusReply(status=self._status.collect()))

    def _begin_reload(self, respond: Respond) -> None:
        if self._pool.stopping:
            respond(failed(Exit.TRY_AGAIN, "the server is stopping"))
            return
        self._announcer.reloading()
        self._reload.begin(respond)

    def _on_reopen(self, _request: ReopenRequest, respond: Respond) -> None:
        self._rotation.reopen()
        respond(ControlReply())

    def _on_stop(self, request: StopRequest, respond: Respond) -> None:
        self._stop_responds.append(respond)
        self._stop(fast=request.fast)

    def _on_config(self, _request: ConfigRequest, respond: Respond) -> None:
        respond(ConfigReply(config=mask_config(self._pool.config)))

    def _on_config_diff(self, _request: ConfigDiffRequest, respond: Respond) -> None:
        try:
            respond(self._reload.difference())
        except ConfigError as error:
            respond(failed(Exit.CONFIG, str(error)))

    def _on_record(self, request: RecordRequest, respond: Respond) -> None:
        write_record(request)
        respond(ControlReply())


def _no_reply(_reply: ControlReply) -> None:
    """A signal has nobody to reply to; the log has the result."""
