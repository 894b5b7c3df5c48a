"""A start while MySQL or Redis cannot be reached yet."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatd.errors import Exit
from tests.master.conftest import Server, wait_for
from tests.master.test_systemd import notifications

Make = Callable[..., Server]
WAITING = "waiting up to {:g} s (timeouts.boot_wait_s): the store does not answer"


def patient(make: Make, tmp_path: Path, boot_wait_s: float, workers: int = 2) -> tuple[Server, Path]:
    """Its workers cannot start while the file exists."""
    away = tmp_path / "away"
    away.write_text("store")
    tables = f"""
[bus]
url = "redis://127.0.0.1:1/0"
insecure_unsigned = true
[timeouts]
boot_wait_s = {boot_wait_s}
[log]
level = "DEBUG"
"""
    server = make(workers=workers, tables=tables)
    server.environment["TRIAL_BOOT_FILE"] = str(away)
    return server, away


def attempts(server: Server) -> int:
    return server.events().count("worker cannot start yet")


def test_it_starts_when_the_store_is_there_and_tells_systemd_meanwhile(make: Make, tmp_path: Path) -> None:
    server, away = patient(make, tmp_path, 60, workers=4)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        server.environment["NOTIFY_SOCKET"] = receiver.getsockname()
        server.launch()
        heard: list[str] = []

        def hears(text: str) -> Callable[[], Any]:
            def look() -> bool:
                heard.extend(notifications(receiver))
                return any(text in one for one in heard)

            return look

        wait_for("the reason", hears("STATUS=starting: 0 of 4 workers ready, waiting: the store does not answer"), 20)
        wait_for("more time", hears("EXTEND_TIMEOUT_USEC="), 20)
        begun, before = time.monotonic(), attempts(server)
        wait_for("two more attempts", lambda: attempts(server) >= before + 2, 20)
        assert attempts(server) - before <= time.monotonic() - begun + 2, "one worker tries, once a second"
        assert not any("READY" in one for one in heard)
        away.unlink()
        wait_for("ready", hears("READY=1"), 20)
        wait_for("running", hears("STATUS=running: 4 workers"), 20)
    assert server.status()["state"] == "running"
    assert "the store and the bus are there" in server.events()
    assert server.events("error.log") == []


@pytest.mark.parametrize("way", ["foreground", "daemon"])
def test_it_gives_up_after_boot_wait_s(make: Make, tmp_path: Path, way: str) -> None:
    server, _ = patient(make, tmp_path, 1.5)
    began = time.monotonic()
    ended = server.run(*(["--daemon"] if way == "daemon" else []))
    assert ended.returncode == Exit.UNAVAILABLE
    assert time.monotonic() - began >= 1.5
    assert ended.stderr.splitlines() == [f"chatd: {WAITING.format(1.5)}", "chatd: the store does not answer"]


def test_a_stop_ends_the_wait(make: Make, tmp_path: Path) -> None:
    server, _ = patient(make, tmp_path, 60)
    server.launch()
    wait_for("waiting", lambda: attempts(server), 20)
    server.signal(signal.SIGTERM)
    assert server.wait() == Exit.OK


def test_a_wrong_configuration_is_not_waited_for(make: Make, tmp_path: Path) -> None:
    server, away = patient(make, tmp_path, 60)
    away.write_text("config")
    assert server.run().returncode == Exit.CONFIG
