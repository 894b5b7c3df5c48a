"""The unit file, sd_notify, the watchdog, socket activation."""

from __future__ import annotations

import configparser
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chatd.config import urls
from chatd.config.schema import Config
from chatd.errors import Exit
from tests.master.conftest import TRIAL, say, wait_for

UNIT = Path(__file__).parents[2] / "systemd" / "chatd.service"


def notifications(receiver: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found += receiver.recv(4096, socket.MSG_DONTWAIT).decode().split("\n")
        except BlockingIOError:
            return found


@pytest.fixture
def receiver(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        yield made


def test_the_unit_says_what_the_server_does():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNIT)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["KillMode"] == "mixed"
    assert service["OOMPolicy"] == "continue"
    assert service["LimitCORE"] == "0"
    assert service["MemoryMax"].endswith("%")
    assert int(service["TasksMax"]) > 0
    codes = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert codes == {Exit.USAGE, Exit.PERMISSION, Exit.CONFIG}
    assert service["ExecReload"].endswith("chatctl -c /etc/chatd/chatd.toml reload")
    assert int(service["WatchdogSec"]) > 30
    assert int(service["TimeoutStopSec"]) > 30 + 2
    assert unit["Unit"]["StartLimitIntervalSec"] == "0", "systemd tries again without end"


def test_the_socket_unit_has_the_sockets_of_the_default_configuration():
    lines = (UNIT.parent / "chatd.socket").read_text().splitlines()
    listed = [line.partition("=")[2] for line in lines if line.startswith(("ListenStream=", "ListenDatagram="))]
    config = Config()
    wanted = [f"{where.host}:{where.port}" for where in (urls.parse(one.address) for one in config.listen)]
    assert listed == [*wanted, f"{config.server.runtime_dir}/control.sock"]
    assert {one.backlog for one in config.listen} == {4096}
    assert "Backlog=4096" in lines


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_accepts_the_unit_and_finds_it_tight(tmp_path):
    copy = tmp_path / "chatd.service"
    copy.write_text(
        UNIT.read_text().replace("/usr/bin/chatd ", "/bin/true ").replace("/usr/bin/chatctl ", "/bin/true ")
    )
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in verified.stderr.splitlines() if "chatd.service" in line]
    assert (verified.returncode, ours) == (0, [])
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(copy)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-300:]


def test_ready_reloading_stopping(make, receiver):
    server = make()
    server.environment["NOTIFY_SOCKET"] = receiver.getsockname()
    server.start()
    told = notifications(receiver)
    assert "READY=1" in told
    assert f"MAINPID={server.process.pid}" in told
    assert server.ctl("reload").returncode == Exit.OK
    told = [line.partition("=")[0] for line in notifications(receiver)]
    assert told.index("RELOADING") < told.index("MONOTONIC_USEC") < told.index("READY")
    assert server.ctl("stop").returncode == Exit.OK
    assert "STOPPING=1" in notifications(receiver)


def test_hup_reports_the_reload_as_notify_reload_wants_it(make, receiver):
    """What systemd 253 and later do with chatd.service.d/notify-reload.conf; also after a file that is wrong."""
    server = make()
    server.environment["NOTIFY_SOCKET"] = receiver.getsockname()
    server.start()
    for text, failed in (("", 0), ("[nonsense]", 1)):
        notifications(receiver)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.write(text)
        server.signal(signal.SIGHUP)
        heard: list[str] = []

        def ready(heard: list[str] = heard) -> bool:
            heard.extend(notifications(receiver))
            return "READY=1" in heard

        wait_for("ready again", ready)
        told = [line.partition("=")[0] for line in heard]
        assert told.index("RELOADING") < told.index("MONOTONIC_USEC") < told.index("READY")
        since = int(next(line for line in heard if line.startswith("MONOTONIC_USEC=")).partition("=")[2])
        assert since >= before, "systemd waits for a reload that began after its signal"
        assert server.status()["reloads_failed"] == failed


def test_not_ready_without_workers(make, receiver):
    server = make(workers=1)
    server.environment |= {"NOTIFY_SOCKET": receiver.getsockname(), "TRIAL_BOOT": "store"}
    assert server.run().returncode == Exit.UNAVAILABLE
    assert "READY=1" not in notifications(receiver)


def test_the_watchdog_is_fed_while_a_worker_lives(make, receiver):
    server = make(workers=1)
    server.environment |= {"NOTIFY_SOCKET": receiver.getsockname(), "WATCHDOG_USEC": "2000000"}
    server.start()
    heard: list[str] = []

    def fed() -> bool:
        heard.extend(notifications(receiver))
        return heard.count("WATCHDOG=1") >= 2

    wait_for("two signs of life", fed)


def test_sockets_of_systemd_are_adopted_by_address(make):
    server = make()
    with socket.socket() as given, socket.socket() as stranger:
        for one in (stranger, given):
            one.bind(("127.0.0.1", 0))
            one.listen(16)
        port = given.getsockname()[1]
        server.listen = server.listen.replace(":0", f":{port}")
        server.write()
        code = (
            "import os, sys\n"
            f"a, b = os.dup({stranger.fileno()}), os.dup({given.fileno()})\n"
            "x, y = os.dup2(a, 13), os.dup2(b, 14)\nos.dup2(13, 3); os.dup2(14, 4)\n"
            "os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()))\n"
            f"os.execv(sys.executable, [sys.executable, {TRIAL!r}, '-c', {str(server.file)!r}, '--allow-root'])\n"
        )
        server.process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[given.fileno(), stranger.fileno()], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ),
        )  # fmt: skip
        server.wait_ready()
        assert server.port() == port
        with server.connect() as client:
            assert say(client, "hello")
    assert "a socket from systemd matches no [[listen]]" in server.events()
