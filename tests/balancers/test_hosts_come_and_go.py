"""Two hosts behind a balancer, one leaving and returning under load, gracefully and by kill -9: clients reach the other
host in time, nothing acknowledged is lost, duplicated or reordered, and a host that returns gets clients again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.balancers.balancer import Balancer, Front, clients
from tests.balancers.conftest import MakeBalancer
from tests.balancers.test_serving import PROXIED
from tests.faults.ordeal import acquit, everybody_in, more_talk
from tests.harness.cluster import ARRIVE_S, Cluster
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.mariadb import MariaDB
from tests.harness.peer import NulPeer
from tests.harness.person import Wire

TCP: tuple[Wire, ...] = (
    "mobile", "streaming", "web", "old", "streaming", "web", "mobile", "streaming", "web", "mobile", "old", "streaming",
)  # fmt: skip
UDP: tuple[Wire, ...] = ("udp", "mobile", "udp", "streaming")
GROUPS = ((0, 1, 2, 5, 7), (4, 6, 8, 9, 11))
LISTEN = {**PROXIED, "chatserver": {**PROXIED["chatserver"], "pace_ms": 100}}
"""The pace is ample, because here an old client shares a busy process with all the others."""
LANDED_S = 40.0
"""From the moment a host has gone until everybody talks by the other one. A chatserver user that was on a killed host
waits for the lease of its worker, 5 s; a client on UDP notices by its own keep-alive, after some 15 s."""
REACHED_S = 20.0
"""From the moment a host is ready until it gets clients: nginx leaves it out for 5 s, HAProxy for two checks."""


def sessions(host: Daemon) -> int:
    return sum(int(row["sessions"]) for row in host.status()["workers"])


async def landed(crowd: Crowd, host: Daemon, note: Callable[[str, object], None], what: str) -> None:
    """Everybody is on this host, and talks."""
    gone_at = time.monotonic()
    await everybody_in(crowd, LANDED_S)
    while await asyncio.to_thread(sessions, host) < len(crowd.people):
        assert time.monotonic() - gone_at < LANDED_S, f"{what}: not everybody has come to the other host"
        await asyncio.sleep(0.1)  # the pace of asking
    note("verdict", f"{what}: all {len(crowd.people)} within {time.monotonic() - gone_at:.1f} s")
    await more_talk(crowd, 100)


async def reached(balancer: Balancer, host: Daemon, note: Callable[[str, object], None], what: str) -> None:
    """New connections are led to this host again."""
    ready_at = time.monotonic()
    probes = []
    while clients(host) < 2:
        assert time.monotonic() - ready_at < REACHED_S, f"{what}: nobody is led to the host"
        probe = NulPeer()
        await probe.open(balancer.ports["chatserver"])
        probes.append(probe)
        await asyncio.sleep(0.2)  # the pace of the arrivals
    note("verdict", f"{what}: within {time.monotonic() - ready_at:.1f} s")
    for probe in probes:
        probe.close()


async def spread(crowd: Crowd, hosts: list[Daemon]) -> None:
    """Both hosts have people: if need be, everybody comes anew."""
    began_at = time.monotonic()
    while min(map(clients, hosts)) < 3:
        assert time.monotonic() - began_at < LANDED_S, "one host gets nobody"
        for talker in crowd.people.values():
            if talker.link is not None:
                talker.link.abort()
        await asyncio.sleep(0.5)  # the pace of coming anew
        await everybody_in(crowd, LANDED_S)


async def come_and_go(
    crowd: Crowd, balancer: Balancer, hosts: list[Daemon], note: Callable[[str, object], None]
) -> None:
    first, second = hosts
    await spread(crowd, hosts)
    await more_talk(crowd, 200)

    assert await asyncio.to_thread(first.stop) == 0
    await landed(crowd, second, note, "a host left")
    await asyncio.to_thread(first.start)
    await reached(balancer, first, note, "it returned")

    await spread(crowd, hosts)
    await more_talk(crowd, 100)
    await asyncio.to_thread(second.kill_all)
    await landed(crowd, first, note, "a host was killed")
    await asyncio.to_thread(second.start)
    await reached(balancer, second, note, "it was started again")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_host_leaves_and_returns_under_load(
    make_cluster: Callable[..., Cluster],
    mariadb: MariaDB,
    make_balancer: MakeBalancer,
    record_property: Callable[[str, object], None],
    rounds: int,
) -> None:
    timeouts = {"drain_s": 10.0, "drain_spread_s": 2.0}
    cluster = make_cluster(database=mariadb, listen=LISTEN, timeouts=timeouts).start()
    balancer = make_balancer(cluster.daemons).start()
    wires = (*TCP, *UDP) if "mobileimsdk-udp" in balancer.wires else TCP

    async def story() -> None:
        crowd = Crowd(Front(balancer), cluster.root / "journal.jsonl")
        crowd.arrive_s = ARRIVE_S
        await crowd.gather(wires, GROUPS)
        async with crowd.talking(window=4, think_s=0.1):
            for _ in range(rounds):
                await come_and_go(crowd, balancer, cluster.daemons, record_property)
        acquit(await crowd.verdict(), record_property, at_least=500 * rounds)

    run(story(), 150 + 120 * rounds)
