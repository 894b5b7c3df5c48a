"""What the tests of a cluster look for, planted. Each must be found, by what looks for it elsewhere too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.cluster import test_memberships as memberships
from tests.cluster.cast import ALL_SEE, CAST, Note, Trial
from tests.cluster.planted import BUGS
from tests.cluster.redis_user import ATTACKS, attacks
from tests.cluster.test_hosts_die import race
from tests.cluster.watchers import watching
from tests.faults.ordeal import acquit, more_talk, ordeal
from tests.harness.cluster import Cluster, Throng
from tests.harness.crowd import Crowd
from tests.harness.deadline import run, until
from tests.harness.judge import Verdict
from tests.harness.mariadb import MariaDB

STALE_S = 2.0
GROUPS_HERE = ((0, 3, 5, 8, 10), (1, 2, 6, 9, 11, 12))
SIGNS: dict[str, set[str]] = {
    "numbers_without_lock": {"lost", "hole", "divergent", "duplicate"},
    "forgets_the_gap": {"lost", "hole", "stale"},
    "deaf_hosts": {"lost", "stale"},
}
"""What a verdict on each must contain at least one of; the other bugs are not the judge's to find."""
MakeCluster = Callable[..., Cluster]


async def talk(trial: Trial) -> None:
    await more_talk(trial.throng, 300)


async def long_talk(trial: Trial) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 1.5 * STALE_S:
        await more_talk(trial.throng, 100)


async def redis_away(trial: Trial) -> None:
    """It comes back when nobody talks any more: no later message tells what was missed."""
    trial.cluster.redis.kill()
    await more_talk(trial.throng, 50)
    asyncio.get_running_loop().call_later(1.0, trial.cluster.redis.start)


FAULTS: dict[str, Callable[[Trial], Awaitable[None]]] = {
    "numbers_without_lock": talk, "forgets_the_gap": redis_away, "deaf_hosts": long_talk,
}  # fmt: skip


def bugged(make_cluster: MakeCluster, mariadb: MariaDB, bug: str) -> Cluster:
    entry = ("-m", "tests.cluster.planted", bug)
    return make_cluster(database=mariadb, entry=entry, people=ALL_SEE).start()


def stand_trial(cluster: Cluster, bug: str, *, settle_s: float, stale_s: float | None = None) -> Verdict:
    """The fault that shows this bug. But for numbers, half of the people only listen: nothing but the cure for the
    fault tells them what they miss."""
    throng = Throng(cluster)

    async def under_fault(crowd: Crowd) -> None:
        await FAULTS[bug](Trial(cluster, throng))

    story = ordeal(
        cluster.daemons[0], under_fault, crowd=throng, wires=CAST[:16], groups=GROUPS_HERE, window=8, think_s=0.02,
        settle_s=settle_s, stale_s=stale_s, half_silent=bug != "numbers_without_lock",
    )  # fmt: skip
    return run(story, 90)


def test_every_planted_bug_is_tried() -> None:
    assert set(SIGNS) == set(FAULTS)
    by_others = {
        "unknown_is_offline", "locks_for_everybody", "gives_before_it_knows_the_members", "obeys_late_leaves",
        "trusts_redis",
    }  # fmt: skip
    assert set(SIGNS) | by_others == set(BUGS)


@pytest.mark.parametrize("bug", SIGNS)
def test_the_judge_finds(make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, bug: str) -> None:
    cluster = bugged(make_cluster, mariadb, bug)
    cluster.expect_error("commit failed", "unexpected exception")
    verdict = stand_trial(cluster, bug, settle_s=2, stale_s=STALE_S)
    record_property("verdict", f"planted {bug}: {str(verdict).splitlines()[0]}")
    assert verdict.kinds() & SIGNS[bug], f"{bug} went unnoticed: {verdict}"


def test_without_the_bug_the_same_finds_nothing(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note
) -> None:
    """Of the one that no ordeal of these faults shows: people who only listen, and no message after the fault."""
    cluster = make_cluster(database=mariadb, people=ALL_SEE).start()
    acquit(stand_trial(cluster, "forgets_the_gap", settle_s=30), record_property, at_least=50)


def test_the_watchers_find_who_is_said_to_have_gone(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note
) -> None:
    cluster = bugged(make_cluster, mariadb, "unknown_is_offline")

    async def story() -> None:
        throng = Throng(cluster)
        await throng.gather(("mobile", "streaming", "web", "udp"))
        async with watching(throng, list(throng.people)) as watchers:
            await until(10, "all are shown", lambda: all(all(watchers.shown(name)) for name in throng.people))
            await asyncio.sleep(3.0)  # longer than the grace of who came a moment ago
            cluster.redis.kill()

            def false() -> list[str]:
                return watchers.falsely_offline(throng.journal.lines, throng.people)

            found = await until(10, "live users are shown offline", false)
        record_property("verdict", f"planted unknown_is_offline: {len(found)} live users shown offline")
        cluster.redis.start()
        await throng.disperse()

    run(story(), 60)


def test_the_races_find_two_sessions_of_one_user(make_cluster: MakeCluster, mariadb: MariaDB) -> None:
    cluster = bugged(make_cluster, mariadb, "locks_for_everybody")

    async def story() -> None:
        region = Throng(cluster).region
        winners, _ = await race(region, await region.newcomer("racer"), "streaming", 6)
        assert len(winners) > 1, "each host lets one in, when the locks are good for nothing"

    run(story(), 60)


@pytest.mark.slow
def test_the_judge_finds_what_is_given_to_former_members(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note
) -> None:
    """The version of a message is not looked at: a member who was kicked while Redis was dead is given what follows."""
    cluster = bugged(make_cluster, mariadb, "gives_before_it_knows_the_members")
    verdict, _ = run(memberships.race(cluster, [memberships.redis_dies], settle_s=10, silent_host=0), 120)
    record_property("verdict", f"planted gives_before_it_knows_the_members: {str(verdict).splitlines()[0]}")
    assert "leak" in verdict.kinds(), verdict


def test_every_attack_of_a_user_of_redis_succeeds_where_nothing_is_verified(
    make_cluster: MakeCluster, mariadb: MariaDB
) -> None:
    cluster = bugged(make_cluster, mariadb, "trusts_redis")
    assert run(attacks(cluster), 60) == {attack.__name__ for attack in ATTACKS}


@pytest.mark.slow
def test_a_late_leave_that_ends_a_newer_membership_is_found(make_cluster: MakeCluster, mariadb: MariaDB) -> None:
    """The version of a leave is not looked at. When Redis goes on, either the late leave or the reading of memberships
    comes first; only if the leave is last does the bug show."""
    cluster = bugged(make_cluster, mariadb, "obeys_late_leaves")
    rounds = (run(memberships.late_leave(cluster), 60) for _ in range(6))
    assert any(seen != ["0", "1", "2", "3", "4"] for seen in rounds)
