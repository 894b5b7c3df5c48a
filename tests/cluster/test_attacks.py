"""Strangers attack both hosts while Redis is killed and comes back: nothing acknowledged is lost, users keep their
sessions, and what one host has learnt of an attacker the other one knows again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode
from tests.cluster.cast import ALL_SEE, OLD_PACE, Note, Trial, try_cluster
from tests.cluster.test_bus_lost import CAUGHT_UP_S, STATUS_S, bus_is
from tests.faults.ordeal import more_talk
from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon
from tests.harness.mariadb import MariaDB
from tests.harness.strangers import Strangers, doing_all
from tests.trail.visitors import attempt

FREE = 5
"""Failures of a source that bring no penalty."""
BEFORE, MEANWHILE = "127.0.0.2", "127.0.0.3"
"""The attackers: one comes before Redis is killed, one while it is away."""
PENALTIES = {"failures": FREE, "account_failures": 1000, "first_s": 600, "max_s": 600, "delay_s": 0}
SHARED_S = 10.0


async def guess(daemon: Daemon, name: str, source: str) -> int:
    return await attempt(daemon, "mobileimsdk", name, "a guess", source)


async def guess_until_refused(daemon: Daemon, name: str, source: str) -> None:
    codes = [await guess(daemon, name, source) for _ in range(FREE + 2)]
    assert codes == [ErrorCode.BAD_CREDENTIALS] * (FREE + 1) + [ErrorCode.TOO_MANY_ATTEMPTS]


async def is_refused_at(daemon: Daemon, source: str) -> bool:
    """By what the host remembers; a guess would be counted."""
    shown = await asyncio.to_thread(daemon.ctl, "penalties", "--json")
    rows = json.loads(shown.stdout)["penalties"]
    return any(row["subject"] == source and row["remaining_s"] > 0 for row in rows)


async def becomes_known(daemon: Daemon, source: str) -> None:
    async with asyncio.timeout(SHARED_S):
        while not await is_refused_at(daemon, source):
            pass


@pytest.mark.slow
def test_redis_is_killed_during_an_attack(
    make_cluster: Callable[..., Cluster], mariadb: MariaDB, record_property: Note
) -> None:
    cluster = make_cluster(database=mariadb, people=ALL_SEE, listen=OLD_PACE, penalties=PENALTIES).start()

    async def fault(trial: Trial) -> None:
        first, second = trial.daemons
        victim = await trial.throng.region.newcomer("victim")
        ids = trial.throng.region.ids
        async with Strangers(first, ids).attacking() as one, Strangers(second, ids).attacking() as other:
            await guess_until_refused(first, victim, BEFORE)
            await becomes_known(second, BEFORE)
            before = trial.present()
            cluster.redis.kill()
            await guess_until_refused(first, victim, MEANWHILE)
            assert await guess(second, victim, MEANWHILE) == ErrorCode.BAD_CREDENTIALS, "each host counts for itself"
            assert await guess(second, victim, BEFORE) == ErrorCode.TOO_MANY_ATTEMPTS, "nothing is forgotten"
            await more_talk(trial.throng, 50)
            assert not await is_refused_at(second, MEANWHILE)
            cluster.redis.start()
            await bus_is(trial, True, CAUGHT_UP_S + STATUS_S)
            await becomes_known(second, MEANWHILE)
            assert await guess(second, victim, MEANWHILE) == ErrorCode.TOO_MANY_ATTEMPTS
            await more_talk(trial.throng, 100)
            assert trial.dropped(before) == []
        assert doing_all(one, at_least=50) + doing_all(other, at_least=50) == []
        record_property("verdict", f"{one.sent + other.sent} datagrams, {one.guessed + other.guessed} guesses")

    try_cluster(cluster, fault, record_property, at_least=150, half_silent=True)
