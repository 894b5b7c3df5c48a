"""An operator on one host sees clients, and the way of a message, on the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatd.chatctl.show import trace_log
from tests.conversations.test_kick import ctl
from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Person, Town

LIMIT_S = 15.0


def logs_of(*daemons: Daemon) -> list[Path]:
    return [path for daemon in daemons for path in trace_log.files_of(str(daemon.root / "log"))]


def test_clients_and_traces_of_every_host(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(workers=1)
    cluster.start()
    here, there = cluster.daemons
    town = Town(here)
    other = Town(there, town.ids, town.secret, town.suffixes)

    async def story() -> None:
        alice = Person(town, await town.newcomer("alice"), "mobile")
        bob = Person(other, await town.newcomer("bob"), "acking")
        await alice.arrive()
        await bob.arrive()

        def names(daemon: Daemon, *, everywhere: bool) -> set[str]:
            query: dict[str, Any] = {"limit": 100}
            found = daemon.request("clients", query=query, everywhere=everywhere)
            assert found["unanswered"] == []
            return {row["name"] for row in found["clients"]}

        assert names(here, everywhere=False) == {alice.name}
        for daemon in cluster.daemons:
            assert names(daemon, everywhere=True) == {alice.name, bob.name}
        code, shown, _ = await ctl(town, "clients", "--all-hosts")
        assert (code, bob.name in shown) == (0, True)

        assert here.request("trace", user=alice.name, for_s=60)["ok"]

        def is_traced_there() -> bool:
            """The other host is told over the bus."""
            fp = alice.post(bob.name, "text")
            steps = {one.trace for one in trace_log.of_message(trace_log.read(logs_of(there)), last_fp[0])}
            last_fp[0] = fp
            return {"arrived", "given", "acknowledged"} <= steps

        last_fp = [alice.post(bob.name, "text")]
        await until(LIMIT_S, "the other host traces", is_traced_there, 0.3)
        fp = alice.post(bob.name, "the last one")
        wanted = {"accepted", "stored", "published", "arrived", "given", "acknowledged"}

        def steps() -> set[str]:
            return {one.trace for one in trace_log.of_message(trace_log.read(logs_of(here, there)), fp)}

        await until(LIMIT_S, "the whole way", lambda: wanted <= steps())
        code, shown, _ = await ctl(town, "trace", fp, "--from", str(there.root / "log" / "normal.log"))
        assert (code, "acknowledged" in shown) == (0, True)
        code, shown, _ = await ctl(town, "trace", fp)
        assert (code, "acknowledged" in shown) == (0, False)
        await alice.leave()
        await bob.leave()

    run(story())
