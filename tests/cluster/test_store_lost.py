"""The database is killed, stops answering, is locked by somebody, or its answer to COMMIT is lost.

What cannot be stored is refused within 2 s, sessions stay (P10), nothing acknowledged is lost (P1), and what is sent
again is stored once (P2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from chatd.config.urls import parse_mysql
from chatd.model import User
from chatd.protocol import SendMessage
from chatd.store.contract import Again, Draft, Stored
from chatd.store.mysql.tables import MysqlTables, open_tables
from tests.cluster.cast import CAST, OLD_PACE, Note, Trial, slow, try_cluster
from tests.cluster.figures import longest_answer, unanswered_for
from tests.cluster.record import inspect
from tests.faults.ordeal import elsewhere, everybody_in, kill, more_talk
from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon
from tests.harness.deadline import until
from tests.harness.mariadb import MariaDB
from tests.harness.proxy import LosesAnswer, Proxy

REFUSED_S = 2.0
SLACK_S = 1.0
"""Of this machine, which also runs the clients."""
MakeCluster = Callable[..., Cluster]
STORE_ERRORS = ("commit failed", "commit takes too long")


def check_answers(trial: Trial, note: Note, what: str, since: int, before: int) -> None:
    """Everybody who sent something meanwhile was told what became of it, in time."""
    lines = trial.throng.journal.lines
    longest = longest_answer(lines, since, before)
    refused = sum(1 for line in lines if line.event == "refused" and since <= line.at < before)
    note("verdict", f"{what}: longest answer {longest}, refusals {refused}")
    assert refused > 0, f"{what}: nothing was refused"
    late = unanswered_for((line for line in lines if since <= line.at), REFUSED_S + SLACK_S)
    assert not late, f"{what}: {late[:5]}"


@pytest.mark.parametrize("rounds", [2, slow(12, limit_s=900)])
def test_the_database_is_killed_and_started_again(
    make_cluster: MakeCluster, own_mariadb: MariaDB, record_property: Note, rounds: int
) -> None:
    cluster = make_cluster(database=own_mariadb, listen=OLD_PACE).start()
    cluster.expect_error(*STORE_ERRORS)
    spans: list[tuple[int, int]] = []

    async def fault(trial: Trial) -> None:
        before = trial.present()
        for _ in range(rounds):
            await more_talk(trial.throng, 150)
            began = time.monotonic_ns()
            own_mariadb.kill()
            await asyncio.sleep(1.0)  # the fault itself
            await asyncio.to_thread(own_mariadb.start)
            spans.append((began, time.monotonic_ns()))
            await more_talk(trial.throng, 150)
        assert trial.dropped(before) == []

    trial, verdict = try_cluster(
        cluster, fault, record_property, at_least=250 * rounds, limit_s=60 + 40 * rounds, watched=False
    )  # fmt: skip
    for since, before in spans:
        check_answers(trial, record_property, "killed", since, before)
    assert inspect(own_mariadb, cluster.schema) >= verdict.counts["expected"] / 3


@pytest.mark.parametrize("cuts", [20, slow(300, limit_s=600)])
def test_the_answer_to_a_commit_is_lost(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, cuts: int
) -> None:
    """By turns the commit has happened, or has not: only the database knows."""
    hook = LosesAnswer(b"COMMIT")
    with Proxy(mariadb.port, hook=hook) as proxy:
        cluster = make_cluster(database=mariadb, store=lambda server: server.url(port=proxy.port), listen=OLD_PACE)
        cluster.start()
        cluster.expect_error(*STORE_ERRORS)

        async def fault(trial: Trial) -> None:
            before = trial.present()
            for number in range(cuts):
                hook.arm(reached=number % 2 == 0)
                await until(20, "an answer is lost", hook.struck.is_set)
                await more_talk(trial.throng, 10)
            assert trial.dropped(before) == []

        trial, verdict = try_cluster(
            cluster, fault, record_property, at_least=10 * cuts, limit_s=60 + cuts, watched=False
        )  # fmt: skip
        record_property("verdict", f"answers lost: {cuts}; longest answer {longest_answer(trial.throng.journal.lines)}")
        assert inspect(mariadb, cluster.schema) >= verdict.counts["expected"] / 3
        cluster.discard()


def test_who_is_cut_off_in_a_transaction_holds_nobody_up(mariadb: MariaDB) -> None:
    """The rows it has locked are free again soon, although the server does not know that it is gone."""
    schema = mariadb.database()
    with Proxy(mariadb.port) as proxy:
        tables = [
            open_tables(parse_mysql(mariadb.url(schema, port=port)), 2.0, create=True)
            for port in (mariadb.port, proxy.port)
        ]
        left, cut_off = tables
        left.begin()
        alice, bob = (left.accounts.create(name, "", 1) for name in ("alice", "bob"))
        left.commit()
        assert stored(left, alice, bob, "1", REFUSED_S) == 1
        cut_off.begin()
        cut_off.append([draft(alice, bob, "2")], 1)
        proxy.freeze()
        began = time.monotonic()
        assert stored(left, alice, bob, "3", 3 * REFUSED_S) == 2
        assert time.monotonic() - began > 0.5, "it held no lock"
        for one in tables:
            one.close()


def draft(sender: User, to: User, fp: str) -> Draft:
    return Draft(sender, SendMessage("", to.id, 0, "text", fp))


def stored(tables: MysqlTables, sender: User, to: User, fp: str, limit_s: float) -> int:
    """As store.group_commit does, again when it met another transaction. The number of the message."""
    ends = time.monotonic() + limit_s
    while True:
        tables.begin()
        try:
            (result,) = tables.append([draft(sender, to, fp)], 1)
            tables.commit()
            assert isinstance(result, Stored)
            return result.message.seq
        except Again:
            tables.rollback()
            assert time.monotonic() < ends, "still locked"


class Obstacle:
    """What keeps the database from answering for a while."""

    def __init__(self, server: MariaDB, proxy: Proxy, schema: str) -> None:
        self.server, self.proxy, self.schema = server, proxy, schema

    async def paused(self, seconds: float) -> None:
        self.server.pause()
        await asyncio.sleep(seconds)  # the fault itself
        self.server.resume()

    async def half_open(self, seconds: float) -> None:
        self.proxy.freeze()
        await asyncio.sleep(seconds)  # the fault itself
        self.proxy.thaw()

    async def locked(self, seconds: float) -> None:
        """Somebody's transaction holds every row there is."""
        connection = self.server.connect(self.schema)
        try:
            cursor = connection.cursor()
            await asyncio.to_thread(cursor.execute, f"LOCK TABLES {', '.join(self._tables())}")
            await asyncio.sleep(seconds)  # the fault itself
            cursor.execute("UNLOCK TABLES")
        finally:
            connection.close()

    def _tables(self) -> list[str]:
        return [f"`{self.schema}`.`{name}` WRITE" for (name,) in self.server.execute(f"SHOW TABLES IN `{self.schema}`")]


@pytest.mark.parametrize("seconds", [3.0, slow(30.0, limit_s=900)])
def test_the_database_does_not_answer(
    make_cluster: MakeCluster, own_mariadb: MariaDB, record_property: Note, seconds: float
) -> None:
    """Stopped, cut off without a word, locked: refused in time, and nobody gets what is for another (P12)."""
    with Proxy(own_mariadb.port) as proxy:
        cluster = make_cluster(database=own_mariadb, store=lambda server: server.url(port=proxy.port), listen=OLD_PACE)
        cluster.start()
        cluster.expect_error(*STORE_ERRORS)
        obstacle = Obstacle(own_mariadb, proxy, cluster.schema)
        spans: list[tuple[str, int, int]] = []

        async def fault(trial: Trial) -> None:
            before = trial.present()
            obstacles: list[Callable[[float], Awaitable[None]]] = [
                obstacle.paused, obstacle.half_open, obstacle.locked,
            ]  # fmt: skip
            for one in obstacles:
                await more_talk(trial.throng, 50)
                began = time.monotonic_ns()
                await one(seconds)
                spans.append((one.__name__, began, time.monotonic_ns()))
                await more_talk(trial.throng, 50, 60)
            assert trial.dropped(before) == []

        trial, _ = try_cluster(
            cluster, fault, record_property, at_least=200, limit_s=100 + 4 * seconds, watched=False
        )  # fmt: skip
        for what, since, before in spans:
            check_answers(trial, record_property, what, since, before)
        inspect(own_mariadb, cluster.schema)
        cluster.discard()


@pytest.mark.parametrize("kills", [1, slow(5, limit_s=600)])
def test_a_worker_dies_while_the_database_refuses(
    make_cluster: MakeCluster, own_mariadb: MariaDB, record_property: Note, kills: int
) -> None:
    """The others' sessions stay, the worker is replaced by one that accepts clients as the others do, the state is
    said, and when the database is back, everybody is served, without hands."""
    cluster = make_cluster(database=own_mariadb, workers=2, listen=OLD_PACE).start()
    cluster.expect_error(*STORE_ERRORS, "worker died")

    async def fault(trial: Trial) -> None:
        daemon = trial.daemons[0]
        for _ in range(kills):
            await everybody_in(trial.throng)
            victim = next(pid for pid in daemon.workers() if pid)
            others = elsewhere(trial.throng, victim)
            master = daemon.pid
            own_mariadb.kill()
            kill(victim)
            await until(30, "replaced", lambda victim=victim: is_replaced(daemon, victim), 0.2)
            told = await asyncio.to_thread(daemon.status)
            assert (told["state"], told["store_ok"], told["workers_ready"]) == ("degraded", False, 2), told
            assert "store" in [reason["code"] for reason in told["reasons"]]
            assert daemon.pid == master
            await asyncio.to_thread(own_mariadb.start)
            back_at = time.monotonic()
            await until(30, "running", lambda: daemon.status()["state"] == "running", 0.2)
            record_property("verdict", f"the store was good again {time.monotonic() - back_at:.1f} s after its start")
            stayed = {name: conn for name, conn in others.items() if trial.throng.people[name].wire != "udp"}
            assert len(stayed) >= len(CAST) // 4
            assert trial.dropped(stayed) == []
            await more_talk(trial.throng, 150, 60)

    try_cluster(cluster, fault, record_property, at_least=150, limit_s=120 + 60 * kills, watched=False)


def is_replaced(daemon: Daemon, victim: int) -> bool:
    ready = [row["pid"] for row in daemon.status()["workers"] if row["state"] == "ready"]
    return len(ready) == 2 and victim not in ready
