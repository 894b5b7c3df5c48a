"""The values of all metrics at this moment.

Owns: collecting them: sums of the scoreboard, what the master knows of its workers, and /proc.
Elsewhere: which metrics there are (master.metrics.table), their form (master.metrics.exposition).
Fails: never. A figure that cannot be read has no sample.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from chatd import __version__
from chatd.master import listeners
from chatd.master.disks import Disks
from chatd.master.health import Code, Health, State
from chatd.master.listeners import Bound
from chatd.master.metrics import table
from chatd.master.metrics.table import PREFIX, Exported, Scope
from chatd.master.observing.health_monitor import HealthMonitor
from chatd.master.reload import Reload
from chatd.master.status import CertificateStatus
from chatd.master.worker_slot import Slot
from chatd.master.workers import WorkerPool
from chatd.scoreboard import FIELDS, Row, Scoreboard
from chatd.tallies import HISTOGRAMS, TALLIES

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
WORKER_STATES = ("booting", "ready", "draining", "hung", "degraded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the values come from. bound: one listening socket per listener. began: monotonic seconds, of the start."""

    pool: WorkerPool
    reload: Reload
    health: HealthMonitor
    certificates: Callable[[], Collection[CertificateStatus]]
    bound: Callable[[], Sequence[Bound]]
    disks: Disks
    began: float


Labels = tuple[str, ...]
"""The values of a metric's labels, in their order."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """One histogram. counts: of durations up to each bound in seconds, those of the smaller ones included; the last
    is of all. total_s: their sum."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    total_s: float


@dataclass(slots=True)
class Samples:
    """values: by the name of the metric, then by its labels. histograms: by name."""

    values: dict[str, dict[Labels, float]] = field(default_factory=dict)
    histograms: dict[str, Buckets] = field(default_factory=dict)

    def put(self, name: str, value: float, *labels: str) -> None:
        self.values.setdefault(name, {})[labels] = value


def collect(sources: Sources) -> Samples:
    """Costs some hundred microseconds, and a few system calls for each process and listener."""
    found = Samples()
    pool = sources.pool
    _put_sums(found, pool.shared.scoreboard, [slot.row for slot in pool.present()])
    _put_workers(found, pool)
    _put_processes(found, pool)
    _put_server(found, sources)
    _put_health(found, sources.health.health())
    for slot in pool.present():
        _put_row(found, slot)
    return found


# ---------------------------------------------------------------- numbers of the scoreboard


def _put_sums(found: Samples, board: Scoreboard, rows: list[Row]) -> None:
    sums = board.sums(rows)
    for name, how in _SINGLE.items():
        if table.is_sum(FIELDS[name]):
            found.put(f"{PREFIX}{how.name}", sums[name] / table.scale(name), *_own_label(how))
        elif how.scope is Scope.HOST:
            value = max((getattr(row, name) for row in rows), default=0)
            found.put(f"{PREFIX}{how.name}", value / table.scale(name), *_own_label(how))
    for tally in (one for one in TALLIES if one.counts):
        for value in tally.values:
            found.put(table.tally_name(tally), sums[tally.cell(value)], value)
    for one in HISTOGRAMS:
        counts = tuple(accumulate(sums[bucket] for bucket in one.buckets))
        bounds_s = tuple(bound / 1e6 for bound in one.bounds_us)
        found.histograms[table.histogram_name(one)] = Buckets(bounds_s, counts, sums[one.sum] / 1e6)


def _put_row(found: Samples, slot: Slot) -> None:
    """What is true of one worker."""
    worker, row = str(slot.index), slot.row
    for name, how in _SINGLE.items():
        if how.scope is Scope.WORKER and not table.is_sum(FIELDS[name]):
            value = getattr(row, name) / table.scale(name)
            found.put(f"{PREFIX}{how.name}", value, worker, *_own_label(how))
    for tally in (one for one in TALLIES if not one.counts):
        for value in tally.values:
            found.put(table.tally_name(tally), getattr(row, tally.cell(value)), worker, value)
    found.put(table.HEARTBEAT, max(0.0, time.monotonic() - row.heartbeat_ns / 1e9), worker)


_SINGLE: dict[str, Exported] = {
    name: how for name in table.single_fields() if isinstance(how := table.exported(name), Exported)
}


def _own_label(how: Exported) -> Labels:
    return () if how.label is None else (how.label[1],)


# ---------------------------------------------------------------- what the master knows


def _put_workers(found: Samples, pool: WorkerPool) -> None:
    states = [slot.state for slot in pool.slots if slot.worker is not None or slot.fork_at]
    for state in WORKER_STATES:
        found.put(table.WORKERS, states.count(state), state)
    found.put(table.WANTED, pool.wanted)
    found.put(f"{PREFIX}worker_deaths", sum(slot.restarts for slot in pool.slots))


def _put_processes(found: Samples, pool: WorkerPool) -> None:
    pids = {"master": os.getpid()}
    pids |= {f"worker-{slot.index}": slot.worker.child.pid for slot in pool.present() if slot.worker is not None}
    for process, pid in pids.items():
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rpartition(")")[2].split()
            found.put(table.CPU, (int(fields[11]) + int(fields[12])) / _TICKS_PER_S, process)
            found.put(table.MEMORY, int(fields[21]) * _PAGE_BYTES, process)


def _put_server(found: Samples, sources: Sources) -> None:
    reload, pool = sources.reload, sources.pool
    found.put(f"{PREFIX}build", 1, __version__, platform.python_version())
    found.put(f"{PREFIX}start_timestamp_seconds", round(time.time() - (time.monotonic() - sources.began), 1))
    found.put(f"{PREFIX}config_generation", pool.generation)
    found.put(f"{PREFIX}reloads", reload.count - reload.failed - reload.under_way, "ok")
    found.put(f"{PREFIX}reloads", reload.failed, "failed")
    for one, sock in sources.bound():
        if (waiting := listeners.waiting(sock)) >= 0 and not one.address.startswith("udp:"):
            found.put(f"{PREFIX}listener_waiting", waiting, listeners.actual_address(one, sock))
    for certificate in sources.certificates():
        name = f"{PREFIX}certificate_expiry_timestamp_seconds"
        found.put(name, certificate.expires_at, certificate.listener, certificate.file)
    for disk in sources.disks.look(pool.config, time.monotonic()):
        found.put(f"{PREFIX}disk_free_bytes", disk.free_bytes, disk.path)
        found.put(f"{PREFIX}disk_size_bytes", disk.total_bytes, disk.path)


def _put_health(found: Samples, health: Health) -> None:
    for state in State:
        found.put(table.STATE, health.state is state, state.value)
    codes = {reason.code for reason in health.reasons}
    for code in Code:
        found.put(table.REASON, code in codes, code.value)
    found.put(f"{PREFIX}ready", health.is_ready)
