"""One daemon per number of workers for all conversations: they use names of their own and do not disturb each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.daemon import Daemon
from tests.harness.person import Town

PACE_MS = 40
"""Ample for a busy machine: the old client must have read one frame before the next comes."""


@pytest.fixture(scope="session", params=[1, 2], ids=["1-worker", "2-workers"])
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    daemon = Daemon(
        tmp_path_factory.mktemp("town"),
        workers=request.param,
        listen={"chatserver": {"pace_ms": PACE_MS}},
    )
    try:
        yield Town(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])
