"""Replacing workers while the server serves: the new one accepts before the old one leaves."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

from tests.master.conftest import kill, say, wait_for


def by_slot(server):
    return {one["slot"]: one["pid"] for one in server.status()["workers"]}


def replaced(server, *arguments):
    """What `restart-workers --json` prints, and its exit code."""
    done = server.ctl("restart-workers", "--json", *arguments)
    return done.returncode, json.loads(done.stdout)


def test_all_workers_are_replaced_one_after_the_other(make):
    server = make(workers=3).start()
    before = by_slot(server)
    code, told = replaced(server)
    assert code == 0
    after = by_slot(server)
    assert len(after) == 3
    assert not set(before.values()) & set(after.values())
    assert [(one["slot"], one["pid"]) for one in told["replaced"]] == sorted(before.items())
    assert {one["new_slot"]: one["new_pid"] for one in told["replaced"]} == after
    assert told["not_replaced"] == []
    order = [
        record["event"] for record in server.records() if record["event"] in ("worker is ready", "worker has left")
    ]
    assert order[3:] == ["worker is ready", "worker has left"] * 3, "the new one is ready before the old one leaves"
    assert [one["restarts"] for one in server.status()["workers"]] == [0, 0, 0]
    assert server.events("error.log") == []


def test_there_are_never_fewer_that_accept(make):
    """Looked at all the time, in the workers' own rows: as many as are wanted say that they are ready."""
    server = make(workers=2).start()
    seen, over = [], threading.Event()

    def look():
        while not over.is_set():
            seen.append(sum(one["state"] == "ready" for one in server.status()["workers"]))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        assert replaced(server)[0] == 0
    finally:
        over.set()
        watcher.join()
    assert min(seen) == 2


def test_a_client_keeps_its_worker_until_it_drains(make):
    server = make(workers=1, tables="[timeouts]\ndrain_s = 20").start()
    with server.connect() as client:
        old = say(client, "hello")[1]
        asked = threading.Thread(target=server.ctl, args=("restart-workers",))
        asked.start()
        wait_for("it drains", lambda: any(one["state"] == "draining" for one in server.status()["workers"]))
        assert say(client, "hello")[1] == old
        status = server.status()
        assert status["state"] == "running"
        assert status["restart"] == {"replaced": 0, "workers": 1}
        second = server.ctl("restart-workers")
        assert (second.returncode, "under way, 0 of 1" in second.stderr) == (75, True)
        with server.connect() as other:
            assert say(other, "hello")[1] != old
    asked.join()
    assert int(old) not in server.pids()


def test_a_successor_that_cannot_start_changes_nothing(make):
    server = make(workers=2)
    mark = server.root / "fail"
    server.environment["TRIAL_BOOT_FILE"] = str(mark)
    server.start()
    before = by_slot(server)
    mark.write_text("config")
    code, told = replaced(server)
    assert code == 75
    assert "trial.toml: store.url" in told["error"]
    assert told["replaced"] == []
    assert {one["slot"]: one["pid"] for one in told["not_replaced"]} == before
    assert by_slot(server) == before
    assert server.status()["state"] == "running"
    mark.unlink()
    assert replaced(server)[0] == 0


def slow_boot(make, **options):
    """A server whose next workers do not become ready, and the file that says so."""
    server = make(**options)
    mark = server.root / "fail"
    server.environment["TRIAL_BOOT_FILE"] = str(mark)
    server.start()
    mark.write_text("wait")
    return server, mark


def booting(server):
    return [one["pid"] for one in server.status()["workers"] if one["state"] == "booting"]


def begin(server):
    asked = threading.Thread(target=server.ctl, args=("restart-workers",))
    asked.start()
    wait_for("a successor", lambda: booting(server))
    return asked


def test_an_old_worker_that_dies_first_is_followed_by_its_successor(make):
    server, mark = slow_boot(make, workers=1)
    old = server.pids()[0]
    asked = begin(server)
    (successor,) = booting(server)
    kill(old)
    wait_for("it is gone", lambda: old not in server.pids())
    mark.unlink()
    asked.join()
    server.wait_ready()
    assert server.pids() == [successor]


def test_a_successor_that_is_killed_is_tried_once_more(make):
    server, mark = slow_boot(make, workers=1)
    (old,) = server.pids()
    asked = begin(server)
    (first,) = booting(server)
    kill(first)
    wait_for("another", lambda: booting(server) and booting(server) != [first])
    assert old in server.pids()
    mark.unlink()
    asked.join()
    server.wait_ready()
    assert old not in server.pids()


def test_a_stop_ends_a_restart(make):
    server, mark = slow_boot(make, workers=2)
    asked = begin(server)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    asked.join()
    mark.unlink()


def test_fewer_workers_are_wanted_meanwhile(make):
    server, mark = slow_boot(make, workers=2)
    asked = begin(server)
    server.signal(signal.SIGTTOU)
    wait_for("one place", lambda: server.status()["workers_wanted"] == 1)
    mark.unlink()
    asked.join()
    server.wait_ready()
    assert len(server.pids()) == 1
    assert server.events("error.log") == []


def test_no_descriptor_is_left_behind(make):
    server = make(workers=1).start()

    def held():
        return {server.process.pid: len(os.listdir(f"/proc/{server.process.pid}/fd"))} | {
            "worker": len(os.listdir(f"/proc/{server.pids()[0]}/fd"))
        }

    assert replaced(server)[0] == 0
    before = held()
    for _ in range(3):
        assert replaced(server)[0] == 0
    assert held() == before
    assert Path(f"/proc/{server.pids()[0]}/fd").exists()
