"""Reloads good and bad, and a storm of signals, while people talk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.ordeal import acquit, all_ready, everybody_in, kill, more_talk, ordeal
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until

HUPS = 100


def test_a_hundred_reloads_end_no_session(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None]
) -> None:
    """Each with a change that takes effect at once, and logs reopened."""
    daemon = make_daemon(workers=2).start()

    async def fault(crowd: Crowd) -> None:
        workers = daemon.workers()
        log = daemon.root / "log" / "normal.log"
        with log.open() as lines:
            applied = 0
            for number in range(HUPS):
                daemon.config["limits"]["outbox_bytes"] = 1024 * 1024 + number
                daemon.write_config()
                kill(daemon.pid, signal.SIGHUP)

                def count() -> int:
                    nonlocal applied
                    applied += lines.read().count('"configuration applied"')
                    return applied

                await until(10, f"reload {number + 1}", lambda goal=number + 1: count() >= goal)
        await more_talk(crowd, 100)
        assert daemon.workers() == workers
        assert crowd.logins() == len(crowd.people), "a reload ended a session"

    verdict = run(ordeal(daemon, fault), 120)
    verdict.counts["reloads"] = HUPS
    acquit(verdict, record_property, at_least=100)
    assert verdict.counts["close"] == 0
    status = daemon.status()
    assert status["reloads_failed"] == 0
    assert status["reloads"] >= HUPS


BROKEN = {
    "no TOML": ("[people\n", ""),
    "unknown key": ("[people]\nedit = 70\n", "edit_s"),
    "wrong type": ('[people]\nedit_s = "long"\n', "people.edit_s"),
    "out of range": ("[people]\nedit_s = -1\n", "people.edit_s"),
    "missing file": (None, ""),
}


def test_a_broken_configuration_changes_nothing(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None]
) -> None:
    """`chatctl reload` says `file: key: what` and exits 78; HUP keeps the old configuration too."""
    daemon = make_daemon(workers=2).start()
    daemon.expect_error("configuration rejected")
    good = daemon.config_file.read_text()

    async def fault(crowd: Crowd) -> None:
        workers, generation = daemon.workers(), (await asyncio.to_thread(daemon.status))["generation"]
        for name, (text, told) in BROKEN.items():
            if text is None:
                daemon.config_file.unlink()
            else:
                daemon.config_file.write_text(good + "\n" + text)
            answer = await asyncio.to_thread(daemon.ctl, "reload")
            assert answer.returncode == 78, f"{name}: {answer}"
            assert str(daemon.config_file) in answer.stderr + answer.stdout, name
            assert told in answer.stderr + answer.stdout, name
            kill(daemon.pid, signal.SIGHUP)
            await more_talk(crowd, 20)
        daemon.config_file.write_text(good)
        status = await asyncio.to_thread(daemon.status)
        assert status["generation"] == generation
        assert status["reloads"] == status["reloads_failed"] >= len(BROKEN)
        assert (await asyncio.to_thread(daemon.ctl, "reload")).returncode == 0
        assert daemon.workers() == workers
        assert crowd.logins() == len(crowd.people), "a session ended"

    verdict = run(ordeal(daemon, fault), 120)
    acquit(verdict, record_property, at_least=100)


TO_MASTER = [signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE]
TO_WORKERS = [
    signal.SIGHUP, signal.SIGINT, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGUSR1, signal.SIGCHLD,
    signal.SIGPIPE,
]  # fmt: skip


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_a_storm_of_signals_ends_nothing(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], seconds: float
) -> None:
    """1,000 a second to master and workers, none of which asks for an end."""
    daemon = make_daemon(workers=2).start()

    async def fault(crowd: Crowd) -> None:
        workers, sent, began = daemon.workers(), 0, time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            while sent < passed * 1000:
                pid = random.choice([daemon.pid, *workers])
                kill(pid, random.choice(TO_MASTER if pid == daemon.pid else TO_WORKERS))
                sent += 1
            await asyncio.sleep(0.002)
        await more_talk(crowd, 50)
        assert daemon.workers() == workers, "a signal ended a worker"
        assert crowd.logins() == len(crowd.people), "a signal ended a session"
        crowd.journal.note("members", "", conv=f"({sent} signals)")

    verdict = run(ordeal(daemon, fault), 120 + seconds)
    acquit(verdict, record_property, at_least=100)


@pytest.mark.parametrize("rounds", [2, pytest.param(15, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_workers_come_and_go_by_ttin_ttou_and_term(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    """Signals that do end workers, gracefully: people are told and come back, nothing is lost."""
    daemon = make_daemon(workers=2, timeouts={"drain_s": 4.0, "drain_spread_s": 1.0}).start()
    daemon.expect_error("worker died")

    async def fault(crowd: Crowd) -> None:
        for _ in range(rounds):
            for number, wanted in ((signal.SIGTTIN, 3), (signal.SIGTTOU, 2)):
                kill(daemon.pid, number)
                await until(20, f"{wanted} workers", lambda goal=wanted: len(daemon.workers()) == goal)
                await everybody_in(crowd)
                await more_talk(crowd, 50)
            victim = random.choice(daemon.workers())
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGTERM)
            await until(20, "the worker has drained", lambda gone=victim: gone not in daemon.workers())
            await all_ready(daemon)
            await everybody_in(crowd)
            await more_talk(crowd, 50)

    verdict = run(ordeal(daemon, fault), 60 + 40 * rounds)
    acquit(verdict, record_property, at_least=150 * rounds)
