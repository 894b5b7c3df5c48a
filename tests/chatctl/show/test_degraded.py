"""Kinds of trouble that are made for real: each has its own reason, in `check`, `status` and their JSON."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.deadline import wait_until
from tests.harness.redis import RedisServer


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path, workers=2, limits={"connections": 4}, timeouts={"hang_s": 60}).start()
    yield made
    made.discard()


def codes(daemon: Daemon) -> set[str]:
    """As `check` finds them, without the time that a command takes to begin."""
    found = daemon.request("status")["status"]
    return {one["code"] for one in found["reasons"]}


def test_a_stopped_worker_hangs_and_the_bus_is_not_down(daemon: Daemon) -> None:
    assert codes(daemon) == set()
    assert json.loads(daemon.ctl("check", "--json").stdout) == {"v": 1, "result": "ok", "exit": 0, "reasons": []}
    pid = daemon.workers()[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(20, "it is noticed", lambda: codes(daemon), 0.2)
        assert codes(daemon) == {"hung"}
        checked = daemon.ctl("check", "--json")
        told = json.loads(checked.stdout)
        assert (checked.returncode, told["exit"], told["result"]) == (1, 1, "degraded")
        assert [one["code"] for one in told["reasons"]] == ["hung"]
        shown = daemon.ctl("status").stdout
        assert "problem: no heartbeat from worker" in shown
        assert max(map(len, shown.splitlines())) <= 100
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(10, "it is well again", lambda: not codes(daemon), 0.1)


def test_refusing_at_the_limit_is_not_ok(daemon: Daemon) -> None:
    """Both workers together take 8."""
    clients = [socket.create_connection(("127.0.0.1", daemon.ports["chatserver"]), 5) for _ in range(12)]
    wait_until(10, "it is noticed", lambda: "full" in codes(daemon), 0.1)
    assert daemon.ctl("check").returncode == 1
    for client in clients:
        client.close()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_of_the_log_is_said(tmp_path: Path) -> None:
    small = tmp_path / "log"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(small)], check=True)
    daemon = Daemon(tmp_path / "d", workers=1, server={"log_dir": str(small)})
    try:
        daemon.start()
        assert codes(daemon) == set()
        with (small / "filler").open("wb") as filler:
            filler.write(b"x" * 1_010_000)
        wait_until(30, "the disk is low", lambda: "disk" in codes(daemon), 0.3)
        with (small / "filler").open("ab", buffering=0) as filler:
            try:
                while filler.write(b"x" * 512):
                    pass
            except OSError:
                pass

        def dropped() -> bool:
            for _ in range(20):  # orders, each of which is a record: the last page of the file has room for some
                daemon.request("reopen")
            return "log-dropped" in codes(daemon)

        wait_until(20, "records are dropped", dropped, 0.2)
        assert "log records are dropped" in daemon.ctl("check").stdout
    finally:
        daemon.clear()
        shutil.rmtree(daemon.runtime_dir, ignore_errors=True)
        subprocess.run(["umount", "-l", str(small)], check=False)


def test_a_rejected_reload_is_said_until_one_succeeds(daemon: Daemon) -> None:
    good = daemon.config_file.read_text()
    daemon.config_file.write_text(good.replace("[limits]", "[limits]\nconections = 1"))
    assert daemon.ctl("reload").returncode == 78
    # Workers that have just started may not be connected with each other yet.
    wait_until(10, "only that is said", lambda: codes(daemon) == {"reload"}, 0.1)
    assert "did you mean" in daemon.ctl("check").stdout
    daemon.config_file.write_text(good)
    assert daemon.ctl("reload").returncode == 0
    wait_until(10, "it is well again", lambda: not codes(daemon), 0.1)


def test_a_bus_that_is_away_says_why(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        daemon = Daemon(tmp_path / "d", workers=2, bus={"url": server.url, "insecure_unsigned": True})
        try:
            daemon.start()
            assert codes(daemon) == set()
            server.kill()
            wait_until(20, "it is noticed", lambda: "bus" in codes(daemon), 0.2)
            wait_until(10, "with the reason", lambda: "the bus is down: redis at " in daemon.ctl("check").stdout, 0.2)
            assert "DOWN: redis at" in daemon.ctl("status").stdout
        finally:
            daemon.discard()
