"""Signals, and what becomes of workers that die, hang, loop or lose their master."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime

import psutil
import pytest

from chatd.errors import Exit
from tests.master.conftest import TRIAL, is_alive, kill, say, wait_for


def slots(server):
    return {one["slot"]: one for one in server.status()["workers"]}


def gap_s(records):
    """From the last death of a worker to the replacement that serves, by the master's log; 0.0: none serves yet."""
    died = max(datetime.fromisoformat(one["time"]) for one in records if one["event"] == "worker died")
    ready = [datetime.fromisoformat(one["time"]) for one in records if one["event"] == "worker is ready"]
    return min(((at - died).total_seconds() for at in ready if at > died), default=0.0)


def test_a_killed_worker_is_replaced_within_two_seconds(make):
    """P7: and only its own connections are lost."""
    server = make().start()
    clients = [server.connect() for _ in range(8)]
    seats = [say(client, "hello") for client in clients]
    victim = int(seats[0][1])
    kill(victim)
    wait_for("a replacement", lambda: victim not in server.pids() and len(server.pids()) == 2)
    server.wait_ready()
    assert wait_for("it is told", lambda: gap_s(server.records())) < 2
    for client, context in zip(clients, seats, strict=True):
        if int(context[1]) != victim:
            assert say(client, "hello") == context
        else:
            assert client.recv(10) == b""
        client.close()
    assert [one["restarts"] for one in server.status()["workers"]].count(1) == 1
    assert "worker died" in server.events("error.log")


def test_a_worker_that_is_told_to_leave_has_not_died(make):
    """TERM from an operator: it drains, and is replaced at once."""
    server = make().start()
    victim = server.pids()[0]
    kill(victim, signal.SIGTERM)
    wait_for("a replacement", lambda: victim not in server.pids() and len(server.pids()) == 2)
    server.wait_ready()
    assert server.events("error.log") == []
    assert any("drained and left" in event for event in server.events("normal.log"))
    assert [one["restarts"] for one in server.status()["workers"]] == [0, 0]


def test_ttin_and_ttou_change_the_number(make):
    server = make(workers=1).start()
    server.signal(signal.SIGTTIN)
    wait_for("two workers", lambda: len(server.pids()) == 2)
    server.signal(signal.SIGTTOU)
    wait_for("one worker", lambda: len(server.pids()) == 1)
    server.signal(signal.SIGTTOU)
    server.signal(signal.SIGUSR1)
    wait_for("the signals", lambda: server.events("normal.log").count("signal") == 4)
    assert server.status()["workers_wanted"] == 1
    assert list(slots(server)) == [0]
    assert server.ctl("scale", "+2").stdout == "workers: 3\n"
    wait_for("three workers", lambda: len(server.pids()) == 3)
    assert server.ctl("scale", "-2").stdout == "workers: 1\n"
    wait_for("one worker", lambda: len(server.pids()) == 1)


def test_workers_ignore_what_is_the_masters(make):
    server = make(workers=1).start()
    pid = server.pids()[0]
    with server.connect() as client:
        for number in ("HUP", "INT", "TTIN", "TTOU", "WINCH", "USR1", "USR2", "PIPE"):
            kill(pid, getattr(signal, f"SIG{number}"))
        assert int(say(client, "hello")[1]) == pid
    assert server.pids() == [pid]


def test_the_master_survives_a_signal_without_a_meaning(make):
    server = make(workers=1).start()
    server.signal(signal.SIGPIPE)
    assert server.ctl("reload").returncode == 0
    assert server.status()["state"] == "running"


def test_term_drains_within_the_limit_then_kills(make):
    server = make(tables="[timeouts]\ndrain_s = 0.3").start()
    with server.connect() as client:
        client.sendall(b"hang\n")
        wait_for("it hangs", lambda: any(one["heartbeat_age_s"] > 0.3 for one in server.status()["workers"]))
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == Exit.OK
    assert 2.3 < time.monotonic() - began < 12, "by default it may drain for 30 s"
    assert "worker did not leave cleanly" in server.events("normal.log")


def test_a_second_term_is_fast(make):
    server = make().start()
    with server.connect() as client:
        say(client, "hello")
        server.signal(signal.SIGTERM)
        wait_for("stopping", lambda: server.status()["state"] == "stopping")
        assert server.ctl("check").returncode == 2
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == Exit.OK
    assert time.monotonic() - began < 12, "by default it may drain for 30 s"


@pytest.mark.parametrize(
    ("number", "limit_s"), [(signal.SIGQUIT, 4.5), pytest.param(signal.SIGINT, 12, marks=pytest.mark.slow)]
)
def test_quit_is_now_and_int_is_fast(make, number, limit_s):
    server = make().start()
    with server.connect() as client:
        client.sendall(b"hang\n")
        wait_for("it hangs", lambda: any(one["heartbeat_age_s"] > 0.3 for one in server.status()["workers"]))
        began = time.monotonic()
        server.signal(number)
        assert server.wait() == Exit.OK
    assert time.monotonic() - began < limit_s


def test_crash_loop_backs_off_and_is_degraded(make):
    """After READY the server never ends because a worker cannot start."""
    server = make()
    mark = server.root / "fail"
    server.environment["TRIAL_BOOT_FILE"] = str(mark)
    server.start()
    mark.write_text("exit")
    kill(server.pids()[0])
    wait_for("tries", lambda: max(one["restarts"] for one in server.status()["workers"]) >= 4)
    status = server.status()
    assert (status["state"], status["workers_ready"]) == ("degraded", 1)
    checked = server.ctl("check")
    assert (checked.returncode, checked.stdout[:9]) == (1, "DEGRADED:")
    with server.connect() as client:
        assert say(client, "hello")
    deaths = [record for record in server.records("error.log") if record["event"] == "worker died"]
    assert {record["end"] for record in deaths} == {"SIGKILL", "exit 1"}
    mark.unlink()
    server.wait_ready()


def test_a_hanging_worker_shows_its_stacks_and_is_replaced(make):
    server = make(workers=1, tables="[timeouts]\nhang_s = 1").start()
    victim = server.pids()[0]
    with server.connect() as client:
        client.sendall(b"hang\n")
        wait_for("a replacement", lambda: server.pids() and victim not in server.pids())
    server.wait_ready()
    stacks = [record for record in server.records("error.log") if record["event"] == "stacks of a worker"]
    assert "trial_worker.py" in stacks[0]["stacks"]
    assert "_client" in stacks[0]["stacks"]
    assert [record["end"] for record in server.records() if record["event"] == "worker died"] == ["SIGABRT"]


def test_a_stopped_worker_is_killed(make):
    """SIGSTOP holds back ABRT; KILL comes 5 s later. The others serve."""
    server = make(tables="[timeouts]\nhang_s = 1").start()
    victim, other = server.pids()
    kill(victim, signal.SIGSTOP)
    wait_for("it is seen", lambda: [one for one in server.status()["workers"] if one["state"] == "hung"])
    assert server.ctl("status").returncode == 0
    wait_for("it is gone", lambda: not is_alive(victim), 20)
    assert is_alive(other)
    wait_for("a replacement", lambda: len(server.pids()) == 2)


def test_one_that_keeps_nobody_waiting_is_given_its_time(make):
    """Sooner is ended only who has a lock that others wait for (tests/faults/test_workers_die.py)."""
    server = make(tables="[timeouts]\nhang_s = 4").start()
    kill(server.pids()[0], signal.SIGSTOP)
    told = wait_for("it is judged", lambda: [one for one in server.records("error.log") if "silent_s" in one], 30)
    assert [one["event"] for one in told] == ["worker hangs"]
    assert told[0]["silent_s"] >= 4


@pytest.mark.parametrize(("hang_s", "pause_s"), [(1, 2), pytest.param(30, 90, marks=pytest.mark.slow)])
def test_a_long_pause_kills_nobody(make, hang_s, pause_s):
    server = make(tables=f"[timeouts]\nhang_s = {hang_s}").start()
    everybody = [server.process.pid, *server.pids()]
    for pid in everybody:
        kill(pid, signal.SIGSTOP)
    wait_for("all stopped", lambda: {psutil.Process(pid).status() for pid in everybody} == {"stopped"})
    time.sleep(pause_s)  # the pause is what is tested
    for pid in everybody:
        kill(pid, signal.SIGCONT)
    wait_for("it is noticed", lambda: "the master was stopped for a while, hang detection waits" in server.events())
    until = time.monotonic() + min(hang_s, 5) + 1
    while time.monotonic() < until:
        assert server.status()["state"] == "running"
        time.sleep(0.1)
    assert server.pids() == everybody[1:]
    assert server.events("error.log") == []


def test_workers_leave_when_the_master_is_gone(make):
    """Listeners close at once, clients have their time."""
    server = make(tables="[timeouts]\norphan_drain_s = 5").start()
    pids, port = server.pids(), server.port()
    with server.connect() as client:
        say(client, "hello")
        server.process.kill()

        def refused():
            held = [one.laddr.port for pid in pids if is_alive(pid) for one in psutil.Process(pid).net_connections()
                    if one.status == psutil.CONN_LISTEN]  # fmt: skip
            return port not in held

        wait_for("the listeners to close", refused, 4.5)
        assert say(client, "hello")
        wait_for("the workers to leave", lambda: not any(is_alive(pid) for pid in pids), 15)


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_signal_storm(make, seconds):
    """Random signals, a thousand a second, to master and workers; those that serve nobody stay. USR2 and WINCH are not
    among them, because they are meant to replace workers."""
    server = make().start()
    master, workers = server.process.pid, server.pids()
    masters = [signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE]
    masters += [signal.SIGTTIN, signal.SIGTTOU]
    ours = [signal.SIGHUP, signal.SIGINT, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGUSR1]
    chance = random.Random(seconds)
    with server.connect() as client:
        context = say(client, "hello")
        until, sent = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            if chance.random() < 0.5:
                kill(master, chance.choice(masters))
            else:
                kill(chance.choice(workers[:1]), chance.choice(ours))
            sent += 1
            time.sleep(0.001)
        assert sent > seconds * 50
        server.write(workers=1)
        wait_for("a reload that goes through", lambda: server.ctl("reload").returncode == 0)
        wait_for("order", lambda: server.status()["state"] == "running", 20)
        if int(context[1]) == workers[0]:
            assert say(client, "hello")[:2] == context[:2]
    assert server.process.pid == server.status()["pid"]
    assert workers[0] in server.pids()
    assert "worker died" not in server.events("error.log")
    assert server.ctl("stop").returncode == Exit.OK


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_as_process_one_it_reaps_orphans(make):
    """Orphans of others become our children."""
    server = make(workers=1)
    inside = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"  # a child of process 1, whose own child becomes an orphan
        "    if os.fork() == 0:\n        time.sleep(1)\n"
        "    os._exit(0)\n"
        f"os.execv(sys.executable, [sys.executable, {TRIAL!r}, '-c', {str(server.file)!r}, '--allow-root'])\n"
    )
    server.process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", inside],
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for("ready", lambda: server.status()["state"] == "running")
    server.known.clear()  # numbers of another namespace
    init = wait_for("process 1", lambda: psutil.Process(server.process.pid).children())[0]
    wait_for("nobody but the worker", lambda: len(init.children()) == 1, 20)
    assert server.events("error.log") == []
    assert server.ctl("stop").returncode == Exit.OK
