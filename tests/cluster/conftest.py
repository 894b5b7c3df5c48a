"""Clusters that never outlive their test, and one database server for the tests that do not hurt it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import _many_sockets  # noqa: F401
from tests.harness.cluster import Cluster
from tests.harness.mariadb import mariadb, own_mariadb  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One after the other, as in tests/faults, in two rows: about as long as each other."""
    for item in items:
        if "/cluster/" in str(item.path):
            first = item.path.stem in ("test_bus_lost", "test_hosts_apart", "test_network")
            item.add_marker(pytest.mark.xdist_group("cluster 1" if first else "cluster 2"))


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """A factory of clusters, not started. At the end nothing of them is left, and the logs of all hosts must hold no
    error that the test did not announce."""
    made: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        made.append(Cluster(tmp_path / f"cluster{len(made)}", **options))
        return made[-1]

    yield make
    complaints = [line for cluster in made for line in cluster.discard()]
    assert not complaints, "errors were logged:\n" + "\n".join(complaints[:20])
