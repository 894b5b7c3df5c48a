"""An installation without chatd[mysql]: what needs no MySQL works, what does says what is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.errors import Exit
from tests.harness.daemon import Daemon

WITHOUT = "import sys; sys.modules['MySQLdb'] = None; "
SERVER = "import runpy; runpy.run_module('chatd', run_name='__main__', alter_sys=True)"
COMMAND = "from chatd.chatctl.__main__ import main; sys.exit(main())"
MISSING = "mysql needs mysqlclient: pip install 'chatd[mysql]'"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path, entry=("-c", WITHOUT + SERVER))
    yield made
    assert made.discard() == []


def ctl(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + COMMAND, "-c", str(daemon.config_file), *arguments],
        cwd=daemon.root, env=daemon.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_what_needs_no_mysql_works(daemon: Daemon) -> None:
    daemon.start()
    assert ctl(daemon, "check").stdout.startswith("OK")
    assert daemon.stop() == 0
    plan = ctl(daemon, "migrate", "--dry-run")
    assert (plan.returncode, plan.stderr) == (0, "")
    assert "nothing to do" in plan.stdout
    copied = ctl(daemon, "copy-store", "sqlite:chatd.db", "sqlite:copy.db")
    assert copied.returncode == 0, copied.stderr
    assert (daemon.root / "state" / "copy.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("copy-store", "sqlite:chatd.db", "mysql://root@127.0.0.1:1/chatd"),
        ("import-chatserver", "--dry-run", "mysql://root@127.0.0.1:1/chat"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_needs_it_says_so(daemon: Daemon, arguments: tuple[str, ...]) -> None:
    daemon.start()
    assert daemon.stop() == 0
    answer = ctl(daemon, *arguments)
    assert answer.returncode == Exit.CONFIG
    assert MISSING in answer.stderr
    assert "Traceback" not in answer.stderr
