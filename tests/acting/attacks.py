"""What somebody does whom an operator keeps out, from loopback addresses of their own.

Owns: ban() and unban(), and the attacks, which fail as long as the guard stands: each raises AssertionError otherwise.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

from tests.conversations.test_kick import ctl
from tests.harness.link import ConnectionGone
from tests.harness.person import Town
from tests.net.proxy_headers import Headed, v2
from tests.trail.visitors import WIRES, attempt, client_of

SILENCE_S = 0.7
"""Long enough for an answer over UDP."""
BALANCERS = "127.9.0.0/16"
"""Whose connections to the port mobileimsdk begin with a PROXY header."""
Attack = Callable[[Town], Awaitable[None]]


async def ban(town: Town, network: str, *more: str) -> int:
    """The connections that it ended."""
    code, shown, why = await ctl(town, "ban", network, "--force", "--json", *more)
    assert code == 0, (shown, why)
    return int(json.loads(shown)["ended"])


async def unban(town: Town, network: str) -> None:
    assert (await ctl(town, "unban", network))[0] == 0


async def comes_in(town: Town, wire: str, name: str, source: str) -> bool:
    """Whether somebody from there can log in."""
    try:
        async with asyncio.timeout(SILENCE_S if wire.endswith("udp") else 10):
            return await attempt(town.daemon, wire, name, town.secret, source) == 0
    except (ConnectionGone, OSError, TimeoutError):
        return False


async def through_balancer(town: Town, name: str, address: str) -> bool:
    """The same behind a load balancer, which says that the client is there."""
    made = client_of("mobileimsdk", "127.9.0.1")
    headed = type("Made", (Headed, type(made)), {})()
    headed.source, headed.head = "127.9.0.1", v2(address, 1001)
    await headed.open(town.daemon.ports["mobileimsdk"])
    try:
        async with asyncio.timeout(10):
            await headed.log_in(name, town.secret)
    except ConnectionGone:
        return False
    finally:
        headed.close()
    return True


async def stay(town: Town) -> None:
    name = await town.newcomer("user")
    peer = client_of("mobileimsdk-ws", "127.20.0.1")
    await peer.open(town.daemon.ports["mobileimsdk-ws"])
    await peer.log_in(name, town.secret)
    try:
        assert await ban(town, "127.20.0.1") == 1
        async with asyncio.timeout(10):
            await peer.gone.wait()
    finally:
        peer.close()
        await ctl(town, "unban", "127.20.0.1")


async def come_again(town: Town) -> None:
    name = await town.newcomer("user")
    try:
        await ban(town, "127.21.0.0/16")
        for wire in WIRES:
            assert not await comes_in(town, wire, name, "127.21.0.7"), wire
    finally:
        await unban(town, "127.21.0.0/16")
    assert await comes_in(town, "chatserver", name, "127.21.0.7")


async def wait_for_the_end(town: Town) -> None:
    name = await town.newcomer("user")
    begun = time.monotonic()
    try:
        await ban(town, "127.22.0.1", "--for", "6s")
        assert not await comes_in(town, "chatserver", name, "127.22.0.1")
        while not await comes_in(town, "chatserver", name, "127.22.0.1"):
            assert time.monotonic() - begun < 25
            await asyncio.sleep(0.2)
        assert time.monotonic() - begun > 1
    finally:
        await ctl(town, "unban", "127.22.0.1")


async def go_to_the_other_worker(town: Town) -> None:
    """At once: before a worker could have found the ban in the store by itself."""
    name = await town.newcomer("user")
    try:
        await ban(town, "127.23.0.0/16")
        came = await asyncio.gather(*(comes_in(town, "chatserver", name, f"127.23.0.{n}") for n in range(1, 13)))
        assert not any(came)
    finally:
        await ctl(town, "unban", "127.23.0.0/16")


async def hide_behind_a_balancer(town: Town) -> None:
    name = await town.newcomer("user")
    try:
        await ban(town, "198.51.100.0/24")
        assert not await through_balancer(town, name, "198.51.100.9")
        assert await through_balancer(town, name, "203.0.113.9")
    finally:
        await unban(town, "198.51.100.0/24")
    assert await through_balancer(town, name, "198.51.100.9")


ATTACKS: dict[str, Attack] = {
    "connections_stay": stay,
    "new_ones_come": come_again,
    "bans_never_end": wait_for_the_end,
    "other_workers_are_not_told": go_to_the_other_worker,
    "nobody_looks_at_the_client_behind_a_balancer": hide_behind_a_balancer,
}
"""By the bug (tests.acting.planted) that lets it succeed."""
