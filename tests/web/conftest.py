"""One browser and one server for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.desk import Desk, Site

PEOPLE = tuple(
    f"{name}{number}"
    for name in ("alice", "bob", "carol", "dora", "emil", "fay", "gus", "hal", "ina", "jon")
    for number in range(12)
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one process, which has the browser."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group("web"))


@pytest.fixture(scope="session")
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("web"))
    site.start()
    site.people(*PEOPLE)
    yield site
    died = '"event": "worker died"'  # tests kill workers
    assert [one for one in site.discard() if died not in one] == []
