"""One daemon per stage for all conversations: they use names of their own and do not disturb each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conversations.stages import STAGES, USUAL
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.person import Town

PACE_MS = 40
"""Ample for a busy machine: the old client must have read one frame before the next comes."""
RESEND_S = 2.0
"""Shorter than the default, because some tests wait for a third copy; longer than clients need to acknowledge."""


@pytest.fixture(scope="session", params=USUAL)
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    stage = STAGES[request.param]
    store = {"url": request.getfixturevalue("mariadb").url()} if stage.mysql else {}
    root = tmp_path_factory.mktemp("town")
    daemon = Daemon(
        root,
        certificate=Certificate(root / "certificate"),
        workers=stage.workers,
        listen={"chatserver": {"pace_ms": PACE_MS}},
        timeouts={"resend_s": RESEND_S},
        store=store,
    )
    try:
        yield Town(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])
