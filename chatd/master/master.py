"""The master's loop.

Owns: signals, the selector, the order of a turn, commands of operators, stopping.
Not here: workers one by one (pool), coming up (start).
Fails: boot failures are returned as an exit code with their line; after the first READY the loop ends only when told.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec

from chatd import log
from chatd.config import load as config_load
from chatd.config.load import Loaded
from chatd.errors import ConfigError, Exit
from chatd.master import reload as reloading
from chatd.master.control import Answer, Command, Control
from chatd.master.daemonize import Announcer
from chatd.master.gauge import Gauge, gather, state_of
from chatd.master.instance_lock import Lock
from chatd.master.kick import Kicks
from chatd.master.listeners import Bound, actual_address
from chatd.master.rotation import Rotation
from chatd.master.scoreboard import Scoreboard
from chatd.master.spawn import Serve, Shared
from chatd.master.systemd import Notifier
from chatd.master.udp_sockets import Datagrams
from chatd.master.workers import Slot, WorkerPool

FAST_STOP_S = 5.0
TURN_S = 1.0
BUSY_TURN_S = 0.02
LATE_S = 5.0

_WAKING = (
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
    """Built when everything is bound and locked; run() forks the workers."""

    def __init__(
        self,
        loaded: Loaded,
        scoreboard: Scoreboard,
        bound: tuple[Bound, ...],
        datagrams: Datagrams,
        lock: Lock,
        notifier: Notifier,
        serve: Serve,
        announcer: Announcer,
    ) -> None:
        self._streams, self._datagrams = bound, datagrams
        self._lock, self._notifier, self._announcer = lock, notifier, announcer
        self._began = time.monotonic()
        self._announced = False
        self._stop_answers: list[Answer] = []
        self._stop_asked = 0
        self._next_second = 0.0
        self._next_alive = 0.0
        self._selector = selectors.DefaultSelector()
        self._life = os.pipe2(os.O_CLOEXEC)
        self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._gauge = Gauge()
        self._rotation = Rotation(loaded.config.server.log_dir, scoreboard.master_row)
        config = loaded.config
        self.pool = WorkerPool(
            shared=Shared(scoreboard, bound, datagrams, self._life[0], serve, self._leave),
            config=config,
            generation=1,
            wanted=config_load.workers_of(config),
            on_answer=self._on_answer,
            watch=self._watch,
            unwatch=self._unwatch,
        )
        self._reload = reloading.Reload(loaded, self.pool, self._say_ready)
        self._kicks = Kicks(self.pool)
        self._watch(self._wake[0], self._signalled)
        self._control = Control(config.server.runtime_dir, self._commands(), self._watch, self._unwatch)

    def _on_answer(self, slot: Slot, message: dict[str, Any]) -> None:
        """A worker has answered an order; each of these knows its own."""
        self._reload.on_answer(slot, message)
        self._kicks.on_answer(slot, message)

    def _bound(self) -> tuple[Bound, ...]:
        """What clients are told to connect to."""
        return self._streams + self._datagrams.first()

    # ------------------------------------------------------------ the loop

    def run(self) -> int:
        """Until the server has stopped. Returns the exit code."""
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in _WAKING:
            signal.signal(number, _wake)
        self.pool.scale(self.pool.wanted)
        now = time.monotonic()
        while True:
            timeout = self._timeout()
            for key, _ in self._selector.select(timeout):
                key.data()
            # From look to look, so that a pause is noticed wherever in the turn it came.
            before, now = now, time.monotonic()
            self.pool.reap()
            late_s = now - before - timeout
            self.pool.look(now, late=late_s > min(LATE_S, self.pool.config.timeouts.hang_s / 2))
            self._reload.look()
            self._kicks.look()
            self._control.look(now)
            if now >= self._next_second:
                self._every_second(now)
            if self.pool.started and not self._announced:
                self._ready()
            if self.pool.boot_failure is not None and not self.pool.stopping:
                self._give_up()
            if self.pool.stopping and not self.pool.present():
                return self._end()

    def _timeout(self) -> float:
        """Short while somebody starts or is due (a row cannot wake us), else until the next second."""
        if any(slot.worker and not slot.worker.ready_at for slot in self.pool.slots):
            return BUSY_TURN_S
        now = time.monotonic()
        due = [slot.fork_at for slot in self.pool.slots if slot.fork_at]
        due += [slot.worker.kill_at for slot in self.pool.slots if slot.worker and slot.worker.kill_at]
        due += [self._next_second]
        return min(max(min(due) - now, 0.001), TURN_S)

    def _every_second(self, now: float) -> None:
        self._next_second = now + TURN_S
        self._gauge.sample(self.pool)
        self._rotation.look(self.pool.config.log.rotate_bytes, self.pool.config.log.rotate_keep)
        log.tick()
        if self._notifier.watchdog_s and now >= self._next_alive and self.pool.any_fresh(now):
            self._next_alive = now + min(self._notifier.watchdog_s, 10.0) - TURN_S
            self._notifier.alive()

    def _watch(self, descriptor: int, call: Callable[[], None], writable: bool = False) -> None:
        self._unwatch(descriptor)
        self._selector.register(descriptor, selectors.EVENT_WRITE if writable else selectors.EVENT_READ, call)

    def _unwatch(self, descriptor: int) -> None:
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def _leave(self) -> None:
        """In a forked child: close what is the master's."""
        self._selector.close()
        self._control.leave()
        self._lock.close()
        self._announcer.leave()
        for descriptor in (self._life[1], *self._wake):
            os.close(descriptor)
        for slot in self.pool.present():
            if slot.worker is not None:
                slot.worker.child.close()

    # ------------------------------------------------------------ signals

    def _signalled(self) -> None:
        try:
            numbers = os.read(self._wake[0], 4096)
        except BlockingIOError:
            return
        for number in dict.fromkeys(numbers):
            self._on_signal(signal.Signals(number), numbers.count(number))

    def _on_signal(self, number: signal.Signals, times: int) -> None:
        if number == signal.SIGCHLD:
            return  # every turn reaps
        log.get().info("signal", name=number.name)
        match number:
            case signal.SIGHUP:
                self._rotation.reopen()
                self._begin_reload(reloading.ignore)
            case signal.SIGUSR1:
                self._rotation.reopen()
            case signal.SIGTTIN | signal.SIGTTOU:
                step = times if number == signal.SIGTTIN else -times
                self._scale(self.pool.wanted + step)
            case signal.SIGTERM:
                for _ in range(times):
                    self._stop(fast=self._stop_asked > 0)
            case signal.SIGINT:
                self._stop(fast=True)
            case signal.SIGQUIT:
                self._stop(fast=True)
                self.pool.end_now()
            case _:
                log.get().warning("signal has no meaning in this version", name=number.name)

    # ------------------------------------------------------------ coming and going

    def _ready(self) -> None:
        self._announced = True
        listening = [actual_address(one, sock) for one, sock in self._bound()]
        log.get().info("ready", workers=self.pool.wanted, listening=listening)
        self._say_ready()
        self._announcer.tell(Exit.OK, "")

    def _say_ready(self) -> None:
        if self._announced and not self.pool.stopping:
            self._notifier.ready(f"{state_of(self.pool)}, {self.pool.wanted} workers")

    def _give_up(self) -> None:
        failure = self.pool.boot_failure
        if failure is not None:
            log.get().critical("cannot start", why=failure.line, exit=failure.code)
            self._stop(fast=True)

    def _stop(self, fast: bool) -> None:
        self._stop_asked += 1
        if not self.pool.stopping:
            log.get().info("stopping", fast=fast)
            self._notifier.stopping()
            self.pool.stop()
        if fast:
            self.pool.hurry(FAST_STOP_S)

    def _end(self) -> int:
        """The last worker has gone."""
        failure = self.pool.boot_failure
        code, line = (failure.code, failure.line) if failure else (int(Exit.OK), "")
        if not self._announced:
            self._announcer.tell(code or Exit.TRY_AGAIN, line or "stopped while starting")
        log.get().info("stopped", exit=code)
        log.tick()
        for answer in self._stop_answers:
            answer({"ok": True, "exit": Exit.OK})
        self._control.flush()
        self._control.close()
        return code

    # ------------------------------------------------------------ commands

    def _commands(self) -> dict[str, Command]:
        return {
            "status": self._do_status,
            "reload": lambda _, answer: self._begin_reload(answer),
            "reopen": self._do_reopen,
            "stop": self._do_stop,
            "config": self._do_config,
            "config-diff": self._do_config_diff,
            "log-level": self._do_log_level,
            "scale": self._do_scale,
            "kick": self._kicks.begin,
        }

    def _do_status(self, _request: dict[str, Any], answer: Answer) -> None:
        status = gather(self.pool, self._reload, self._bound(), self._gauge, os.getpid(), self._began)
        answer({"ok": True, "exit": Exit.OK, "status": msgspec.to_builtins(status)})

    def _begin_reload(self, answer: Answer) -> None:
        if self.pool.stopping:
            answer({"ok": False, "exit": Exit.TRY_AGAIN, "error": "the server is stopping"})
            return
        self._notifier.reloading()
        self._reload.begin(answer)

    def _do_reopen(self, _request: dict[str, Any], answer: Answer) -> None:
        self._rotation.reopen()
        answer({"ok": True, "exit": Exit.OK})

    def _do_stop(self, request: dict[str, Any], answer: Answer) -> None:
        self._stop_answers.append(answer)
        self._stop(fast=bool(request.get("fast")))

    def _do_config(self, _request: dict[str, Any], answer: Answer) -> None:
        """The snapshot in effect."""
        answer({"ok": True, "exit": Exit.OK, "config": msgspec.to_builtins(self.pool.config)})

    def _do_config_diff(self, _request: dict[str, Any], answer: Answer) -> None:
        try:
            answer({"ok": True, "exit": Exit.OK, **self._reload.difference()})
        except ConfigError as error:
            answer({"ok": False, "exit": Exit.CONFIG, "error": str(error)})

    def _do_log_level(self, request: dict[str, Any], answer: Answer) -> None:
        """Until the next reload."""
        level = str(request.get("level")).upper()
        if level not in log.LEVELS:
            answer({"ok": False, "exit": Exit.USAGE, "error": f"levels are {', '.join(log.LEVELS)}"})
            return
        log.set_level(level)
        replace = msgspec.structs.replace
        config = self.pool.config
        self.pool.config = replace(
            config, log=msgspec.convert(msgspec.to_builtins(config.log) | {"level": level}, type(config.log))
        )
        for slot in self.pool.present():
            self.pool.order(slot, {"order": "log", "level": level})
        answer({"ok": True, "exit": Exit.OK})

    def _do_scale(self, request: dict[str, Any], answer: Answer) -> None:
        step = request.get("step")
        if not isinstance(step, int) or self.pool.stopping:
            answer({"ok": False, "exit": Exit.USAGE, "error": "scale needs a number of workers more or less"})
            return
        self._scale(self.pool.wanted + step)
        answer({"ok": True, "exit": Exit.OK, "workers": self.pool.wanted})

    def _scale(self, wanted: int) -> None:
        if not self.pool.stopping:
            self.pool.scale(wanted)
            log.get().info("workers wanted", workers=self.pool.wanted)


def _wake(_number: int, _frame: object) -> None:
    """A handler only has to exist: the signal's number is written to the wake-up pipe."""
