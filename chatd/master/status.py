"""The status of the server, as `chatctl status` shows it; available even if every worker is stuck.

Owns: the shape of the answer (version 1: fields are added, never changed), and collecting it from the scoreboard, the
worker pool and /proc.
Elsewhere: the numbers a worker keeps (scoreboard), how the answer is printed (chatctl.render).
Fails: never. A figure that cannot be read is 0.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Annotated, NamedTuple

import msgspec
import psutil

from chatd import __version__
from chatd.config.render import mask
from chatd.master import listeners
from chatd.master.certificates import CertificateStatus
from chatd.master.disks import DiskStatus
from chatd.master.health import HealthMonitor, Reason
from chatd.master.listeners import Bound
from chatd.master.reload import Reload
from chatd.master.replies import ControlReply
from chatd.master.rolling.restart import RollingRestart
from chatd.master.surroundings import Surroundings
from chatd.master.upgrade.program import installed_version
from chatd.master.upgrade.upgrade import Upgrade
from chatd.master.worker_slot import Slot
from chatd.master.workers import WorkerPool
from chatd.scoreboard import Counters, Field, State

SAMPLES = 6
"""Samples kept, one per second: rates are over the last five seconds."""


class WorkerStatus(Counters):
    """One worker slot. Its own fields come before the counters in JSON."""

    slot: Annotated[
        int, Field("number of the worker slot, kept after a death; a successor has another", heading="SLOT")
    ]
    pid: Annotated[int, Field("process id; 0 while a replacement is due", heading="PID")]
    state: Annotated[str, Field("booting, ready, draining, hung, or degraded (a replacement is due)", heading="STATE")]
    generation: Annotated[int, Field("configuration the worker has confirmed; 0 = no worker", heading="GEN")]
    uptime_s: Annotated[float, Field("since the worker was forked", "s", heading="UP")]
    heartbeat_age_s: Annotated[float, Field("since the last heartbeat of the worker's event loop", "s")]
    restarts: Annotated[int, Field("how often a worker of this slot has died", heading="DIED")]
    in_per_s: Annotated[float, Field("rate of messages_in over 5 s", "per second", heading="IN/s")]
    out_per_s: Annotated[float, Field("rate of messages_out over 5 s", "per second", heading="OUT/s")]
    version: Annotated[str, Field("of the code that the worker runs")]
    rss_bytes: Annotated[int, Field("resident memory", "bytes", heading="RSS")]
    cpu_percent: Annotated[float, Field("share of one CPU since the last status", "%", heading="CPU%")]
    store_trouble: Annotated[str, Field("why the worker cannot use the store; empty if it can")] = ""
    bus_trouble: Annotated[str, Field("why the worker cannot use the message bus; empty if it can")] = ""


class UpgradeStatus(msgspec.Struct, kw_only=True):
    """installed: version of the files that an upgrade or a start would use; "" = not known. phase: upgrade.Phase.
    failure: why the last upgrade failed; "" = it did not. old_workers: those that still run the code from before an
    upgrade."""

    installed: str
    phase: str
    failure: str
    old_workers: int


class ListenerStatus(msgspec.Struct):
    """waiting: connections no worker has accepted yet; -1 = the kernel does not tell."""

    protocol: str
    address: str
    backlog: int
    waiting: int


class RestartProgress(msgspec.Struct):
    """Of a rolling restart that is under way."""

    replaced: int
    workers: int


class Status(msgspec.Struct, kw_only=True):
    """The whole answer. state: one of master.health.State. reasons: what is wrong, the worst first; the server is
    degraded if something is. Figures of the store and the bus are the worst of any ready worker. totals: the numbers in
    scoreboard.TOTALS, of all processes since the server started."""

    v: int
    version: str
    state: str
    reasons: list[Reason] = []
    pid: int
    uptime_s: float
    config_file: str
    generation: int
    reloads: int
    reloads_failed: int
    last_reload_error: str
    workers_wanted: int
    workers_ready: int
    store_url: str
    store_ok: bool
    commit_p99_us: int
    bus_url: str
    bus_ok: bool
    bus_round_trip_us: int
    listeners: list[ListenerStatus]
    certificates: list[CertificateStatus] = []
    workers: list[WorkerStatus]
    log_dropped: int
    restart: RestartProgress | None = None
    totals: dict[str, int] = {}
    upgrade: UpgradeStatus | None = None
    disks: list[DiskStatus] = []


class StatusReply(ControlReply, kw_only=True):
    """To requests.StatusRequest."""

    status: Status


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
            listeners=[
                ListenerStatus(one.protocol, listeners.actual_address(one, sock), one.backlog, listeners.waiting(sock))
                for one, sock in self._bound()
            ],
            certificates=pool.shared.certificates.status(),
            workers=workers,
            restart=None if self._restart.progress is None else RestartProgress(*self._restart.progress),
            log_dropped=pool.shared.scoreboard.master_row.log_dropped,
            totals=pool.shared.scoreboard.totals(),
            disks=self._surroundings.disks.look(pool.config, time.monotonic()),
            upgrade=UpgradeStatus(
                installed=installed_version(),
                phase=self._upgrade.phase.value,
                failure=self._upgrade.failure,
                old_workers=len(self._upgrade.old_workers()),
            ),
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
            state=_worker_state(slot),
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


def _worker_state(slot: Slot) -> str:
    if slot.worker is None:
        return "degraded"
    if slot.worker.hung:
        return "hung"
    if slot.worker.leaving:
        return "draining"
    return State(slot.row.state).name.lower()
