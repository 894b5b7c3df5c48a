"""Many processes write, the master rotates, no line is lost or torn."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal

import pytest

from tests.master.conftest import kill, wait_for


def sizes(folder):
    """Of the files that are there; between rename and creation there is no normal.log."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found[entry.name] = entry.stat().st_size
    return found


@pytest.mark.parametrize(
    ("lines", "rotate_bytes"), [(3000, 100_000), pytest.param(60000, 1_000_000, marks=pytest.mark.slow)]
)
def test_no_line_is_lost_or_torn(make, lines, rotate_bytes):
    workers = 3
    server = make(workers=workers, tables=f"[log]\nrotate_bytes = {rotate_bytes}\nrotate_keep = 900").start()
    writers = {}
    while len(writers) < workers:  # one client on each worker
        client = server.connect()
        client.sendall(b"hello\n")
        slot = client.recv(100).split()[0]
        writers.setdefault(slot, client)
    rounds = 5
    current = server.root / "log/normal.log"
    for number in range(rounds):
        for client in writers.values():
            client.sendall(f"log {lines // rounds} {200 + number}\n".encode())
        if number == rounds // 2:
            server.signal(signal.SIGUSR1)
        for client in writers.values():
            client.settimeout(60)
            assert client.recv(100)
        wait_for(
            "the look of this second", lambda: sizes(current.parent).get("normal.log", rotate_bytes) < rotate_bytes
        )
    counted = {}
    for path in (server.root / "log").glob("normal.log*"):
        assert path.stat().st_mode & 0o777 == 0o640
        for line in path.open():
            record = json.loads(line)  # torn or mixed lines are no JSON
            if record["event"] == "line":
                counted.setdefault(record["slot"], []).append(record["number"])
    assert {slot: len(numbers) for slot, numbers in counted.items()} == dict.fromkeys(range(workers), lines)
    assert len(list((server.root / "log").glob("normal.log.*"))) >= 3
    for client in writers.values():
        client.close()


def test_only_so_many_are_kept(make):
    server = make(workers=1, tables="[log]\nrotate_bytes = 1\nrotate_keep = 2").start()
    current = server.root / "log/normal.log"

    def fresh():
        return sizes(current.parent).get("normal.log") == 0

    for _ in range(3):
        wait_for("a fresh file", fresh)
        with server.connect() as client:
            client.sendall(b"log 1 10\n")
            client.recv(100)
    wait_for("a fresh file", fresh)
    names = sorted(path.name for path in (server.root / "log").glob("normal.log*"))
    assert names == ["normal.log", "normal.log.1", "normal.log.2"]


def test_logrotate_by_somebody_else(make):
    """Moved away and USR1: workers follow without a signal of their own."""
    server = make(workers=2).start()
    shutil.move(server.root / "log/normal.log", server.root / "log/normal.log.old")
    server.signal(signal.SIGUSR1)
    wait_for("the new file", lambda: (server.root / "log/normal.log").exists())
    with server.connect() as client:
        client.sendall(b"log 1 10\n")
        client.recv(100)
    assert "line" in server.events("normal.log")
    kill(server.pids()[0])
    wait_for("error.log", lambda: "worker died" in server.events("error.log"))


def test_fewer_are_kept_after_a_reload(make):
    kept = "[log]\nrotate_bytes = 1000000\nrotate_keep = {}"
    server = make(workers=1, tables=kept.format(5)).start()
    log = server.root / "log"
    for number in range(1, 6):
        (log / f"normal.log.{number}").write_text("")
    (log / "normal.log.4.gz").write_text("of another program")
    server.write(kept.format(2))
    assert server.ctl("reload").returncode == 0
    wait_for("the rest is gone", lambda: not (log / "normal.log.3").exists())
    names = sorted(path.name for path in log.glob("normal.log*"))
    assert names == ["normal.log", "normal.log.1", "normal.log.2", "normal.log.4.gz"]
