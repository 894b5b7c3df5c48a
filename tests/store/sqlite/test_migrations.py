"""SQLite files of earlier schemas, with data in them, are brought up; again is the same as once."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from chatd.chatctl import stores
from chatd.config.schema import Config, ServerOptions, StoreOptions
from chatd.store.sqlite import file as sqlite_file
from chatd.store.sqlite import schema as sqlite_schema
from chatd.store.sqlite import tables as sqlite_tables
from tests.store import every_column, first_schema, sixth_schema
from tests.store.test_copy import SqlitePlace, everything


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of schema 1."""
    path = tmp_path / "chatd.db"
    with contextlib.closing(sqlite_file.connect(path)) as db:
        sqlite_file.migrate(db, 1)
        for row in first_schema.ROWS:
            db.execute(row)
        db.execute("INSERT INTO place VALUES (-1, 1, 1)")
        db.execute("UPDATE meta SET value = '1' WHERE key = 'merged'")
    return path


def test_from_the_first_schema_with_data(path: Path) -> None:
    newest = len(sqlite_schema.MIGRATIONS)
    with contextlib.closing(sqlite_file.connect(path)) as db:
        for _ in range(2):
            sqlite_file.migrate(db, newest)
            assert sqlite_file.version_of(db) == newest
    with contextlib.closing(sqlite_tables.open_tables(path, create=True)) as tables:
        first_schema.check(tables)


def test_from_the_first_schema_by_chatctl_migrate(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(server=ServerOptions(state_dir=str(path.parent)), store=StoreOptions(url="sqlite:chatd.db"))
    assert stores.migrate(config, None, stores.MigrateOptions(False, True, "")) == 0
    assert f"step 2: {sqlite_schema.WORDS[1]}" in capsys.readouterr().out
    (backup,) = path.parent.glob("chatd.db.v1-*.bak")
    with contextlib.closing(sqlite3.connect(backup)) as db:
        assert db.execute("SELECT * FROM member").fetchall() == [(1, 1, 1, 5), (1, 2, 3, 6)]
    assert stores.migrate(config, None, stores.MigrateOptions(False, True, "")) == 0
    assert "nothing to do" in capsys.readouterr().out
    with contextlib.closing(sqlite_tables.open_tables(path, create=True)) as tables:
        first_schema.check(tables)


def test_from_schema_6_with_data(tmp_path: Path) -> None:
    """A file that chatd of that schema wrote, with messages that are indexed, half indexed and not indexed."""
    path, newest = tmp_path / "chatd.db", len(sqlite_schema.MIGRATIONS)
    sixth_schema.unpack_sqlite(path)
    before = every_column.sqlite_columns(path)
    with contextlib.closing(sqlite_file.connect(path)) as db:
        assert sqlite_file.version_of(db) == sixth_schema.VERSION
        assert db.execute("SELECT value FROM meta WHERE key = 'sliced'").fetchone() == ("1024",)
        sqlite_file.migrate(db, newest)
    sixth_schema.check_columns(before, every_column.sqlite_columns(path), everything(SqlitePlace(path)))
    with contextlib.closing(sqlite_tables.open_tables(path, create=True)) as tables:
        sixth_schema.check(tables)
