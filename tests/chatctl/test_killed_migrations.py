"""`chatctl migrate` killed at every step of every migration since schema 6, and run again: the store is the same as
after one undisturbed run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd.chatctl import stores
from chatd.config.schema import Config, ServerOptions, StoreOptions
from chatd.store.mysql import schema as mysql_schema
from chatd.store.sqlite import schema as sqlite_schema
from tests.chatctl.killed_migrations import cuts
from tests.harness.mariadb import MariaDB
from tests.store import sixth_schema
from tests.store.test_copy import MysqlPlace, Place, SqlitePlace, everything, notes

FIRST = sixth_schema.VERSION + 1
ROOT = Path(__file__).parents[2]


class Found:
    """A store of schema 6 with data, and the configuration of a chatctl that migrates it."""

    def __init__(self, place: Place, folder: Path, url: str) -> None:
        self.place = place
        self.config = Config(server=ServerOptions(state_dir=str(folder)), store=StoreOptions(url=url))
        self.file = folder / "chatd.toml"
        self.file.write_text(f'[server]\nstate_dir = "{folder}"\n[store]\nurl = "{url}"\n')
        self.file.chmod(0o600)


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.slow)])
def twin(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def found(twin: str, tmp_path: Path, mariadb: MariaDB) -> Callable[[str], Found]:
    """Another one for each name."""

    def make(name: str) -> Found:
        folder = tmp_path / name
        folder.mkdir(mode=0o750)
        if twin == "mysql":
            url = sixth_schema.unpack_mysql(mariadb)
            return Found(MysqlPlace(mariadb, url), folder, url)
        sixth_schema.unpack_sqlite(folder / "chatd.db")
        return Found(SqlitePlace(folder / "chatd.db"), folder, "sqlite:chatd.db")

    return make


def test_killed_at_every_step_and_run_again(twin: str, found: Callable[[str], Found]) -> None:
    hurt, whole = found("hurt"), found("whole")
    program = [sys.executable, "-m", "tests.chatctl.killed_migrations", str(FIRST), twin]
    ran = subprocess.run(
        [*program, "-c", str(hurt.file), "migrate", "--no-backup"],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    schema = {"sqlite": sqlite_schema, "mysql": mysql_schema}[twin]
    killed = [line for line in ran.stdout.splitlines() if line.startswith("killed")]
    assert killed == [f"killed {number} {steps}" for number, steps in cuts(schema, FIRST)]
    assert stores.migrate(whole.config, None, stores.MigrateOptions(False, False, "")) == 0
    assert hurt.place.columns() == whole.place.columns()
    assert notes(hurt.place) == notes(whole.place)
    assert everything(hurt.place) == everything(whole.place)
    tables = hurt.place.tables()
    try:
        sixth_schema.check(tables)
    finally:
        tables.close()
