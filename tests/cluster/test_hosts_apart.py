"""Two hosts in network namespaces, and cables that are cut and mended. Numbers stay one order (P3), what was
accepted on either side arrives (P5), and a user who logged in twice meanwhile has one session again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from tests.cluster.cast import ALL_SEE, ARRIVES, OLD_PACE, Note, Trial, slow, try_cluster
from tests.cluster.figures import caught_up, longest_answer, unanswered_for
from tests.cluster.record import inspect
from tests.cluster.residents import has_gone, insist, kept_alive
from tests.faults.ordeal import more_talk
from tests.harness.cluster import Cluster, Throng
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.network import Bridge, Network
from tests.harness.person import Person

REFUSED_S = 2.0
SLACK_S = 1.0
CAUGHT_UP_S = 5.0
"""P5, of Redis; of the database nothing is promised but that it needs no hands, but it is no slower."""
OFFLINE_S = 10.0
MakeCluster = Callable[..., Cluster]
Cut = tuple[tuple[int, Bridge], ...]

CUTS: dict[str, tuple[Cut, float]] = {
    "the pair": (((0, "redis"), (1, "redis")), 2.0),
    "one from redis": (((0, "redis"),), 6.5),
    "one from the database": (((0, "mysql"),), 3.0),
    "one from both": (((0, "redis"), (0, "mysql")), 5.0),
}
"""And for how long: some longer than the lease of a worker that is not heard of."""


class Span(NamedTuple):
    what: str
    lost_at: int
    back_at: int


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(2) as network:
        yield network


def pull(network: Network, cut: Cut) -> None:
    for number, bridge in cut:
        network.hosts[number].cables[bridge].cut()


def mend(network: Network, cut: Cut) -> None:
    for number, bridge in cut:
        network.hosts[number].cables[bridge].mend()


@pytest.mark.parametrize("times", [slow(1, limit_s=300), slow(10, limit_s=1500)])
def test_cables_are_cut_and_mended(
    make_cluster: MakeCluster, network: Network, record_property: Note, times: int
) -> None:
    """One cut after the other, `times` as long. Connected clients stay connected. Without the database a host refuses
    in time; without Redis it goes on."""
    cluster = make_cluster(network=network, people=ALL_SEE, listen=OLD_PACE).start()
    cluster.expect_error("commit failed", "commit takes too long")
    spans: list[Span] = []

    async def fault(trial: Trial) -> None:
        before = trial.present()
        for what, (cut, seconds) in CUTS.items():
            pull(network, cut)
            lost_at = time.monotonic_ns()
            await asyncio.sleep(seconds * times)  # the fault itself
            mend(network, cut)
            spans.append(Span(what, lost_at, time.monotonic_ns()))
            await until(30, "all is well", lambda: all(healthy(daemon) for daemon in trial.daemons), 0.3)
            await more_talk(trial.throng, 200, 60)
        assert trial.dropped(before) == []

    trial, verdict = try_cluster(
        cluster, fault, record_property, at_least=1000, limit_s=100 + 60 * times, watched=False
    )  # fmt: skip
    lines = trial.throng.journal.lines
    for what, lost_at, back_at in spans:
        found, longest = caught_up(lines, lost_at, back_at), longest_answer(lines, lost_at, back_at)
        record_property("verdict", f"{what}: caught up {found}; longest answer meanwhile {longest}")
        assert found.seconds < CAUGHT_UP_S, what
    late = unanswered_for(lines, REFUSED_S + SLACK_S)
    assert not late, late[:5]
    assert inspect(cluster.database, cluster.schema) >= verdict.counts["expected"] / 3


def healthy(daemon: Daemon) -> bool:
    told = daemon.status()
    return bool(told["store_ok"] and told["bus_ok"])


@pytest.mark.parametrize(("rate", "messages"), [("100kbit", 300), slow("60kbit", 3000, limit_s=900)])
def test_the_ways_of_a_host_are_slow(
    make_cluster: MakeCluster, network: Network, record_property: Note, rate: str, messages: int
) -> None:
    """Late is not lost, and slow is not dead: nobody is dropped."""
    cluster = make_cluster(network=network, people=ALL_SEE, listen=OLD_PACE).start()
    cluster.expect_error("commit failed", "commit takes too long")

    async def fault(trial: Trial) -> None:
        before = trial.present()
        for bridge in ("redis", "mysql"):
            network.hosts[0].cables[bridge].slow(rate)
        await more_talk(trial.throng, messages, 600)
        for bridge in ("redis", "mysql"):
            network.hosts[0].cables[bridge].quicken()
        await more_talk(trial.throng, 100)
        assert trial.dropped(before) == []

    trial, _ = try_cluster(cluster, fault, record_property, at_least=messages, limit_s=100 + messages / 5)
    record_property("verdict", f"{rate}: longest answer {longest_answer(trial.throng.journal.lines)}")


Mending = Callable[[], None]


@contextlib.contextmanager
def pair_cut(make_cluster: MakeCluster) -> Iterator[tuple[Cluster, Mending, Mending]]:
    with Network(2) as network:
        cluster = make_cluster(network=network).start()
        cut, _ = CUTS["the pair"]
        yield cluster, lambda: pull(network, cut), lambda: mend(network, cut)
        cluster.discard()


@contextlib.contextmanager
def worker_stopped(make_cluster: MakeCluster) -> Iterator[tuple[Cluster, Mending, Mending]]:
    """Longer than its lease, shorter than what the master takes for a hang."""
    cluster = make_cluster().start()
    (worker,) = cluster.daemons[0].workers()
    yield cluster, lambda: os.kill(worker, signal.SIGSTOP), lambda: os.kill(worker, signal.SIGCONT)


@pytest.mark.parametrize("rounds", [1, slow(8, limit_s=900)])
@pytest.mark.parametrize("apart", [pair_cut, worker_stopped], ids=["cables cut", "worker stopped"])
def test_who_logged_in_on_both_sides_is_one_session_again(
    make_cluster: MakeCluster, record_property: Note, rounds: int, apart: Callable[..., Any]
) -> None:
    """While the hosts cannot hear each other, each lets the user in; then one of the two has to go."""

    async def story(cluster: Cluster, part: Mending, join: Mending) -> None:
        region = Throng(cluster).region
        longest, checked = 0.0, 0
        for _ in range(rounds):
            pairs = []
            for wire in ARRIVES:
                name = await region.newcomer("twin")
                pairs.append(tuple(Person(region.of(host), name, wire) for host in (0, 1)))
            async with kept_alive([person for pair in pairs for person in pair]):
                for one, _ in pairs:
                    await one.arrive()
                part()
                await asyncio.gather(*(insist(other) for _, other in pairs))
                assert not any(one.away.is_set() for one, _ in pairs)
                join()
                joined_at = time.monotonic()
                await until(30, "one of each two has gone", lambda pairs=pairs: all(map(one_left, pairs)))
                longest, checked = max(longest, time.monotonic() - joined_at), checked + len(pairs)
                await asyncio.sleep(1.5)  # the other must not go too
                assert all(map(one_left, pairs))
            for person in (person for pair in pairs for person in pair if not has_gone(person)):
                await person.leave()
        record_property("verdict", f"one session again within {longest:.1f} s, N = {checked}")
        assert longest < OFFLINE_S

    with apart(make_cluster) as (cluster, part, join):
        run(story(cluster, part, join), 60 + 60 * rounds)


def one_left(pair: Sequence[Person]) -> bool:
    one, other = pair
    return has_gone(one) != has_gone(other)
