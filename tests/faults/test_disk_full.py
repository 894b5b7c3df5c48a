"""A disk of a few megabytes fills up, under the logs, under SQLite's file, under MariaDB's data.

Log lines are dropped and counted. What cannot be stored is refused in time and sessions stay (P10); when there is room
again everything goes on, without hands (P11), and nothing acknowledged is missing (P1)."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.figures import longest_answer, unanswered_for
from tests.cluster.record import inspect as inspect_database
from tests.faults.ordeal import acquit, database, everybody_in, more_talk, ordeal
from tests.faults.record import inspect
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.mariadb import MariaDB
from tests.harness.mobileimsdk import StockLink

REFUSED_S = 2.0
SLACK_S = 1.0
MEGABYTE = 1024 * 1024
Note = Callable[[str, object], None]
MakeDaemon = Callable[..., Daemon]


@contextlib.contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs of this size; what was in the directory is in it."""
    kept = directory.with_name(f"{directory.name}.kept")
    if directory.exists():
        directory.rename(kept)
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)], check=True)
    try:
        if kept.exists():
            shutil.copytree(kept, directory, dirs_exist_ok=True)
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(disk: Path) -> None:
    """To the last byte."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)):
            pass


def make_room(disk: Path) -> None:
    (disk / "ballast").unlink()


async def refused(crowd: Crowd, limit_s: float) -> None:
    """Until something was, after now."""
    seen = len(crowd.journal.lines)
    await until(limit_s, "a refusal", lambda: any(line.event == "refused" for line in crowd.journal.lines[seen:]))


def check(crowd: Crowd, note: Note, since: int, before: int) -> None:
    lines = crowd.journal.lines
    refusals = sum(1 for line in lines if line.event == "refused" and since <= line.at < before)
    note("verdict", f"longest answer {longest_answer(lines, since, before)}, refusals {refusals}")
    assert refusals > 0
    late = unanswered_for((line for line in lines if line.at >= since), REFUSED_S + SLACK_S)
    assert not late, late[:5]


class Full:
    """The fault: the disk is full for so many seconds after the first refusal."""

    def __init__(self, disk: Path, seconds: float) -> None:
        self.disk, self.seconds = disk, seconds
        self.crowd: Crowd | None = None
        self.since = self.before = 0

    async def __call__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        logins = crowd.logins()
        await more_talk(crowd, 100)
        self.since = time.monotonic_ns()
        await asyncio.to_thread(fill, self.disk)
        await refused(crowd, 60)
        await asyncio.sleep(self.seconds)  # the fault itself
        self.before = time.monotonic_ns()
        make_room(self.disk)
        await everybody_in(crowd)
        await more_talk(crowd, 200, 60)
        assert crowd.logins() == logins, "sessions ended"

    def check(self, note: Note) -> None:
        assert self.crowd is not None
        check(self.crowd, note, self.since, self.before)


@pytest.mark.parametrize("seconds", [2.0, pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_the_disk_of_the_sqlite_file_is_full(
    make_daemon: MakeDaemon, tmp_path: Path, record_property: Note, seconds: float
) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        daemon = make_daemon(workers=2, server={"state_dir": str(disk / "state")}).start()
        for text in ("commit failed", "commit takes too long"):
            daemon.expect_error(text)
        full = Full(disk, seconds)
        verdict = run(ordeal(daemon, full, settle_s=60), seconds + 110)
        acquit(verdict, record_property, at_least=250)
        full.check(record_property)
        assert daemon.stop() == 0
        inspect(disk / "state" / "chatd.db")


@pytest.mark.parametrize("seconds", [2.0, pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_the_disk_of_the_database_is_full(
    make_daemon: MakeDaemon, tmp_path: Path, record_property: Note, seconds: float
) -> None:
    server = MariaDB(memory=False)
    used = sum(path.stat().st_size for path in (server.root / "data").rglob("*") if path.is_file())
    try:
        with small_disk(server.root / "data", used // MEGABYTE + 24) as disk:
            try:
                server.start()
                schema = server.database()
                daemon = make_daemon(workers=2, store={"url": server.url(schema)}).start()
                for text in ("commit failed", "commit takes too long"):
                    daemon.expect_error(text)
                full = Full(disk, seconds)
                verdict = run(ordeal(daemon, full, settle_s=60, think_s=0.01), seconds + 110)
                acquit(verdict, record_property, at_least=250)
                full.check(record_property)
                assert daemon.stop() == 0
                inspect_database(server, schema)
            finally:
                server.kill()
    finally:
        server.discard()


def dropped_lines(daemon: Daemon) -> int:
    """The master's and the workers'."""
    told = daemon.status()
    return int(told["log_dropped"]) + sum(int(row["log_dropped"]) for row in told["workers"])


def stock_links(crowd: Crowd) -> list[StockLink]:
    """Of clients that acknowledge: what others have taken from the network is theirs, also when they vanish."""
    return [talker.link for talker in crowd.people.values() if isinstance(talker.link, StockLink)]


def test_the_disk_of_the_logs_is_full(make_daemon: MakeDaemon, tmp_path: Path, record_property: Note) -> None:
    """The people who talk do not notice; missing lines are counted, and later ones are written."""
    with small_disk(tmp_path / "disk", 1) as disk:
        daemon = make_daemon(workers=2, server={"log_dir": str(disk / "log")}, log={"level": "DEBUG"}).start()

        async def fault(crowd: Crowd) -> None:
            await more_talk(crowd, 50)
            fill(disk)
            while not await asyncio.to_thread(dropped_lines, daemon):
                await everybody_in(crowd)
                for link in stock_links(crowd):
                    link.abort()  # coming and going is logged at this level
            await everybody_in(crowd)
            began = time.monotonic()
            await more_talk(crowd, 300)
            record_property("verdict", f"300 messages in {time.monotonic() - began:.1f} s with the disk full")
            make_room(disk)
            written = len((disk / "log" / "normal.log").read_bytes())
            assert daemon.ctl("log-level", "DEBUG").returncode == 0
            stock_links(crowd)[0].abort()
            await until(20, "lines are written", lambda: len((disk / "log" / "normal.log").read_bytes()) > written, 0.2)

        verdict = run(ordeal(daemon, fault), 110)
        acquit(verdict, record_property, at_least=350)
        assert not [line for line in verdict.counts if line == "refused"]
        record_property("verdict", f"log lines dropped: {dropped_lines(daemon)}")
        assert daemon.stop() == 0
        inspect(database(daemon))
