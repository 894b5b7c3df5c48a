"""`chatctl ban`, `broadcast` and `kick --address` in a cluster: what is ordered on one host holds on all of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from chatd.errors import Exit
from tests.conversations.asking import Client
from tests.conversations.test_kick import ctl
from tests.harness.cluster import Cluster
from tests.harness.deadline import run, until
from tests.harness.link import ConnectionGone
from tests.harness.network import Network
from tests.harness.person import Town
from tests.trail.visitors import attempt, client_of

LIMIT_S = 20.0
PATIENT = {"mobileimsdk": {"keep_alive_s": 120}}
"""A busy machine takes long for a chatctl, and clients of these tests send no pings."""


@pytest.fixture
def towns(make_cluster: Callable[..., Cluster]) -> list[Town]:
    cluster = make_cluster(workers=2, penalties={"allow": ["127.0.0.1"]}, listen=PATIENT).start()
    first = Town(cluster.daemons[0])
    return [first, Town(cluster.daemons[1], first.ids, first.secret, first.suffixes)]


async def comes_in(town: Town, name: str, source: str) -> bool:
    try:
        return await attempt(town.daemon, "mobileimsdk", name, town.secret, source) == 0
    except (ConnectionGone, OSError):
        return False


def test_what_is_ordered_on_one_host_holds_on_all(towns: list[Town]) -> None:
    here, there = towns

    async def story() -> None:
        name, guest = await here.newcomer("user"), await here.newcomer("guest")
        listener = await Client(there, guest).arrive()
        told = await ctl(here, "broadcast", "to all hosts", "--json")
        assert (told[0], json.loads(told[1])["told"]) == (0, 1), told
        await listener.hears("broadcast", text="to all hosts")

        far = client_of("mobileimsdk", "127.3.0.9")
        await far.open(there.daemon.ports["mobileimsdk"])
        await far.log_in(name, there.secret)
        assert await ctl(here, "kick", "--address", "127.3.0.0/16") == (0, "sessions ended: 1", "")
        await far.end()
        far = client_of("mobileimsdk", "127.3.0.9")
        await far.open(there.daemon.ports["mobileimsdk"])
        await far.log_in(name, there.secret)
        code, shown, why = await ctl(here, "ban", "127.3.0.0/16", "--force", "--json")
        assert (code, json.loads(shown)["ended"]) == (0, 1), why
        await far.end()
        for town in towns:
            assert not await comes_in(town, name, "127.3.0.8")
            assert json.loads((await ctl(town, "bans", "--json"))[1])["bans"][0]["network"] == "127.3.0.0/16"
        assert (await ctl(there, "unban", "127.3.0.9/16"))[0] == 0
        for town in towns:
            assert await comes_in(town, name, "127.3.0.8")
        listener.leave()

    run(story())


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(2) as network:
        yield network


def test_a_host_that_is_cut_off_from_the_bus_is_named_and_finds_the_ban_in_the_store(
    make_cluster: Callable[..., Cluster], network: Network
) -> None:
    cluster = make_cluster(network=network, penalties={"allow": ["127.0.0.1"]}, listen=PATIENT).start()
    here = Town(cluster.daemons[0])
    there = Town(cluster.daemons[1], here.ids, here.secret, here.suffixes)
    cable = network.hosts[1].cables["redis"]

    async def story() -> None:
        name = await here.newcomer("user")
        cable.cut()
        await until(LIMIT_S, "it is seen", lambda: not there.daemon.status()["bus_ok"], 0.1)
        peer = await there.on_mobile(name)
        assert peer.transport is not None
        address = peer.transport.get_extra_info("sockname")[0]
        code, _, why = await there_ctl(here, "ban", address, "--force")
        assert code == Exit.TRY_AGAIN
        assert "they apply it when they can read the store" in why
        await peer.end()  # without the bus
        cable.mend()
        await until(LIMIT_S, "the bus is back", lambda: there.daemon.status()["bus_ok"], 0.1)
        assert (await there_ctl(there, "unban", address))[0] == 0

    run(story())


async def there_ctl(town: Town, *arguments: str) -> tuple[int, str, str]:
    """chatctl on the daemon's own host, from which the store is reached."""
    daemon = town.daemon
    command = [*daemon.prefix, sys.executable, "-m", "chatd.chatctl", "-c", str(daemon.config_file), *arguments]
    made = await asyncio.create_subprocess_exec(
        *command, cwd=daemon.root, env=daemon.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    shown, why = await made.communicate()
    return made.returncode or 0, shown.decode().strip(), why.decode().strip()
