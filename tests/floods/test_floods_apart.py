"""The same floods against two hosts with MySQL and Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.floods import attacks
from tests.floods.flooders import MEMBERS
from tests.harness.cluster import Cluster
from tests.harness.deadline import run
from tests.harness.mariadb import MariaDB
from tests.harness.person import Town


def towns(cluster: Cluster) -> list[Town]:
    """One per host, with the same accounts."""
    first = Town(cluster.daemons[0])
    return [first, *(Town(daemon, first.ids, first.secret, first.suffixes) for daemon in cluster.daemons[1:])]


@pytest.fixture(scope="module")
def cluster(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    limits = {"recipients_per_s": 5000, "changes_per_hour": 300, **attacks.QUOTAS}
    one = Cluster(tmp_path_factory.mktemp("floods"), database=mariadb, limits=limits)
    try:
        yield one.start()
    finally:
        complaints = one.discard()
    assert not complaints, complaints


def test_thousands_cannot_be_reached_from_any_host(cluster: Cluster) -> None:
    def enlarge(group: int, size: int) -> None:
        database = cluster.database
        rows = ",".join(f"({group},{10**9 + number},3,1,1)" for number in range(size))
        schema = f"`{cluster.schema}`"
        database.execute(MEMBERS.replace("member", f"{schema}.member", 1) + rows)
        database.execute(f"UPDATE {schema}.team SET member_count = member_count + %s WHERE id = %s", size, group)

    for town in towns(cluster):
        run(attacks.reach_thousands(town, enlarge, ("mobileimsdk",)), 60)


def test_a_mailbox_takes_only_so_many_from_all_hosts(cluster: Cluster) -> None:
    run(attacks.fill_a_mailbox(towns(cluster)), 90)


def test_friend_requests_are_stopped_on_all_hosts(cluster: Cluster) -> None:
    run(attacks.ask_everybody_to_be_friends(towns(cluster)), 60)
