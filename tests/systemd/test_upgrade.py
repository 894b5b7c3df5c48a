"""An upgrade in place, under the hardened unit: systemd sees one process that reloads."""

from __future__ import annotations

from chatd.errors import Exit
from tests.harness.deadline import wait_until
from tests.systemd.unit import UNIT, Service


def test_an_upgrade_keeps_the_main_process_and_the_service_active(service: Service) -> None:
    """Refused, by order and by signal; with the watchdog, sandbox and system call filter of the shipped unit."""
    service.drop_in("watchdog", "[Service]\nWatchdogSec=10\n")
    service.start()
    before, workers = service.pid, service.workers()
    service.write_config("[limits]\nconections = 5\n")
    refused = service.ctl("upgrade")
    assert refused.returncode == Exit.CONFIG, refused
    assert "limits.conections" in refused.stderr
    assert (service.pid, service.workers(), service.container.state(UNIT)) == (before, workers, "active")
    service.configure()
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


def test_privileges_that_root_gave_up_stay_given_up(service: Service) -> None:
    """Without systemd: root starts it with --daemon, and it becomes server.user."""
    box = service.container
    assert box.run("chatd", "--daemon", check=False).returncode == 0, service.log()
    pid = service.status()["pid"]
    done = service.ctl("upgrade")
    assert done.returncode == 0, f"{done.stderr}\n{service.log()}"
    assert service.status()["pid"] == pid
    assert "the program has changed" in box.read("/var/log/chatd/normal.log")
    for one in (pid, *service.workers()):
        status = box.run("cat", f"/proc/{one}/status").stdout
        (uids,) = (line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        assert set(uids) == {box.run("id", "-u", "chatd").stdout.strip()}
        assert "NoNewPrivs:\t1" in status
    assert service.answers()
    assert service.ctl("stop").returncode == 0
