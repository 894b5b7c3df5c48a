"""A fork that cannot be supervised leaves nothing behind."""

from __future__ import annotations

import errno
import os
import time

import psutil
import pytest

from chatd.config.schema import Config, ServerOptions
from chatd.master import spawn
from chatd.master.certificates import CertificateKeeper
from chatd.master.udp_sockets import UdpSockets
from chatd.penalty_table import PenaltyTable
from chatd.scoreboard import FIELDS, Scoreboard, State


def sleep(_context: object) -> int:
    time.sleep(60)
    return 0


@pytest.fixture
def shared() -> spawn.Shared:
    return spawn.Shared(
        scoreboard=Scoreboard(),
        penalty_table=PenaltyTable(sets=8),
        listeners=(),
        udp_sockets=UdpSockets((), None),
        certificates=CertificateKeeper(CONFIG, "-"),
        life_read=-1,
        serve=sleep,
        leave_master=lambda: None,
    )


CONFIG = Config(server=ServerOptions(log_dir="-"))


def test_a_worker_without_a_descriptor_for_it_is_ended(shared: spawn.Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would run on with nobody to notice its hanging, its end, or that it should stop."""

    def full(_pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", full)
    before = set(psutil.Process().children())
    descriptors = psutil.Process().num_fds()
    with pytest.raises(OSError, match="Too many open files"):
        spawn.fork(0, 1, CONFIG, shared)
    assert set(psutil.Process().children()) <= before
    assert psutil.Process().num_fds() <= descriptors
    row = shared.scoreboard.rows[0]
    assert {name: getattr(row, name) for name in FIELDS if getattr(row, name)} == {}


def test_a_worker_is_in_its_row_before_it_runs(shared: spawn.Shared) -> None:
    child = spawn.fork(3, 7, CONFIG, shared)
    row = shared.scoreboard.rows[3]
    assert (row.pid, row.generation, row.state, row.store_ok) == (child.pid, 7, State.BOOTING, True)
    os.kill(child.pid, 9)
    os.waitpid(child.pid, 0)
    child.close()
