"""`make test` repeats a failed test and tells of it. A test that fails twice fails the run, and so do many repeats."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.second_attempts import MOST

ROOT = Path(__file__).parent.parent
CONFTEST = """
from tests.harness import second_attempts


def pytest_sessionfinish(session):
    second_attempts.judge(session)


def pytest_terminal_summary(terminalreporter):
    second_attempts.summarize(terminalreporter)
"""
TESTS = """
import pathlib

import pytest


@pytest.mark.parametrize("number", range({count}))
def test_it(number):
    attempts = pathlib.Path(__file__).with_name(f"attempts{{number}}")
    attempts.write_text(attempts.read_text() + "x" if attempts.exists() else "x")
    assert len(attempts.read_text()) > {failures}, "not yet"
"""


def played(place: Path, count: int, failures: int) -> subprocess.CompletedProcess[str]:
    """Run `count` tests, each of which fails `failures` times before it passes."""
    (place / "conftest.py").write_text(CONFTEST)
    (place / "test_it.py").write_text(TESTS.format(count=count, failures=failures))
    command = [sys.executable, "-m", "pytest", "-n", "2", "--reruns", "1", "--rootdir", str(place), str(place)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("count", "failures", "status"), [(MOST, 1, 0), (1, 2, 1), (MOST + 1, 1, 1)])
def test_what_a_run_says_in_the_end(tmp_path: Path, count: int, failures: int, status: int) -> None:
    run = played(tmp_path, count, failures)
    assert run.returncode == status, run.stdout + run.stderr
    assert ("failed at first" in run.stdout) == (failures > 0)
    assert run.stdout.count("AssertionError: not yet") >= failures * count


def test_make_test_repeats_once() -> None:
    assert "--reruns 1 " in (ROOT / "Makefile").read_text()
