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
from tests.store import first_schema, sixth_schema
from tests.store.test_copy import MysqlPlace, everything

LIMIT_S = 20.0


@pytest.fixture
def url(mariadb: MariaDB) -> str:
    """A database of schema 1."""
    url = mariadb.url()
    with contextlib.closing(_Closing(url)) as here:
        mysql_schema.migrate(here.db, 1)
        for row in (*first_schema.ROWS, f"INSERT INTO conversation VALUES (-1, 1), ({first_schema.PAIR}, 1)"):
            here.db.execute(row)
    return url


class _Closing:
    def __init__(self, url: str) -> None:
        self.db = MysqlConnection(parse_mysql(url), LIMIT_S)

    def close(self) -> None:
        self.db.discard()


_INTERRUPTED = [
    (step, statements)
    for step in range(2, len(mysql_schema.MIGRATIONS) + 1)
    for statements in range(len(mysql_schema.MIGRATIONS[step - 1]) + 1)
]


@pytest.mark.parametrize(("step", "statements"), _INTERRUPTED)
def test_from_the_first_schema_with_data(url: str, step: int, statements: int) -> None:
    """Also when a step was interrupted after so many of its statements, and when everything is repeated."""
    newest = len(mysql_schema.MIGRATIONS)
    with contextlib.closing(_Closing(url)) as here:
        mysql_schema.migrate(here.db, step - 1)
        for statement in mysql_schema.MIGRATIONS[step - 1][:statements]:
            mysql_schema.run_step(here.db, statement)
    with contextlib.closing(_Closing(url)) as here:
        for _ in range(2):
            mysql_schema.migrate(here.db, newest)
            assert mysql_schema.version_of(here.db) == newest
        for statements_of_step in mysql_schema.MIGRATIONS[1:]:
            for statement in statements_of_step:
                mysql_schema.run_step(here.db, statement)
    with contextlib.closing(mysql_tables.open_tables(parse_mysql(url), LIMIT_S, create=True)) as tables:
        first_schema.check(tables)


def test_from_the_first_schema_by_chatctl_migrate(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(store=StoreOptions(url=url))
    assert stores.migrate(config, None, stores.MigrateOptions(False, False, "")) == 0
    assert f"step 2: {mysql_schema.WORDS[1]}" in capsys.readouterr().out
    assert stores.migrate(config, None, stores.MigrateOptions(False, False, "")) == 0
    assert "nothing to do" in capsys.readouterr().out
    with contextlib.closing(mysql_tables.open_tables(parse_mysql(url), LIMIT_S, create=True)) as tables:
        first_schema.check(tables)


def test_from_schema_6_with_data(mariadb: MariaDB) -> None:
    """A database that chatd of that schema wrote."""
    url = sixth_schema.unpack_mysql(mariadb)
    place = MysqlPlace(mariadb, url)
    before = place.columns()
    with contextlib.closing(_Closing(url)) as here:
        assert mysql_schema.version_of(here.db) == sixth_schema.VERSION
        mysql_schema.migrate(here.db, len(mysql_schema.MIGRATIONS))
    sixth_schema.check_columns(before, place.columns(), everything(place))
    with contextlib.closing(mysql_tables.open_tables(parse_mysql(url), LIMIT_S, create=True)) as tables:
        sixth_schema.check(tables)
