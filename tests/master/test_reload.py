"""A reload applies what it can, waits for the workers, ends no session, and fails without a trace."""

from __future__ import annotations

import json
import os
import signal

import pytest

from chatd.chatctl.control_client import RequestFailed
from chatd.errors import Exit
from chatd.master.replies import ReloadReply
from chatd.master.requests import ReloadRequest
from tests.master.conftest import open_way, say, wait_for


def test_live_worker_and_restart_options(make):
    server = make().start()
    with server.connect() as client:
        assert say(client, "hello")[2:] == ["1", "NORMAL"]
        server.write('[log]\nlevel = "DEBUG"\n[accounts]\nhash_threads = 3\n[store]\nurl = "sqlite:other.db"')
        diff = server.ctl("config", "diff").stdout
        assert [line.split()[0] for line in diff.splitlines()[1:]] == [
            "store.url",
            "accounts.hash_threads",
            "log.level",
        ]
        reloaded = server.ctl("reload")
        assert (reloaded.returncode, reloaded.stdout.splitlines()) == (
            Exit.OK,
            [
                "generation 2 is in effect",
                "applied: log.level",
                "in new workers (chatctl restart-workers): accounts.hash_threads",
                "pending until a restart: store.url",
            ],
        )
        assert say(client, "hello")[2:] == ["2", "DEBUG"]
    shown = server.ctl("config", "diff").stdout.splitlines()
    assert shown[0].split("  ")[-1].strip() == "IS APPLIED BY"
    pending = {line.split()[0]: " ".join(line.split()[3:]) for line in shown[1:]}
    assert pending == {
        "store.url": "a restart (systemctl restart chatd)",
        "accounts.hash_threads": "chatctl restart-workers",
    }
    told = json.loads(server.ctl("config", "diff", "--json").stdout)["pending"]
    assert {one["key"]: one["waits_for"] for one in told} == {
        "store.url": "restart", "accounts.hash_threads": "new workers"
    }  # fmt: skip
    assert 'url = "sqlite:' + str(server.root / "state/chatd.db") in server.ctl("config").stdout
    assert [one["generation"] for one in server.status()["workers"]] == [2, 2]
    assert server.ctl("restart-workers").returncode == 0
    diff = server.ctl("config", "diff").stdout
    assert [line.split()[0] for line in diff.splitlines()[1:]] == ["store.url"]


@pytest.mark.parametrize("way", ["chatctl", "signal"])
def test_a_broken_file_changes_nothing(make, way):
    server = make().start()
    with server.connect() as client:
        before = say(client, "hello")
        server.write("[timeouts]\ndrain = 3")
        if way == "chatctl":
            ended = server.ctl("reload")
            assert ended.returncode == Exit.CONFIG
            assert ended.stderr.startswith(f"chatctl: {server.file}: timeouts.drain: unknown option")
        else:
            server.signal(signal.SIGHUP)
        status = wait_for("it fails", lambda: server.status()["reloads_failed"] and server.status())
        assert (status["reloads"], status["reloads_failed"]) == (1, 1)
        assert status["last_reload_error"].startswith(f"{server.file}: timeouts.drain: unknown option")
        assert "configuration rejected, the previous one stays in force" in server.events("error.log")
        assert say(client, "hello") == before
    assert server.status()["generation"] == 1
    assert server.ctl("status").returncode == 0


def test_with_a_broken_file_the_server_is_still_found(make):
    server = make().start()
    server.file.write_text('[server\nruntime_dir = "run"\n')
    with pytest.raises(RequestFailed) as refused:
        server.client.ask(ReloadRequest(), ReloadReply)
    assert refused.value.exit_code == Exit.CONFIG
    assert str(refused.value).startswith(f"{server.file}: -: is not TOML")
    assert server.ctl("status").returncode == 0
    server.file.write_text("[server\n")
    asked = server.ctl("status")
    assert asked.returncode == 4
    assert "looking for the server in /run/chatd" in asked.stderr


def test_one_worker_refusing_undoes_it_everywhere(make):
    server = make(workers=3)
    server.environment["TRIAL_REFUSE"] = "WARNING"
    server.start()
    server.write('[log]\nlevel = "WARNING"')
    ended = server.ctl("reload")
    assert ended.returncode == Exit.CONFIG
    assert ended.stderr == f"chatctl: {server.file}: -: worker 0: log.level: WARNING is refused\n"
    clients = [server.connect() for _ in range(12)]

    def levels():
        return {say(client, "hello")[3] for client in clients}

    wait_for("the old level", lambda: levels() == {"NORMAL"})
    for client in clients:
        client.close()
    assert [one["generation"] for one in server.status()["workers"]] == [1, 1, 1]
    server.write('[log]\nlevel = "DEBUG"')
    assert server.ctl("reload").returncode == Exit.OK


@pytest.mark.slow
def test_a_worker_without_an_answer_fails_it(make):
    server = make(workers=1)
    server.environment["TRIAL_SILENT"] = "1"
    server.start()
    server.write('[log]\nlevel = "DEBUG"')
    ended = server.ctl("reload")
    assert ended.returncode == Exit.CONFIG
    assert "no answer within 5 s from worker 0" in ended.stderr


def test_the_number_of_workers_changes_live(make):
    server = make(workers=1).start()
    first = server.pids()
    server.write(workers=3)
    assert "applied: server.workers" in server.ctl("reload").stdout
    wait_for("three workers", lambda: len(server.pids()) == 3)
    server.wait_ready()
    server.write(workers=1)
    assert server.ctl("reload").returncode == Exit.OK
    wait_for("one worker", lambda: server.pids() == first)


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_many_reloads_end_no_session(make, times):
    server = make().start()
    clients = [server.connect() for _ in range(10)]
    before = [say(client, "hello")[:2] for client in clients]
    for number in range(times):
        server.write(f"[timeouts]\ndrain_s = {number + 1}")
        server.signal(signal.SIGHUP)
        wait_for("it", lambda number=number: server.status()["generation"] == number + 2)
        assert [say(client, "hello")[:2] for client in clients] == before
    for client in clients:
        client.close()
    assert server.status()["reloads_failed"] == 0
    assert server.events("error.log") == []


def test_reloads_asked_while_one_runs_follow_it(make):
    server = make(workers=1).start()
    for number in range(5):
        server.write(f"[timeouts]\nresend_s = {number + 1}")
        server.signal(signal.SIGHUP)
    wait_for("the last one", lambda: "resend_s = 5.0" in server.ctl("config").stdout)
    assert server.status()["reloads_failed"] == 0


def test_log_level_until_the_next_reload(make):
    server = make().start()
    assert server.ctl("log-level", "warning").returncode == Exit.OK
    clients = [server.connect() for _ in range(3)]
    server.signal(signal.SIGUSR1)
    assert server.ctl("log-level", "nonsense").returncode == Exit.USAGE
    assert server.ctl("reload").returncode == Exit.OK
    assert {say(client, "hello")[3] for client in clients} == {"NORMAL"}
    for client in clients:
        client.close()


def test_all_mistakes_are_told_at_once(make):
    server = make(workers=1).start()
    server.write('[timeouts]\ndrain = 3\n[log]\nlevel = "LOUD"\n[accounts]\nlogin = "open"')
    ended = server.ctl("reload")
    assert ended.returncode == Exit.CONFIG
    lines = ended.stderr.splitlines()
    assert [line.split(": ")[2] for line in lines] == ["timeouts.drain", "log.level", "accounts.login"]
    assert all(line.startswith(f"chatctl: {server.file}: ") for line in lines)
    assert [line.split(": ")[2] for line in server.run("-t").stderr.splitlines()] == [
        line.split(": ")[2] for line in lines
    ]
    assert server.status()["last_reload_error"].splitlines()[1].startswith(f"{server.file}: log.level: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_secret_for_root_alone_is_kept_over_a_reload(make, tmp_path):
    open_way(tmp_path)
    server = make(server='user = "nobody"', workers=1)
    for name in ("secret", "other"):
        (server.root / name).write_text("redis://:hush@127.0.0.1:1")
        (server.root / name).chmod(0o600)
    bus = '[bus]\nurl = "file:{}"\ninsecure_unsigned = true\n'
    server.write(bus.format("secret"))
    server.start()
    server.write(bus.format("secret") + '[log]\nlevel = "DEBUG"')
    reloaded = server.ctl("reload")
    assert reloaded.stderr == ""
    assert (reloaded.returncode, reloaded.stdout) == (Exit.OK, "generation 2 is in effect\napplied: log.level\n")
    warnings = [one for one in server.records() if "cannot be read again" in one["event"]]
    assert [one["key"] for one in warnings] == ["bus.url"]
    server.write(bus.format("other"))
    refused = server.ctl("reload")
    assert refused.returncode == Exit.CONFIG
    assert f"bus.url: cannot read {server.root}/other: Permission denied" in refused.stderr
