"""`chatctl copy-store`: the command, killed and taken up, refused where somebody has a store, on a terminal; and
`chatctl migrate` on MySQL."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatd.chatctl import stores
from chatd.config.schema import Config, ServerOptions, StoreOptions
from chatd.config.urls import MysqlAddress, parse_mysql
from chatd.errors import BootError, Exit
from chatd.store import copy as store_copy
from chatd.store.copy import BY_NAME, TABLES, Row, StoreDump
from chatd.store.mysql import dump as mysql_dump
from chatd.store.mysql import schema as mysql_schema
from chatd.store.mysql import tables as mysql_tables
from chatd.store.mysql.connection import MysqlConnection
from chatd.store.mysql.dump import MysqlDump
from chatd.store.sqlite import tables as sqlite_tables
from chatd.store.sqlite.dump import SqliteDump
from tests.harness.chatserver import OldClient
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until, wait_until
from tests.harness.mariadb import MariaDB
from tests.store.steps import make, sent, to
from tests.store.test_copy import SqlitePlace, populate

MESSAGES = 30_000


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    made: list[Daemon] = []

    def one(**tables: dict[str, object]) -> Daemon:
        made.append(Daemon(tmp_path / f"d{len(made)}", **tables))
        (made[-1].root / "state").mkdir()
        return made[-1]

    yield one
    assert [complaint for one in made for complaint in one.discard()] == []


def command(daemon: Daemon, source: str, target: str, *program: str) -> list[str]:
    told = program or ("chatd.chatctl",)
    return [sys.executable, "-m", *told, "-c", str(daemon.config_file), "copy-store", source, target]


def everything(dump: StoreDump) -> dict[str, list[Row]]:
    with contextlib.closing(dump):
        dump.snapshot()
        return {table.name: list(dump.rows(table, ())) for table in TABLES}


def fill(path: Path, messages: int) -> None:
    populate(SqlitePlace(path))
    with contextlib.closing(SqliteDump(path, create=False)) as dump:
        start = dump.count(BY_NAME["message"]) + 1
        last = (None, 0, 0, None)
        rows = ((start + at, 1, 81 + at, 1 + at % 2, f"m{at}", at, 1, -1, "x" * 200, *last) for at in range(messages))
        for batch in store_copy.batches(rows):
            with store_copy.transaction(dump):
                dump.load(BY_NAME["message"], batch)


def test_killed_in_a_batch_it_goes_on(daemon: Callable[..., Daemon], mariadb: MariaDB) -> None:
    """kill -9 in the second batch of messages, then in the third after that; the third run ends. Nothing twice, nothing
    missing."""
    host = daemon()
    path = host.root / "state" / "chatd.db"
    fill(path, MESSAGES)
    database = mariadb.database()
    env = {**host.env, "TARGET": mariadb.url(database)}
    counts = []
    for batches in ("2", "3"):
        ended = subprocess.run(
            command(host, "sqlite:chatd.db", "env:TARGET", "tests.chatctl.killed", "message", batches), cwd=host.root,
            env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=100, check=False,
        )  # fmt: skip
        assert ended.returncode == -9, ended.stderr
        wait_until(30, "the killed one's connection to end", lambda: not others(mariadb, database))
        counts.append(int(mariadb.execute(f"SELECT count(*) FROM {database}.message")[0][0]))
    assert 0 < counts[0] < counts[1] < MESSAGES
    with pytest.raises(BootError, match=r"is not complete: chatctl copy-store from sqlite:.*chatd\.db has not ended"):
        mysql_tables.open_tables(parse_mysql(env["TARGET"]), 20.0, create=True)
    done = subprocess.run(
        command(host, "sqlite:chatd.db", "env:TARGET"), cwd=host.root, env=env, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    copied = everything(SqliteDump(path, create=False))
    total = sum(map(len, copied.values()))
    assert done.stdout.splitlines()[-1].startswith(f"every row is the same in both stores: {total} rows in")
    assert "message: 30160 of 30160 (100 %)" in done.stderr.splitlines()
    assert "pass" not in done.stdout + done.stderr
    assert copied == everything(MysqlDump(parse_mysql(env["TARGET"]), create=False))


def others(mariadb: MariaDB, database: str) -> int:
    rows = mariadb.execute("SELECT count(*) FROM information_schema.processlist WHERE db = %s", database)
    return int(rows[0][0])


def test_a_server_goes_on_where_the_other_store_ended(daemon: Callable[..., Daemon], mariadb: MariaDB) -> None:
    """From the embedded store to MySQL while nobody looks: a client that was away notices nothing."""
    host = daemon()
    for name in ("alice", "bob"):
        added = subprocess.run(
            [sys.executable, "-m", "chatd.chatctl", "-c", str(host.config_file), "user", "add", name],
            cwd=host.root, env=host.env, input="pw\n", text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert added.returncode == 0, added.stderr
    with contextlib.closing(sqlite_tables.open_tables(host.root / "state" / "chatd.db", create=True)) as tables:
        alice, bob = (tables.accounts.find(name, 0).user for name in ("alice", "bob"))  # type: ignore[union-attr]
        sent(tables, alice, to(bob, "before", "fp:1"))
    host.start()
    refused = host.ctl("copy-store", "sqlite:chatd.db", mariadb.url())
    assert (refused.returncode, "a chatd is running on this state directory" in refused.stderr) == (
        Exit.TRY_AGAIN,
        True,
    )
    assert host.stop() == 0
    url = mariadb.url()
    copied = host.ctl("copy-store", "sqlite:chatd.db", url, limit_s=60)
    assert copied.returncode == 0, copied.stderr
    host.config["store"] = {"url": url}
    host.write_config()
    host.start()
    busy = host.ctl("copy-store", url, f"sqlite:{host.root}/back.db")
    assert (busy.returncode, "is in use by chatd@" in busy.stderr) == (Exit.TRY_AGAIN, True)
    run(read_what_waits(host.ports["chatserver"]))


async def read_what_waits(port: int) -> None:
    client = OldClient()
    await client.open(port)
    client.put({"msgid": 1, "id": 2, "password": "pw"})
    assert (await client.answer())["name"] == "bob"
    await until(10, "what waited", lambda: [one["msg"] for one in client.shown] == ["before"])
    client.check()
    client.close()


def test_refusals_are_one_line(tmp_path: Path, mariadb: MariaDB, daemon: Callable[..., Daemon]) -> None:
    config = Config(server=ServerOptions(state_dir=str(tmp_path)))
    for name in ("chatd.db", "full.db"):
        populate(SqlitePlace(tmp_path / name), 2)
    url = mariadb.url()
    wrong = url.replace("pass%2Fword", "other%2Fsecret")
    for source, target, code, text in (
        ("sqlite:chatd.db", "sqlite:full.db", Exit.CANNOT_CREATE, "is not empty"),
        ("sqlite:none.db", url, Exit.UNAVAILABLE, "does not exist"),
        ("sqlite:chatd.db", "sqlite:chatd.db", Exit.USAGE, "are the same store"),
        ("sqlite:chatd.db", wrong, Exit.UNAVAILABLE, "Access denied"),
        (url, "sqlite:new.db", Exit.UNAVAILABLE, "does not exist: the database is empty"),
        ("redis://x", url, Exit.CONFIG, "unknown kind of store"),
        ("sqlite:chatd.db", "sqlite:", Exit.CONFIG, "needs a file name"),
    ):
        with pytest.raises(BootError) as caught:
            stores.copy_store(config, source, target)
        told = str(caught.value)
        assert (caught.value.exit_code, text in told, "\n" in told, "secret" in told) == (code, True, False, False)
    unknown = daemon().ctl("copy-store", "sqlite:chatd.db", "file:nowhere")
    assert (unknown.returncode, "destination: cannot read nowhere" in unknown.stderr) == (Exit.CONFIG, True)
    refused = daemon().ctl("copy-store", wrong, "sqlite:new.db")
    warning, told = refused.stderr.splitlines()
    assert (refused.returncode, refused.stdout, "Access denied" in told) == (Exit.UNAVAILABLE, "", True)
    assert "every user of this host" in warning
    assert "secret" not in refused.stderr


def test_a_source_that_changed_meanwhile(daemon: Callable[..., Daemon], monkeypatch: pytest.MonkeyPatch) -> None:
    host = daemon()
    source, target = (SqlitePlace(host.root / "state" / name) for name in ("a.db", "b.db"))
    populate(source, 3)
    config = Config(server=ServerOptions(state_dir=str(host.root / "state")))
    monkeypatch.setattr(SqliteDump, "load", stop_at_messages(SqliteDump.load))
    with pytest.raises(BootError, match="the same command continues from here") as caught:
        stores.copy_store(config, "sqlite:a.db", "sqlite:b.db")
    assert caught.value.exit_code is Exit.TRY_AGAIN
    monkeypatch.undo()
    with contextlib.closing(source.tables()) as tables:
        make(tables, "late")
    with pytest.raises(BootError, match=r"differs from sqlite:.*a\.db in user: was it changed meanwhile\?") as caught:
        stores.copy_store(config, "sqlite:a.db", "sqlite:b.db")
    assert caught.value.exit_code is Exit.TRY_AGAIN
    with pytest.raises(BootError, match="is not complete"):
        target.tables()


def test_a_server_that_starts_meanwhile(tmp_path: Path, mariadb: MariaDB) -> None:
    """What it writes may be missing in the copy, so no server may use the copy; copying again includes it."""
    address = parse_mysql(mariadb.url())
    with contextlib.closing(mysql_tables.open_tables(address, 20.0, create=True)) as tables:
        make(tables, "alice")
    target = SqlitePlace(tmp_path / "new.db")
    servers = []

    def start(what: str, done: int, _total: int) -> None:
        if what == "message" and not done and not servers:
            servers.append(mysql_tables.open_tables(address, 20.0, create=True))
            make(servers[0], "bob")

    with contextlib.closing(MysqlDump(address, create=False)) as one, contextlib.closing(target.dump()) as other:
        with pytest.raises(store_copy.StoreChanged, match="used meanwhile by chatd@"):
            store_copy.copy(one, other, start)
        servers[0].close()
    with pytest.raises(BootError, match="is not complete"):
        target.tables()
    with contextlib.closing(MysqlDump(address, create=False)) as one, contextlib.closing(target.dump()) as other:
        compared = store_copy.copy(one, other, start)
    assert all(one.same for one in compared)
    with contextlib.closing(target.tables()) as tables:
        assert [name for _, name, _ in tables.accounts.all()] == ["alice", "bob"]


def stop_at_messages(load: Callable[..., None]) -> Callable[..., None]:
    def stopping(self: SqliteDump, table: store_copy.Table, rows: list[Row]) -> None:
        if table.name == "message":
            raise KeyboardInterrupt
        load(self, table, rows)

    return stopping


def test_on_a_terminal_there_is_a_bar(daemon: Callable[..., Daemon]) -> None:
    host = daemon()
    fill(host.root / "state" / "chatd.db", 20_000)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(host, "sqlite:chatd.db", "sqlite:copy.db"), cwd=host.root, env={**host.env, "TERM": "xterm"},
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True,
    ) as running:  # fmt: skip
        os.close(theirs)
        drawn = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:
                break
            drawn += data
            if b"\x1b[6n" in data:
                os.write(ours, b"\x1b[1;1R")
        told = running.communicate(timeout=60)[0]
    os.close(ours)
    assert running.returncode == 0, drawn
    assert b"copy-store" in drawn
    assert b"%" in drawn
    assert told.splitlines()[-1].startswith("every row is the same")


# ---------------------------------------------------------------- migrate, on MySQL

NOW = len(mysql_schema.MIGRATIONS)
LATER = NOW + 1
TOPIC = ("ALTER TABLE team ADD COLUMN IF NOT EXISTS topic VARCHAR(9) NOT NULL DEFAULT ''",)


@pytest.fixture
def older(mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A database of the released schema with users, seen by a later version."""
    url = mariadb.url()
    with contextlib.closing(mysql_tables.open_tables(parse_mysql(url), 20.0, create=True)) as tables:
        make(tables, "alice")
    monkeypatch.setattr(mysql_schema, "MIGRATIONS", (*mysql_schema.MIGRATIONS, TOPIC))
    monkeypatch.setattr(mysql_tables, "MIGRATIONS", mysql_schema.MIGRATIONS)
    monkeypatch.setattr(mysql_schema, "WORDS", (*mysql_schema.WORDS, "a topic for every group"))
    return Config(store=StoreOptions(url=url))


def test_a_database_is_brought_up(older: Config, capsys: pytest.CaptureFixture[str]) -> None:
    address = parse_mysql(older.store.url)
    with pytest.raises(
        BootError, match=rf"schema {NOW} is older than this chatd needs \({LATER}\): run chatctl migrate"
    ):
        mysql_tables.open_tables(address, 20.0, create=True)
    with pytest.raises(BootError, match="chatctl makes no backup of a database server") as caught:
        stores.migrate(older, None, stores.MigrateOptions(False, True, ""))
    assert caught.value.exit_code is Exit.USAGE
    assert stores.migrate(older, None, stores.MigrateOptions(True, True, "")) == 0
    capsys.readouterr()
    assert stores.migrate(older, None, stores.MigrateOptions(False, False, "")) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:3] == [
        f"{address}: from schema {NOW} to {LATER}",
        f"  step {LATER}: a topic for every group",
        f"step {LATER}: done",
    ]
    with contextlib.closing(mysql_tables.open_tables(address, 20.0, create=True)) as tables:
        assert [name for _, name, _ in tables.accounts.all()] == ["alice"]
    assert stores.migrate(older, None, stores.MigrateOptions(False, True, "")) == 0
    assert capsys.readouterr().out.endswith("nothing to do\n")


def test_a_database_that_another_migrate_has_brought_up_meanwhile(
    older: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone_with = mysql_dump.alone_with

    def after_the_other(address: MysqlAddress) -> MysqlConnection:
        db = alone_with(address)
        mysql_schema.migrate(db, LATER)
        return db

    monkeypatch.setattr(mysql_dump, "alone_with", after_the_other)
    assert stores.migrate(older, None, stores.MigrateOptions(False, False, "")) == 0
    assert capsys.readouterr().out.endswith(f"schema {LATER} is what this chatd needs; nothing to do\n")


def test_an_empty_database_needs_no_backup(mariadb: MariaDB, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(store=StoreOptions(url=mariadb.url()))
    assert stores.migrate(config, None, stores.MigrateOptions(False, True, "")) == 0
    assert capsys.readouterr().out.splitlines()[-2] == f"step {NOW}: done"
    mysql_tables.open_tables(parse_mysql(config.store.url), 20.0, create=True).close()


def test_a_database_in_use_is_left_alone(older: Config, mariadb: MariaDB) -> None:
    with contextlib.closing(mariadb.connect(parse_mysql(older.store.url).database)):
        with pytest.raises(BootError, match=r"is in use by chatd@\S+ \(1 connections\): stop the servers") as caught:
            stores.migrate(older, None, stores.MigrateOptions(False, False, ""))
        assert caught.value.exit_code is Exit.TRY_AGAIN


def test_two_chatctl_do_not_meet(mariadb: MariaDB) -> None:
    address = parse_mysql(mariadb.url())
    with (
        contextlib.closing(MysqlDump(address, create=True)),
        pytest.raises(BootError, match="another chatctl is working"),
    ):
        MysqlDump(address, create=True)
    MysqlDump(address, create=True).close()


def test_an_account_that_sees_little_says_so(mariadb: MariaDB) -> None:
    url = mariadb.url()
    address = parse_mysql(url)
    with contextlib.closing(MysqlDump(address, create=True)) as dump:
        assert dump.blind_spot() == ""
    mariadb.execute(f"GRANT ALL ON {address.database}.* TO 'small'@'%' IDENTIFIED BY 'x'")
    small = parse_mysql(f"mysql://small:x@{address.host}:{address.port}/{address.database}")
    with contextlib.closing(MysqlDump(small, create=False)) as dump:
        assert "servers that use another account are not seen" in dump.blind_spot()


def test_a_step_that_fails_can_be_repeated(older: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (*TOPIC, "INSERT INTO nowhere VALUES (1)")
    monkeypatch.setattr(mysql_schema, "MIGRATIONS", (*mysql_schema.MIGRATIONS[:NOW], broken))
    with pytest.raises(BootError) as caught:
        stores.migrate(older, None, stores.MigrateOptions(False, False, ""))
    assert caught.value.exit_code is Exit.UNAVAILABLE
    monkeypatch.setattr(mysql_schema, "MIGRATIONS", (*mysql_schema.MIGRATIONS[:NOW], TOPIC))
    assert stores.migrate(older, None, stores.MigrateOptions(False, False, "")) == 0
