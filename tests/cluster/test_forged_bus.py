"""Who may use Redis but has no key can neither speak as a user nor end a session, on hosts that run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.errors import Exit
from tests.cluster.redis_user import attacks
from tests.harness.cluster import BUS_KEY, Cluster
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.mariadb import MariaDB
from tests.harness.person import Town
from tests.harness.redis import RedisServer

LIMIT_S = 10.0
NEW_KEY = "the key that replaces the key of this cluster"
REFUSED = "bus message refused"


def test_a_user_of_redis_can_forge_and_replay_nothing(make_cluster: Callable[..., Cluster], mariadb: MariaDB) -> None:
    cluster = make_cluster(database=mariadb).start()
    cluster.expect_error(REFUSED)

    async def story() -> None:
        assert await attacks(cluster) == set()
        attacked = cluster.daemons[1]
        await until(LIMIT_S, "it is counted", lambda: attacked.status()["totals"]["bus_forgeries"] >= 6, 0.2)
        checked = attacked.ctl("check")
        assert (checked.returncode, "forged messages on the bus" in checked.stdout) == (1, True)
        told = {record["reason"] for record in attacked.logged("bus_forgery")}  # what repeats is held back
        assert "no signature" in told
        assert told <= {"no signature", "replayed"}

    run(story(), 60)


@pytest.mark.slow
def test_keys_are_replaced_by_reloads_while_people_talk(make_cluster: Callable[..., Cluster], mariadb: MariaDB) -> None:
    cluster = make_cluster(database=mariadb).start()
    first, second = cluster.daemons

    def set_keys(daemon: Daemon, *keys: str) -> None:
        daemon.config["bus"]["keys"] = list(keys)
        daemon.write_config()
        reloaded = daemon.ctl("reload")
        assert (reloaded.returncode, "applied: bus.keys" in reloaded.stdout) == (Exit.OK, True), reloaded
        assert NEW_KEY not in reloaded.stdout + daemon.ctl("config").stdout

    async def story() -> None:
        town = Town(first)
        there = Town(second, town.ids, town.secret, town.suffixes)
        alice, bob = await town.settle("alice", "mobile"), await there.settle("bob", "web")
        await alice.arrive()
        await bob.arrive()
        sent = 0
        for keys in ((BUS_KEY, NEW_KEY), (NEW_KEY, BUS_KEY), (NEW_KEY,)):
            for daemon in cluster.daemons:
                for _ in range(20):
                    sent += 1
                    alice.post("bob", f"to bob {sent}")
                    bob.post("alice", f"to alice {sent}")
                set_keys(daemon, *keys)
        await until(LIMIT_S, "everything arrived", lambda: len(alice.seen) == len(bob.seen) == sent)
        assert [one.text for one in bob.seen] == [f"to bob {number}" for number in range(1, sent + 1)]
        for daemon in cluster.daemons:
            assert daemon.status()["totals"]["bus_forgeries"] == 0
        await alice.leave()
        await bob.leave()

    run(story(), 60)


def test_redis_over_tcp_needs_a_key(
    make_daemon: Callable[..., Daemon], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        daemon = make_daemon(bus={"url": server.url})
        daemon.launch()
        assert daemon.wait_gone() == Exit.CONFIG
        assert "bus.keys: needed because Redis is reached over TCP" in daemon.tail()
        daemon.config["bus"] = {"url": server.url, "insecure_unsigned": True}
        daemon.write_config()
        assert daemon.start().stop() == Exit.OK
        daemon.config["bus"] = {"url": server.unix_url}
        daemon.write_config()
        assert daemon.start().stop() == Exit.OK
