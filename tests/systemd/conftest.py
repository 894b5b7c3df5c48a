"""One container for all of these tests, booted once, and the service in it: put back to its shipped form for each test.

They share the container, so one process of a test run has all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.container import Container
from tests.harness.network import Network
from tests.systemd.unit import Service

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("systemd"))


@pytest.fixture(scope="session")
def container() -> Iterator[Container]:
    with Network(hosts=1) as network, Container(network.hosts[0]) as booted:
        yield booted


@pytest.fixture
def service(container: Container) -> Iterator[Service]:
    """Installed, configured, not started."""
    installed = Service(container)
    installed.install()
    yield installed
    installed.remove()
