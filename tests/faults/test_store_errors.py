"""The disk answers EIO or ENOSPC in the middle of writing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.faults.ordeal import acquit, database, more_talk, ordeal
from tests.faults.record import inspect
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until

FAULTS = ("fdatasync:error=EIO:when=3+7", "pwrite64:error=ENOSPC:when=5+31", "pwrite64:error=EIO:when=9+50")
"""Every so many calls of one kind fail, as strace counts them per thread."""


@asynccontextmanager
async def injured(worker: int, fault: str) -> AsyncIterator[None]:
    """Inside, the worker's system calls fail; afterwards they work again."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={fault.partition(':')[0]}"]
    tracer = await asyncio.create_subprocess_exec(*command, "-e", f"inject={fault}", "-p", str(worker))
    try:
        yield
        assert tracer.returncode is None, "strace could not hold the worker"
    finally:
        if tracer.returncode is None:
            tracer.terminate()
        await tracer.wait()


@pytest.mark.parametrize("rounds", [2, pytest.param(15, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_fails_loses_nothing_acknowledged(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], fault: str, rounds: int
) -> None:
    """Senders are refused for the moment and send again; no process dies, nothing needs hands."""
    daemon = make_daemon(workers=2).start()
    daemon.expect_error("commit failed")
    daemon.expect_error("commit takes too long")
    workers = daemon.workers()

    async def story(crowd: Crowd) -> None:
        for number in range(rounds):
            victim = workers[number % 2]
            seen = len(daemon.logged("commit failed"))
            async with injured(victim, fault):
                await until(30, "a commit failed", lambda seen=seen: len(daemon.logged("commit failed")) > seen)
                await more_talk(crowd, 60, 60)
            await more_talk(crowd, 100, 60)

    verdict = run(ordeal(daemon, story, think_s=0.01, settle_s=60), 120 + 60 * rounds)
    acquit(verdict, record_property, at_least=160 * rounds)
    record_property("commits that failed", len(daemon.logged("commit failed")))
    assert daemon.workers() == workers
    assert daemon.stop() == 0
    inspect(database(daemon))
