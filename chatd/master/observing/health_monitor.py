"""The one judgement of whether the server is well, and of why it is not.

Owns: every reason for which the server is degraded, and noticing that a counter grows.
Elsewhere: the shape of the judgement (master.health), the numbers (scoreboard, master.workers, master.certificates).
Fails: never.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from chatd.master.health import Code, Health, Reason, State
from chatd.master.status import CertificateStatus
from chatd.master.upgrade.upgrade import Phase, Upgrade
from chatd.master.worker_slot import Slot
from chatd.master.workers import WorkerPool
from chatd.scoreboard import Row

RECENT_S = 60.0
"""How long a connection refused, or a log record dropped, counts as a reason: longer than the interval at which a
monitor usually asks."""
SILENT_S = 5.0
"""A worker whose event loop has not turned for this long serves nobody; it is aborted only after timeouts.hang_s."""
BEHIND_S = 60.0
"""A webhook or bridge whose oldest event has waited for longer is behind."""
SLOW_SHARE = 0.5
"""Commits that take this share of timeouts.store_s are slow: soon messages are refused."""


class HealthMonitor:
    """certificates: their state now. surroundings: reasons that lie outside the server (master.surroundings)."""

    def __init__(
        self,
        pool: WorkerPool,
        certificates: Callable[[], Collection[CertificateStatus]],
        upgrade: Upgrade,
        surroundings: Callable[[], Iterable[Reason]] = tuple,
    ) -> None:
        self._pool = pool
        self._certificates = certificates
        self._upgrade = upgrade
        self._refused_full = _Growth()
        self._log_dropped = _Growth()
        self._penalties_replaced = _Growth()
        self._surroundings = surroundings

    def sample(self) -> None:
        """Once a second: see which counters have grown."""
        board = self._pool.shared.scoreboard
        rows = [slot.row for slot in self._pool.present()]
        self._refused_full.look(rows, "refused_full")
        self._log_dropped.look([board.master_row, *rows], "log_dropped")
        self._penalties_replaced.look(rows, "penalties_replaced")

    def health(self) -> Health:
        """Costs microseconds for each worker."""
        reasons = sorted(self._reasons(), key=lambda reason: (not reason.critical, reason.advisory))
        is_well = all(reason.advisory for reason in reasons)
        rows = [slot.row for slot in _well(self._pool) if not _is_silent(slot.row)]
        serving = sum(row.store_ok and row.bus_ok for row in rows)
        return Health(state=self._state(is_well=is_well), reasons=tuple(reasons), serving=serving)

    @property
    def work(self) -> str:
        """What goes on besides serving: "upgrading"; "" = nothing."""
        return "" if self._upgrade.phase is Phase.IDLE else "upgrading"

    def _state(self, *, is_well: bool) -> State:
        pool = self._pool
        if pool.stopping:
            return State.STOPPING
        if pool.suspended:
            return State.DRAINING if pool.present() else State.DRAINED
        if not pool.started:
            return State.STARTING
        return State.RUNNING if is_well else State.DEGRADED

    def _reasons(self) -> list[Reason]:
        return [
            *_of_workers(self._pool),
            *_of_slots(_well(self._pool)),
            *_of_commits(self._pool),
            *_of_webhooks(self._pool),
            *_of_bridges(self._pool),
            *_of_certificates(self._certificates()),
            *self._of_growth(),
            *self._of_upgrade(),
            *self._surroundings(),
        ]

    def _of_upgrade(self) -> list[Reason]:
        if not self._upgrade.left_old_workers():
            return []
        left = len(self._upgrade.old_workers())
        return [Reason(code=Code.UPGRADE, text=f"the upgrade is incomplete, {left} workers run the earlier version")]

    def _of_growth(self) -> list[Reason]:
        found = []
        if self._refused_full.is_recent:
            text = "connections are refused because the server is full (limits.connections, or open files)"
            found.append(Reason(code=Code.FULL, text=text))
        if self._log_dropped.is_recent:
            text = "log records are dropped: server.log_dir cannot be written, its disk may be full"
            found.append(Reason(code=Code.LOG_DROPPED, text=text))
        if self._penalties_replaced.is_recent:
            text = "the table of penalties is full: records that still count are given up for others"
            found.append(Reason(code=Code.PENALTIES_FULL, text=text))
        return found


class _Growth:
    """When a counter of any process has grown last."""

    def __init__(self) -> None:
        self._last: dict[int, int] | None = None
        """By process id; None before the first look, which finds the counters of workers that served before this
        program (master.upgrade)."""
        self._grown_at = float("-inf")

    def look(self, rows: Collection[Row], counter: str) -> None:
        now = {row.pid: getattr(row, counter) for row in rows}
        if self._last is not None and any(value > self._last.get(pid, 0) for pid, value in now.items()):
            self._grown_at = time.monotonic()
        self._last = now

    @property
    def is_recent(self) -> bool:
        return time.monotonic() - self._grown_at < RECENT_S


def _well(pool: WorkerPool) -> list[Slot]:
    """Slots with a worker that is ready, is to stay, and does not hang."""
    return [slot for slot in pool.ready() if slot.worker and not slot.worker.hung]


def _of_workers(pool: WorkerPool) -> list[Reason]:
    if not pool.started or pool.stopping or pool.suspended:
        return []
    found = []
    ready = len(_well(pool))
    if ready < pool.wanted:
        text = f"{ready} of {pool.wanted} workers ready{_why_missing(pool)}"
        found.append(Reason(code=Code.WORKERS, text=text, critical=ready == 0))
    hung = [slot.index for slot in pool.present() if slot.worker is not None and slot.worker.hung]
    if hung:
        found.append(Reason(code=Code.HUNG, text=f"no heartbeat from worker {_listed(hung)}, it is being replaced"))
    if silent := [slot.index for slot in _well(pool) if _is_silent(slot.row)]:
        text = f"no heartbeat from worker {_listed(silent)} for more than {SILENT_S:g} s, its clients wait"
        found.append(Reason(code=Code.HUNG, text=text, critical=len(silent) == ready))
    return found


def _is_silent(row: Row) -> bool:
    """Its event loop has stopped turning, so what it says of itself is old."""
    return row.heartbeat_ns > 0 and time.monotonic() - row.heartbeat_ns / 1e9 > SILENT_S


def _why_missing(pool: WorkerPool) -> str:
    """What the last worker of a slot without one has said."""
    due = next((slot for slot in pool.slots if slot.worker is None and slot.fork_at and slot.why), None)
    return f" (worker {due.index}: {due.why})" if due is not None else ""


def _of_slots(slots: Collection[Slot]) -> list[Reason]:
    """Of workers that are ready. What another process does wrong is not theirs: a worker that hangs is no fault of the
    store or the bus."""
    told = [slot for slot in slots if not _is_silent(slot.row)]
    found = []
    if away := [slot for slot in told if not slot.row.store_ok]:
        found.append(Reason(code=Code.STORE, text=f"the store does not answer{_why(away, 'store')}"))
    if away := [slot for slot in told if not slot.row.bus_ok]:
        found.append(Reason(code=Code.BUS, text=f"the bus is down{_why(away, 'bus')}"))
    rows = [slot.row for slot in told]
    checks = (
        (Code.PLUG_INS, "plug-ins are suspended because they failed, see error.log", lambda row: row.hooks_open > 0),
        (Code.FORGED, "forged messages on the bus, see error.log", lambda row: row.bus_forged),
        (Code.RETENTION, "retention failed, see error.log", lambda row: row.retention_failed),
        (
            Code.RETENTION_CLOCK,
            "retention waits: the clock is far ahead of its last run",
            lambda row: row.retention_held,
        ),
    )
    return found + [Reason(code=code, text=text) for code, text, is_wrong in checks if any(map(is_wrong, rows))]


def _why(slots: Collection[Slot], part: str) -> str:
    """What the workers say of it, each reason once."""
    by_reason: dict[str, list[int]] = {}
    for slot in slots:
        why = slot.worker.troubles.get(part, "") if slot.worker is not None else ""
        if why:
            by_reason.setdefault(" ".join(why.split()), []).append(slot.index)
    parts = [f"{why} (worker {_listed(numbers)})" for why, numbers in by_reason.items()]
    return f": {'; '.join(parts)}" if parts else ""


def _of_commits(pool: WorkerPool) -> list[Reason]:
    limit_s = pool.config.timeouts.store_s
    if all(slot.row.commit_p99_us < limit_s * SLOW_SHARE * 1e6 for slot in _well(pool)):
        return []
    text = f"commits take more than half of timeouts.store_s ({limit_s:g} s), after which messages are refused"
    return [Reason(code=Code.STORE_SLOW, text=text)]


def _of_webhooks(pool: WorkerPool) -> list[Reason]:
    rows = [slot.row for slot in _well(pool)]
    found = []
    if (lag_s := max((row.webhook_lag_ms for row in rows), default=0) / 1000) > BEHIND_S:
        waiting = sum(row.webhook_waiting for row in rows)
        text = f"webhooks are behind: {waiting} events wait, the oldest for {lag_s:.0f} s (chatctl webhook list)"
        found.append(Reason(code=Code.WEBHOOK_BEHIND, text=text))
    if disabled := max((row.webhooks_disabled for row in rows), default=0):
        text = f"{disabled} webhooks are disabled, their receivers answered 410 (chatctl webhook list)"
        found.append(Reason(code=Code.WEBHOOK_DISABLED, text=text))
    return found


def _of_bridges(pool: WorkerPool) -> list[Reason]:
    rows = [slot.row for slot in _well(pool)]
    found = []
    if failing := sum(row.bridges_failing for row in rows):
        text = f"{failing} bridges cannot use their RabbitMQ (chatctl bridge list)"
        found.append(Reason(code=Code.BRIDGE, text=text))
    if (lag_s := max((row.bridge_lag_ms for row in rows), default=0) / 1000) > BEHIND_S:
        waiting = sum(row.bridge_waiting for row in rows)
        text = f"bridges are behind: {waiting} messages wait, the oldest for {lag_s:.0f} s (chatctl bridge list)"
        found.append(Reason(code=Code.BRIDGE_BEHIND, text=text))
    return found


def _of_certificates(certificates: Collection[CertificateStatus]) -> list[Reason]:
    found = []
    for one in certificates:
        if one.expiry == "expired":
            found.append(Reason(code=Code.CERTIFICATE_EXPIRED, text=f"certificate expired: {one.file}", critical=True))
        elif one.expiry == "expiring":
            found.append(Reason(code=Code.CERTIFICATE_EXPIRING, text=f"certificate expires soon: {one.file}"))
        if one.error:
            found.append(Reason(code=Code.CERTIFICATE, text=f"changed certificate not in use: {one.file}"))
    return found


def _listed(numbers: Collection[int]) -> str:
    return ", ".join(map(str, numbers))
