"""One row of tests: each of them keeps both cores busy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import _many_sockets  # noqa: F401
from tests.webhooks.receiver import Receiver


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path / "receiver").start()
    yield made
    made.kill()
