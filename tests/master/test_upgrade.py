"""What an upgrade keeps of a process: what systemd, chatctl and the terminal that it has left know of it."""

from __future__ import annotations

import json
import os
import pwd
import socket

import psutil
import pytest

from tests.master.conftest import is_alive, say, wait_for
from tests.master.test_systemd import notifications, receiver  # noqa: F401  a fixture

pytestmark = pytest.mark.xdist_group("upgrade")


def with_store(server):
    """A real one, which the preflight looks at; trial workers have none. Once the server has made its directories."""
    assert server.ctl("user", "add", "alice", input="a long password\n").returncode == 0
    return server


def programs(server) -> int:
    """How often the process has changed its program."""
    return server.events("normal.log").count("the program has changed")


def test_systemd_sees_one_process_that_reloads_and_the_configuration_is_applied(make, receiver):  # noqa: F811
    server = make()
    server.environment |= {"NOTIFY_SOCKET": receiver.getsockname(), "WATCHDOG_USEC": "2000000"}
    with_store(server.start())
    pid = server.process.pid
    wait_for("ready", lambda: f"MAINPID={pid}" in notifications(receiver))
    server.listen = server.listen.replace("127.0.0.1:0", "127.0.0.1:1")
    server.write('[log]\nlevel = "WARNING"\n', workers=3)
    done = server.ctl("upgrade")
    assert done.returncode == 0, done
    told = notifications(receiver)
    assert "RELOADING=1" in told
    after = told[told.index("RELOADING=1") :]
    assert {"READY=1", f"MAINPID={pid}"} <= set(after)
    wait_for("the watchdog is fed by the new program", lambda: "WATCHDOG=1" in notifications(receiver))
    found = server.wait_ready()
    assert found["pid"] == pid
    # The configuration is applied as by a reload: what needs a restart still waits for one.
    assert (found["generation"], found["workers_wanted"], len(found["workers"])) == (2, 3, 3)
    with server.connect() as client:
        assert say(client, "?")[2:] == ["2", "WARNING"]
    assert "listen" in server.ctl("config", "diff").stdout


def test_a_daemon_that_was_started_with_a_relative_name(make):
    server = make()
    command = [part if part != str(server.file) else server.file.name for part in server.command("--daemon")]
    server.command = lambda *_: command
    assert server.launch(cwd=server.root).wait(20) == 0
    pid = with_store(server).wait_ready()["pid"]
    done = server.ctl("upgrade")
    assert done.returncode == 0, done
    assert (server.status()["pid"], programs(server)) == (pid, 1)
    process = psutil.Process(pid)
    assert (process.cwd(), os.getsid(pid)) != (str(server.root), os.getsid(0))
    assert process.cwd() == "/"
    assert server.ctl("stop").returncode == 0


def test_clients_of_the_control_socket_stay_connected(make):
    """One has sent half of its request, another the whole of it and waits, a third has not read its reply."""
    server = make()
    server.environment["TRIAL_PATIENCE"] = "90"
    with_store(server.start())
    path = str(server.root / "run" / "control.sock")
    half, idle = (socket.socket(socket.AF_UNIX) for _ in range(2))
    with half, idle:
        for one in (half, idle):
            one.settimeout(20)
            one.connect(path)
        half.sendall(b'{"cmd": "sta')
        assert server.ctl("upgrade").returncode == 0
        half.sendall(b'tus", "v": 1}\n')
        idle.sendall(b'{"cmd": "upgrade", "v": 1}\n')
        assert json.loads(half.makefile().readline())["status"]["pid"] == server.process.pid
        answer = json.loads(idle.makefile().readline())
        assert (answer["ok"], answer["workers"]) == (True, 2)
    assert programs(server) == 2
    orders = [record for record in server.records("normal.log") if record.get("order") == "upgrade"]
    assert [record["result"] for record in orders] == ["begun", "ok", "begun", "ok"]
    assert {record["by"] for record in orders} == {pwd.getpwuid(os.geteuid()).pw_name}


def give_and_go(server, request):
    """Give an order, and do not wait for the answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.root / "run" / "control.sock"))
        client.sendall(json.dumps({"v": 1, **request}).encode() + b"\n")
    wait_for("it is under way", lambda: ordered(server, request["cmd"]) == ["begun"])


def ordered(server, name):
    """What the trail says of orders with this name."""
    return [one["result"] for one in server.records("normal.log") if one.get("order") == name]


def test_an_order_whose_client_has_gone_ends_before_the_program_changes(make):
    """Workers of these tests do not answer a kick, so it ends after some seconds."""
    server = with_store(make(workers=1).start())
    give_and_go(server, {"cmd": "kick", "user": "alice"})
    assert server.ctl("upgrade").returncode == 0
    told = [one.get("order") or one["event"] for one in server.records("normal.log") if one.get("result") != "begun"]
    assert told.index("kick") < told.index("changing the program")
    assert ordered(server, "kick") == ["begun", "failed"]


def test_the_end_of_an_upgrade_is_recorded_when_its_client_has_gone(make):
    server = with_store(make(workers=1).start())
    give_and_go(server, {"cmd": "upgrade", "administrator": "root"})
    wait_for("its end is recorded", lambda: ordered(server, "upgrade") == ["begun", "ok"], 30)
    orders = [one for one in server.records("normal.log") if one.get("order") == "upgrade"]
    begun, ended = [{name: one[name] for name in ("administrator", "uid", "by", "caller_pid")} for one in orders]
    assert begun == ended == {**begun, "administrator": "root", "caller_pid": os.getpid()}
    assert programs(server) == 1


@pytest.mark.slow
def test_an_order_that_does_not_end_refuses_the_upgrade(make):
    server = with_store(make(workers=1).start())
    give_and_go(server, {"cmd": "broadcast", "text": "tea time"})
    done = server.ctl("upgrade")
    assert (done.returncode, done.stderr) == (75, "chatctl: still under way after 10 s: broadcast; try again\n")
    assert programs(server) == 0


def test_without_the_socket_chatctl_sends_the_signal(make):
    server = with_store(make(workers=1).start())
    (server.root / "run" / "control.sock").unlink()
    done = server.ctl("upgrade")
    assert done.returncode == 0, done
    assert "sending SIGUSR2" in done.stderr
    wait_for("upgraded", lambda: "upgraded" in server.events("normal.log"), 30)


def test_a_stop_during_an_upgrade_stops(make):
    """The child that was asked is ended, and whoever waits for the upgrade is told."""
    server = with_store(make().start())
    asking = socket.socket(socket.AF_UNIX)
    with asking:
        asking.settimeout(20)
        asking.connect(str(server.root / "run" / "control.sock"))
        asking.sendall(b'{"cmd": "upgrade", "v": 1}\n')
        wait_for("it is under way", lambda: server.status()["upgrade"]["phase"] == "checking")
        children = {child.pid for child in psutil.Process(server.process.pid).children()}
        assert server.ctl("stop").returncode == 0
        answer = json.loads(asking.makefile().readline())
    assert (answer["exit"], answer["error"]) == (75, "the server is stopping")
    assert server.wait() == 0
    wait_for("nothing is left", lambda: not any(is_alive(pid) for pid in children))


def test_what_runs_shows_in_the_status(make):
    server = make(workers=1).start()
    found = server.status()
    assert found["upgrade"] == {"installed": found["version"], "phase": "idle", "failure": "", "old_workers": 0}
    assert "upgrade" not in server.ctl("status").stdout
