"""A worker is killed, hangs, or everything is stopped for a while."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.ordeal import (
    OLD_PACE,
    WITH_OLD,
    acquit,
    all_ready,
    clients_of,
    database,
    dropped,
    elsewhere,
    everybody_in,
    kill,
    more_talk,
    ordeal,
    pick_victim,
)
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Town
from tests.master.test_workers import gap_s

REPLACED_S = 2.0
"""P7: a replacement accepts within this."""


async def replaced(daemon: Daemon, victim: int) -> None:
    await until(30, "a replacement", lambda: victim not in daemon.workers() and len(daemon.workers()) == 2)
    await all_ready(daemon)


@pytest.mark.parametrize("rounds", [3, pytest.param(16, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_worker_is_killed_again_and_again(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    """Only its own connections drop, it is replaced, and nothing acknowledged is lost. Half of the people only
    listen: no number of their own tells them that they have missed something."""
    daemon = make_daemon(workers=2, listen=OLD_PACE).start()
    daemon.expect_error("worker died")

    async def fault(crowd: Crowd) -> None:
        for number in range(rounds):
            await everybody_in(crowd)
            victim = pick_victim(daemon)
            others = elsewhere(crowd, victim)
            kill(victim)
            await replaced(daemon, victim)
            if number < 2:  # later ones are throttled, as they should be
                gap = await until(10, "it is told", lambda: gap_s(daemon.records()))
                assert gap < REPLACED_S + 1.0, "the replacement took too long"
            await more_talk(crowd, 100)
            assert dropped(crowd, others) == [], "connections of the other worker dropped"

    verdict = run(ordeal(daemon, fault, wires=WITH_OLD, half_silent=True), 60 + 40 * rounds)
    acquit(verdict, record_property, at_least=60 * rounds)


def test_who_was_connected_to_a_killed_worker_may_log_in_at_once(make_daemon: Callable[..., Daemon]) -> None:
    """errno 2 is judged by who is connected now, not by what a crash left behind."""
    daemon = make_daemon(workers=2).start()
    daemon.expect_error("worker died")

    async def story() -> None:
        town = Town(daemon)
        name = await town.newcomer("alice")
        login = {"msgid": 1, "id": town.ids[name], "password": town.secret}
        for _ in range(4):
            first = await town.errand(name)
            assert first.transport is not None
            port = first.transport.get_extra_info("sockname")[1]
            other = await town.nul_peer()
            other.put(login)
            assert (await other.take())["errno"] == 2
            other.close()
            (victim,) = [pid for pid in daemon.workers() if port in clients_of(pid)]
            kill(victim)
            await first.end()
            again = await town.nul_peer()
            again.put(login)
            assert (await again.take())["errno"] == 0
            await town.finish(again)
            await all_ready(daemon)

    run(story())


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_a_worker_that_hangs_is_replaced(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    """Its people come back on another worker; the others notice nothing."""
    daemon = make_daemon(workers=2, timeouts={"hang_s": 2.0}).start()
    for text in ("worker died", "stacks of a worker", "silent_s"):
        daemon.expect_error(text)

    async def fault(crowd: Crowd) -> None:
        for _ in range(rounds):
            await everybody_in(crowd)
            victim = pick_victim(daemon)
            others = elsewhere(crowd, victim)
            kill(victim, signal.SIGSTOP)
            await replaced(daemon, victim)
            await everybody_in(crowd)
            await more_talk(crowd, 100)
            assert dropped(crowd, others) == [], "connections of the other worker dropped"
            assert len(others) < len(crowd.people)

    verdict = run(ordeal(daemon, fault), 60 + 30 * rounds)
    acquit(verdict, record_property, at_least=60 * rounds)


def is_stopped_with(lock: Path, worker: int) -> bool:
    """A thread that waits for the disk stops only when it has been answered."""
    threads = [Path(f"/proc/{worker}/task/{thread.id}/stat") for thread in psutil.Process(worker).threads()]
    stopped = [path.read_text().rpartition(")")[2].split()[0] == "T" for path in threads]
    held = rf"\d+: FLOCK +ADVISORY +WRITE {worker} \w+:\w+:{lock.stat().st_ino} "
    return all(stopped) and re.search(held, Path("/proc/locks").read_text()) is not None


async def stop_in_a_write(daemon: Daemon, victim: int) -> None:
    """Stop this worker while it has the store's lock."""
    chance = random.Random(victim)
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        kill(victim, signal.SIGSTOP)
        if is_stopped_with(database(daemon).with_name("chatd.db.lock"), victim):
            return
        kill(victim, signal.SIGCONT)
        await asyncio.sleep(chance.uniform(0.001, 0.02))  # another moment of its life
    raise AssertionError("it never had the lock when it was stopped")


def test_a_worker_that_stops_in_the_middle_of_a_write_is_ended_before_other_hangs(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None]
) -> None:
    """The others cannot write while it has the lock: they refuse for the moment, lose nothing and go on."""
    hang_s = 18.0
    daemon = make_daemon(workers=2, timeouts={"hang_s": hang_s}).start()
    for text in ("worker died", "while others wait for its lock", "commit takes too long"):
        daemon.expect_error(text)

    async def fault(crowd: Crowd) -> None:
        await everybody_in(crowd)
        victim = pick_victim(daemon)
        others = elsewhere(crowd, victim)
        assert others, "nobody is there to wait"
        await stop_in_a_write(daemon, victim)
        await replaced(daemon, victim)
        await everybody_in(crowd)
        await more_talk(crowd, 100)
        assert dropped(crowd, others) == [], "connections of the other worker dropped"

    verdict = run(ordeal(daemon, fault, think_s=0.01), 120)
    acquit(verdict, record_property, at_least=100)
    (noticed,) = [
        record["silent_s"] for record in daemon.logged("while others wait for its lock") if "silent_s" in record
    ]
    record_property("verdict", f"noticed after {noticed} s")
    assert noticed < hang_s


@pytest.mark.parametrize(
    ("hang_s", "pause_s"), [(2.0, 6.0), pytest.param(30.0, 90.0, marks=[pytest.mark.slow, pytest.mark.timeout(400)])]
)
@pytest.mark.parametrize("first", ["master", pytest.param("workers", marks=pytest.mark.slow)])
def test_everything_is_stopped_for_a_while(
    make_daemon: Callable[..., Daemon],
    record_property: Callable[[str, object], None],
    hang_s: float,
    pause_s: float,
    first: str,
) -> None:
    """Longer than the limit for hangs, as in a suspended machine: nobody is killed, nobody is dropped."""
    daemon = make_daemon(
        workers=2, timeouts={"hang_s": hang_s}, listen={"mobileimsdk": {"keep_alive_s": 120}}
    ).start()  # fmt: skip
    daemon.expect_error("commit takes too long")

    async def fault(crowd: Crowd) -> None:
        workers = daemon.workers()
        for pid in (daemon.pid, *workers):
            kill(pid, signal.SIGSTOP)
        await asyncio.sleep(pause_s)  # the fault itself
        order = [[daemon.pid], workers] if first == "master" else [workers, [daemon.pid]]
        for group in order:
            for pid in group:
                kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.3)  # the other half wakes up later
        await more_talk(crowd, 200)
        await asyncio.sleep(hang_s + 0.5)  # a false kill would come now
        assert daemon.workers() == workers, "a worker was killed for the sleep of all"
        assert crowd.logins() == len(crowd.people), "sessions were dropped"

    verdict = run(ordeal(daemon, fault), pause_s + hang_s + 100)
    acquit(verdict, record_property, at_least=200)
