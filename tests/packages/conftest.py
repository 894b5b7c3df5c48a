"""The packages, built once, and a container without chatd to install them into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.container import Container
from tests.harness.network import Network
from tests.packages import builds
from tests.packages.host import Host

HERE = Path(__file__).parent
SHARED = "test_release.py"
"""Needs nothing that is built."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process of a test run has all of these, because it builds for all."""
    for item in items:
        if HERE in item.path.parents and item.path.name != SHARED:
            item.add_marker(pytest.mark.xdist_group("packages"))
            item.add_marker(pytest.mark.timeout(builds.BUILD_S))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the packages are; the container sees it as /packages."""
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="session")
def package(folder: Path) -> Path:
    return builds.package(folder)


@pytest.fixture(scope="session")
def higher(folder: Path, package: Path) -> Path:
    """The package under a higher version."""
    return builds.of_version(package, builds.HIGHER, folder)


@pytest.fixture(scope="session")
def without_upgrades(folder: Path, package: Path) -> Path:
    """The package under a higher version, which cannot take over from a running server."""
    return builds.of_version(package, builds.WITHOUT_UPGRADES, folder, knows_upgrades=False)


@pytest.fixture(scope="session")
def container(folder: Path) -> Iterator[Container]:
    """Without the chatd of this checkout."""
    binds = {str(folder): "/packages", str(builds.wheels()): "/wheels"}
    with Network(hosts=1) as network, Container(network.hosts[0], bare=True, binds=binds) as booted:
        yield booted


@pytest.fixture
def host(container: Container) -> Host:
    """As the test before left it."""
    return Host(container)
