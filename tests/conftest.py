"""For every room: real daemons that never outlive their test, and the verdicts of all ordeals at the end of the run, so
that a zero is read with its N."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import second_attempts
from tests.harness.daemon import Daemon
from tests.harness.mariadb import mariadb, own_mariadb

__all__ = ["mariadb", "own_mariadb"]


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """A factory of daemons, not started. At the end every process is ended and the logs must hold no error that
    the test did not announce with expect_error."""
    made: list[Daemon] = []

    def make(**options: Any) -> Daemon:
        made.append(Daemon(tmp_path / f"chatd{len(made)}", **options))
        return made[-1]

    yield make
    complaints = [line for daemon in made for line in daemon.discard()]
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])


def pytest_sessionfinish(session: pytest.Session) -> None:
    second_attempts.judge(session)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    second_attempts.summarize(terminalreporter)
    lines = [
        f"{report.nodeid.rpartition('/')[2]}: {value}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == "verdict"
    ]
    if lines:
        terminalreporter.section("verdicts")
        for line in lines:
            terminalreporter.write_line(line)
