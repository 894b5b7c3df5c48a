"""Verdicts of all ordeals at the end of the run, so that a zero is read with its N; room for many sockets."""

from __future__ import annotations

import resource
from typing import Any

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One after the other: an ordeal measures time and takes all cores there are."""
    for item in items:
        if "/faults/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("faults"))


@pytest.fixture(autouse=True, scope="session")
def _many_sockets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 10_000), hard), hard))


def pytest_terminal_summary(terminalreporter: Any) -> None:
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
