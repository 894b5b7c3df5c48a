"""How a start succeeds or fails, and what a shell or systemd sees of it."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from chatd.errors import Exit
from tests.master.conftest import TRIAL, is_alive, open_way, say, wait_for


def only_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


def test_foreground_serves_and_stops(make):
    server = make().start()
    with server.connect() as client:
        assert int(say(client, "hello")[1]) in server.pids()
    assert server.ctl("stop").returncode == Exit.OK
    assert server.wait() == Exit.OK
    assert not (server.root / "run" / "chatd.pid").exists()
    assert not (server.root / "run" / "control.sock").exists()
    assert "stopped" in server.events("normal.log")
    assert server.events("error.log") == []


def test_directories_are_made_for_us_alone(make):
    server = make().start()
    modes = {name: (server.root / name).stat().st_mode & 0o777 for name in ("state", "run", "log", "run/bus")}
    assert modes == {"state": 0o750, "run": 0o750, "log": 0o750, "run/bus": 0o700}
    assert (server.root / "run/control.sock").stat().st_mode & 0o777 == 0o660
    assert (server.root / "log/normal.log").stat().st_mode & 0o777 == 0o640


def test_no_process_leaves_a_core(make):
    """It would hold messages, passwords that are being checked, and keys."""
    status = make(workers=1).start().status()
    for pid in (status["pid"], status["workers"][0]["pid"]):
        assert psutil.Process(pid).rlimit(psutil.RLIMIT_CORE)[0] == 0


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ("[limits]\nconections = 1", 'limits.conections: unknown option, did you mean "connections"?'),
        ("[timeouts]\nhang_s = 0.2", "timeouts.hang_s: expected number 1..3600, got 0.2"),
        ("this is not toml", "is not TOML"),
        ('[accounts]\nlogin = "open"', "accounts.login:"),
    ],
)
def test_wrong_configuration_is_78_and_one_line(make, tables, said):
    server = make(tables=tables)
    ended = server.run()
    assert ended.returncode == Exit.CONFIG
    line = only_line(ended.stderr)
    assert line.startswith(f"chatd: {server.file}: ")
    assert said in line
    assert not (server.root / "state").exists()


def test_t_touches_nothing_and_dump_says_where_from(make):
    server = make(tables="[timeouts]\nhang_s = 7")
    assert server.run("-t").returncode == Exit.OK
    dumped = server.run("-T")
    assert "hang_s = 7.0  # file" in dumped.stdout
    assert "login_s = 10.0  # default" in dumped.stdout
    assert sorted(path.name for path in server.root.iterdir()) == ["chatd.toml"]


@pytest.mark.parametrize(
    ("trial", "code", "line"),
    [
        ("store", Exit.UNAVAILABLE, "the store does not answer"),
        ("config", Exit.CONFIG, "trial.toml: store.url: cannot be used"),
        ("os", Exit.OS, "cannot make a thread"),
        ("bug", Exit.BUG, "ZeroDivisionError: a bug"),
    ],
)
@pytest.mark.parametrize("way", ["foreground", "daemon"])
def test_boot_failure_of_a_worker(make, trial, code, line, way):
    server = make(workers=1)
    server.environment["TRIAL_BOOT"] = trial
    ended = server.run(*(["--daemon"] if way == "daemon" else []))
    assert ended.returncode == code
    assert only_line(ended.stderr) == f"chatd: {line}"
    assert server.ctl("status").returncode == 3


def test_a_worker_that_never_accepts_is_a_failed_start(make):
    server = make(workers=1, tables="[timeouts]\nboot_s = 1")
    server.environment["TRIAL_BOOT"] = "never"
    ended = server.run()
    assert ended.returncode == Exit.BUG
    assert "worker 0 did not start within timeouts.boot_s (1 s)" in only_line(ended.stderr)


def test_port_taken_is_71(make):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = make()
        server.listen = server.listen.replace(":0", f":{taken.getsockname()[1]}")
        server.write()
        ended = server.run()
    assert ended.returncode == Exit.OS
    address = server.listen.split('"')[3]
    by = f"by pid {os.getpid()} ({psutil.Process().name()})"
    assert only_line(ended.stderr) == f"chatd: cannot listen on {address}: address already in use {by}"


def test_directory_that_cannot_be_made_is_73(make):
    server = make()
    (server.root / "state").write_text("a file")
    ended = server.run()
    assert ended.returncode == Exit.CANNOT_CREATE
    assert str(server.root / "state") in only_line(ended.stderr)


def test_wrong_usage_is_64(make):
    assert make().run("--nonsense").returncode == Exit.USAGE


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_needs_leave_to_serve(make):
    server = make()
    ended = subprocess.run(
        [sys.executable, TRIAL, "-c", str(server.file)], capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == Exit.PERMISSION
    assert "--allow-root" in only_line(ended.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_privileges_are_dropped_for_good(make, tmp_path):
    open_way(tmp_path)
    nobody = pwd.getpwnam("nobody")
    server = make(server='user = "nobody"', workers=1).start()
    status = server.status()
    for pid in (status["pid"], status["workers"][0]["pid"]):
        process = psutil.Process(pid)
        assert set(process.uids()) == {nobody.pw_uid}
        assert set(process.gids()) == {nobody.pw_gid}
        assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
    assert (server.root / "state").stat().st_uid == nobody.pw_uid
    assert (server.root / "log/normal.log").stat().st_uid == nobody.pw_uid
    assert server.ctl("reload").returncode == Exit.OK


def test_daemon_returns_when_clients_can_connect(make):
    server = make()
    ended = server.run("--daemon")
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    status = server.status()
    with server.connect() as client:
        assert say(client, "hello")
    process = psutil.Process(status["pid"])
    assert status["state"] == "running"
    assert process.cwd() == "/"
    assert process.terminal() is None
    assert os.getsid(status["pid"]) != os.getsid(0)
    assert os.getsid(status["pid"]) != status["pid"]  # never gets a terminal again
    assert {os.readlink(f"/proc/{status['pid']}/fd/{number}") for number in range(3)} == {"/dev/null"}
    assert server.ctl("stop").returncode == Exit.OK
    wait_for("the daemon to leave", lambda: not is_alive(status["pid"]))


def test_daemon_without_a_log_is_refused(make):
    ended = make(log_dir="-").run("--daemon")
    assert ended.returncode == Exit.CONFIG
    assert "server.log_dir" in only_line(ended.stderr)


def test_second_instance_is_75(make):
    server = make().start()
    ended = server.run()
    assert ended.returncode == Exit.TRY_AGAIN
    pid = server.status()["pid"]
    assert f"another chatd is already running (pid {pid}," in only_line(ended.stderr)
    server.head = server.head.replace('"run"', '"other"')
    server.write()
    ended = server.run()
    assert ended.returncode == Exit.TRY_AGAIN
    assert "another chatd uses the same server.state_dir" in only_line(ended.stderr)


def race(server, starts):
    running = [
        subprocess.Popen(server.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(starts)
    ]
    try:
        status = server.wait_ready(60)
        losers = [one for one in running if one.pid != status["pid"]]
        assert [one.wait(60) for one in losers] == [Exit.TRY_AGAIN] * (starts - 1)
        assert server.ctl("stop").returncode == Exit.OK
    finally:
        for one in running:
            if one.poll() is None:
                one.kill()
            one.communicate()


@pytest.mark.parametrize("starts", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_of_many_parallel_starts_one_wins(make, starts):
    """Also with a pid file left behind that has the pid of another program."""
    server = make(workers=1)
    (server.root / "run").mkdir(mode=0o750)
    (server.root / "run" / "chatd.pid").write_text(f"{os.getpid()}\n")
    assert server.ctl("status").returncode == 1
    race(server, starts)


def test_a_start_after_kill_9_works(make):
    """The workers of the dead master end by themselves, and the next start needs no manual work."""
    server = make(tables="[timeouts]\norphan_drain_s = 1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server.listen = server.listen.replace(":0", f":{free.getsockname()[1]}")
    server.write("[timeouts]\norphan_drain_s = 1")
    server.start()
    orphans = server.pids()
    with server.connect() as client:
        say(client, "hello")
        server.process.kill()
        server.process.wait()
        assert server.ctl("status").returncode == 1
        again = server.run("--daemon")
        assert (again.returncode, again.stderr) == (Exit.OK, "")
        assert not set(orphans) & set(server.pids())
        wait_for("the orphans to leave", lambda: not any(is_alive(pid) for pid in orphans), 20)
    with server.connect() as client:
        assert int(say(client, "hello")[1]) not in orphans
    assert server.ctl("stop").returncode == Exit.OK
