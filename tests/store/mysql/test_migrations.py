"""Databases of earlier schemas, with data in them, are brought up; again is the same as once, wherever it was cut."""

from __future__ import annotations

import contextlib

import pytest

from chatd.chatctl import stores
from chatd.config.schema import Config, StoreOptions
from chatd.config.urls import parse_mysql
from chatd.store.mysql import schema as mysql_schema
from chatd.store.mysql import tables as mysql_tables
from chatd.store.mysql.connection import MysqlConnection
from tests.harness.mariadb import MariaDB
from tests.store import first_schema

LIMIT_S = 20.0


@pytest.fixture
def url(mariadb: MariaDB) -> str:
    """A database of schema 1."""
    url = mariadb.url()
    with contextlib.closing(_Closing(url)) as here:
        mysql_schema.migrate(here.db, 1)
        for row in (*first_schema.ROWS, "INSERT INTO conversation VALUES (-1, 1)"):
            here.db.execute(row)
    return url


class _Closing:
    def __init__(self, url: str) -> None:
        self.db = MysqlConnection(parse_mysql(url), LIMIT_S)

    def close(self) -> None:
        self.db.discard()


@pytest.mark.parametrize("done_statements", range(len(mysql_schema.MIGRATIONS[1]) + 1))
def test_from_the_first_schema_with_data(url: str, done_statements: int) -> None:
    """Also when the second step was interrupted after so many of its statements, and when everything is repeated."""
    newest = len(mysql_schema.MIGRATIONS)
    with contextlib.closing(_Closing(url)) as here:
        for statement in mysql_schema.MIGRATIONS[1][:done_statements]:
            here.db.execute(statement)
    with contextlib.closing(_Closing(url)) as here:
        for _ in range(2):
            mysql_schema.migrate(here.db, newest)
            assert mysql_schema.version_of(here.db) == newest
        for statement in mysql_schema.MIGRATIONS[1]:
            here.db.execute(statement)
    with contextlib.closing(mysql_tables.open_tables(parse_mysql(url), LIMIT_S, create=True)) as tables:
        first_schema.check(tables)


def test_from_the_first_schema_by_chatctl_migrate(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(store=StoreOptions(url=url))
    assert stores.migrate(config, None, False, False, "") == 0
    assert f"step 2: {mysql_schema.WORDS[1]}" in capsys.readouterr().out
    assert stores.migrate(config, None, False, False, "") == 0
    assert "nothing to do" in capsys.readouterr().out
    with contextlib.closing(mysql_tables.open_tables(parse_mysql(url), LIMIT_S, create=True)) as tables:
        first_schema.check(tables)
