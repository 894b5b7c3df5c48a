"""Two rows of tests, which share their daemons: those with a cluster, and the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import _many_sockets  # noqa: F401
from tests.webhooks.receiver import Receiver


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/webhooks/" in str(item.path):
            row = "webhooks cluster" if item.path.stem == "test_cluster" else "webhooks"
            item.add_marker(pytest.mark.xdist_group(row))


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path / "receiver").start()
    yield made
    made.kill()
