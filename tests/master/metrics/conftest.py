"""Where the metrics of a module's daemon are."""

from __future__ import annotations

import pytest

from tests.harness.daemon import Daemon


@pytest.fixture
def port(daemon: Daemon) -> int:
    return daemon.metrics_port
