"""unit.test.mjs, by Node.js's own runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

OPTIONS = ("--test", "--test-force-exit", "--test-timeout=30000", "--test-reporter=spec")


def test_the_client_alone() -> None:
    done = subprocess.run(
        ["node", *OPTIONS, str(Path(__file__).with_name("unit.test.mjs"))],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 0" not in done.stdout
