"""Rolling restarts, drains and other numbers of workers, while people talk and other faults happen."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.ordeal import acquit, all_ready, database, everybody_in, kill, more_talk, ordeal
from tests.faults.record import inspect
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Wire

EVERY: tuple[Wire, ...] = ("mobile", "streaming", "udp", "web", "acking", "streaming", "udp", "mobile") * 3
QUICK = {"drain_s": 6.0, "drain_spread_s": 1.0}
SLOW = [pytest.mark.slow, pytest.mark.timeout(1200)]


async def restarted(daemon: Daemon) -> None:
    answer = await asyncio.to_thread(daemon.ctl, "restart-workers", limit_s=90)
    assert answer.returncode == 0, answer


async def nothing_else(daemon: Daemon) -> None:
    await restarted(daemon)


async def with_kills(daemon: Daemon) -> None:
    """T01: of an old worker, of a successor, of one that drains; a replacement is tried once more after a death."""
    asked = asyncio.create_task(asyncio.to_thread(daemon.ctl, "restart-workers", limit_s=90))
    for _ in range(2):
        await asyncio.sleep(random.uniform(0, 0.6))  # some moment of it
        kill(random.choice(await until(30, "a worker", daemon.workers)))
    await asked


async def with_reloads(daemon: Daemon) -> None:
    """T11."""
    asked = asyncio.create_task(restarted(daemon))
    while not asked.done():
        kill(daemon.pid, signal.SIGHUP)
        await asyncio.sleep(0.05)  # how often
    await asked


async def with_signals(daemon: Daemon) -> None:
    """T16: those that ask for no end."""
    asked = asyncio.create_task(restarted(daemon))
    while not asked.done():
        kill(daemon.pid, random.choice([signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE]))
        await asyncio.sleep(0.005)  # how often
    await asked


async def with_pauses(daemon: Daemon) -> None:
    """T02, shorter than a hang: any worker stands still for a moment."""
    asked = asyncio.create_task(restarted(daemon))
    while not asked.done():
        victim = random.choice(daemon.workers())
        try:
            kill(victim, signal.SIGSTOP)
            await asyncio.sleep(random.uniform(0.05, 0.4))  # the fault itself
            kill(victim, signal.SIGCONT)
        except ProcessLookupError:
            continue
    await asked


async def drained_and_back(daemon: Daemon) -> None:
    for command in ("drain", "undrain"):
        answer = await asyncio.to_thread(daemon.ctl, command, limit_s=90)
        assert answer.returncode == 0, answer


async def more_and_fewer(daemon: Daemon) -> None:
    for step in ("+2", "-2"):
        assert (await asyncio.to_thread(daemon.ctl, "scale", step)).returncode == 0


Fault = Callable[[Daemon], Awaitable[None]]
FAULTS: list[Fault] = [
    nothing_else, with_kills, with_reloads, with_signals, with_pauses, drained_and_back, more_and_fewer,
]  # fmt: skip


def rolled(daemon: Daemon, faults: list[Fault], note: Callable[[str, object], None], settle_s: float = 60.0) -> None:
    for text in ("worker died", "configuration rejected", "a successor could not start", "commit takes too long"):
        daemon.expect_error(text)

    async def fault(crowd: Crowd) -> None:
        for one in faults:
            await one(daemon)
            await everybody_in(crowd, 60)
            await more_talk(crowd, 60, 60)
            await all_ready(daemon, 60)

    verdict = run(ordeal(daemon, fault, wires=EVERY, settle_s=settle_s), 120 + 60 * len(faults))
    verdict.counts.update(f"step {one.__name__}" for one in faults)
    acquit(verdict, note, at_least=40 * len(faults))
    assert daemon.stop() == 0
    inspect(database(daemon))


def test_nothing_is_lost(make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None]) -> None:
    """Of many possible ones, another choice in every run."""
    daemon = make_daemon(workers=2, timeouts=QUICK).start()
    rolled(daemon, random.sample(FAULTS, 3), record_property)


@pytest.mark.parametrize("rounds", [pytest.param(20, marks=SLOW)])
def test_nothing_is_lost_for_long(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    daemon = make_daemon(workers=3, timeouts=QUICK).start()
    rolled(daemon, random.choices(FAULTS, k=3 * rounds), record_property)
