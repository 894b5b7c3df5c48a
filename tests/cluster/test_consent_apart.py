"""What users do not accept does not reach them from another host, whether the bus works or not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.consent import attacks
from tests.consent.attacks import ATTACKS, OPEN_REQUESTS, Attack, Places
from tests.consent.planted import blocks_are_forgotten
from tests.conversations.conftest import PACE_MS
from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.mariadb import MariaDB
from tests.harness.person import Town
from tests.harness.switches import switched_off, with_switches


@pytest.fixture(scope="module")
def cluster(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two hosts that have switches (tests.consent.planted)."""
    made = Cluster(
        tmp_path_factory.mktemp("consent_apart"),
        database=mariadb,
        entry=("-m", "tests.consent.planted", "switches"),
        limits={"friend_requests": OPEN_REQUESTS},
        listen={"chatserver": {"pace_ms": PACE_MS}},
    )
    for daemon in made.daemons:
        with_switches(daemon)
    try:
        yield made.start()
    finally:
        complaints = made.discard()
    assert not complaints, complaints


@pytest.fixture
def places(cluster: Cluster) -> Places:
    here = Town(cluster.daemons[0])
    return Places(here, Town(cluster.daemons[1], here.ids, here.secret, here.suffixes))


async def _whole_again(daemons: list[Daemon]) -> None:
    for daemon in daemons:
        await until(15, "the bus is whole", lambda daemon=daemon: daemon.status()["bus_ok"], 0.1)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_attack_fails_from_another_host(places: Places, attack: Attack) -> None:
    run(attack(places))


async def write_while_redis_hangs(cluster: Cluster, places: Places) -> None:
    def hang() -> object:
        cluster.redis.pause()
        return cluster.redis.go_on

    try:
        await attacks.write_while_the_bus_hangs(places, hang)  # type: ignore[arg-type]
    finally:
        await _whole_again(cluster.daemons)


def test_a_block_holds_on_another_host_while_redis_hangs(cluster: Cluster, places: Places) -> None:
    run(write_while_redis_hangs(cluster, places))


def test_both_attacks_find_a_host_that_forgets_blocks(cluster: Cluster, places: Places) -> None:
    places.wires = ("mobile",)
    with switched_off(blocks_are_forgotten.__name__, *cluster.daemons):
        for attack in (attacks.write_after_the_block(places), write_while_redis_hangs(cluster, places)):
            with pytest.raises(AssertionError):
                run(attack)
