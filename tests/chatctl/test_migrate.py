"""`chatctl migrate`: from a store of the released schema to a planted later one, and everything that forbids it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from chatd import __version__
from chatd.chatctl import stores
from chatd.config.schema import Config, ServerOptions, StoreOptions
from chatd.errors import BootError, Exit
from chatd.store.sqlite import backup as sqlite_backup
from chatd.store.sqlite import file as sqlite_file
from chatd.store.sqlite import schema as sqlite_schema
from chatd.store.sqlite import tables as sqlite_tables
from tests.chatctl import planted_schema
from tests.harness.daemon import Daemon
from tests.store.steps import make, team

PROGRAM = "tests.chatctl.planted_schema"
NOW = len(sqlite_schema.MIGRATIONS)
LATER = NOW + 1
"""The released schema, and the planted one."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Of the later version; its store is of the released one, with three users and a group."""
    made = Daemon(tmp_path, entry=("-m", PROGRAM, "chatd"), server={"workers": 1})
    (tmp_path / "state").mkdir(mode=0o750)
    with contextlib.closing(sqlite_tables.open_tables(tmp_path / "state" / "chatd.db", create=True)) as tables:
        alice, bob, _ = make(tables, "alice", "bob", "carol")
        team(tables, alice, bob)
    yield made
    assert made.discard() == []


def store_of(daemon: Daemon) -> Path:
    return daemon.root / "state" / "chatd.db"


def later(daemon: Daemon, *arguments: str, planted: str = "works") -> subprocess.CompletedProcess[str]:
    """chatctl of the later version."""
    return subprocess.run(
        [sys.executable, "-m", PROGRAM, "chatctl", "-c", str(daemon.config_file), *arguments],
        cwd=daemon.root, env={**daemon.env, "PLANTED": planted}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def read(path: Path, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def dump(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def backups(daemon: Daemon) -> list[Path]:
    return sorted(store_of(daemon).parent.glob("*.bak*"))


def test_a_store_is_brought_up_and_a_server_serves_it(daemon: Daemon) -> None:
    refused = subprocess.run(
        [sys.executable, *daemon.entry, "-c", str(daemon.config_file), "--allow-root"],
        cwd=daemon.root, env=daemon.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode == Exit.CONFIG
    assert f"schema {NOW} is older than this chatd needs ({LATER}): run chatctl migrate" in refused.stderr
    daemon.expect_error("run chatctl migrate")
    done = later(daemon, "migrate")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    (backup,) = backups(daemon)
    lines = done.stdout.splitlines()
    assert lines[0] == f"sqlite:{store_of(daemon)}: from schema {NOW} to {LATER}"
    assert lines[1] == f"  step {LATER}: a topic for every group"
    assert lines[2].startswith(f"backup: {backup}, checked, ")
    assert lines[3] == f"step {LATER}: done"
    assert read(store_of(daemon), "PRAGMA user_version") == [(LATER,)]
    assert read(store_of(daemon), "SELECT name, topic FROM team") == [("team", "team")]
    daemon.start()
    assert later(daemon, "user", "list").stdout.splitlines()[1].split()[:2] == ["1", "alice"]


def test_the_backup_is_the_store_as_it_was(daemon: Daemon) -> None:
    os.chown(store_of(daemon), 65534, 65534)
    before = dump(store_of(daemon))
    assert later(daemon, "migrate").returncode == 0
    (backup,) = backups(daemon)
    about = backup.stat()
    assert backup.name.startswith(f"chatd.db.v{NOW}-20")
    assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == (0o640, 65534, 65534)
    assert dump(backup) == before
    assert read(backup, "PRAGMA user_version") == [(NOW,)]
    assert sorted(one.name for one in backup.parent.iterdir() if one.suffix == ".part") == []


def test_where_there_is_nothing_to_do_nothing_is_done(daemon: Daemon) -> None:
    assert later(daemon, "migrate", "--no-backup").returncode == 0
    again = later(daemon, "migrate")
    assert (again.returncode, backups(daemon)) == (0, [])
    assert again.stdout == f"sqlite:{store_of(daemon)}: schema {LATER} is what this chatd needs; nothing to do\n"
    store_of(daemon).unlink()
    absent = later(daemon, "migrate")
    assert (absent.returncode, "a server creates it when it starts" in absent.stdout) == (0, True)


def test_a_dry_run_touches_nothing(daemon: Daemon) -> None:
    before = store_of(daemon).read_bytes()
    told = later(daemon, "migrate", "--dry-run")
    assert (told.returncode, told.stdout.splitlines()[1]) == (0, f"  step {LATER}: a topic for every group")
    assert (store_of(daemon).read_bytes(), backups(daemon)) == (before, [])


def test_a_step_that_fails_leaves_the_store_as_it_was(daemon: Daemon) -> None:
    before = dump(store_of(daemon))
    failed = later(daemon, "migrate", planted="fails")
    assert failed.returncode == Exit.UNAVAILABLE
    assert f"step {LATER} failed: no such table: nowhere; the store is as it was" in failed.stderr
    assert read(store_of(daemon), "PRAGMA user_version") == [(NOW,)]
    assert dump(store_of(daemon)) == before
    assert later(daemon, "migrate").returncode == 0


def test_while_a_server_runs_it_is_refused(daemon: Daemon) -> None:
    daemon.entry = ("-m", "chatd")
    daemon.start()
    refused = later(daemon, "migrate")
    assert refused.returncode == Exit.TRY_AGAIN
    assert f"a chatd is running on this state directory; stop it first (pid {daemon.pid}," in refused.stderr
    assert read(store_of(daemon), "PRAGMA user_version") == [(NOW,)]
    assert daemon.ctl("migrate").stdout.endswith("nothing to do\n"), "nothing to do is no reason to refuse"
    assert later(daemon, "migrate", "--dry-run").returncode == 0


def test_a_schema_of_the_future_is_refused(daemon: Daemon) -> None:
    assert later(daemon, "migrate", "--no-backup").returncode == 0
    refused = daemon.ctl("migrate")
    assert refused.returncode == Exit.CONFIG
    assert f"schema {LATER} is newer than this chatd knows ({NOW})" in refused.stderr


def test_wrong_arguments(daemon: Daemon) -> None:
    assert later(daemon, "migrate", "--no-backup", "--backup", "x").returncode == Exit.USAGE
    (daemon.root / "there").write_text("precious")
    kept = later(daemon, "migrate", "--backup", "there")
    assert (kept.returncode, "exists already" in kept.stderr) == (Exit.CANNOT_CREATE, True)
    assert (daemon.root / "there").read_text() == "precious"
    assert later(daemon, "migrate", "--backup", "elsewhere").returncode == 0
    assert read(daemon.root / "elsewhere", "SELECT count(*) FROM user") == [(3,)]
    store_of(daemon).write_bytes(b"not a database" * 1000)
    assert later(daemon, "migrate").returncode == Exit.UNAVAILABLE


# ---------------------------------------------------------------- without a process


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIGRATIONS", "WORDS"):
        monkeypatch.setattr(sqlite_schema, name, getattr(sqlite_schema, name))
    planted_schema.plant()


def test_a_store_without_users_is_brought_up_by_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chatd.db"
    sqlite_tables.open_tables(path, create=True).close()
    assert read(path, "PRAGMA user_version") == [(NOW,)]
    for name in ("MIGRATIONS", "WORDS"):
        monkeypatch.setattr(sqlite_schema, name, getattr(sqlite_schema, name))
    planted_schema.plant()
    sqlite_tables.open_tables(path, create=True).close()
    assert read(path, "PRAGMA user_version") == [(LATER,)]


def test_a_backup_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chatd.db"
    sqlite_tables.open_tables(path, create=True).close()
    room = namedtuple("room", "f_bavail f_frsize")
    with contextlib.closing(sqlite_file.connect(path)) as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        monkeypatch.setattr(os, "statvfs", lambda folder: room(pages, 4096))
        with pytest.raises(BootError, match="no room for a backup") as caught:
            sqlite_backup.back_up(db, path, tmp_path / "copy", lambda done, total: None)
        assert caught.value.exit_code is Exit.CANNOT_CREATE
        monkeypatch.setattr(os, "statvfs", lambda folder: room(pages * 2, 4096))
        told: list[tuple[int, int]] = []
        sqlite_backup.back_up(db, path, tmp_path / "copy", lambda done, total: told.append((done, total)))
    assert told[-1] == (pages, pages)


def test_a_migrate_that_another_one_has_overtaken_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "chatd.db"
    with contextlib.closing(sqlite_tables.open_tables(path, create=True)) as tables:
        make(tables, "alice")
    for name in ("MIGRATIONS", "WORDS"):
        monkeypatch.setattr(sqlite_schema, name, getattr(sqlite_schema, name))
    planted_schema.plant()
    opening = sqlite_file.opening

    def after_the_other(path: Path, **how: bool) -> contextlib.AbstractContextManager[sqlite_file.OpenFile]:
        with contextlib.closing(sqlite_file.connect(path)) as db:
            sqlite_file.migrate(db, LATER)
        return opening(path, **how)

    monkeypatch.setattr(sqlite_file, "opening", after_the_other)
    config = Config(server=ServerOptions(state_dir=str(tmp_path)), store=StoreOptions(url="sqlite:chatd.db"))
    assert stores.migrate(config, None, stores.MigrateOptions(False, True, "")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"sqlite:{path}: schema {LATER} is what this chatd needs; nothing to do"
    )
    assert list(tmp_path.glob("*.bak")) == []


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("running", "refused"), [("0.0.9", False), (__version__, False), ("99.0", True), ("0.1.1rc1", True)]
)
def test_the_tools_of_an_older_version_leave_a_newer_servers_store_alone(
    tmp_path: Path, running: str, refused: bool
) -> None:
    config = Config(server=ServerOptions(state_dir=str(tmp_path)), store=StoreOptions(url="sqlite:none.db"))
    status = msgspec.convert({"version": running}, Version)
    if refused:
        with pytest.raises(BootError, match=f"chatd {running}, newer than this chatctl {__version__}") as caught:
            stores.migrate(config, status, stores.MigrateOptions())  # type: ignore[arg-type]
        assert caught.value.exit_code is Exit.CONFIG
    else:
        assert stores.migrate(config, status, stores.MigrateOptions()) == 0  # type: ignore[arg-type]


class Version(msgspec.Struct):
    """What of a status is looked at."""

    version: str


def test_every_step_has_its_words() -> None:
    assert len(sqlite_schema.WORDS) == len(sqlite_schema.MIGRATIONS)


# ---------------------------------------------------------------- giving space back


@pytest.fixture
def cramped(tmp_path: Path) -> Path:
    """A store of the newest schema that cannot give space back, and has much that is unused."""
    path = tmp_path / "chatd.db"
    with contextlib.closing(sqlite_tables.open_tables(path, create=True)) as tables:
        make(tables, "alice", "bob")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA auto_vacuum = NONE")
        db.execute("VACUUM")
        db.execute("CREATE TABLE waste AS SELECT zeroblob(3000000) AS much")
        db.execute("DROP TABLE waste")
    return path


def config_of(path: Path) -> Config:
    return Config(server=ServerOptions(state_dir=str(path.parent)), store=StoreOptions(url=f"sqlite:{path}"))


def test_an_old_file_is_rewritten_so_that_it_can_give_space_back(
    cramped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, data = cramped.stat().st_size, dump(cramped)
    assert before > 3_000_000
    assert stores.migrate(config_of(cramped), None, stores.MigrateOptions(dry_run=True)) == 0
    assert stores.migrate(config_of(cramped), None, stores.MigrateOptions(vacuum=False)) == 0
    assert cramped.stat().st_size == before
    assert stores.migrate(config_of(cramped), None, stores.MigrateOptions()) == 0
    assert "rewritten: " in capsys.readouterr().out
    assert cramped.stat().st_size < before - 2_900_000
    assert dump(cramped) == data
    assert read(cramped, "PRAGMA auto_vacuum") == [(sqlite_file.INCREMENTAL,)]
    assert stores.migrate(config_of(cramped), None, stores.MigrateOptions()) == 0
    assert "rewritten: " not in capsys.readouterr().out


def test_a_file_is_not_rewritten_without_room(
    cramped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    room = namedtuple("room", ("f_bavail", "f_frsize"))(1, 4096)
    monkeypatch.setattr(os, "statvfs", lambda path: room)
    assert stores.migrate(config_of(cramped), None, stores.MigrateOptions()) == 0
    assert "not rewritten: " in capsys.readouterr().out
    assert read(cramped, "PRAGMA auto_vacuum") == [(0,)]


def test_a_new_store_gives_space_back_from_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "chatd.db"
    sqlite_tables.open_tables(path, create=True).close()
    assert read(path, "PRAGMA auto_vacuum") == [(sqlite_file.INCREMENTAL,)]
