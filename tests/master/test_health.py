"""What makes the server degraded, and what systemd is told of it."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from chatd.config.schema import Config
from chatd.master.announcer import summary
from chatd.master.health import Reason, State
from chatd.master.observing.health_monitor import HealthMonitor
from chatd.master.status import CertificateStatus
from chatd.master.upgrade.upgrade import Phase
from chatd.master.worker_slot import WorkerProcess
from chatd.master.workers import WorkerPool
from chatd.scoreboard import Scoreboard
from chatd.scoreboard import State as WorkerState


class Server:
    """A pool of two workers, without the processes."""

    def __init__(self) -> None:
        self.certificates: list[CertificateStatus] = []
        self.board = Scoreboard()
        shared: Any = SimpleNamespace(scoreboard=self.board)
        watcher: Any = None
        self.pool = WorkerPool(shared, Config(), watcher)
        self.pool.wanted, self.pool.started = 2, True
        self.rows = self.board.rows[:2]
        for slot, row in zip(self.pool.slots, self.rows, strict=False):
            child: Any = SimpleNamespace(pid=100 + slot.index)
            slot.worker = WorkerProcess(child=child, born=Config(), generation=1, started=1.0, ready_at=1.0)
            row.pid, row.state = 100 + slot.index, WorkerState.READY
            row.store_ok = row.bus_ok = True
            row.heartbeat_ns = time.monotonic_ns()
        self.upgrade: Any = SimpleNamespace(
            phase=Phase.IDLE, old_workers=lambda: self.old_workers, left_old_workers=lambda: bool(self.old_workers)
        )
        self.old_workers: list[WorkerProcess] = []
        self.around: list[Reason] = []
        self.monitor = HealthMonitor(self.pool, lambda: self.certificates, self.upgrade, lambda: self.around)

    def reasons(self) -> dict[str, str]:
        return {reason.code: reason.text for reason in self.monitor.health().reasons}

    def line(self) -> str:
        return summary(self.pool, self.monitor.health(), self.monitor.work)


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_server_without_faults_is_running(server: Server) -> None:
    assert server.monitor.health().state is State.RUNNING
    assert server.reasons() == {}
    assert server.line() == "running: 2 workers"


@pytest.mark.parametrize(
    ("field", "value", "code", "text"),
    [
        ("store_ok", False, "store", "the store does not answer"),
        ("bus_ok", False, "bus", "the bus is down"),
        ("hooks_open", 1, "plug-ins", "plug-ins are suspended"),
        ("bus_forged", True, "forged", "forged messages on the bus"),
        ("retention_failed", True, "retention", "retention failed"),
        ("retention_held", True, "retention-clock", "retention waits"),
    ],
)
def test_what_one_worker_reports_degrades_the_server(
    server: Server, field: str, value: int, code: str, text: str
) -> None:
    setattr(server.rows[1], field, value)
    health = server.monitor.health()
    assert (health.state, health.is_critical) == (State.DEGRADED, False)
    assert list(server.reasons()) == [code]
    assert server.line().startswith(f"degraded: {text}")
    setattr(server.rows[1], field, not value)
    assert server.monitor.health().state is State.RUNNING


@pytest.mark.parametrize(
    ("field", "code"),
    [("refused_full", "full"), ("log_dropped", "log-dropped"), ("penalties_replaced", "penalties-full")],
)
def test_a_counter_that_grows_is_a_reason_for_a_while(
    server: Server, monkeypatch: pytest.MonkeyPatch, field: str, code: str
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("chatd.master.observing.health_monitor.time.monotonic", lambda: clock[0])
    for row in server.rows:
        row.heartbeat_ns = 10**18
    server.monitor.sample()
    assert server.reasons() == {}
    setattr(server.rows[0], field, 3)
    server.monitor.sample()
    assert list(server.reasons()) == [code]
    for _ in range(70):  # it does not grow any more
        clock[0] += 1
        server.monitor.sample()
    assert server.reasons() == {}
    setattr(server.rows[0], field, 4)
    server.monitor.sample()
    assert list(server.reasons()) == [code]


def test_what_was_counted_before_the_first_look_has_not_grown(server: Server) -> None:
    server.rows[0].refused_full = server.rows[1].log_dropped = 5
    server.monitor.sample()
    assert server.reasons() == {}


def test_records_that_the_master_drops_count_too(server: Server) -> None:
    server.monitor.sample()
    server.board.master_row.log_dropped = 1
    server.monitor.sample()
    assert list(server.reasons()) == ["log-dropped"]


def test_a_counter_of_a_worker_that_was_replaced_begins_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("chatd.master.observing.health_monitor.time.monotonic", lambda: clock[0])
    for row in server.rows:
        row.heartbeat_ns = 10**18
    server.rows[0].refused_full = 5
    server.monitor.sample()
    clock[0] += 100
    server.rows[0].pid, server.rows[0].refused_full = 200, 1
    server.monitor.sample()
    assert list(server.reasons()) == ["full"]


def test_missing_workers_come_first_and_say_why(server: Server) -> None:
    server.rows[0].bus_ok = False
    slot = server.pool.slots[1]
    slot.worker, slot.fork_at, slot.why = None, 5.0, "SIGSEGV"
    assert list(server.reasons()) == ["workers", "bus"]
    assert server.line() == "degraded: 1 of 2 workers ready (worker 1: SIGSEGV); the bus is down"


def test_without_any_worker_it_is_critical(server: Server) -> None:
    for slot in server.pool.slots[:2]:
        slot.worker, slot.fork_at = None, 5.0
    health = server.monitor.health()
    assert (health.state, health.is_critical) == (State.DEGRADED, True)


def test_a_worker_that_hangs_is_no_fault_of_the_bus(server: Server) -> None:
    worker = server.pool.slots[1].worker
    assert worker is not None
    worker.hung, server.rows[1].bus_ok = True, False
    assert list(server.reasons()) == ["workers", "hung"]


@pytest.mark.parametrize(
    ("expiry", "error", "code", "critical"),
    [
        ("expiring", "", "certificate-expiring", False),
        ("expired", "", "certificate-expired", True),
        ("valid", "no such file", "certificate", False),
    ],
)
def test_certificates(server: Server, expiry: str, error: str, code: str, *, critical: bool) -> None:
    server.certificates = [
        CertificateStatus(listener="tls://0:1", file="a.pem", names=[], expires_at=0, expiry=expiry, error=error)
    ]
    health = server.monitor.health()
    assert (list(server.reasons()), health.is_critical) == ([code], critical)


def test_a_start_says_what_it_waits_for(server: Server) -> None:
    server.pool.started = False
    server.pool.slots[1].worker = None
    server.pool.boot.waiting_for = "cannot use redis at 127.0.0.1:6379: Connection refused"
    assert server.line() == (
        "starting: 1 of 2 workers ready, waiting: cannot use redis at 127.0.0.1:6379: Connection refused"
    )


def test_a_stop_says_how_many_clients_are_left(server: Server) -> None:
    server.pool.stopping = True
    server.rows[0].connections = 1
    assert server.line() == "stopping: 1 client left"
    server.rows[1].connections = 4
    assert server.line() == "stopping: 5 clients left"


def test_a_host_that_drains_says_how_many_clients_are_left(server: Server) -> None:
    server.pool.suspended = True
    server.rows[1].connections = 2
    assert server.line() == "draining: 2 clients left"
    for slot in server.pool.slots[:2]:
        slot.worker = None
    assert server.line() == "drained: chatctl undrain lets it serve again"
    assert server.reasons() == {}


def test_an_upgrade_is_said_while_it_runs_and_if_it_is_incomplete(server: Server) -> None:
    server.upgrade.phase = Phase.CHECKING
    assert server.line() == "running: upgrading"
    server.upgrade.phase = Phase.IDLE
    worker = server.pool.slots[0].worker
    assert worker is not None
    server.old_workers.append(worker)
    assert server.line() == "degraded: the upgrade is incomplete, 1 workers run the earlier version"


@pytest.mark.parametrize(
    ("part", "field", "begin"),
    [("store", "store_ok", "the store does not answer"), ("bus", "bus_ok", "the bus is down")],
)
def test_workers_say_why_they_are_cut_off(server: Server, part: str, field: str, begin: str) -> None:
    for slot, row in zip(server.pool.slots, server.rows, strict=False):
        assert slot.worker is not None
        slot.worker.troubles[part] = "Connection\nrefused"
        setattr(row, field, False)
    assert server.reasons() == {part: f"{begin}: Connection refused (worker 0, 1)"}
    assert server.pool.slots[1].worker is not None
    server.pool.slots[1].worker.troubles[part] = "disk full"
    assert server.reasons() == {part: f"{begin}: Connection refused (worker 0); disk full (worker 1)"}


def test_a_worker_that_is_silent_is_no_fault_of_the_store_or_the_bus(server: Server) -> None:
    server.rows[1].heartbeat_ns = time.monotonic_ns() - 6_000_000_000
    server.rows[1].bus_ok = server.rows[1].store_ok = False
    assert server.reasons() == {"hung": "no heartbeat from worker 1 for more than 5 s, its clients wait"}


def test_slow_commits_are_a_reason_before_messages_are_refused(server: Server) -> None:
    server.rows[0].commit_p99_us = 900_000
    assert server.reasons() == {}
    server.rows[0].commit_p99_us = 1_100_000
    assert list(server.reasons()) == ["store-slow"]


def test_what_somebody_should_do_does_not_degrade_the_server(server: Server) -> None:
    server.around = [Reason(code="reload", text="the last reload was rejected", advisory=True)]
    assert server.monitor.health().state is State.RUNNING
    assert server.line() == "running: the last reload was rejected"
    server.around.append(Reason(code="disk", text="the disk is nearly full"))
    assert server.monitor.health().state is State.DEGRADED
    assert list(server.reasons()) == ["disk", "reload"]
