"""A whole host dies: its users are offline for the others within 10 s, may come in elsewhere, and lose nothing; nobody
else notices. And a user who logs in on two hosts at once has one session."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from tests.cluster.cast import ALL_SEE, ARRIVES, OLD_PACE, Note, Trial, slow, try_cluster
from tests.cluster.record import inspect
from tests.cluster.residents import has_gone, kept_alive, staying
from tests.cluster.watchers import Watchers, watching
from tests.faults.ordeal import everybody_in, more_talk
from tests.harness.cluster import Cluster, Region, Throng
from tests.harness.deadline import run, until
from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.mariadb import MariaDB
from tests.harness.network import Network
from tests.harness.person import Person, Wire

OFFLINE_S = 10.0
MakeCluster = Callable[..., Cluster]
STORE_ERRORS = ("commit failed", "commit takes too long")


# ---------------------------------------------------------------- seen from the other host


def shown(watchers: Watchers, seer: str, users: list[Person]) -> int:
    """How many of them this watcher was told last to be online."""
    last = {one.user: one.online for one in watchers.told if one.watcher == seer}
    return sum(last.get(person.name, False) for person in users)


async def offline_in_time(cluster: Cluster, die: Callable[[], None], revive: Callable[[], None], rounds: int) -> str:
    """Host 0 dies with people of every wire on it, again and again."""
    throng = Throng(cluster)
    region = throng.region
    dying = [await region.of(0).settle(f"dead{number}", wire) for number, wire in enumerate(ARRIVES * 2)]
    living = [await region.of(1).settle(f"living{number}", wire) for number, wire in enumerate(ARRIVES)]
    longest = 0.0
    async with staying(dying + living), watching(throng, [one.name for one in dying + living]) as watchers:
        seer = watchers.people[1].name
        settled = 0
        for _ in range(rounds):
            await until(40, "all are shown", lambda: shown(watchers, seer, dying + living) == len(dying + living))
            settled = settled or len(watchers.told)
            await asyncio.to_thread(die)
            died_at = time.monotonic()
            await until(60, "all of them offline", lambda: shown(watchers, seer, dying) == 0)
            longest = max(longest, time.monotonic() - died_at)
            assert shown(watchers, seer, living) == len(living)
            await asyncio.to_thread(revive)
        names = {person.name for person in living}
        false = [one for one in watchers.told[settled:] if one.user in names and not one.online]
        assert not false, f"live users shown offline: {false[:5]}"
    found = f"offline within {longest:.1f} s, N = {rounds * len(dying)}"
    assert longest < OFFLINE_S, found
    return found


@pytest.mark.parametrize("rounds", [1, slow(10, limit_s=900)])
def test_users_of_a_killed_host_are_offline(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, rounds: int
) -> None:
    """kill -9 of the master and all workers in one call."""
    cluster = make_cluster(database=mariadb, people=ALL_SEE).start()
    host = cluster.daemons[0]
    story = offline_in_time(cluster, host.kill_all, lambda: host.start() and None, rounds)
    record_property("verdict", run(story, 60 + 60 * rounds))


@pytest.mark.parametrize("rounds", [slow(1, limit_s=120), slow(5, limit_s=900)])
def test_users_of_a_host_without_power_are_offline(
    make_cluster: MakeCluster, record_property: Note, rounds: int
) -> None:
    """All its cables at once: no connection is closed, nobody says goodbye."""
    with Network(2) as network:
        cluster = make_cluster(network=network, people=ALL_SEE).start()
        cluster.expect_error(*STORE_ERRORS)
        cables = network.hosts[0].cables.values()
        story = offline_in_time(
            cluster, lambda: [cable.cut() for cable in cables] and None,
            lambda: [cable.mend() for cable in cables] and None, rounds,
        )  # fmt: skip
        record_property("verdict", run(story, 60 + 60 * rounds))
        cluster.discard()


# ---------------------------------------------------------------- under load


@pytest.mark.parametrize("rounds", [1, slow(12, limit_s=900)])
def test_hosts_are_killed_by_turns_while_people_talk(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, rounds: int
) -> None:
    """Everybody goes on by the host that is left (P1, P6); its own people notice nothing (P7)."""
    cluster = make_cluster(database=mariadb, people=ALL_SEE, listen=OLD_PACE).start()

    async def fault(trial: Trial) -> None:
        throng = trial.throng
        for number in range(rounds):
            await everybody_in(throng, 60)
            throng.come_home()
            await everybody_in(throng, 60)
            await more_talk(throng, 100)
            dead, left = number % 2, 1 - number % 2
            stays = {talker.name: talker.conn for talker in throng.on(left)}
            assert 0 < len(stays) < len(throng.people)
            throng.region.open = {left}
            await asyncio.to_thread(cluster.daemons[dead].kill_all)
            await everybody_in(throng, 60)
            await more_talk(throng, 100)
            assert trial.dropped(stays) == []
            await asyncio.to_thread(cluster.daemons[dead].start)
            throng.region.open = {0, 1}

    _, verdict = try_cluster(
        cluster, fault, record_property, at_least=150 * rounds, limit_s=60 + 50 * rounds, watched=False
    )  # fmt: skip
    assert inspect(mariadb, cluster.schema) >= verdict.counts["expected"] / 3


@pytest.mark.parametrize("rounds", [1, slow(50, limit_s=600)])
def test_reloads_of_all_hosts_are_noticed_by_nobody(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, rounds: int
) -> None:
    """P8, and nobody is shown as gone."""
    cluster = make_cluster(database=mariadb, people=ALL_SEE, listen=OLD_PACE).start()

    async def fault(trial: Trial) -> None:
        before = trial.present()
        for number in range(rounds):
            for daemon in trial.daemons:
                daemon.config["limits"]["body_bytes"] = 4000 + number
                daemon.write_config()
                assert (await asyncio.to_thread(daemon.ctl, "reload")).returncode == 0
            await more_talk(trial.throng, 50)
        assert trial.dropped(before) == []

    try_cluster(cluster, fault, record_property, at_least=50 * rounds, limit_s=60 + 10 * rounds)


# ---------------------------------------------------------------- twice at once


async def race(region: Region, name: str, wire: Wire, count: int) -> tuple[list[Person], list[int]]:
    """So many logins of one account at the same moment, by turns on each host: those who got in, and the codes of
    those who were refused."""
    hosts = len(region.daemons)
    people = [Person(region.of(number % hosts), name, wire) for number in range(count)]
    random.shuffle(people)
    results = await asyncio.gather(*(one.arrive() for one in people), return_exceptions=True)
    codes = []
    for result in results:
        if isinstance(result, LoginRefused):
            codes.append(result.code)
        elif result is not None and not isinstance(result, ConnectionGone | TimeoutError):
            raise result
    return [one for one, result in zip(people, results, strict=True) if result is None], codes


@pytest.mark.parametrize("rounds", [1, slow(60, limit_s=600)])
def test_of_many_logins_at_once_on_all_hosts_one_stays(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, rounds: int
) -> None:
    """errno 2 for all but one on chatserver; on mobileimsdk all but one are kicked out."""
    cluster = make_cluster(database=mariadb, workers=2).start()

    async def story() -> None:
        region = Throng(cluster).region
        checked = 0
        for _ in range(rounds):
            name = await region.newcomer("racer")
            winners, codes = await race(region, name, "streaming", 6)
            assert len(winners) == 1, f"{len(winners)} sessions of one user"
            assert set(codes) == {2}, codes
            again, _ = await race(region, name, "streaming", 4)
            assert again == [], "let in although somebody is there"
            for wire in ("mobile", "web", "udp"):
                entered, _ = await race(region, name, wire, 6)
                assert entered, "nobody was let in"
                await one_is_left(entered)
                checked += len(entered)
            assert not winners[0].away.is_set()
            checked += len(codes) + 1
            await winners[0].leave()
        record_property("verdict", f"never two sessions of one user, in N = {checked} logins")

    run(story(), 60 + 10 * rounds)


async def one_is_left(people: list[Person]) -> None:
    def there() -> int:
        return sum(not has_gone(one) for one in people)

    async with kept_alive(people):
        await until(15, "one is left", lambda: there() <= 1)
        await asyncio.sleep(0.5)  # it must stay
        assert there() == 1, "the last one was kicked too"


@pytest.mark.parametrize("rounds", [1, slow(8, limit_s=600)])
def test_many_logins_at_once_right_after_the_death_of_a_host(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, rounds: int
) -> None:
    """Until its lease is over the dead session may still count; then exactly one gets in."""
    cluster = make_cluster(database=mariadb, hosts=3).start()

    async def story() -> None:
        region = Throng(cluster).region
        longest = 0.0
        for number in range(rounds):
            dead = number % 3
            name, other = await region.newcomer("heir"), await region.newcomer("heir")
            await Person(region.of(dead), name, "streaming").arrive()
            await Person(region.of(dead), other, "mobile").arrive()
            assert (await race(region, name, "streaming", 3))[0] == []
            await asyncio.to_thread(cluster.daemons[dead].kill_all)
            died_at = time.monotonic()
            left = Region(region.daemon, region.ids, region.secret, region.suffixes)
            left.daemons = [daemon for number, daemon in enumerate(cluster.daemons) if number != dead]
            winners: list[Person] = []
            while not winners:
                assert time.monotonic() - died_at < OFFLINE_S + 5, "nobody gets in"
                winners, _ = await race(left, name, "streaming", 6)
            longest = max(longest, time.monotonic() - died_at)
            assert len(winners) == 1
            assert (await race(left, name, "streaming", 4))[0] == []
            await winners[0].leave()
            entered: list[Person] = []
            while not entered:
                assert time.monotonic() - died_at < OFFLINE_S + 10, "nobody gets in"
                entered, _ = await race(left, other, "mobile", 6)
            await one_is_left(entered)
            await asyncio.to_thread(cluster.daemons[dead].start)
        record_property("verdict", f"let in again after {longest:.1f} s, N = {rounds}")
        assert longest < OFFLINE_S

    run(story(), 60 + 60 * rounds)
