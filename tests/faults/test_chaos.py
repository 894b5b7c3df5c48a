"""All faults of this directory in a random order, upon one crowd: what each alone does not break, two may."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.ordeal import acquit, database, everybody_in, kill, more_talk, ordeal
from tests.faults.record import inspect
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.mobileimsdk import StockLink

Step = Callable[[Daemon, Crowd], Awaitable[None]]


async def any_worker(daemon: Daemon) -> int:
    """The fault before may have taken all of them."""
    return random.choice(await until(30, "a worker", daemon.workers))


async def kill_a_worker(daemon: Daemon, crowd: Crowd) -> None:
    kill(await any_worker(daemon))


async def kill_the_master(daemon: Daemon, crowd: Crowd) -> None:
    kill(daemon.pid)
    assert daemon.process is not None
    await asyncio.to_thread(daemon.process.wait, 10)
    await asyncio.to_thread(daemon.start)


async def kill_everything(daemon: Daemon, crowd: Crowd) -> None:
    await asyncio.to_thread(daemon.kill_all)
    await asyncio.to_thread(daemon.start)


async def restart(daemon: Daemon, crowd: Crowd) -> None:
    await asyncio.to_thread(daemon.stop)
    await asyncio.to_thread(daemon.start)


async def pause_a_worker(daemon: Daemon, crowd: Crowd) -> None:
    """Shorter than a hang."""
    victim = await any_worker(daemon)
    with contextlib.suppress(ProcessLookupError):  # it may be draining already
        kill(victim, signal.SIGSTOP)
        await asyncio.sleep(random.uniform(0.1, 1.2))  # the fault itself
        kill(victim, signal.SIGCONT)


async def reload(daemon: Daemon, crowd: Crowd) -> None:
    kill(daemon.pid, random.choice([signal.SIGHUP, signal.SIGUSR1]))


async def drain_a_worker(daemon: Daemon, crowd: Crowd) -> None:
    kill(await any_worker(daemon), signal.SIGTERM)


async def restart_workers(daemon: Daemon, crowd: Crowd) -> None:
    """Not waited for: the next fault may meet it half done."""
    asking = asyncio.get_running_loop().run_in_executor(None, daemon.ctl, "restart-workers")
    asking.add_done_callback(lambda asked: asked.exception())  # the server may have been killed meanwhile
    await asyncio.sleep(random.uniform(0, 1.0))  # how far it gets


async def drain_and_undrain(daemon: Daemon, crowd: Crowd) -> None:
    """Without a server to ask, or while it starts, neither happens."""
    await asyncio.to_thread(daemon.ctl, "drain")
    await asyncio.to_thread(daemon.ctl, "undrain", limit_s=90)


async def scale(daemon: Daemon, crowd: Crowd) -> None:
    for number in (signal.SIGTTIN, signal.SIGTTOU):
        kill(daemon.pid, number)
        await asyncio.sleep(random.uniform(0, 0.5))  # the fault itself


async def clients_vanish(daemon: Daemon, crowd: Crowd) -> None:
    for talker in crowd.people.values():
        if isinstance(talker.link, StockLink) and random.random() < 0.3:
            talker.link.abort()


async def clients_stop_reading(daemon: Daemon, crowd: Crowd) -> None:
    deaf = [link for talker in crowd.people.values() if isinstance(link := talker.link, StockLink)]
    deaf = [link for link in deaf if link.transport is not None and random.random() < 0.3]
    for link in deaf:
        assert link.transport is not None
        link.transport.pause_reading()
    await asyncio.sleep(random.uniform(0, 0.5))  # the fault itself
    for link in deaf:
        if random.random() < 0.5:
            link.abort()
        elif link.transport is not None and not link.transport.is_closing():
            link.transport.resume_reading()


STEPS: list[Step] = [
    kill_a_worker, kill_a_worker, kill_the_master, kill_everything, restart, pause_a_worker, pause_a_worker, reload,
    reload, drain_a_worker, clients_vanish, clients_vanish, clients_stop_reading, clients_stop_reading,
    restart_workers, restart_workers, drain_and_undrain, scale, scale,
]  # fmt: skip


@pytest.mark.parametrize("seconds", [10, pytest.param(240, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
@pytest.mark.parametrize(
    "half_silent",
    [pytest.param(False, id="all talk"), pytest.param(True, id="half listen", marks=pytest.mark.slow)],
)
def test_chaos(
    make_daemon: Callable[..., Daemon],
    record_property: Callable[[str, object], None],
    seconds: float,
    half_silent: bool,
) -> None:
    daemon = make_daemon(
        workers=3, timeouts={"hang_s": 5.0, "drain_s": 4.0, "drain_spread_s": 1.0, "orphan_drain_s": 2.0}
    ).start()  # fmt: skip
    # The last: a reload that meets a worker killed a moment before is refused, and the old configuration stays.
    for text in (
        "worker died",
        "the master is gone",
        "commit takes too long",
        "takes no orders",
        "a successor could not start",
    ):
        daemon.expect_error(text)
    done: list[str] = []

    async def fault(crowd: Crowd) -> None:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            step = random.choice(STEPS)
            done.append(step.__name__)
            await step(daemon, crowd)
            if random.random() < 0.7:  # else the next fault meets the last one's consequences
                await everybody_in(crowd, 60)
                await more_talk(crowd, 50, 60)
        await everybody_in(crowd, 60)

    try:
        verdict = run(ordeal(daemon, fault, half_silent=half_silent, settle_s=60), seconds + 240)
    except Exception:
        record_property("verdict", f"chaos: {done}")
        raise
    verdict.counts.update(f"step {name}" for name in done)
    acquit(verdict, record_property, at_least=100)
    assert daemon.stop() == 0
    inspect(database(daemon))
