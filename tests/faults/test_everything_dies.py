"""The master is killed, everything is killed, again and again, in the middle of writing."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from tests.faults.ordeal import acquit, database, everybody_in, kill, more_talk, ordeal
from tests.faults.record import inspect
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_the_master_is_killed_and_started_again(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    """Its workers stop accepting at once, let go of their people and leave; a plain start works meanwhile."""
    daemon = make_daemon(workers=2, timeouts={"orphan_drain_s": 3.0, "drain_spread_s": 2.0}).start()
    daemon.expect_error("the master is gone")

    async def fault(crowd: Crowd) -> None:
        for _ in range(rounds):
            orphans = daemon.workers()
            kill(daemon.pid)
            assert daemon.process is not None
            await asyncio.to_thread(daemon.process.wait, 10)
            await asyncio.to_thread(daemon.start)
            await until(15, "the orphans have left", lambda gone=orphans: not orphans_alive(daemon, gone))
            await everybody_in(crowd)
            await more_talk(crowd, 60)

    verdict = run(ordeal(daemon, fault), 60 + 40 * rounds)
    acquit(verdict, record_property, at_least=60 * rounds)
    assert daemon.stop() == 0
    inspect(database(daemon))


def orphans_alive(daemon: Daemon, orphans: list[int]) -> bool:
    return any(process.pid in orphans for process in daemon.processes())


@pytest.mark.parametrize("rounds", [2, pytest.param(10, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_a_graceful_restart_while_people_talk(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    """TERM drains within its limit and leaves with 0; what was acknowledged until then is there afterwards."""
    daemon = make_daemon(workers=2, timeouts={"drain_s": 5.0, "drain_spread_s": 1.0}).start()

    async def fault(crowd: Crowd) -> None:
        for _ in range(rounds):
            await more_talk(crowd, 100)
            began = time.monotonic()
            assert await asyncio.to_thread(daemon.stop) == 0
            assert time.monotonic() - began < 5.0 + 2.0 + 3.0  # the limit, the grace before KILL, two ends of Python
            await asyncio.to_thread(inspect, database(daemon))
            await asyncio.to_thread(daemon.start)
            await everybody_in(crowd)

    verdict = run(ordeal(daemon, fault, half_silent=True), 60 + 30 * rounds)
    acquit(verdict, record_property, at_least=100 * rounds)


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])])
def test_everything_is_killed_at_a_random_moment(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    """No acknowledged message is lost, nothing is stored twice, and the start needs no hands."""
    daemon = make_daemon(workers=2).start()

    async def fault(crowd: Crowd) -> None:
        for _ in range(rounds):
            await everybody_in(crowd)
            await more_talk(crowd, random.randrange(20, 200))
            await asyncio.sleep(random.uniform(0, 0.05))  # the moment is random
            await asyncio.to_thread(daemon.kill_all)
            await asyncio.to_thread(daemon.start)

    verdict = run(ordeal(daemon, fault, think_s=0.01), 60 + 30 * rounds)
    acquit(verdict, record_property, at_least=40 * rounds)
    assert daemon.stop() == 0
    stored = inspect(database(daemon))
    assert stored >= verdict.counts["expected"] / 3


@pytest.mark.parametrize("rounds", [3, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])])
def test_the_store_survives_kills_in_the_middle_of_writing(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    """Writing without pause, all processes killed, the file examined each time."""
    daemon = make_daemon(workers=2).start()
    daemon.expect_error(
        "commit takes too long"
    )  # on a busy disk: then senders are refused for a moment, and send again
    found: list[int] = []

    async def fault(crowd: Crowd) -> None:
        for _ in range(rounds):
            await more_talk(crowd, 300, 60)
            await asyncio.to_thread(daemon.kill_all)
            found.append(await asyncio.to_thread(inspect, database(daemon)))
            await asyncio.to_thread(daemon.start)
            await everybody_in(crowd)

    verdict = run(ordeal(daemon, fault, window=16, think_s=0.0, settle_s=90), 120 + 40 * rounds)
    acquit(verdict, record_property, at_least=300 * rounds)
    assert found == sorted(found), "messages disappeared from the store"
