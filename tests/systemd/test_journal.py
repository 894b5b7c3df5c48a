"""The logs of the service: in the journal with their priorities, for fail2ban, and in files that logrotate moves."""

from __future__ import annotations

import json
from typing import Any

from tests.harness.deadline import wait_until
from tests.systemd.unit import TOP, UNIT, Service

FILTER = "/opt/source/etc/fail2ban/filter.d/chatd.conf"


def records(service: Service, *options: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """By event: the priority in the journal, and the record."""
    found = {}
    for entry in service.container.journal(UNIT, options=options):
        text = str(entry["MESSAGE"])
        if text.startswith("{"):
            record = json.loads(text)
            found[record["event"]] = str(entry["PRIORITY"]), record
    return found


def test_every_line_has_its_priority_and_fail2ban_reads_them(service: Service) -> None:
    service.configure(server={"log_dir": "-"}, penalties={"allow": []})
    service.start()
    with service.connect("chatserver") as client:
        client.sendall(json.dumps({"msgid": 1, "id": 4711, "password": "guessed"}).encode() + b"\0")
        client.recv(1000)
    service.write_config("[nonsense]\n")
    assert service.ctl("reload").returncode == 78
    wait_until(10, "the login", lambda: "login failed" in records(service))
    found = records(service)
    assert {event: found[event][0] for event in ("ready", "worker ready", "login failed")} == {
        "ready": "6", "worker ready": "6", "login failed": "4",
    }  # fmt: skip
    rejected = "configuration rejected, the previous one stays in force"
    assert found[rejected][0] == "3"
    assert set(records(service, "--priority=err")) == {rejected}

    source = found["login failed"][1]["source"]
    told = service.container.run("fail2ban-regex", "--print-all-matched", "systemd-journal", FILTER).stdout
    assert "1 matched" in told, told
    assert source in told


def test_a_failed_start_is_an_error_in_the_journal(service: Service) -> None:
    service.write_config("[nonsense]\n")
    service.container.systemctl("start", UNIT, check=False)
    errors = [str(entry["MESSAGE"]) for entry in service.container.journal(UNIT, options=["--priority=err"])]
    assert any(line.startswith("chatd: /etc/chatd/chatd.toml: nonsense: unknown section") for line in errors), errors


def test_logrotate_moves_the_files_and_no_record_is_lost(service: Service) -> None:
    service.configure(log={"rotate_bytes": 0})
    service.start()
    box = service.container
    box.write("/etc/logrotate.d/chatd", (TOP / "etc/logrotate/chatd").read_text())
    before = box.read("/var/log/chatd/normal.log")
    box.run("logrotate", "--force", "/etc/logrotate.d/chatd")
    service.ctl("log-level", "DEBUG")
    wait_until(10, "the new file is written", lambda: "log-level" in box.read("/var/log/chatd/normal.log"))
    assert box.read("/var/log/chatd/normal.log.1").startswith(before)
    assert "SIGUSR1" in box.read("/var/log/chatd/normal.log") + box.read("/var/log/chatd/normal.log.1")
    owner = box.run("stat", "--format=%U %G %a", "/var/log/chatd/normal.log").stdout
    assert owner == "chatd chatd 640\n"
