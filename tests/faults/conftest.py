"""Ordeals one after the other, and room for many sockets."""

from __future__ import annotations

import resource

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One after the other: an ordeal measures time and takes all cores there are."""
    for item in items:
        if "/faults/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("faults"))


@pytest.fixture(autouse=True, scope="session")
def _many_sockets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 10_000), hard), hard))
