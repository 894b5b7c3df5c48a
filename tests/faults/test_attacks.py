"""Strangers attack while something breaks: nothing acknowledged is lost, and users keep their sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.faults.ordeal import (
    MIX,
    acquit,
    all_ready,
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
from tests.harness.strangers import Strangers, doing_all

COSTLY = {"argon2_memory_kib": 19456, "argon2_passes": 2}
"""The defaults: the attack alone would keep the hash threads busy many times over."""
CHEAPER = {"argon2_memory_kib": 9728, "argon2_passes": 1}
"""A quarter of them, where other tests need the processors as well."""


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_a_worker_is_killed_during_an_attack(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    """The killed worker's users log in again among floods of datagrams, guesses of their own passwords, and held
    connections; the other worker's users notice nothing."""
    daemon = make_daemon(workers=2, accounts=COSTLY if rounds > 1 else CHEAPER).start()
    daemon.expect_error("worker died")

    async def fault(crowd: Crowd) -> None:
        async with Strangers(daemon, crowd.town.ids).attacking() as strangers:
            for _ in range(rounds):
                await everybody_in(crowd, 60)
                victim = pick_victim(daemon)
                others = elsewhere(crowd, victim)
                kill(victim)
                await until(30, "a replacement", lambda gone=victim: gone not in daemon.workers())
                await all_ready(daemon)
                await everybody_in(crowd, 60)
                await more_talk(crowd, 100)
                assert dropped(crowd, others) == [], "connections of the other worker dropped"
        assert doing_all(strangers, at_least=30 * rounds) == []
        record_property("verdict", f"{strangers.sent} datagrams, {strangers.guessed} guesses")

    verdict = run(ordeal(daemon, fault, wires=MIX, half_silent=True), 100 + 60 * rounds)
    acquit(verdict, record_property, at_least=60 * rounds)


@pytest.mark.slow
def test_everything_is_killed_during_an_attack(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None]
) -> None:
    """What was learnt of the strangers may be forgotten; what was learnt of the users is not, so they come back."""
    daemon = make_daemon(workers=2, accounts=COSTLY).start()

    async def fault(crowd: Crowd) -> None:
        async with Strangers(daemon, crowd.town.ids).attacking() as strangers:
            await more_talk(crowd, 100)
            await asyncio.to_thread(daemon.kill_all)
            await asyncio.to_thread(daemon.start)
            await everybody_in(crowd, 60)
            await more_talk(crowd, 100)
        assert doing_all(strangers, at_least=30) == []

    verdict = run(ordeal(daemon, fault), 180)
    acquit(verdict, record_property, at_least=100)
