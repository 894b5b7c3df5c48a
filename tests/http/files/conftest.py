"""One office on each store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.mariadb import MariaDB
from tests.http.files.office import Office


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one process, which has the daemons."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group("files"))


@pytest.fixture(scope="session")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("office"))
    yield made
    assert made.daemon.discard() == []


@pytest.fixture(scope="session")
def on_mysql(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("office"), store={"url": mariadb.url()})
    yield made
    assert made.daemon.discard() == []


@pytest.fixture(params=["sqlite", "mysql"])
def office(request: pytest.FixtureRequest) -> Office:
    made: Office = request.getfixturevalue(f"on_{request.param}")
    return made
