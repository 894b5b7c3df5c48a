"""The life of the service: start, reload, stop, crashes and hangs."""

from __future__ import annotations

import pytest

from chatd.errors import Exit
from tests.harness.deadline import wait_until
from tests.systemd.unit import CONFIG, UNIT, Service


def test_it_is_active_when_clients_can_connect(service: Service) -> None:
    service.start()
    assert service.answers()
    assert service.status_text() == "running: 2 workers"
    told = service.container.show(UNIT, "ActiveState", "SubState", "MainPID")
    assert (told["ActiveState"], told["SubState"]) == ("active", "running")
    assert service.status()["pid"] == int(told["MainPID"])
    said = [entry["MESSAGE"] for entry in service.container.journal(UNIT)]
    assert not [line for line in said if "mode" in line or "Unknown" in line or "ignoring" in line]


def test_a_reload_waits_for_the_result_and_ends_no_session(service: Service) -> None:
    service.start()
    with service.connect() as client:
        before = service.pid
        service.configure(log={"level": "DEBUG"})
        service.container.systemctl("reload", UNIT)
        assert service.status()["generation"] == 2
        assert service.pid == before
        client.sendall(b"still here?\n")
        assert client.recv(100)
    assert service.container.state(UNIT) == "active"


def test_a_broken_reload_fails_with_the_reason_and_changes_nothing(service: Service) -> None:
    service.start()
    since = service.container.cursor()
    service.write_config("[limits]\nconections = 5\n")
    reloaded = service.container.systemctl("reload", UNIT, check=False)
    assert reloaded.returncode != 0
    said = [str(entry["MESSAGE"]) for entry in service.container.journal(UNIT, since=since)]
    assert any("limits.conections" in line for line in said), said
    told = service.status()
    assert (told["generation"], told["reloads"], told["reloads_failed"]) == (1, 1, 1)
    assert "limits.conections" in told["last_reload_error"]
    assert "configuration rejected" in service.container.read("/var/log/chatd/error.log")
    assert service.answers()
    assert service.container.state(UNIT) == "active"


def test_a_stop_is_clean(service: Service) -> None:
    service.start()
    with service.connect() as client:
        service.container.systemctl("stop", UNIT)
        assert client.recv(100) == b""
    told = service.container.show(UNIT, "ActiveState", "Result", "ExecMainStatus")
    assert told == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert not service.container.path("/run/chatd/chatd.pid").exists()


def test_a_killed_worker_is_replaced_and_the_service_stays(service: Service) -> None:
    service.start()
    master, workers = service.pid, service.workers()
    service.container.signal(workers[0], "KILL")
    wait_until(20, "replaced", lambda: len(service.workers()) == 2 and workers[0] not in service.workers())
    assert (service.pid, service.restarts()) == (master, 0)
    service.wait_status_text("running")


def test_a_killed_master_is_started_again(service: Service) -> None:
    service.start()
    before = service.pid
    service.container.signal(before, "KILL")
    service.wait_started_again(before)
    assert service.answers()


def test_systemd_ends_a_master_that_hangs(service: Service) -> None:
    service.drop_in("watchdog", "[Service]\nWatchdogSec=2\n")
    service.start()
    before = service.pid
    service.container.signal(before, "STOP")
    service.wait_started_again(before)
    assert any("Watchdog timeout" in str(entry["MESSAGE"]) for entry in service.container.journal(UNIT))
    assert service.answers()


def test_workers_that_hang_are_replaced_by_the_master(service: Service) -> None:
    service.configure(timeouts={"hang_s": 2})
    service.drop_in("watchdog", "[Service]\nWatchdogSec=10\n")
    service.start()
    master, workers = service.pid, service.workers()
    for pid in workers:
        service.container.signal(pid, "STOP")
    service.wait_status_text("degraded: 0 of 2 workers ready")
    wait_until(40, "replaced", lambda: len(service.workers()) == 2 and not set(workers) & set(service.workers()))
    assert (service.pid, service.restarts()) == (master, 0)
    assert service.answers()


@pytest.mark.parametrize(
    ("text", "code"), [("[nonsense]\n", Exit.CONFIG), ('[server]\nuser = "nobody"\n', Exit.PERMISSION)]
)
def test_a_start_that_cannot_succeed_is_not_repeated(service: Service, text: str, code: Exit) -> None:
    service.write_config(text)
    service.container.systemctl("start", UNIT, check=False)
    service.container.wait_state(UNIT, "failed")
    assert service.container.show(UNIT, "ExecMainStatus", "NRestarts") == {
        "ExecMainStatus": str(int(code)),
        "NRestarts": "0",
    }
    assert CONFIG in service.container.journal_text(UNIT) or code == Exit.PERMISSION


def test_a_start_on_a_taken_port_is_repeated_until_the_port_is_free(service: Service) -> None:
    """Without end: systemd's own limit of five starts in ten seconds is off."""
    service.drop_in("fast", "[Service]\nRestartSec=200ms\n")
    thief = service.container.popen("python3", "-c", TAKE_PORT)
    try:
        wait_until(10, "taken", lambda: "ok" if _is_taken(service) else "")
        service.container.systemctl("start", UNIT, check=False)
        wait_until(90, "two more starts", lambda: service.restarts() >= 2, 0.2)
        assert service.container.show(UNIT, "StartLimitIntervalUSec") == {"StartLimitIntervalUSec": "0"}
        said = service.container.journal_text(UNIT)
        assert "address already in use" in said
        assert f"status={int(Exit.OS)}" in said
    finally:
        thief.kill()
        thief.wait(10)
    service.container.wait_active(UNIT)
    assert service.answers()


TAKE_PORT = (
    "import socket, time\ns = socket.socket()\ns.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
    "s.bind(('0.0.0.0', 6001))\ns.listen()\ntime.sleep(600)\n"
)


def _is_taken(service: Service) -> bool:
    try:
        service.connect(limit_s=1.0).close()
    except OSError:
        return False
    return True
