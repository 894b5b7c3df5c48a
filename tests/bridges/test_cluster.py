"""Two hosts with MySQL and Redis have one bridge: whichever is killed, the other goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from chatd.config.urls import parse_mysql
from chatd.store.mysql.connection import MysqlConnection
from tests.bridges.house import options
from tests.bridges.load import STORED, Stream, Traffic, by_stream
from tests.harness.cluster import Cluster, Region
from tests.harness.deadline import run, until
from tests.harness.mariadb import MariaDB
from tests.harness.person import Person
from tests.harness.rabbitmq import JavaSide, RabbitServer


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, rabbit: RabbitServer) -> Iterator[Cluster]:
    root, bridge = tmp_path_factory.mktemp("cluster"), [options(rabbit)]
    cluster = Cluster(root, database=mariadb, timeouts={"store_s": 1}, bridge=bridge)
    for daemon in cluster.daemons:
        daemon.config["bus"] = {"lease_s": 2}
    try:
        yield cluster.start()
    finally:
        complaints = cluster.discard()
    assert complaints == []


def stored_in(url: str) -> dict[Stream, list[str]]:
    connection = MysqlConnection(parse_mysql(url), 20.0)
    try:
        return by_stream(connection.execute(STORED).fetchall())
    finally:
        connection.discard()


def state(cluster: Cluster) -> dict[str, Any]:
    _, out, _ = cluster.daemons[0].ctl_said("bridge", "list", "--json")
    (found,) = json.loads(out)["bridges"]
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "rounds",
    [pytest.param(1, marks=pytest.mark.slow), pytest.param(6, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_the_other_host_goes_on(cluster: Cluster, rabbit: RabbitServer, rounds: int) -> None:
    town = Region(cluster.daemons[0], daemons=cluster.daemons, open={0, 1})
    url = cluster.daemons[0].config["store"]["url"]

    async def story() -> None:
        async with JavaSide(rabbit) as java:
            here = [await town.newcomer("bob") for _ in range(2)]
            async with Traffic(town, java, here, [f"anna{rounds}", f"otto{rounds}"]) as traffic:
                await until(20, "somebody has the lease", lambda: state(cluster)["holder"])
                for _ in range(rounds):
                    await asyncio.sleep(0.5)
                    for daemon in cluster.daemons:  # one of them has the lease
                        daemon.kill_all()
                        await asyncio.to_thread(daemon.start)
            await until(60, "everything came", traffic.all_came, step_s=0.1)
            wanted = sum(map(len, traffic.incoming.values()))

            def all_stored() -> bool:
                return sum(len(texts) for (_, to), texts in stored_in(url).items() if to in here) >= wanted

            await until(60, "everything is stored", all_stored, step_s=0.2)
            traffic.judge(stored_in(url))
            assert wanted > 30 * rounds
            assert sum(map(len, traffic.outgoing.values())) > 30 * rounds

    run(story(), 120 + 60 * rounds)


def test_a_message_is_shown_on_the_host_where_its_recipient_is(cluster: Cluster, rabbit: RabbitServer) -> None:
    async def story() -> None:
        async with JavaSide(rabbit) as java:
            for number, daemon in enumerate(cluster.daemons):
                town = Region(daemon, daemons=cluster.daemons, open={number})
                bob = Person(town, await town.newcomer("bob"), "mobile")
                await bob.arrive()
                await bob.say("java:anna", f"from host {number}")
                await java.came(f"from host {number}")
                await java.say("anna", bob.name, f"to host {number}")
                await until(10, "it is shown", lambda bob=bob: bob.seen)  # type: ignore[misc]
                assert bob.seen[0].text == f"to host {number}"

    run(story())
