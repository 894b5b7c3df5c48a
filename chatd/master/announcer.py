"""What systemd is told about the server: that it is ready, reloads or stops, and one line about its state.

Owns: when something is told, the text of STATUS=, asking for more time to start or stop, feeding the watchdog.
Elsewhere: the messages themselves (master.systemd), the state and its reasons (master.observing.health_monitor).
Fails: never; without systemd nothing is told.
"""

from __future__ import annotations

from chatd.master.health import Health, State
from chatd.master.observing.health_monitor import HealthMonitor
from chatd.master.systemd import ServiceManager
from chatd.master.workers import WorkerPool

ALIVE_S = 10.0
"""Longest time between two reports to the watchdog."""
MORE_TIME_S = 30.0
"""Time that is asked for each second while the server starts or stops: longer than the master can be busy."""


class Announcer:
    """Called by the master's loop."""

    def __init__(self, systemd: ServiceManager, pool: WorkerPool, monitor: HealthMonitor) -> None:
        self._systemd = systemd
        self._pool = pool
        self._monitor = monitor
        self._is_ready = False
        self._told = ""
        """The last STATUS=."""
        self._next_alive = 0.0

    def ready(self) -> None:
        """Clients can connect; again after each reload, whatever came of it. Does nothing before the server was ready,
        and while it stops."""
        if self._pool.started and not self._pool.stopping:
            self._is_ready = True
            self._told = self._line()
            self._systemd.ready(self._told)

    def reloading(self) -> None:
        if self._is_ready:
            self._systemd.reloading()

    def stopping(self) -> None:
        self._told = self._line()
        self._systemd.stopping(self._told)

    def tick(self, now: float) -> None:
        """Once a second."""
        if not self._systemd.is_there:
            return
        line = self._line()
        if line != self._told:
            self._told = line
            self._systemd.status(line)
        if self._pool.stopping or not self._is_ready:
            self._systemd.extend(MORE_TIME_S)
        watchdog_s = self._systemd.watchdog_s
        is_drained = self._pool.suspended and not self._pool.present()
        if watchdog_s and now >= self._next_alive and (is_drained or self._pool.any_fresh(now)):
            self._next_alive = now + min(watchdog_s, ALIVE_S) - 1.0
            self._systemd.alive()

    def _line(self) -> str:
        return summary(self._pool, self._monitor.health(), self._monitor.work)


def summary(pool: WorkerPool, health: Health, work: str = "") -> str:
    """One line, without numbers that change all the time: systemd is told whenever the line does. work: what goes on
    besides serving."""
    match health.state:
        case State.STOPPING | State.DRAINING:
            left = sum(slot.row.connections for slot in pool.present())
            parts = [f"{left} {'client' if left == 1 else 'clients'} left"]
        case State.DRAINED:
            parts = ["chatctl undrain lets it serve again"]
        case State.STARTING:
            waiting = f", waiting: {pool.boot.waiting_for}" if pool.boot.waiting_for else ""
            parts = [f"{len(pool.ready())} of {pool.wanted} workers ready{waiting}"]
        case _:
            workers = f"{pool.wanted} {'worker' if pool.wanted == 1 else 'workers'}"
            parts = [*([work] if work else []), *(reason.text for reason in health.reasons)] or [workers]
    return f"{health.state.value}: {'; '.join(parts)}"
