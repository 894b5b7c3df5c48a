"""The control socket, its limits, and chatctl with and without it."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys

import pytest

from chatd.chatctl.control_client import ControlClient, ServerUnreachable
from chatd.errors import Exit
from chatd.master import requests
from chatd.master.replies import ControlReply, ScaleReply
from chatd.master.requests import ScaleRequest
from tests.master.conftest import is_alive, kill, open_way, wait_for


def ask(server, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(15)
        client.connect(str(server.client.path))
        client.sendall(data)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
        return received


def test_status_has_a_row_per_worker(make):
    server = make().start()
    with server.connect() as client:
        client.sendall(b"hello\n")
        client.recv(100)
        told = json.loads(server.ctl("status", "--json").stdout)
    assert (told["v"], told["state"], told["workers_ready"], told["generation"]) == (1, "running", 2, 1)
    assert [one["slot"] for one in told["workers"]] == [0, 1]
    assert sum(one["messages_in"] for one in told["workers"]) == 1
    assert all(one["rss_bytes"] > 1_000_000 and one["heartbeat_age_s"] < 5 for one in told["workers"])
    assert told["listeners"][0]["address"].startswith("tcp://127.0.0.1:")
    shown = server.ctl("status").stdout
    assert "running, 2 of 2 workers ready" in shown
    assert server.ctl("workers").stdout.splitlines()[0].startswith("SLOT")
    assert server.ctl("check").stdout == "OK: 2 of 2 workers ready\n"


def test_waiting_connections_are_seen(make):
    server = make(workers=1).start()
    port = server.port()
    for pid in server.pids():
        kill(pid, signal.SIGSTOP)
    clients = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(5)]
    wait_for("the queue", lambda: server.status()["listeners"][0]["waiting"] >= 4)
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"nonsense\n",
        b'{"v": 2, "cmd": "status"}\n',
        b'{"v": 1, "cmd": "explode"}\n',
        b'{"v": 1, "cmd": "kick", "user": "\xff"}\n',
        b"[" * 70_000,
        b'{"v": 1, "cmd": "status", "x": ' + b"[" * 30_000 + b"\n",
    ],
)
def test_bad_requests_are_answered_and_cut(make, data):
    server = make(workers=1).start()
    answer = json.loads(ask(server, data))
    assert (answer["ok"], answer["exit"], answer["v"]) == (False, Exit.USAGE, 1)
    assert server.status()["state"] == "running"


def silent_clients(server):
    made = [socket.socket(socket.AF_UNIX) for _ in range(16)]
    for client in made:
        client.connect(str(server.client.path))
        client.settimeout(15)
    return made


def test_sixteen_clients_and_no_more(make):
    server = make(workers=1).start()
    silent = silent_clients(server)
    assert "too many" in json.loads(ask(server, b""))["error"]
    refused = server.ctl("status")
    assert (refused.returncode, "too many chatctl at once" in refused.stderr) == (4, True)
    for client in silent:
        client.close()
    wait_for("room", lambda: server.status()["state"] == "running")


@pytest.mark.slow
def test_the_slow_are_cut_after_ten_seconds(make):
    server = make(workers=1).start()
    for client in silent_clients(server):
        assert client.recv(10) == b""
        client.close()
    assert server.status()["state"] == "running"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_other_users_are_refused(make):
    server = make(workers=1).start()
    os.chmod(str(server.client.path), 0o666)
    open_way(server.root / "run")
    # already imported, because nobody may not read everybody's interpreter
    code = (
        "import os, socket, sys\ns = socket.socket(socket.AF_UNIX)\nos.setgroups([{groups}])\n"
        "os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        's.connect(sys.argv[1])\ntry:\n    s.sendall(b\'{{"v":1,"cmd":"status"}}\\n\')\n    print(len(s.recv(9)))\n'
        "except OSError:\n    print(0)"
    )
    for groups, told in (("", "0\n"), (str(os.getegid()), "9\n")):
        ended = subprocess.run(
            [sys.executable, "-c", code.format(groups=groups), str(server.client.path)],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        assert ended.stdout == told
    (refused,) = [one for one in server.records("normal.log") if one["event"].startswith("control: connection refused")]
    assert (refused["uid"], refused["by"]) == (65534, "nobody")


def test_lsb_codes(make):
    server = make(workers=1, tables="[timeouts]\norphan_drain_s = 0")
    assert server.ctl("status").returncode == 3
    assert server.ctl("check").returncode == 2
    server.start()
    assert server.ctl("status").returncode == 0
    kill(server.process.pid, signal.SIGSTOP)
    assert server.ctl("status").returncode == 4
    kill(server.process.pid, signal.SIGCONT)
    pids = server.pids()
    server.process.kill()
    server.process.wait()
    dead = server.ctl("status", "--json")
    assert (dead.returncode, json.loads(dead.stdout)["state"]) == (1, "dead")
    wait_for("the workers to leave", lambda: not any(is_alive(pid) for pid in pids))


def test_without_the_socket_signals_serve(make):
    server = make(workers=1).start()
    os.unlink(str(server.client.path))
    reopened = server.ctl("reopen")
    assert reopened.returncode == Exit.OK
    assert f"sending SIGUSR1 to pid {server.process.pid} instead" in reopened.stderr
    reloaded = server.ctl("reload")
    assert (reloaded.returncode, "SIGHUP" in reloaded.stderr) == (Exit.OK, True)
    wait_for("the reload", lambda: "configuration applied" in server.events())
    stopped = server.ctl("stop")
    assert (stopped.returncode, "SIGTERM" in stopped.stderr) == (Exit.OK, True)
    assert server.wait(1) == Exit.OK
    assert server.ctl("stop").returncode == Exit.UNAVAILABLE


def test_completion_scripts(make):
    server = make()
    assert "chatctl" in server.ctl("--print-completion", "bash").stdout
    assert "--allow-root" in server.run("--print-completion", "bash").stdout


def test_arguments_that_are_not_utf8_are_wrong_usage(make):
    server = make(workers=1).start()
    for arguments in (("kick", "\udcff"), ("kick", "alice", "--reason", "\udcff"), ("user", "list", "\udcff")):
        found = server.ctl(*arguments)
        assert (found.returncode, "Traceback" in found.stderr) == (Exit.USAGE, False), found.stderr


def test_wrong_usage_is_64(make):
    server = make()
    for arguments in ((), ("explode",), ("scale", "x"), ("user", "add"), ("log-level", "LOUD")):
        assert server.ctl(*arguments).returncode == Exit.USAGE


def test_accounts_need_no_server_and_no_password_in_arguments(make):
    server = make()
    added = server.ctl("user", "add", "alice", input="long pass word\n")
    assert (added.returncode, added.stdout) == (Exit.OK, "alice has the id 1\n")
    again = server.ctl("user", "add", "alice", input="another long one\n")
    store = f"sqlite:{server.root}/state/chatd.db"
    assert (again.returncode, again.stderr) == (1, f"chatctl: store: {store}\nchatctl: alice: this name is taken\n")
    assert server.ctl("user", "passwd", "alice", input="yet another one\n").returncode == Exit.OK
    assert server.ctl("user", "passwd", "nobody", input="yet another one\n").returncode == 1
    listed = server.ctl("user", "list").stdout.splitlines()
    assert (listed[0].split(), listed[1].split()[:2]) == (["ID", "NAME", "CREATED"], ["1", "alice"])
    assert server.ctl("user", "del", "alice").returncode == Exit.OK
    assert len(server.ctl("user", "list").stdout.splitlines()) == 1
    (server.root / "state" / "chatd.db").write_bytes(b"not a database" * 100)
    assert server.ctl("user", "list").returncode == Exit.UNAVAILABLE


def test_a_kick_that_workers_do_not_answer_says_so_in_time(make):
    server = make().start()  # these workers do not know the order
    done = server.ctl("kick", "alice")
    assert done.returncode == Exit.TRY_AGAIN
    assert done.stderr == "chatctl: no answer within 5 s from worker 0, 1; 0 sessions ended\n"


@pytest.mark.parametrize("fields", [{}, {"user": 5}, {"user": "", "user_id": -1}, {"user": "a", "reason": "r" * 201}])
def test_a_kick_that_makes_no_sense_is_refused(make, fields):
    server = make(workers=1).start()
    answer = json.loads(ask(server, json.dumps({"v": 1, "cmd": "kick", **fields}).encode() + b"\n"))
    assert (answer["ok"], answer["exit"]) == (False, Exit.USAGE)
    assert "kick" in answer["error"]


def test_a_password_is_checked_wherever_it_is_set(make):
    """One that is too long for a login would lock the account."""
    server = make()
    assert server.ctl("user", "add", "alice", input="the first one\n").returncode == Exit.OK
    for command in (("passwd", "alice"), ("add", "bob")):
        refused = server.ctl("user", *command, input="x" * 2000 + "\n")
        assert refused.returncode == 1
        assert f"chatctl: {command[1]}: a password must have at most 1024 characters" in refused.stderr
    assert len(server.ctl("user", "list").stdout.splitlines()) == 2


@pytest.mark.parametrize("command", [("list",), ("passwd", "alice"), ("del", "alice")])
def test_only_adding_an_account_creates_a_store(make, command):
    server = make()
    missing = server.ctl("user", *command, input="yet another one\n")
    assert missing.returncode == Exit.UNAVAILABLE
    assert f"sqlite:{server.root}/state/chatd.db" in missing.stderr
    assert sorted(path.name for path in server.root.iterdir()) == ["chatd.toml"]


def test_the_configuration_leaves_the_master_without_passwords(make):
    server = make(workers=1, tables='[bus]\nurl = "redis://:hu@sh@127.0.0.1:1"\ninsecure_unsigned = true')
    server.file.chmod(0o600)
    server.start()
    for command in ("config", "config-diff", "status"):
        answer = ask(server, json.dumps({"v": 1, "cmd": command}).encode() + b"\n")
        assert json.loads(answer)["ok"]
        assert b"hu@sh" not in answer
        assert b"sh@127" not in answer
    assert 'url = "redis://:***@127.0.0.1:1"' in server.ctl("config").stdout


def test_help_of_every_command(make):
    server = make()
    for command in ("status", "workers", "check", "reload", "scale", "kick", "user", "migrate", "copy-store"):
        helped = server.ctl(command, "-h")
        assert (helped.returncode, helped.stdout.split()[:3]) == (Exit.OK, ["usage:", "chatctl", command])


def test_scale_has_a_limit(make):
    server = make(workers=1).start()
    limit = 8 * len(os.sched_getaffinity(0))
    refused = server.ctl("scale", "+999")
    assert (refused.returncode, refused.stderr) == (
        Exit.USAGE, "chatctl: that would be 1000 workers, the limit is 256\n",
    )  # fmt: skip
    refused = server.ctl("scale", f"+{limit}")
    why = f"the limit is {limit} (8 per core) without --force"
    assert (refused.returncode, refused.stderr) == (
        Exit.USAGE, f"chatctl: that would be {limit + 1} workers, {why}\n",
    )  # fmt: skip

    def warned():
        server.signal(signal.SIGTTIN)
        return "no more workers are started by signals" in server.events()

    wait_for("a warning", warned, 60)
    assert server.status()["workers_wanted"] <= limit
    assert server.ctl("scale", "-200").stdout == "workers: 1\n"


def test_scale_by_force(make):
    server = make(workers=1).start()
    limit = 8 * len(os.sched_getaffinity(0))
    if limit > 32:
        pytest.skip("too many cores")
    assert server.ctl("scale", f"+{limit}", "--force").stdout == f"workers: {limit + 1}\n"


def test_a_request_without_a_reply_is_not_sent_again_as_signals(tmp_path, monkeypatch):
    """The master is only busy, and would do both."""
    (tmp_path / "chatd.pid").write_text(f"{os.getpid()}\n")
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    client = ControlClient(str(tmp_path))
    with (tmp_path / "chatd.pid").open() as lock, socket.socket(socket.AF_UNIX) as busy:
        fcntl.flock(lock, fcntl.LOCK_EX)
        busy.bind(str(client.path))
        busy.listen()
        with pytest.raises(ServerUnreachable, match=r"no reply within 0.2 s") as caught:
            client.ask(ScaleRequest(step=5), ScaleReply, limit_s=0.2)
        with pytest.raises(ServerUnreachable):
            client.signal_instead(signal.SIGTTIN, caught.value, 5)
        assert sent == []
        busy.close()
        with pytest.raises(ServerUnreachable, match="no process listens") as caught:
            client.ask(ScaleRequest(step=2), ScaleReply)
        client.signal_instead(signal.SIGTTIN, caught.value, 2)
        assert sent == [(os.getpid(), signal.SIGTTIN)] * 2


def test_without_a_server_it_is_said_so(make):
    server = make()
    for command in (
        ("reload",),
        ("reopen",),
        ("stop",),
        ("config",),
        ("scale", "+1"),
        ("kick", "alice"),
        ("scale", "-1"),
    ):
        ended = server.ctl(*command)
        assert (ended.returncode, ended.stderr) == (
            Exit.UNAVAILABLE, f"chatctl: chatd is not running in {server.root}/run\n",
        )  # fmt: skip
    assert server.ctl("check").stdout == f"CRITICAL: chatd is not running in {server.root}/run\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_another_user_is_told_what_is_missing(make):
    server = make(workers=1).start()
    open_way(server.root)
    # already imported, because nobody may not read everybody's interpreter
    code = (
        "import os, sys\nfrom chatd.chatctl.__main__ import main, parser\nparser()\nos.setgroups([])\n"
        "os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\nsys.exit(main(sys.argv[1:]))"
    )
    for command, code_wanted in (("status", 4), ("check", 2), ("reload", Exit.PERMISSION), ("stop", Exit.PERMISSION)):
        ended = subprocess.run(
            [sys.executable, "-c", code, "-c", str(server.file), command],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        said = ended.stdout + ended.stderr
        assert ended.returncode == code_wanted, said
        assert re.search(
            rf"permission denied for {server.root}/run/\S+: only root, the server's user and its group", said
        )
        assert "process 0" not in said


def orders(server):
    """(order, arguments, result) of each record, in their order; all are of this process's user."""
    found = [one for one in server.records("normal.log") if one.get("security") == "order"]
    for one in found:
        assert (one["uid"], one["by"], one["source"]) == (os.geteuid(), pwd.getpwuid(os.geteuid()).pw_name, "")
        assert one["caller_pid"] not in (0, os.getpid(), one["pid"])
    return [(one["order"], one["arguments"], one["result"]) for one in found]


def test_every_order_is_recorded_with_its_caller_and_its_result(make):
    server = make(workers=1).start()
    server.ctl("status")
    server.ctl("config")
    server.ctl("log-level", "NORMAL")
    server.ctl("reopen")
    server.ctl("scale", "+1")
    server.ctl("scale", "+200")
    server.write("[log]\nlevel = 3")
    server.ctl("reload")
    server.write()
    server.ctl("reload")
    server.ctl("stop")
    assert orders(server) == [
        ("config", {}, "ok"),
        ("log-level", {"level": "NORMAL", "workers": None}, "ok"),
        ("reopen", {}, "ok"),
        ("scale", {"step": 1, "workers": 0, "force": False}, "ok"),
        ("scale", {"step": 200, "workers": 0, "force": False}, "failed"),
        ("reload", {}, "failed"),
        ("reload", {}, "begun"),
        ("reload", {}, "ok"),
        ("stop", {"fast": False}, "begun"),
        ("stop", {"fast": False}, "ok"),
    ]
    failed = [one["why"] for one in server.records("normal.log") if one.get("result") == "failed"]
    assert "limit" in failed[0]
    assert "log.level" in failed[1]


def test_every_request_is_an_order_but_for_those_that_are_records_or_figures():
    assert {kind for kind in requests.REQUESTS if not kind.is_order} == {
        requests.StatusRequest,
        requests.RecordRequest,
        requests.ApplyBansRequest,
        requests.PenaltiesRequest,
        requests.SessionsRequest,
        requests.ClientsRequest,
        requests.ListTracesRequest,
        requests.LogLevelsRequest,
    }
    for kind in requests.REQUESTS:
        assert set(kind.recorded) <= set(kind.__struct_fields__)


def test_an_order_of_hundreds_is_recorded_each_time(make):
    server = make(workers=1).start()
    for _ in range(300):
        server.client.ask(requests.LogLevelRequest(level="NORMAL"), ControlReply)
    assert len(orders_of(server, "log-level")) == 300


def orders_of(server, name):
    return [one for one in server.records("normal.log") if one.get("order") == name]
