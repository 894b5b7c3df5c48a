"""A directory in memory, for tests that write to a store and do not test the disk: fsync costs nothing there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """Removed at the end. Where the system has no such directory, an ordinary one."""
    usable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    path = Path(tempfile.mkdtemp(prefix="chatd-test-", dir=MEMORY if usable else None))
    yield path
    shutil.rmtree(path)
