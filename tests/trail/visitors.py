"""Clients that come to be recorded: they log in, guess and register, each from an address of its own.

Owns: attempt() and register(), over any wire, and trail(), which reads the records back.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conversations.asking import PEERS
from tests.harness import chatserver
from tests.harness.daemon import Daemon
from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.peer import NulPeer, Peer

WIRES = ("chatserver", "mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws")

Record = dict[str, Any]


def client_of(wire: str, source: str) -> Any:
    peer: Peer = NulPeer() if wire == "chatserver" else PEERS[wire]()  # type: ignore[index]
    peer.source = source
    return peer


async def attempt(daemon: Daemon, wire: str, name: str, password: str, source: str) -> int:
    """One login over a connection of its own; the code of its answer, 0 = logged in."""
    peer = client_of(wire, source)
    await peer.open(daemon.ports[wire])
    try:
        if wire == "chatserver":
            peer.put({"msgid": chatserver.LOGIN, "name": name, "password": password})
            return int((await peer.find(msgid=chatserver.LOGIN_ACK))["errno"])
        await peer.log_in(name, password)
    except LoginRefused as refused:
        return refused.code
    finally:
        peer.close()
    return 0


async def guess(daemon: Daemon, source: str, times: int, wire: str = "chatserver", name: str = "alice") -> None:
    """Wrong passwords, several connections at a time."""
    for begun in range(0, times, 20):
        some = range(begun, min(begun + 20, times))
        codes = await asyncio.gather(*(attempt(daemon, wire, name, f"wrong-{n}", source) for n in some))
        assert 0 not in codes


async def register(daemon: Daemon, name: str, password: str, source: str = "") -> int:
    """The code of the answer."""
    peer = client_of("chatserver", source)
    await peer.open(daemon.ports["chatserver"])
    try:
        peer.put({"msgid": chatserver.REGISTER, "name": name, "password": password})
        return int((await peer.find(msgid=chatserver.REGISTER_ACK))["errno"])
    except ConnectionGone:
        return -1
    finally:
        peer.close()


def trail(daemon: Daemon, *events: str) -> list[Record]:
    """The records of the security trail, or of these events, in their order."""
    return [
        one
        for one in daemon.records("normal.log")
        if one.get("security") in (events or (one.get("security"),)) and "security" in one
    ]
