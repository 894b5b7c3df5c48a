"""From one installed version to another and back, while people are connected."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.harness.daemon import TOP, Daemon
from tests.harness.deadline import wait_until
from tests.upgrade.conftest import NEW, OLD
from tests.upgrade.installation import Installation, upgrade_of, versions

Made = Callable[..., Daemon]


def say(daemon: Daemon) -> str:
    """What a new connection to the echo server is told."""
    with socket.create_connection(("127.0.0.1", daemon.ports["echo"]), 5) as client:
        client.sendall(b"hello")
        return client.recv(1000).decode()


def test_an_upgrade_and_a_downgrade_keep_the_process_and_change_the_code(
    make_daemon: Made, installation: Installation, wheels: dict[str, Path]
) -> None:
    daemon = installation.daemon(make_daemon(workers=2)).start()
    before = daemon.status()
    assert (before["version"], before["upgrade"]["installed"]) == (OLD, OLD)
    assert OLD in say(daemon)
    descriptors = psutil.Process(daemon.pid).num_fds()
    old_workers = daemon.workers()

    installation.install(wheels[NEW])
    pending = daemon.status()
    assert (pending["version"], pending["upgrade"]["installed"]) == (OLD, NEW)
    assert OLD in say(daemon), "files that are installed are not used yet"

    done = upgrade_of(daemon)
    assert done.returncode == 0, done
    assert f"{OLD} -> {NEW}, 2 workers replaced" in done.stdout
    after = daemon.status()
    assert versions(after) == {NEW}
    assert (after["pid"], after["state"]) == (before["pid"], "running")
    assert after["uptime_s"] > before["uptime_s"]
    assert NEW in say(daemon)
    assert not set(daemon.workers()) & set(old_workers)
    assert (daemon.runtime_dir / "chatd.pid").read_text().strip() == str(daemon.pid)

    installation.install(wheels[OLD])
    done = upgrade_of(daemon, "--json")
    assert done.returncode == 0, done
    assert json.loads(done.stdout) | {"took_s": 0} == {
        "v": 1, "ok": True, "exit": 0, "before": NEW, "version": OLD, "workers": 2, "took_s": 0,
    }  # fmt: skip
    assert versions(daemon.status()) == {OLD}
    assert OLD in say(daemon)
    assert psutil.Process(daemon.pid).num_fds() == descriptors, "an upgrade leaves descriptors open"
    assert daemon.stop() == 0


def test_broken_files_under_a_running_server_are_used_by_nobody(make_daemon: Made, installation: Installation) -> None:
    """Half of an upgrade is unpacked, then a worker dies: its replacement runs the code of the others. The installed
    code is asked before an upgrade, and is found out."""
    daemon = installation.daemon(make_daemon(workers=2)).start()
    daemon.expect_error("worker died")
    daemon.expect_error("the upgrade failed")
    daemon.python = sys.executable  # chatctl of the installation will be broken as well
    daemon.env["PYTHONPATH"] = str(TOP)
    for file in installation.package.rglob("*.py"):
        file.write_text("raise SystemExit('half of an upgrade')\n")
    for file in [*installation.package.rglob("*.txt"), *installation.package.rglob("__pycache__")]:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    victim = daemon.workers()[0]
    os.kill(victim, signal.SIGKILL)

    def replaced() -> bool:
        workers = daemon.workers()  # before its successor is there, the master may not have noticed its death
        return victim not in workers and len(workers) == 2 and ready(daemon, 2)

    wait_until(20, "the worker is replaced", replaced)
    for _ in range(20):
        assert OLD in say(daemon)
    pid, workers = daemon.pid, daemon.workers()
    refused = upgrade_of(daemon)
    assert refused.returncode != 0
    assert "half of an upgrade" in refused.stderr
    assert (daemon.pid, daemon.workers()) == (pid, workers)
    assert daemon.status()["state"] == "running"
    assert "half of an upgrade" in daemon.status()["upgrade"]["failure"]
    assert OLD in say(daemon)


def ready(daemon: Daemon, count: int) -> bool:
    return sum(one["state"] == "ready" for one in daemon.status()["workers"]) == count
