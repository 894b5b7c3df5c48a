"""Redis is killed, stops answering, cuts its clients, is replaced. The bus only notifies: what is published
while it is away is late, never lost (P5), no session ends, and no user who is online is shown as offline. Half of the
people only listen: no number of their own tells them that they have missed something."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.cluster.cast import ALL_SEE, OLD_PACE, Note, Trial, newcomers_talk, slow, try_cluster
from tests.cluster.figures import caught_up, longest_answer
from tests.cluster.test_store_lost import is_replaced
from tests.faults.ordeal import elsewhere, everybody_in, kill, more_talk
from tests.harness.cluster import Cluster
from tests.harness.deadline import until
from tests.harness.mariadb import MariaDB
from tests.harness.redis import RedisServer, Sentinels

CAUGHT_UP_S = 5.0
"""P5: within this after its return."""
SEEN_S = 5.0
STATUS_S = 2.0
"""The scoreboard is written once a second, and chatctl takes its time."""

MakeCluster = Callable[..., Cluster]


async def bus_is(trial: Trial, good: bool, limit_s: float) -> float:
    """All hosts say so; after how long."""
    began = time.monotonic()
    for daemon in trial.daemons:

        def said() -> bool:
            return bool(daemon.status()["bus_ok"]) is good  # noqa: B023  called within this round

        while not await asyncio.to_thread(said):
            assert time.monotonic() - began < limit_s, f"bus_ok is not {good} after {limit_s} s"
            await asyncio.sleep(0.02)
    return time.monotonic() - began


def check_catching_up(trial: Trial, note: Note, lost_at: int, back_at: int) -> None:
    lines = trial.throng.journal.lines
    found = caught_up(lines, lost_at, back_at)
    note("verdict", f"caught up {found}; longest answer meanwhile {longest_answer(lines, lost_at, back_at)}")
    assert found.count > 0, "nothing waited: the bus was not needed"
    assert found.seconds < CAUGHT_UP_S


async def lose_redis(
    trial: Trial,
    seconds: float,
    lose: Callable[[], None],
    meanwhile: Callable[[], Awaitable[None]],
    give_back: Callable[[], object],
) -> tuple[int, int]:
    """Away for at least this long. When it was lost and when it was back; then everything works, and nobody has lost a
    session."""
    before = trial.present()
    lose()
    lost_at = time.monotonic_ns()
    await meanwhile()
    await asyncio.sleep(max(0.0, seconds - (time.monotonic_ns() - lost_at) / 1e9))  # the fault itself
    give_back()
    back_at = time.monotonic_ns()
    await bus_is(trial, True, CAUGHT_UP_S + STATUS_S)
    await more_talk(trial.throng, 100)
    assert trial.dropped(before) == []
    return lost_at, back_at


@pytest.mark.parametrize("away_s", [1.0, slow(10.0, limit_s=300), slow(60.0, limit_s=400)])
def test_redis_is_killed_and_comes_back(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, away_s: float
) -> None:
    """Logins go on meanwhile."""
    cluster = make_cluster(database=mariadb, people=ALL_SEE, listen=OLD_PACE).start()
    span: list[int] = []

    async def fault(trial: Trial) -> None:
        async def meanwhile() -> None:
            longest = await newcomers_talk(trial)
            record_property("verdict", f"longest login without the bus {longest:.2f} s, N = 8")
            await more_talk(trial.throng, 50)

        span[:] = await lose_redis(trial, away_s, cluster.redis.kill, meanwhile, cluster.redis.start)

    trial, _ = try_cluster(cluster, fault, record_property, at_least=150, limit_s=away_s + 100, half_silent=True)
    check_catching_up(trial, record_property, *span)


@pytest.mark.parametrize("silent_s", [7.0, slow(60.0, limit_s=400)])
def test_redis_does_not_answer(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, silent_s: float
) -> None:
    """A half-open link: the sockets stay, nothing comes. It is seen, and the rest as when it is killed."""
    cluster = make_cluster(database=mariadb, people=ALL_SEE, listen=OLD_PACE).start()
    span: list[int] = []

    async def fault(trial: Trial) -> None:
        async def meanwhile() -> None:
            seen_s = await bus_is(trial, False, SEEN_S + STATUS_S)
            record_property("verdict", f"seen after {seen_s:.1f} s")
            await newcomers_talk(trial)

        span[:] = await lose_redis(trial, silent_s, cluster.redis.pause, meanwhile, cluster.redis.go_on)

    trial, _ = try_cluster(cluster, fault, record_property, at_least=150, limit_s=silent_s + 100, half_silent=True)
    check_catching_up(trial, record_property, *span)


@pytest.mark.parametrize("cuts", [20, slow(300, limit_s=400)])
def test_redis_cuts_its_clients_again_and_again(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, cuts: int
) -> None:
    """Every 200 ms, both kinds of connections."""
    cluster = make_cluster(database=mariadb, people=ALL_SEE, listen=OLD_PACE).start()

    async def fault(trial: Trial) -> None:
        before, killed = trial.present(), 0
        for _ in range(cuts):
            for kind in ("pubsub", "normal"):
                killed += cluster.redis.call("CLIENT", "KILL", "TYPE", kind)
            await asyncio.sleep(0.2)  # the fault itself
        record_property("verdict", f"connections cut: {killed}")
        assert killed >= cuts // 2  # who is cut again and again comes back more slowly
        await bus_is(trial, True, CAUGHT_UP_S + STATUS_S)
        await more_talk(trial.throng, 100)
        assert trial.dropped(before) == []

    try_cluster(cluster, fault, record_property, at_least=150, limit_s=cuts * 0.4 + 100, half_silent=True)


@pytest.mark.parametrize("rounds", [1, slow(8, limit_s=600)])
def test_the_sentinels_choose_another_redis(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, tmp_path: Path, rounds: int
) -> None:
    """The master is killed under load; its replica is promoted, and it comes back as the replica."""
    with Sentinels(tmp_path / "sentinels") as sentinels:
        cluster = make_cluster(database=mariadb, bus=sentinels.url, people=ALL_SEE, listen=OLD_PACE).start()
        at: dict[str, int] = {}

        async def fault(trial: Trial) -> None:
            before = trial.present()
            for number in range(rounds):
                old = sentinels.master
                old.kill()
                at["lost"] = time.monotonic_ns()
                await until(30, "another master", lambda old=old: promoted(sentinels, old), 0.1)
                at["back"] = time.monotonic_ns()
                await bus_is(trial, True, CAUGHT_UP_S + STATUS_S)
                old.start()
                await more_talk(trial.throng, 100)
                if number < rounds - 1:
                    await until(30, "the old one follows", lambda old=old: follows(old), 0.2)
            assert trial.dropped(before) == []

        trial, _ = try_cluster(
            cluster, fault, record_property, at_least=150 * rounds, limit_s=100 + 60 * rounds, half_silent=True
        )
        check_catching_up(trial, record_property, at["lost"], at["back"])
        cluster.discard()


def follows(server: RedisServer) -> bool:
    return bool(server.info("replication")["role"] == "slave")


def promoted(sentinels: Sentinels, old: object) -> bool:
    """The sentinels name another one, and it is ready to be the master."""
    try:
        master = sentinels.master
    except StopIteration:  # they do not agree yet
        return False
    return master is not old and master.info("replication")["role"] == "master"


def test_a_worker_dies_while_redis_is_away(make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note) -> None:
    """It is replaced by one that serves as the others do: people log in there and write to each other. It joins the
    bus when Redis is back, and then nothing is late any more."""
    cluster = make_cluster(database=mariadb, workers=2, people=ALL_SEE, listen=OLD_PACE).start()
    cluster.expect_error("worker died")
    span: list[int] = []

    async def fault(trial: Trial) -> None:
        daemon = trial.daemons[0]
        victim = daemon.workers()[0]
        others = elsewhere(trial.throng, victim)
        cluster.redis.kill()
        kill(victim)
        lost_at = time.monotonic_ns()
        await until(30, "replaced", lambda: is_replaced(daemon, victim), 0.2)
        told = await asyncio.to_thread(daemon.status)
        assert (told["state"], told["store_ok"], told["bus_ok"]) == ("degraded", True, False), told
        assert [reason["code"] for reason in told["reasons"]] == ["bus"]
        await everybody_in(trial.throng)
        await newcomers_talk(trial)
        await more_talk(trial.throng, 50, 60)
        cluster.redis.start()
        back_at = time.monotonic_ns()
        await bus_is(trial, True, CAUGHT_UP_S + STATUS_S)
        await more_talk(trial.throng, 100, 60)
        assert (await asyncio.to_thread(daemon.status))["state"] == "running"
        stayed = {name: conn for name, conn in others.items() if trial.throng.people[name].wire != "udp"}
        assert trial.dropped(stayed) == []
        span[:] = lost_at, back_at

    trial, _ = try_cluster(cluster, fault, record_property, at_least=150, limit_s=150, half_silent=True, watched=False)
    check_catching_up(trial, record_property, *span)
