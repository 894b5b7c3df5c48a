"""Rolling restarts, upgrades, drains and other numbers of workers, while people talk and other faults happen.

What an upgrade does with a program that cannot start, or a configuration that it refuses, is in tests/upgrade.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.ordeal import acquit, all_ready, database, everybody_in, kill, more_talk, ordeal
from tests.faults.record import inspect
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Wire

EVERY: tuple[Wire, ...] = ("mobile", "streaming", "udp", "web", "acking", "streaming", "udp", "mobile") * 3
HANG_S = 5
QUICK = {"drain_s": 6.0, "drain_spread_s": 1.0, "orphan_drain_s": 2.0, "hang_s": HANG_S}
LOG = {"rotate_bytes": 8192, "rotate_keep": 1000}
"""T17, at all times: every line is read at the end, and none may be torn."""
SLOW = [pytest.mark.slow, pytest.mark.timeout(1200)]


ORDERS = ("restart-workers", "upgrade")
"""Both replace every worker; an upgrade replaces the master's program, too."""


def ordered(daemon: Daemon) -> asyncio.Task[subprocess.CompletedProcess[str]]:
    """One of ORDERS, under way."""
    return asyncio.create_task(asyncio.to_thread(daemon.ctl, random.choice(ORDERS), limit_s=90))


async def done(order: asyncio.Task[subprocess.CompletedProcess[str]]) -> None:
    answer = await order
    assert answer.returncode == 0, answer


async def nothing_else(daemon: Daemon) -> None:
    await done(ordered(daemon))


async def with_kills(daemon: Daemon) -> None:
    """T01: of an old worker, of a successor, of one that drains; a replacement is tried once more after a death."""
    order = ordered(daemon)
    for _ in range(2):
        await asyncio.sleep(random.uniform(0, 0.6))  # some moment of it
        kill(random.choice(await until(30, "a worker", daemon.workers)))
    await order


async def with_reloads(daemon: Daemon) -> None:
    """T11."""
    order = ordered(daemon)
    while not order.done():
        kill(daemon.pid, signal.SIGHUP)
        await asyncio.sleep(0.05)  # how often
    await done(order)


async def with_bad_reloads(daemon: Daemon) -> None:
    """T12. An upgrade reads the file, too, and is refused."""
    good = daemon.config_file.read_text()
    order = asyncio.create_task(asyncio.to_thread(daemon.ctl, "restart-workers", limit_s=90))
    daemon.config_file.write_text(good + "\n[nonsense]\n")
    try:
        while not order.done():
            kill(daemon.pid, signal.SIGHUP)
            await asyncio.sleep(0.05)  # how often
        assert (await asyncio.to_thread(daemon.ctl, "upgrade", limit_s=90)).returncode == 78
    finally:
        daemon.config_file.write_text(good)
    await done(order)


async def with_signals(daemon: Daemon) -> None:
    """T16: those that ask for no end."""
    order = ordered(daemon)
    while not order.done():
        kill(daemon.pid, random.choice([signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE]))
        await asyncio.sleep(0.005)  # how often
    await done(order)


async def with_pauses(daemon: Daemon) -> None:
    """T02, shorter than a hang: any worker stands still for a moment."""
    order = ordered(daemon)
    while not order.done():
        victim = random.choice(await until(30, "a worker", daemon.workers))
        try:
            kill(victim, signal.SIGSTOP)
            await asyncio.sleep(random.uniform(0.05, 0.4))  # the fault itself
            kill(victim, signal.SIGCONT)
        except ProcessLookupError:
            continue
    await done(order)


async def with_a_long_pause(daemon: Daemon) -> None:
    """T04: the whole server stands still, for longer than a worker may; nobody is taken for hanging."""
    order = ordered(daemon)
    await asyncio.sleep(random.uniform(0, 0.6))  # some moment of it
    os.killpg(daemon.pid, signal.SIGSTOP)
    await asyncio.sleep(HANG_S + 1.0)  # the fault itself
    os.killpg(daemon.pid, signal.SIGCONT)
    await done(order)


async def with_starts(daemon: Daemon) -> None:
    """T09: whoever starts another server meanwhile is told that there is one."""
    order = ordered(daemon)
    while not order.done():
        other = await asyncio.to_thread(
            subprocess.run, [daemon.python, *daemon.entry, "-c", str(daemon.config_file), "--allow-root"],
            cwd=daemon.root, env=daemon.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert other.returncode != 0, other
        assert "already running" in other.stderr, other
    await done(order)


async def with_the_master_killed(daemon: Daemon) -> None:
    """T07."""
    order = ordered(daemon)
    await asyncio.sleep(random.uniform(0, 1.5))  # some moment of it
    kill(daemon.pid)
    await asyncio.to_thread(daemon.wait_gone)
    await order
    await asyncio.to_thread(daemon.start)


async def with_everything_killed(daemon: Daemon) -> None:
    """T08."""
    order = ordered(daemon)
    await asyncio.sleep(random.uniform(0, 1.5))  # some moment of it
    await asyncio.to_thread(daemon.kill_all)
    await order
    await asyncio.to_thread(daemon.start)


async def drained_and_back(daemon: Daemon) -> None:
    for command in ("drain", "undrain"):
        answer = await asyncio.to_thread(daemon.ctl, command, limit_s=90)
        assert answer.returncode == 0, answer


async def more_and_fewer(daemon: Daemon) -> None:
    for step in ("+2", "-2"):
        assert (await asyncio.to_thread(daemon.ctl, "scale", step)).returncode == 0


Fault = Callable[[Daemon], Awaitable[None]]
FAULTS: list[Fault] = [
    nothing_else, with_kills, with_reloads, with_bad_reloads, with_signals, with_pauses, with_a_long_pause, with_starts,
    with_the_master_killed, with_everything_killed, drained_and_back, more_and_fewer,
]  # fmt: skip


def rolled(daemon: Daemon, faults: list[Fault], note: Callable[[str, object], None], settle_s: float = 60.0) -> None:
    for text in (
        "worker died", "configuration rejected", "a successor could not start", "commit takes too long",
        "the master is gone", "already running", "upgrade",
    ):  # fmt: skip
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
    daemon = make_daemon(workers=2, timeouts=QUICK, log=LOG).start()
    rolled(daemon, random.sample(FAULTS, 3), record_property)


@pytest.mark.parametrize("rounds", [pytest.param(5, marks=SLOW)])
def test_nothing_is_lost_for_long(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    daemon = make_daemon(workers=3, timeouts=QUICK, log=LOG).start()
    faults = FAULTS * rounds
    random.shuffle(faults)
    rolled(daemon, faults, record_property)
