"""One daemon with all transports, for every test of the library that only needs a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chatd_client.people import People
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    root = tmp_path_factory.mktemp("server")
    daemon = Daemon(root, workers=2, certificate=Certificate(root / "certificate"))
    try:
        yield People(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])
