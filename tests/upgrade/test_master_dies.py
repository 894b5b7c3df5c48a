"""kill -9 of the master at every phase of an upgrade, and upgrades one after the other, while people talk."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.faults.ordeal import acquit, all_ready, everybody_in, more_talk, ordeal
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.upgrade.conftest import NEW, OLD
from tests.upgrade.installation import Installation, upgrade_of, versions
from tests.upgrade.test_failures import STOPPING

Made = Callable[..., Daemon]
PHASES = ("checking", "waiting", "changing", "loading", "replacing")


@pytest.mark.parametrize(
    "phases",
    [("changing", "loading"), pytest.param(PHASES * 3, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
    ids=["some", "all"],
)
def test_a_master_that_is_killed_loses_nothing_and_can_be_started(
    make_daemon: Made,
    installation: Installation,
    wheels: dict[str, Path],
    record_property: Callable[[str, object], None],
    phases: Sequence[str],
) -> None:
    daemon = installation.daemon(
        make_daemon(workers=2, timeouts={"orphan_drain_s": 1.0, "drain_spread_s": 0.5}), STOPPING
    )
    stops = daemon.root / "stops"
    stops.mkdir()
    daemon.env["STOPS"] = str(stops)
    daemon.expect_error("the master is gone")
    daemon.expect_error("worker died")
    daemon.start()
    installation.install(wheels[NEW])

    async def fault(crowd: Crowd) -> None:
        for phase in phases:
            (stops / phase).touch()
            os.kill(daemon.pid, signal.SIGUSR2)
            await until(60, f"{phase} is reached", (stops / f"{phase}.reached").exists)
            os.kill(daemon.pid, signal.SIGKILL)
            await asyncio.to_thread(daemon.wait_gone)
            (stops / phase).unlink()
            (stops / f"{phase}.reached").unlink()
            await until(20, "no process is left", lambda: not daemon.processes())
            await asyncio.to_thread(daemon.start)
            await all_ready(daemon)
            await everybody_in(crowd)
            await more_talk(crowd, 50)

    verdict = run(ordeal(daemon, fault), 90 + 20 * len(phases))
    verdict.counts["kills"] = len(phases)
    acquit(verdict, record_property, at_least=50 * len(phases))
    assert versions(daemon.status()) == {NEW}


@pytest.mark.parametrize(
    "times",
    [pytest.param(1, marks=pytest.mark.slow), pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])],
)
def test_upgrades_one_after_the_other_lose_nothing(
    make_daemon: Made,
    installation: Installation,
    wheels: dict[str, Path],
    record_property: Callable[[str, object], None],
    times: int,
) -> None:
    """There and back again, while a crowd talks, whose sessions go on."""
    daemon = installation.daemon(make_daemon(workers=2, timeouts={"drain_s": 4.0, "drain_spread_s": 1.0})).start()

    async def fault(crowd: Crowd) -> None:
        pid = daemon.pid
        for number in range(times):
            version = (NEW, OLD)[number % 2]
            await asyncio.to_thread(installation.install, wheels[version])
            done = await asyncio.to_thread(upgrade_of, daemon)
            assert done.returncode == 0, done
            status = await asyncio.to_thread(daemon.status)
            assert (versions(status), status["pid"]) == ({version}, pid)
            await more_talk(crowd, 50)
        assert crowd.logins() == len(crowd.people), "an upgrade ended a session"

    verdict = run(ordeal(daemon, fault), 60 + 60 * times)
    verdict.counts["upgrades"] = times
    acquit(verdict, record_property, at_least=50 * times)
