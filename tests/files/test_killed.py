"""Whenever a process is killed, no file loses its content and no content stays without a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.files.planted import BUGS


def killed(folder: Path, *bug: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.files.killed", str(folder), *bug]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_killed_before_and_after_every_step_between_content_and_row(tmp_path: Path) -> None:
    made = killed(tmp_path)
    assert made.returncode == 0, made.stdout + made.stderr
    assert int(made.stdout.split()[0]) > 30, made.stdout


LATE = {"off_the_list_first", "a_blob_in_use_is_deleted"}
"""Bugs that show only after many steps."""


@pytest.mark.parametrize("bug", [pytest.param(bug, marks=pytest.mark.slow) if bug in LATE else bug for bug in BUGS])
def test_bugs_that_would_lose_content_or_keep_it_are_found(tmp_path: Path, bug: str) -> None:
    made = killed(tmp_path, bug)
    assert made.returncode == 1
    assert any(what in made.stderr for what in ("left on the disk", "has lost its content", "no such file"))
