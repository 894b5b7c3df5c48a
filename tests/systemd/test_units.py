"""What systemd thinks of the units themselves, and what they leave on the host."""

from __future__ import annotations

import configparser

from tests.systemd.unit import SOCKET, UNIT, UNITS, Service


def test_systemd_accepts_the_units_without_a_word(service: Service) -> None:
    files = [f"/etc/systemd/system/{unit}" for unit in (UNIT, SOCKET)]
    told = service.container.run("systemd-analyze", "verify", "--man=no", *files, check=False)
    ours = [line for line in (told.stdout + told.stderr).splitlines() if "chatd" in line]
    assert (told.returncode, ours) == (0, [])


def test_the_running_service_is_hardened(service: Service) -> None:
    """Exposure of at most 1.5 (0 is best, 10 is worst)."""
    service.start()
    judged = service.container.run(
        "systemd-analyze", "security", "--no-pager", "--threshold=15", UNIT, check=False, limit_s=60
    )
    assert judged.returncode == 0, judged.stdout[-600:]
    assert "Overall exposure level" in judged.stdout


def test_the_user_and_the_directories_are_made(service: Service) -> None:
    box = service.container
    assert box.run("id", "--name", "--user", "chatd").stdout == "chatd\n"
    modes = box.run(
        "stat", "--format=%n %U %G %a", "/etc/chatd", "/var/lib/chatd", "/var/log/chatd", "/run/chatd"
    ).stdout
    assert modes.splitlines() == [
        "/etc/chatd root chatd 750",
        "/var/lib/chatd chatd chatd 750",
        "/var/log/chatd chatd chatd 750",
        "/run/chatd chatd chatd 750",
    ]


def test_the_drop_in_for_later_versions_reloads_as_they_do() -> None:
    """This machine's systemd is older: tests/master/test_systemd.py plays its part."""
    text = (UNITS / "chatd.service.d" / "notify-reload.conf").read_text()
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(text)
    assert dict(settings["Service"]) == {"type": "notify-reload", "reloadsignal": "SIGHUP", "execreload": ""}
