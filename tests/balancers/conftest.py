"""Balancers that never outlive their test, and whose tests do not run beside one another: they measure time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.balancers.balancer import Balancer, HAProxy, Nginx
from tests.cluster.conftest import make_cluster
from tests.faults.conftest import _many_sockets
from tests.harness.daemon import Daemon
from tests.harness.mariadb import mariadb

__all__ = ["_many_sockets", "make_cluster", "mariadb"]

KINDS = {"nginx": Nginx, "haproxy": HAProxy}
MakeBalancer = Callable[..., Balancer]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/balancers/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("balancers"))


@pytest.fixture(params=KINDS)
def make_balancer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeBalancer]:
    """A factory of balancers, not started; a test that uses it is run with each kind."""
    made: list[Balancer] = []

    def make(hosts: Sequence[Daemon], **options: Any) -> Balancer:
        made.append(KINDS[request.param](tmp_path / f"balancer{len(made)}", hosts, **options))
        return made[-1]

    yield make
    for balancer in made:
        balancer.kill()
