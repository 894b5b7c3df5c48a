"""Ordeals one after the other."""

from __future__ import annotations

import pytest

from tests.faults.conftest import _many_sockets  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """As in tests/faults: an ordeal takes all cores there are."""
    for item in items:
        if "/changes/" in str(item.path) and item.path.stem in ("test_ordeals", "test_planted_bugs"):
            item.add_marker(pytest.mark.xdist_group("faults"))
