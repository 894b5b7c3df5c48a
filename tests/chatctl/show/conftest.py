"""A daemon with two workers and both wires, for all tests of what an operator looks at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.daemon import Daemon
from tests.harness.person import Town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    daemon = Daemon(tmp_path_factory.mktemp("town"), workers=2)
    try:
        yield Town(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])


def shown(town: Town, *arguments: str) -> dict[str, Any]:
    """What the command prints with --json."""
    _, out, said = town.daemon.ctl_said(*arguments, "--json")
    assert out, said
    found: dict[str, Any] = json.loads(out)
    return found
