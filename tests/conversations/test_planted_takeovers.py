"""The attack on sessions that others may not end finds a guard that is switched off."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conversations.takeovers import BUGS, take_over_without_right
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.person import Town


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(make_daemon: Callable[..., Daemon], bug: str) -> None:
    daemon = make_daemon(entry=("-m", "tests.conversations.takeovers", bug)).start()
    with pytest.raises(AssertionError):
        run(take_over_without_right(Town(daemon)))
