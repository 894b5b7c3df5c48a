"""Two versions of chatd as wheels, built once, and an installation of the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.upgrade.installation import Installation, build, copy_tree

OLD, NEW = "9.1.0", "9.2.0"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one process of the test run, so that the wheels are built once."""
    for item in items:
        if "/upgrade/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("upgrade"))


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By version."""
    folder = tmp_path_factory.mktemp("wheels")
    return {version: build(copy_tree(folder / version, version), folder / f"{version}-wheel") for version in (OLD, NEW)}


@pytest.fixture(scope="session")
def _first(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    made = Installation(tmp_path_factory.mktemp("installation") / "first")
    made.install(wheels[OLD])
    made.save()
    return made


@pytest.fixture
def installation(_first: Installation) -> Iterator[Installation]:
    """Of the older version; whatever a test installs or breaks is put right afterwards."""
    yield _first
    _first.restore()
