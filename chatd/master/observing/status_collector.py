"""Collecting the status of the server; available even if every worker is stuck.

Owns: the rates, and what is read from the scoreboard, the worker pool and /proc.
Elsewhere: the shape of the answer (master.status), what is wrong (master.observing.health_monitor).
Fails: never. A figure that cannot be read is 0.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import msgspec
import psutil

from chatd import __version__
from chatd.config.render import mask
from chatd.master import listeners
from chatd.master.listeners import Bound
from chatd.master.observing.health_monitor import HealthMonitor
from chatd.master.reload import Reload
from chatd.master.rolling.restart import RollingRestart
from chatd.master.status import Durations, ListenerStatus, RestartProgress, Status, UpgradeStatus, WorkerStatus
from chatd.master.surroundings import Surroundings
from chatd.master.upgrade.upgrade import Upgrade
from chatd.master.worker_slot import Slot
from chatd.master.workers import WorkerPool
from chatd.tallies import HISTOGRAMS

SAMPLES = 6
"""Samples kept, one per second: rates are over the last five seconds."""


class _Sample(NamedTuple):
    at: float
    messages_in: int
    messages_out: int


class _Usage:
    """Message rates, memory and CPU of the workers, by process id."""

    def __init__(self) -> None:
        self._samples: dict[int, deque[_Sample]] = {}
        """The last samples of each worker, by pid."""
        self._processes: dict[int, psutil.Process] = {}

    def sample(self, pool: WorkerPool) -> None:
        """Once a second."""
        present = {slot.worker.child.pid: slot.row for slot in pool.present() if slot.worker}
        for pid, row in present.items():
            kept = self._samples.setdefault(pid, deque(maxlen=SAMPLES))
            kept.append(_Sample(time.monotonic(), row.messages_in, row.messages_out))
        for gone in self._samples.keys() - present.keys():
            del self._samples[gone]
            self._processes.pop(gone, None)

    def rates(self, pid: int) -> tuple[float, float]:
        """Messages in and out per second; 0 until two samples are there."""
        kept = self._samples.get(pid)
        if not kept or len(kept) < 2:
            return 0.0, 0.0
        first, last = kept[0], kept[-1]
        span = max(last.at - first.at, 0.001)
        into, out = last.messages_in - first.messages_in, last.messages_out - first.messages_out
        return round(into / span, 1), round(out / span, 1)

    def memory_and_cpu(self, pid: int) -> tuple[int, float]:
        """Resident bytes, and percent of one CPU since the last call (at the first: since the process started)."""
        try:
            process = self._processes.get(pid)
            if process is None:
                process = self._processes[pid] = psutil.Process(pid)
                times = process.cpu_times()
                process.cpu_percent(None)
                age = max(time.time() - process.create_time(), 0.001)
                return process.memory_info().rss, round((times.user + times.system) / age * 100, 1)
            return process.memory_info().rss, process.cpu_percent(None)
        except psutil.Error:
            return 0, 0.0


class Works(NamedTuple):
    """What may be under way for minutes, and the judgement of it all."""

    restart: RollingRestart
    upgrade: Upgrade
    monitor: HealthMonitor
    surroundings: Surroundings


class StatusCollector:
    """began: monotonic seconds, of the start. bound: returns one listening socket per [[listen]]."""

    def __init__(
        self, pool: WorkerPool, reload: Reload, works: Works, bound: Callable[[], tuple[Bound, ...]], began: float
    ) -> None:
        self._pool, self._reload, self._bound = pool, reload, bound
        self._restart, self._upgrade, self._monitor, self._surroundings = works
        self._began = began
        self._usage = _Usage()

    def sample(self) -> None:
        """To be called once a second, for the rates."""
        self._usage.sample(self._pool)

    def collect(self) -> Status:
        pool, reload = self._pool, self._reload
        workers = [self._worker(slot) for slot in pool.slots if slot.worker is not None or slot.fork_at]
        ready = [one for one in workers if one.state == "ready"]
        health = self._monitor.health()
        return Status(
            v=1,
            version=__version__,
            state=health.state.value,
            reasons=list(health.reasons),
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._began, 1),
            config_file=reload.name,
            generation=pool.generation,
            reloads=reload.count,
            reloads_failed=reload.failed,
            last_reload_error=reload.last_error,
            workers_wanted=pool.wanted,
            workers_ready=len(ready),
            store_url=str(mask(pool.config.store.url)),
            store_ok=bool(ready) and all(one.store_ok for one in ready),
            commit_p99_us=max((one.commit_p99_us for one in ready), default=0),
            bus_url=str(mask(pool.config.bus.url)),
            bus_ok=bool(ready) and all(one.bus_ok for one in ready),
            bus_round_trip_us=max((one.bus_round_trip_us for one in ready), default=0),
            listeners=self._listeners(),
            certificates=pool.shared.certificates.status(),
            workers=workers,
            restart=None if self._restart.progress is None else RestartProgress(*self._restart.progress),
            log_dropped=pool.shared.scoreboard.master_row.log_dropped,
            totals=pool.shared.scoreboard.totals(),
            disks=self._surroundings.disks.look(pool.config, time.monotonic()),
            upgrade=self._upgrade_status(),
            durations=self._durations(),
        )

    def _durations(self) -> dict[str, Durations]:
        sums = self._pool.shared.scoreboard.sums([slot.row for slot in self._pool.present()])
        return {
            one.name: Durations(
                bounds_us=list(one.bounds_us), counts=list(accumulate(sums[bucket] for bucket in one.buckets))
            )
            for one in HISTOGRAMS
        }

    def _listeners(self) -> list[ListenerStatus]:
        return [
            ListenerStatus(one.protocol, listeners.actual_address(one, sock), one.backlog, listeners.waiting(sock))
            for one, sock in self._bound()
        ]

    def _upgrade_status(self) -> UpgradeStatus:
        return UpgradeStatus(
            installed=self._surroundings.installed.look(),
            phase=self._upgrade.phase.value,
            failure=self._upgrade.failure,
            old_workers=len(self._upgrade.old_workers()),
        )

    def _worker(self, slot: Slot) -> WorkerStatus:
        worker = slot.worker
        pid = worker.child.pid if worker else 0
        in_per_s, out_per_s = self._usage.rates(pid)
        rss, cpu = self._usage.memory_and_cpu(pid) if pid else (0, 0.0)
        now = time.monotonic()
        return WorkerStatus(
            slot=slot.index,
            pid=pid,
            state=slot.state,
            generation=worker.generation if worker else 0,
            uptime_s=round(now - worker.started, 1) if worker else 0.0,
            heartbeat_age_s=round(now - slot.row.heartbeat_ns / 1e9, 2) if worker else 0.0,
            restarts=slot.restarts,
            in_per_s=in_per_s,
            out_per_s=out_per_s,
            version=worker.version if worker else "",
            rss_bytes=rss,
            cpu_percent=cpu,
            store_trouble=worker.troubles.get("store", "") if worker else "",
            bus_trouble=worker.troubles.get("bus", "") if worker else "",
            **msgspec.structs.asdict(slot.row.counters()),
        )
