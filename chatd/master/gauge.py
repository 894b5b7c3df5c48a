"""The state of the server in numbers, read from the scoreboard: there when every worker is stuck.

Owns: gathering a Status, and remembering what rates need.
Not here: the shape of the answer (master.status).
"""

from __future__ import annotations

import time
from collections import deque

import psutil

from chatd import __version__
from chatd.config.render import mask
from chatd.master import listeners
from chatd.master.listeners import Bound
from chatd.master.reload import Reload
from chatd.master.status import ListenerStatus, Status, WorkerStatus
from chatd.master.workers import Slot, WorkerPool
from chatd.scoreboard import State

SAMPLES = 6
"""One a second: rates are over the last five."""


class Gauge:
    """Remembers what rates need."""

    def __init__(self) -> None:
        self._samples: dict[int, deque[tuple[float, int, int]]] = {}  # by pid
        self._processes: dict[int, psutil.Process] = {}

    def sample(self, pool: WorkerPool) -> None:
        """Once a second."""
        present = {slot.worker.child.pid: slot.row for slot in pool.present() if slot.worker}
        for pid, row in present.items():
            kept = self._samples.setdefault(pid, deque(maxlen=SAMPLES))
            kept.append((time.monotonic(), row.messages_in, row.messages_out))
        for gone in self._samples.keys() - present.keys():
            del self._samples[gone]
            self._processes.pop(gone, None)

    def rates(self, pid: int) -> tuple[float, float]:
        kept = self._samples.get(pid)
        if not kept or len(kept) < 2:
            return 0.0, 0.0
        (began, in0, out0), (ended, in1, out1) = kept[0], kept[-1]
        span = max(ended - began, 0.001)
        return round((in1 - in0) / span, 1), round((out1 - out0) / span, 1)

    def use(self, pid: int) -> tuple[int, float]:
        """Resident bytes, and per cent of one CPU since the last question (since the start at the first)."""
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


def state_of(pool: WorkerPool) -> str:
    if pool.stopping:
        return "stopping"
    if not pool.started:
        return "starting"
    return "degraded" if pool.degraded() else "running"


def gather(pool: WorkerPool, reload: Reload, bound: tuple[Bound, ...], gauge: Gauge, pid: int, began: float) -> Status:
    workers = [_worker(slot, gauge) for slot in pool.slots if slot.worker is not None or slot.fork_at]
    ready = [one for one in workers if one.state == "ready"]
    return Status(
        v=1,
        version=__version__,
        state=state_of(pool),
        pid=pid,
        uptime_s=round(time.monotonic() - began, 1),
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
            for one, sock in bound
        ],
        workers=workers,
        log_dropped=pool.shared.scoreboard.master_row.log_dropped,
    )


def _worker(slot: Slot, gauge: Gauge) -> WorkerStatus:
    row, worker = slot.row, slot.worker
    pid = worker.child.pid if worker else 0
    in_per_s, out_per_s = gauge.rates(pid)
    rss, cpu = gauge.use(pid) if pid else (0, 0.0)
    now = time.monotonic()
    return WorkerStatus(
        slot=slot.index,
        pid=pid,
        state=_state(slot),
        generation=worker.generation if worker else 0,
        uptime_s=round(now - worker.started, 1) if worker else 0.0,
        heartbeat_age_s=round(now - row.heartbeat_ns / 1e9, 2) if worker else 0.0,
        restarts=slot.restarts,
        connections=row.connections,
        sessions=row.sessions,
        in_per_s=in_per_s,
        out_per_s=out_per_s,
        messages_in=row.messages_in,
        messages_out=row.messages_out,
        loop_lag_us=row.loop_lag_us,
        commit_p99_us=row.commit_p99_us,
        queue_bytes=row.queue_bytes,
        queue_messages=row.queue_messages,
        rss_bytes=rss,
        cpu_percent=cpu,
        errors=row.errors,
        refused=row.refused,
        log_dropped=row.log_dropped,
        store_ok=bool(row.store_ok),
        bus_ok=bool(row.bus_ok),
        bus_round_trip_us=row.bus_round_trip_us,
        udp_peers=row.udp_peers,
        udp_dropped=row.udp_dropped,
        hooks_open=row.hooks_open,
        hook_failures=row.hook_failures,
        hook_dropped=row.hook_dropped,
    )


def _state(slot: Slot) -> str:
    if slot.worker is None:
        return "degraded"
    if slot.worker.hung:
        return "hung"
    if slot.worker.leaving:
        return "draining"
    return State(slot.row.state).name.lower()
