"""Daemons that the tests of one module share: each test comes from addresses of its own, to accounts of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.daemon import Daemon


@pytest.fixture(scope="module")
def share_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Daemon]]:
    """A factory of daemons, started. At the end of the module every process is ended, and the logs must hold no error
    that was not announced."""
    made: list[Daemon] = []

    def make(**options: Any) -> Daemon:
        made.append(Daemon(tmp_path_factory.mktemp("chatd"), **options))
        return made[-1].start()

    yield make
    complaints = [line for daemon in made for line in daemon.discard()]
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])
