"""What `chatctl user` does on the store is in the security trail, wherever that is written."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatd.chatctl import trail
from chatd.chatctl.control_client import ControlClient
from chatd.chatctl.trail import StoreTrail
from chatd.config.schema import Config, ServerOptions
from chatd.security_log import SecurityEvent
from tests.harness.daemon import Daemon

Make = Callable[..., Daemon]
SECRETS = ("first-secret-1", "second-secret-2")


def user(daemon: Daemon, verb: str, name: str, password: str = "") -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "chatd.chatctl", "-c", str(daemon.config_file), "user", verb, name],
        cwd=daemon.root, env={**daemon.env, "SUDO_USER": "carol"}, input=f"{password}\n", capture_output=True,
        text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def change_everything(daemon: Daemon) -> None:
    user(daemon, "add", "alice", SECRETS[0])
    user(daemon, "passwd", "alice", SECRETS[1])
    user(daemon, "del", "alice")


def check(records: list[dict[str, Any]]) -> None:
    assert [one["security"] for one in records] == ["account_created", "password_changed", "account_deleted"]
    for one in records:
        assert (one["name"], one["source"], one["sudo_user"]) == ("alice", "", "carol")
        assert (one["uid"], one["by"]) == (os.getuid(), pwd.getpwuid(os.getuid()).pw_name)
        assert one["user"] > 0


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_it_is_in_the_files_of_the_server(make_daemon: Make, *, running: bool) -> None:
    daemon = make_daemon()
    if running:
        daemon.start()
    change_everything(daemon)
    check([one for one in daemon.records("normal.log") if one["worker"] == "chatctl"])
    everything = "".join(path.read_text() for path in (daemon.root / "log").iterdir())
    assert not any(secret in everything for secret in SECRETS)


def test_a_running_server_writes_it_to_its_standard_error(make_daemon: Make) -> None:
    daemon = make_daemon(server={"log_dir": "-"}).start()
    change_everything(daemon)
    records = [json.loads(line) for line in daemon.output.read_text().splitlines() if line.startswith("{")]
    check([one for one in records if "sudo_user" in one])
    assert not any(secret in daemon.output.read_text() for secret in SECRETS)


def test_without_server_and_files_it_is_in_the_system_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    monkeypatch.setattr(trail, "SYSTEM_LOG", path)
    config = Config(server=ServerOptions(log_dir="-", runtime_dir=str(tmp_path)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(str(path))
        system.settimeout(5)
        made = StoreTrail(config, ControlClient(str(tmp_path)))
        made.record(SecurityEvent.ACCOUNT_DELETED, name="x\n\x1b[2J\ud800", user=3)
        line = system.recv(4096).decode("ascii")
    head, _, fields = line.partition(": ")
    assert head == f"<37>chatctl[{os.getpid()}]"
    told = json.loads(fields)
    assert (told["security"], told["name"], told["user"]) == ("account_deleted", "x\n\x1b[2J\ud800", 3)
    assert line.isprintable()


def test_where_there_is_nothing_else_it_is_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trail, "SYSTEM_LOG", tmp_path / "none")
    config = Config(server=ServerOptions(log_dir="-", runtime_dir=str(tmp_path)))
    StoreTrail(config, ControlClient(str(tmp_path))).record(SecurityEvent.ACCOUNT_LOCKED, name="alice", user=3)
    assert "security=account_locked" in capfd.readouterr().err
