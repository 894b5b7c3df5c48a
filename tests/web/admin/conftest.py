"""One server with the operator's page, in the browser of tests.web."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.admin.office import Office

ADMINISTRATORS = {**{f"root{number}": "admin" for number in range(14)}, "reader": "read"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the process that has the browser."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group("web"))


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    office.start()
    office.administrators(**ADMINISTRATORS)
    yield office
    assert office.discard() == []
