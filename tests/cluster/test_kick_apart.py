"""An operator ends a user's sessions while a host cannot hear of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from chatd.errors import Exit
from tests.conversations.test_across_hosts import log_in_on_desk
from tests.conversations.test_kick import ctl
from tests.harness.cluster import Cluster
from tests.harness.deadline import run, until
from tests.harness.mobileimsdk import content
from tests.harness.network import Network
from tests.harness.person import Town

LEASE_S = 2.0
LIMIT_S = 15.0


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(2) as network:
        yield network


@pytest.mark.slow
def test_a_host_that_is_cut_off_is_named_and_ends_the_sessions_when_it_is_back(
    make_cluster: Callable[..., Cluster], network: Network
) -> None:
    """Even where its lease is over, so that nobody believes that the user is there; and if every worker of the host
    that was asked, and then its master's program, have been replaced meanwhile."""
    cluster = make_cluster(network=network, workers=2)
    for daemon in cluster.daemons:
        daemon.config["bus"] = {"lease_s": LEASE_S}
    cluster.start()
    town = Town(cluster.daemons[0])
    there = Town(cluster.daemons[1], town.ids, town.secret, town.suffixes)
    cable = network.hosts[1].cables["redis"]

    async def story() -> None:
        name = await town.newcomer("bob")
        assert await ctl(town, "kick", name) == (0, "sessions ended: 0", "")
        cable.cut()
        await until(LIMIT_S, "it is seen", lambda: not there.daemon.status()["bus_ok"], 0.1)
        mobile = await there.on_mobile(name)
        gone = "a worker is gone"
        await until(LIMIT_S, "its lease is over", lambda: len(town.daemon.logged(gone)) == 2, 0.1)
        code, shown, why = await ctl(town, "kick", name, "--reason", "tea time")
        assert (code, shown) == (Exit.TRY_AGAIN, "")
        assert why == (
            f"chatctl: no answer from {socket.gethostname()} (they are asked again for 10 min); 0 sessions ended"
        )
        code, shown, why = await ctl(town, "kick", name, "--reason", "tea time", "--json")
        told = json.loads(shown)
        assert (code, told["unanswered"], told["repeated_s"]) == (Exit.TRY_AGAIN, [socket.gethostname()], 600)
        code, _, why = await ctl(there, "kick", (await town.newcomer("eve")))
        assert code == Exit.TRY_AGAIN
        assert "the message bus is disrupted" in why
        desk, errno = await log_in_on_desk(town, name)  # after the orders
        assert errno == 0
        assert not mobile.gone.is_set()
        before = town.daemon.workers()
        for order in ("restart-workers", "upgrade"):
            mobile.put({"type": 1})  # or it ends because it is silent
            assert (await ctl(town, order))[0] == 0
        mobile.put({"type": 1})
        assert not set(before) & set(town.daemon.workers()), "whoever repeated the kick has ended"
        assert not mobile.gone.is_set()
        cable.mend()
        packet = (await mobile.end())[-1]
        assert (packet["type"], content(packet)) == (54, {"code": 2, "reason": "tea time"})
        await until(LIMIT_S, "it is told", lambda: town.daemon.logged("kick answered by every worker"), 0.1)
        code, shown, why = await ctl(town, "kick", name)
        assert (code, shown, why) == (0, "sessions ended: 1", "")
        await desk.gone.wait()

    run(story())
