"""One daemon per number of workers, for every test of the client that needs a real server and names of its own."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from tests.harness.daemon import Daemon

_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=(1, 2), ids=("1-worker", "2-workers"))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("server"), workers=request.param)
    try:
        yield daemon.start()
    finally:
        complaints = daemon.discard()
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])


@pytest.fixture
def names() -> Iterator[str]:
    """Names that nobody had, each with a space."""
    made = random.randrange(10**8)
    return (f"{name} {made}-{next(_numbers)}" for name in itertools.cycle(("ann", "bob", "cy")))
