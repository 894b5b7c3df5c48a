"""An upgrade in place, under the hardened unit: systemd sees one process that reloads."""

from __future__ import annotations

from chatd.errors import Exit
from tests.harness.deadline import wait_until
from tests.systemd.unit import UNIT, Service


def test_an_upgrade_keeps_the_main_process_and_the_service_active(service: Service) -> None:
    """By order and by signal, with the watchdog, the sandbox and the system call filter of the shipped unit."""
    service.drop_in("watchdog", "[Service]\nWatchdogSec=10\n")
    service.start()
    before, workers = service.pid, service.workers()
    done = service.ctl("upgrade")
    assert done.returncode == 0, f"{done.stderr}\n{service.log()}"
    assert service.answers()
    second = service.workers()
    assert not set(workers) & set(second)
    service.container.systemctl("kill", "--kill-whom=main", "--signal=USR2", UNIT)
    wait_until(60, "upgraded by signal", lambda: not set(second) & set(service.workers()))
    service.wait_status_text("running: 2 workers")
    wait_until(20, "active", lambda: service.container.state(UNIT) == "active")
    assert (service.pid, service.restarts()) == (before, 0)
    assert service.status()["pid"] == before
    service.container.systemctl("stop", UNIT)
    told = service.container.show(UNIT, "ActiveState", "Result")
    assert told == {"ActiveState": "inactive", "Result": "success"}


def test_a_refused_upgrade_changes_nothing(service: Service) -> None:
    service.start()
    before, workers = service.pid, service.workers()
    service.write_config("[limits]\nconections = 5\n")
    done = service.ctl("upgrade")
    assert done.returncode == Exit.CONFIG, done
    assert "limits.conections" in done.stderr
    assert (service.pid, service.workers(), service.restarts()) == (before, workers, 0)
    assert service.container.state(UNIT) == "active"
    assert service.answers()
