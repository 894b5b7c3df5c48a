"""`chatctl backup` and `restore`: nothing acknowledged is missing, and whatever interrupts them, there is a store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd.errors import Exit
from chatd.store.contract import Tables
from chatd.store.open import StoreLocation, open_tables
from tests.acting.killed import MOMENTS
from tests.faults.test_disk_full import small_disk
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.mariadb import MariaDB
from tests.harness.person import Town
from tests.store import sixth_schema
from tests.store.steps import make, sent, to

Make = Callable[..., Daemon]
RESTORES = [
    pytest.param(moment, marks=() if "name" in moment and "before" not in moment else pytest.mark.slow)
    for moment in MOMENTS
    if moment.startswith("restore")
]
"""Those before a name is changed are alike."""
BALLAST = 600
"""Rows of 4 kB: several steps of a backup."""


def path_of(daemon: Daemon) -> Path:
    return daemon.root / "state" / "chatd.db"


def fill(daemon: Daemon, text: str, ballast: int = BALLAST) -> None:
    """A store with two accounts and a message, and with rows that make it large."""
    path = path_of(daemon)
    path.parent.mkdir(exist_ok=True)
    with contextlib.closing(open_tables(StoreLocation(path=path), 5.0, create=True)) as tables:
        write(tables, text)
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = [(f"ballast {number}", "x" * 4000) for number in range(ballast)]
        db.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        db.commit()


def write(tables: Tables, text: str) -> None:
    alice, bob = make(tables, "alice", "bob")
    sent(tables, alice, to(bob, text, "fp"))


def bodies(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return [row[0] for row in db.execute("SELECT body FROM message ORDER BY id")]


def met(daemon: Daemon, moment: str, by: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.acting.killed", moment, by, "-c", str(daemon.config_file), *command],
        cwd=daemon.root, env=daemon.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


# ---------------------------------------------------------------- while it serves


@pytest.mark.parametrize("twin", ["sqlite", "mysql"])
def test_a_backup_under_load_restored_elsewhere_has_everything_acknowledged_before(
    make_daemon: Make, mariadb: MariaDB, twin: str, tmp_path: Path
) -> None:
    """Also into the other twin: the file is the same kind for both."""
    store = {"url": mariadb.url()} if twin == "mysql" else {}
    daemon = make_daemon(workers=2, store=store).start()
    town, file = Town(daemon), tmp_path / "backup.db"
    before: list[str] = []

    async def story() -> None:
        reader, writers = await town.newcomer("reader"), [await town.newcomer("writer") for _ in range(4)]
        town.ids["reader"] = town.ids[reader]
        over, acknowledged = asyncio.Event(), list[str]()

        async def talk(name: str) -> None:
            peer = await town.on_mobile(name)
            number = 0
            while not over.is_set():
                text = fp = f"{name}.{number}"
                peer.say(name, reader, text, fp)
                await peer.find(type=4, dataContent=fp)
                acknowledged.append(text)
                number += 1
            peer.close()

        talking = [asyncio.create_task(talk(name)) for name in writers]
        await until(20, "they talk", lambda: len(acknowledged) > 100)
        before.extend(acknowledged)
        made = await asyncio.to_thread(daemon.ctl, "backup", str(file), "--json")
        assert made.returncode == 0, made.stderr
        at_the_end = len(acknowledged)
        over.set()
        await asyncio.gather(*talking)
        told = json.loads(made.stdout)
        assert len(before) <= told["messages"] <= at_the_end + len(writers)

    run(story())
    assert set(before) <= set(bodies(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("backup.db.*"))
    assert daemon.ctl("verify").returncode == 0, "while it serves"

    other = make_daemon(store={} if twin == "mysql" else {"url": mariadb.url()})
    (other.root / "state").mkdir()
    restored = other.ctl("restore", str(file), limit_s=60)
    assert restored.returncode == 0, restored.stderr
    again = other.ctl("backup", str(other.root / "again.db"), limit_s=60)
    assert again.returncode == 0, again.stderr
    assert bodies(other.root / "again.db") == bodies(file)


def test_what_a_restored_server_delivers(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon().start()
    town = Town(daemon)

    async def say() -> None:
        for name in ("alice", "bob"):
            await town.register(name)
        peer = await town.on_mobile("alice")
        peer.say("alice", "bob", "for bob", "1")
        await peer.find(type=4)
        peer.close()

    run(say())
    assert daemon.ctl("backup", str(tmp_path / "b.db")).returncode == 0
    daemon.kill_all()
    other = make_daemon()
    (other.root / "state").mkdir()
    assert other.ctl("restore", str(tmp_path / "b.db")).returncode == 0
    other.start()
    there = Town(other, town.ids)

    async def hear() -> None:
        peer = await there.on_mobile("bob")
        assert (await peer.find(type=2))["dataContent"] == "for bob"

    run(hear())


def test_a_file_that_exists_is_kept_unless_it_is_to_be_replaced(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon()
    fill(daemon, "one", 0)
    (daemon.root / "log").mkdir()
    file, link = tmp_path / "b.db", tmp_path / "link.db"
    file.write_text("precious")
    refused = daemon.ctl("backup", str(file))
    assert (refused.returncode, file.read_text()) == (Exit.CANNOT_CREATE, "precious")
    assert "exists already" in refused.stderr
    link.symlink_to(file)
    assert daemon.ctl("backup", str(link), "--force").returncode == Exit.CANNOT_CREATE
    assert daemon.ctl("backup", str(tmp_path / "no" / "b.db")).returncode == Exit.CANNOT_CREATE
    assert daemon.ctl("backup", str(file), "--force").returncode == 0
    assert bodies(file) == ["one"]
    orders = [one["result"] for one in daemon.records("normal.log") if one.get("order") == "backup"]
    assert orders == ["begun", "failed"] * 3 + ["begun", "ok"]


# ---------------------------------------------------------------- interrupted


@pytest.mark.parametrize("moment", [one for one in MOMENTS if one.startswith("backup")])
def test_a_backup_that_is_killed_leaves_no_backup_and_the_next_one_tidies_up(
    make_daemon: Make, tmp_path: Path, moment: str
) -> None:
    daemon = make_daemon()
    fill(daemon, "one")
    file = tmp_path / "b.db"
    killed = met(daemon, moment, "SIGKILL", "backup", str(file))
    assert (killed.returncode, file.exists()) == (-signal.SIGKILL, False), killed.stderr
    assert [one.name for one in tmp_path.glob("b.db*")] == ["b.db.part"]
    interrupted = met(daemon, moment, "SIGINT", "backup", str(file))
    assert interrupted.returncode == Exit.TRY_AGAIN, interrupted.stderr
    assert "interrupted; there is no backup" in interrupted.stderr
    assert list(tmp_path.glob("b.db*")) == []
    assert daemon.ctl("backup", str(file)).returncode == 0
    assert (bodies(file), len(list(tmp_path.glob("b.db*")))) == (["one"], 1)
    assert daemon.ctl("verify").returncode == 0


def test_a_full_disk_is_said_and_nothing_is_left(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon()
    fill(daemon, "one")
    with small_disk(tmp_path / "small", 1) as disk:
        refused = daemon.ctl("backup", str(disk / "b.db"))
        assert refused.returncode == Exit.CANNOT_CREATE
        assert "no room for a backup of" in refused.stderr
        assert os.listdir(disk) == []
    with small_disk(tmp_path / "filling", 3) as disk:  # it fills up meanwhile
        (disk / "ballast").write_bytes(bytes(200_000))
        code = (
            "import os, sys; from chatd.store.sqlite import backup; backup.SPARE = 0.0;"
            " from chatd.chatctl.__main__ import main; sys.exit(main())"
        )
        (disk / "more").write_bytes(bytes(1_000_000))
        refused = subprocess.run(
            [sys.executable, "-c", code, "-c", str(daemon.config_file), "backup", str(disk / "b.db")],
            cwd=daemon.root, env=daemon.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert refused.returncode == Exit.CANNOT_CREATE, refused.stderr
        assert "failed" in refused.stderr
        assert sorted(os.listdir(disk)) == ["ballast", "more"]


@pytest.mark.parametrize("by", ["SIGKILL", pytest.param("SIGINT", marks=pytest.mark.slow)])
@pytest.mark.parametrize("moment", RESTORES)
def test_a_restore_that_is_interrupted_leaves_the_old_store_or_the_new_one(
    make_daemon: Make, tmp_path: Path, moment: str, by: str
) -> None:
    daemon = make_daemon()
    fill(daemon, "from the backup")
    file, path = tmp_path / "b.db", path_of(daemon)
    assert daemon.ctl("backup", str(file)).returncode == 0
    path.unlink()
    fill(daemon, "the present", 0)
    ended = met(daemon, moment, by, "restore", str(file))
    assert ended.returncode == (-signal.SIGKILL if by == "SIGKILL" else Exit.TRY_AGAIN), ended.stderr
    wanted = "from the backup" if moment == "restore: both names" else "the present"
    assert bodies(path) == [wanted]
    if "name" in moment:
        daemon.start()
        assert daemon.ctl("verify").returncode == 0
        daemon.stop()
    done = daemon.ctl("restore", str(file))
    assert done.returncode == 0, done.stderr
    assert bodies(path) == ["from the backup"]
    kept = [one for one in path.parent.glob("chatd.db.replaced-*") if not one.name.endswith(("-wal", "-shm"))]
    assert ["the present"] in [bodies(one) for one in kept]
    assert not list(path.parent.glob("*.restoring*"))


# ---------------------------------------------------------------- what is not restored


def test_a_running_server_keeps_its_store(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon()
    fill(daemon, "one", 0)
    assert daemon.ctl("backup", str(tmp_path / "b.db")).returncode == 0
    daemon.start()
    refused = daemon.ctl("restore", str(tmp_path / "b.db"))
    assert refused.returncode == Exit.TRY_AGAIN
    assert "a chatd is running on this state directory; stop it first" in refused.stderr


@pytest.mark.parametrize(
    "kind",
    [
        "no database",
        "damaged",
        "a rule",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("missing", "newer", "empty")),
    ],
)
def test_a_file_that_is_not_sound_is_not_restored(make_daemon: Make, tmp_path: Path, kind: str) -> None:
    daemon = make_daemon()
    fill(daemon, "one", 100)
    file = tmp_path / "b.db"
    assert daemon.ctl("backup", str(file)).returncode == 0
    if kind == "missing":
        file.unlink()
    elif kind == "no database":
        file.write_text("hello " * 5000)
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "damaged":
        data = bytearray(file.read_bytes())
        data[8 * 4096 : 60 * 4096] = bytes(52 * 4096)
        file.write_bytes(data)
    else:
        with contextlib.closing(sqlite3.connect(file)) as db:
            broken = "UPDATE cursor SET delivered = 99" if kind == "a rule" else "PRAGMA user_version = 99"
            db.execute(broken)
            db.commit()
    refused = daemon.ctl("restore", str(file))
    assert refused.returncode in (Exit.CONFIG, Exit.UNAVAILABLE), refused.stderr
    assert "Traceback" not in refused.stderr
    assert bodies(path_of(daemon)) == ["one"]
    assert not list(path_of(daemon).parent.glob("*.re*"))


def test_a_backup_of_an_earlier_version_is_migrated(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon()
    (daemon.root / "state").mkdir()
    sixth_schema.unpack_sqlite(tmp_path / "old.db")
    dry = daemon.ctl("restore", str(tmp_path / "old.db"), "--dry-run")
    assert (dry.returncode, "nothing was changed" in dry.stdout) == (0, True), dry.stderr
    assert not path_of(daemon).exists()
    done = daemon.ctl("restore", str(tmp_path / "old.db"))
    assert done.returncode == 0, done.stderr
    assert "schema 6, sound" in done.stdout
    assert "migrated to schema" in done.stdout
    daemon.start()


def test_a_copied_database_with_its_log_is_restored_whole(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon().start()
    town = Town(daemon)
    run(town.register("alice"))
    daemon.kill_all()
    for end in ("", "-wal"):
        (tmp_path / f"copy.db{end}").write_bytes(Path(f"{path_of(daemon)}{end}").read_bytes())
    assert (tmp_path / "copy.db-wal").stat().st_size > 0
    other = make_daemon()
    (other.root / "state").mkdir()
    assert other.ctl("restore", str(tmp_path / "copy.db")).returncode == 0
    assert "alice" in other.ctl("user", "list").stdout


def test_the_log_of_the_old_store_goes_into_it_and_not_into_the_new_one(make_daemon: Make, tmp_path: Path) -> None:
    """After kill -9 the last messages are only in the write-ahead log, which lies beside the name of the store."""
    daemon = make_daemon().start()
    town, file = Town(daemon), tmp_path / "b.db"

    async def say(text: str) -> None:
        peer = await town.on_mobile("alice")
        peer.say("alice", "bob", text, text)
        await peer.find(type=4)
        peer.close()

    run(town.register("alice"))
    run(town.register("bob"))
    run(say("early"))
    assert daemon.ctl("backup", str(file)).returncode == 0
    run(say("late"))
    daemon.kill_all()
    assert Path(f"{path_of(daemon)}-wal").stat().st_size > 0
    done = daemon.ctl("restore", str(file))
    assert done.returncode == 0, done.stderr
    (kept,) = path_of(daemon).parent.glob("chatd.db.replaced-*Z")
    assert (bodies(path_of(daemon)), bodies(kept)) == (["early"], ["early", "late"])
    assert daemon.ctl("verify", str(kept)).returncode == 0


def test_a_damaged_store_is_replaced_and_kept_as_it_is(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon()
    fill(daemon, "one", 0)
    assert daemon.ctl("backup", str(tmp_path / "b.db")).returncode == 0
    garbage = b"no database at all, and long enough to be one " * 200
    path_of(daemon).write_bytes(garbage)
    assert daemon.ctl("verify").returncode == 1
    done = daemon.ctl("restore", str(tmp_path / "b.db"))
    assert done.returncode == 0, done.stderr
    assert "it is kept as it is" in done.stderr
    (kept,) = path_of(daemon).parent.glob("chatd.db.replaced-*Z")
    assert (kept.read_bytes(), bodies(path_of(daemon))) == (garbage, ["one"])


def test_a_mysql_store_is_filled_only_if_it_is_empty(make_daemon: Make, mariadb: MariaDB, tmp_path: Path) -> None:
    daemon = make_daemon()
    fill(daemon, "one", 0)
    assert daemon.ctl("backup", str(tmp_path / "b.db")).returncode == 0
    other = make_daemon(store={"url": mariadb.url()})
    (other.root / "state").mkdir()
    assert other.ctl("restore", str(tmp_path / "b.db")).returncode == 0
    refused = other.ctl("restore", str(tmp_path / "b.db"))
    assert refused.returncode == Exit.CANNOT_CREATE
    assert "make an empty database, name it in store.url" in refused.stderr


# ---------------------------------------------------------------- vacuum


@pytest.mark.slow
def test_space_is_given_back_while_it_serves_and_all_of_it_when_it_does_not(make_daemon: Make) -> None:
    daemon = make_daemon()
    fill(daemon, "one", 4000)
    daemon.start()
    with contextlib.closing(sqlite3.connect(path_of(daemon), timeout=20)) as db:
        db.execute("DELETE FROM meta WHERE key LIKE 'ballast%'")
        db.commit()
    told = json.loads(daemon.ctl("vacuum", "--json").stdout)
    assert told["bytes_after"] < 10_000_000 < told["bytes_before"]
    refused = daemon.ctl("vacuum", "--full")
    assert refused.returncode == Exit.TRY_AGAIN
    daemon.stop()
    assert json.loads(daemon.ctl("vacuum", "--full", "--json").stdout)["bytes_after"] < 1_000_000
    assert daemon.ctl("verify").returncode == 0
    assert bodies(path_of(daemon)) == ["one"]


def test_a_mysql_store_is_optimized(make_daemon: Make, mariadb: MariaDB) -> None:
    daemon = make_daemon(store={"url": mariadb.url()}).start()
    assert daemon.ctl("vacuum", limit_s=60).returncode == 0
    assert daemon.ctl("verify").returncode == 0
