"""Stores and contents of these tests are in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.memory import memory_path

__all__ = ["memory_path"]


@pytest.fixture
def tmp_path(memory_path: Path) -> Path:
    return memory_path
