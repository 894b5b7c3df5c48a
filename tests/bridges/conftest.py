"""One RabbitMQ, and one row of tests: each of them keeps both cores busy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.conftest import _many_sockets  # noqa: F401
from tests.harness.rabbitmq import RabbitServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One after the other: they share a RabbitMQ, and some kill it."""
    for item in items:
        if "/tests/bridges/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("bridges"))


@pytest.fixture(scope="package")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    with RabbitServer(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server
