"""Second attempts: `make test` repeats a test that fails, once, because a machine with two cores is sometimes too slow
for a deadline of a test with many processes.

Owns: naming these tests at the end of the run, each with its first failure, because a failure that comes and goes may
be a bug of chatd; failing a run in which more than MOST tests needed a second attempt.
Elsewhere: repeating them (pytest-rerunfailures).
"""

from __future__ import annotations

from typing import Any

MOST = 10
"""Tests of one run: one of a thousand. With more of them, it is no matter of chance, but of the machine or of chatd."""


def repeated(terminalreporter: Any) -> list[Any]:
    """The reports of first attempts that failed."""
    return list(terminalreporter.stats.get("rerun", []))


def summarize(terminalreporter: Any) -> None:
    """Write the section. Nothing if there were none."""
    reports = repeated(terminalreporter)
    if reports:
        terminalreporter.section("failed at first")
    for report in reports:
        terminalreporter.write_line(f"{report.nodeid} ({report.when})", bold=True)
        terminalreporter.write_line(report.longreprtext)
    if len(reports) > MOST:
        terminalreporter.write_line(f"{len(reports)} tests failed at first: at most {MOST} may", red=True, bold=True)


def judge(session: Any) -> None:
    """At the end of the session: fail it if there were too many."""
    terminalreporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminalreporter is not None and session.exitstatus == 0 and len(repeated(terminalreporter)) > MOST:
        session.exitstatus = 1
