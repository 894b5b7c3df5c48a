"""What people notice while workers come, go and die: nearly nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable

from tests.faults.ordeal import acquit, kill, ordeal
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Town, Wire
from tests.rolling.latency import delays_ms, quantile, summary

EVERY: tuple[Wire, ...] = ("mobile", "streaming", "udp", "web", "acking", "udp", "udp", "mobile") * 3
WINDOW = 4
P99_MS = 500.0
"""Promised for a machine of its own, where 50 ms are usual."""


def test_messages_are_quick_while_workers_are_added_and_removed(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None]
) -> None:
    """UDP clients too: a new worker gets its share of them step by step, and one that leaves takes nobody along."""
    daemon = make_daemon(workers=2).start()
    crowd = Crowd(Town(daemon))

    async def fault(_crowd: Crowd) -> None:
        for step in ("+1", "-1", "+2", "-2"):
            assert (await asyncio.to_thread(daemon.ctl, "scale", step)).returncode == 0
            await asyncio.sleep(0.7)  # how often
        await until(30, "two workers", lambda: len(daemon.workers()) == 2)

    verdict = run(ordeal(daemon, fault, wires=EVERY, groups=(), crowd=crowd), 120)
    record_property("verdict", summary(crowd.journal.lines))
    acquit(verdict, record_property, at_least=100)
    for found in delays_ms(crowd.journal.lines):
        assert quantile(found, 0.99) < P99_MS


def ready_in_slot_0(daemon: Daemon) -> int:
    """By the master's log, which is cheaper than a status; 0 = the last one has died."""
    told = [one for one in daemon.records("normal.log") if one["event"] == "worker is ready" and one["slot"] == 0]
    return int(told[-1]["worker_pid"]) if told[-1]["worker_pid"] in daemon.workers() else 0


def test_clients_of_a_worker_that_dies_again_and_again_are_served_by_the_others(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None]
) -> None:
    """Over UDP as well, where nobody else reads the socket that they come to: it is left out while it waits."""
    daemon = make_daemon(workers=2).start()
    daemon.expect_error("worker died")
    kills = 7

    async def fault(crowd: Crowd) -> None:
        for _ in range(kills):
            victim = await until(20, "another one", lambda: ready_in_slot_0(daemon))
            kill(victim)
            await until(10, "it is gone", lambda gone=victim: gone not in daemon.workers())
        before = {talker: talker.stored for talker in crowd.people.values()}
        more = WINDOW + 1  # whatever was under way when the worker died, one is new
        await until(30, "everybody is served", lambda: all(one.stored >= n + more for one, n in before.items()), 0.05)
        waits = (await asyncio.to_thread(daemon.status))["workers_ready"]
        assert waits == 1, "the slot is back: nothing was tested"

    verdict = run(ordeal(daemon, fault, wires=EVERY, groups=(), window=WINDOW), 180)
    acquit(verdict, record_property, at_least=100)


def test_a_worker_that_stands_still_keeps_nobody_out(make_daemon: Callable[..., Daemon]) -> None:
    """It has the fewest connections, and for 30 s nobody knows that it hangs: the other must not wait for it."""
    daemon = make_daemon(workers=2).start()
    still = daemon.workers()[0]
    kill(still, signal.SIGSTOP)
    opened = []
    try:
        for number in range(40):
            client = socket.create_connection((daemon.address, daemon.ports["echo"]), 10)
            opened.append(client)
            client.sendall(b"hello\n")
            assert client.recv(100), number
    finally:
        kill(still, signal.SIGCONT)
        for client in opened:
            client.close()
