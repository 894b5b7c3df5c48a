"""HAProxy that asks /readyz, as the shipped configuration says: while a host drains and is taken out, each new client
is served by the other host at its first attempt."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.balancers.balancer import Front, HAProxy
from tests.balancers.test_serving import PROXIED
from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon, free_port
from tests.harness.deadline import run, until
from tests.harness.mariadb import MariaDB
from tests.harness.person import Town
from tests.master.metrics.scraping import get

LIMIT_S = 20.0


class AskingHAProxy(HAProxy):
    """With the lines for /readyz active; each host has a port of its own for metrics."""

    def text(self) -> str:
        text, active = re.subn(r"# (default-server check port 9101|option httpchk GET /readyz)", r"\1", super().text())
        assert active == 2
        return text

    def start(self) -> AskingHAProxy:
        text = self.file.read_text().replace("default-server check port 9101", "")
        for number, host in enumerate(self.hosts, 1):
            port = host.metrics_port
            text, changed = re.subn(rf"(?m)^( +server host{number} .*)$", rf"\1 port {port}", text)
            assert changed == 3
        self.file.write_text(text)
        super().start()
        return self


@pytest.fixture
def hosts(make_cluster: Callable[..., Cluster], mariadb: MariaDB) -> list[Daemon]:
    timeouts = {"drain_s": 20.0, "drain_spread_s": 4.0}
    cluster = make_cluster(database=mariadb, listen=PROXIED, timeouts=timeouts)
    for daemon in cluster.daemons:
        daemon.config["metrics"] = {"address": f"tcp://127.0.0.1:{free_port()}"}
    return cluster.start().daemons


@pytest.fixture
def balancer(hosts: list[Daemon], tmp_path: Path) -> Iterator[AskingHAProxy]:
    made = AskingHAProxy(tmp_path / "balancer", hosts)
    try:
        yield made.start()
    finally:
        made.kill()


def states(balancer: HAProxy, host: int) -> set[str]:
    """Of one host in every section."""
    found = balancer.servers("status")
    return {state.split()[0] for name, state in found.items() if name.endswith(f"/host{host}")}


def asked(balancer: HAProxy) -> set[str]:
    """What the last checks found."""
    return set(balancer.servers("check_status").values())


def test_no_new_client_fails_while_a_host_drains_and_is_taken_out(hosts: list[Daemon], balancer: AskingHAProxy) -> None:
    ports = [host.metrics_port for host in hosts]

    async def story() -> None:
        await until(LIMIT_S, "the pages are asked, not only the ports", lambda: asked(balancer) == {"L7OK"}, 0.1)
        assert states(balancer, 1) == states(balancer, 2) == {"UP"}
        town: Town = Front(balancer)
        names = [await town.newcomer("resident") for _ in range(8)]
        peers = [await town.on_mobile(name) for name in names]
        await until(LIMIT_S, "both have some", lambda: min(map(sessions, hosts)) > 0, 0.05)
        leaving = asyncio.create_task(asyncio.to_thread(hosts[0].ctl, "drain", limit_s=60))
        arrived = 0
        while states(balancer, 1) != {"DOWN"} or not leaving.done():
            name = names[arrived % len(names)]
            peers.append(await town.on_mobile(name))  # logged in, or this raises
            peers[-1].put({"type": 1})
            assert (await peers[-1].find(type=51))["from"] == "0"
            arrived += 1
        drained = await leaving
        assert drained.returncode == 0, drained.stderr
        assert (get(ports[0], "/readyz").status, get(ports[0], "/healthz").status) == (503, 200)
        assert (get(ports[1], "/readyz").status, states(balancer, 2)) == (200, {"UP"})
        assert asked(balancer) == {"L7STS", "L7OK"}, "taken out by the page, whose port is still open"
        assert sessions(hosts[0]) == 0
        assert arrived > 10
        for peer in peers:
            peer.close()
        undrained = await asyncio.to_thread(hosts[0].ctl, "undrain", limit_s=60)
        assert undrained.returncode == 0
        await until(LIMIT_S, "it is led clients again", lambda: states(balancer, 1) == {"UP"}, 0.1)

    run(story(), 120)


def sessions(host: Daemon) -> int:
    return sum(int(row["sessions"]) for row in host.status()["workers"])
