"""Who waits for whom, from the kernel's own words."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatd.master import file_locks
from tests.harness.deadline import wait_until

TEXT = """\
1: FLOCK  ADVISORY  WRITE 100 fe:00:2451601 0 EOF
1: -> FLOCK  ADVISORY  WRITE 101 fe:00:2451601 0 EOF
1:  -> FLOCK  ADVISORY  WRITE 102 fe:00:2451601 0 EOF
2: POSIX  ADVISORY  WRITE 200 fe:00:2359671 1073741826 1073742335
2: -> POSIX  ADVISORY  WRITE 201 fe:00:2359671 1073741826 1073742335
3: OFDLCK ADVISORY  WRITE -1 fe:00:2453200 0 1
4: FLOCK  ADVISORY  READ 300 00:1b:432742 0 EOF
12: FLOCK  ADVISORY  WRITE 100 fe:00:77 0 EOF
12: -> FLOCK  ADVISORY  WRITE 103 fe:00:77 0 EOF
"""
WAIT = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)"


def test_waiters_by_holder() -> None:
    assert file_locks.waiting(TEXT) == {100: {101, 102, 103}}
    assert file_locks.waiting("") == {}


def test_as_this_kernel_says_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert file_locks.waiting_for(os.getpid()) == set()
    waiters = [subprocess.Popen([sys.executable, "-c", WAIT, str(path)]) for _ in range(3)]
    try:
        everybody = {waiter.pid for waiter in waiters}
        wait_until(20, "all wait", lambda: file_locks.waiting_for(os.getpid()) == everybody)
        assert file_locks.waiting_for(waiters[0].pid) == set()
    finally:
        os.close(held)
    assert [waiter.wait(20) for waiter in waiters] == [0, 0, 0]
    assert file_locks.waiting_for(os.getpid()) == set()


def test_where_the_kernel_tells_nothing_nobody_is_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_locks, "LOCKS", tmp_path / "none")
    assert file_locks.waiting_for(os.getpid()) == set()
