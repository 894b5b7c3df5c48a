"""A crowd that talks while a fault happens, and the verdict on what it saw.

Owns: the usual crowd, the way a test runs one (`ordeal`) and what it must show (`acquit`: no defect, and enough looked
at to mean something). The faults are in the test files.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import psutil

from tests.harness.crowd import KEEP_ALIVE_PACKET, Crowd, Talker
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.judge import Verdict
from tests.harness.mobileimsdk import StockLink
from tests.harness.person import Town, Wire

EIGHT: tuple[Wire, ...] = ("mobile", "streaming", "streaming", "mobile", "mobile", "mobile", "streaming", "streaming")
MIX = EIGHT * 3
"""Enough people that the accept gate puts some on each of two workers."""
GROUPS = ((0, 9, 18, 3), (2, 4, 14, 15, 23))
WITH_OLD: tuple[Wire, ...] = (*MIX, "old", "streaming", "mobile", "old")
OLD_PACE = {"chatserver": {"pace_ms": 100}}
"""Ample, because here an old client shares a busy process with all the others."""

Fault = Callable[[Crowd], Awaitable[None]]


async def ordeal(
    daemon: Daemon,
    fault: Fault,
    *,
    wires: Sequence[Wire] = MIX,
    groups: Sequence[Sequence[int]] = GROUPS,
    window: int = 4,
    think_s: float = 0.05,
    settle_s: float = 40.0,
    stale_s: float | None = None,
    half_silent: bool = False,
    crowd: Crowd | None = None,
) -> Verdict:
    """Everybody talks while `fault` runs; then silence, and the judge. half_silent: Crowd.listeners only listen.
    crowd: of more daemons than this one."""
    crowd = crowd or Crowd(Town(daemon), daemon.root / "journal.jsonl")
    await crowd.gather(wires, groups)
    if half_silent:
        for talker in crowd.listeners():
            talker.peers.clear()
    async with crowd.talking(window, think_s):
        await until(20, "talk has begun", lambda: crowd.acknowledged() >= len(wires))
        await fault(crowd)
    return await crowd.verdict(settle_s, stale_s)


def acquit(verdict: Verdict, note: Callable[[str, object], None], at_least: int) -> None:
    """No defect in at least so many acknowledged messages. `note` is pytest's record_property."""
    note("verdict", str(verdict))
    assert verdict.clean, str(verdict)
    assert verdict.counts["unanswered at the end"] == 0, str(verdict)
    assert verdict.counts["ok"] >= at_least, f"too little happened: {verdict}"


async def more_talk(crowd: Crowd, messages: int, limit_s: float = 30.0) -> None:
    """Wait until so many more messages were acknowledged: the daemon serves."""
    goal = crowd.acknowledged() + messages
    await until(limit_s, f"{messages} more acknowledged", lambda: crowd.acknowledged() >= goal)


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)


def clients_of(worker: int) -> set[int]:
    """The ports of the clients that are connected to this worker."""
    connections = psutil.Process(worker).net_connections("tcp")
    return {one.raddr.port for one in connections if one.raddr and one.status == psutil.CONN_ESTABLISHED}


def pick_victim(daemon: Daemon) -> int:
    """A worker that has clients to lose."""
    return random.choice([worker for worker in daemon.workers() if len(clients_of(worker)) > 1])


def elsewhere(crowd: Crowd, victim: int) -> dict[str, int]:
    """The people who are not on this worker, with the number of their connection."""
    its_own = clients_of(victim)
    return {name: talker.conn for name, talker in crowd.people.items() if port_of(talker) not in its_own}


def dropped(crowd: Crowd, before: dict[str, int]) -> list[str]:
    return [name for name, conn in before.items() if crowd.people[name].conn != conn]


def port_of(talker: Talker) -> int:
    """This person's own end of the connection."""
    link = talker.link
    assert link is not None
    sock = getattr(link, "sock", None) or link.transport.get_extra_info("socket")  # type: ignore[union-attr]
    return int(sock.getsockname()[1])


async def all_ready(daemon: Daemon, limit_s: float = 30.0) -> None:
    await asyncio.to_thread(daemon.wait_ready, limit_s)


async def everybody_in(crowd: Crowd, limit_s: float = 30.0) -> None:
    people = crowd.people.values()
    await until(limit_s, "everybody logged in", lambda: all(talker.logged_in for talker in people))


def database(daemon: Daemon) -> Path:
    return daemon.root / "state" / "chatd.db"


EVERY_WIRE: tuple[Wire, ...] = ("streaming", "mobile", "old", "acking", "web", "streaming", "acking", "web") * 3


def resets_ordeal(daemon: Daemon, rounds: int, settle_s: float = 40.0, wires: Sequence[Wire] = EVERY_WIRE) -> Verdict:
    """Clients write and reset their connections while their worker is stopped; the others write to them meanwhile."""

    async def fault(crowd: Crowd) -> None:
        for _ in range(rounds):
            await everybody_in(crowd)
            victim = pick_victim(daemon)
            its_own = clients_of(victim)
            kill(victim, signal.SIGSTOP)
            for talker in crowd.people.values():
                if talker.link is not None and talker.logged_in and port_of(talker) in its_own:
                    talker.link.put(KEEP_ALIVE_PACKET if isinstance(talker.link, StockLink) else {"msgid": 99})
                    talker.link.abort()
            with contextlib.suppress(TimeoutError):  # whoever is at the stopped worker sends nothing
                await more_talk(crowd, 80, 3.0)
            kill(victim, signal.SIGCONT)
            await everybody_in(crowd)
            await more_talk(crowd, 60)

    return run(ordeal(daemon, fault, wires=wires, settle_s=settle_s, half_silent=True), 60 + 20 * rounds)
