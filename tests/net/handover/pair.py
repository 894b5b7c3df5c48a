"""Two workers on the loop of the test: one with clients, and its successor, with the pair of sockets between them.

They share a store, an exchange and their listening sockets, as two processes would. The clients are on the same loop.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from chatd.codecs import make_datagram_codec
from chatd.config.schema import LimitOptions, ListenerOptions, TimeoutOptions
from chatd.net.acceptor import Listener
from chatd.net.handover.predecessor import Moves, Predecessor
from chatd.net.handover.successor import Successor
from chatd.net.udp.listener import UdpListener
from tests.core.exchange import Exchange
from tests.core.stage import NO_RATES
from tests.harness.deadline import run, within
from tests.net.house import LISTEN, House

T = TypeVar("T")
WEBSOCKET = ListenerOptions(protocol="mobileimsdk", address="ws://127.0.0.1:0/websocket")
DATAGRAMS = ListenerOptions(protocol="mobileimsdk", address="udp://127.0.0.1:0")
BALANCED = ListenerOptions(protocol="mobileimsdk", address="tcp://127.0.0.1:0", proxy_from=("127.0.0.1",))
HANDOVER_S = 30.0


class PairedHouse(House):
    """A house whose listening sockets another one can share. udp: its listener, once it is open."""

    udp: UdpListener

    async def open_sharing(self, sockets: dict[str, tuple[ListenerOptions, socket.socket]], *, reads: bool) -> None:
        await self.core.open()
        listeners = []
        for name, (options, sock) in sockets.items():
            mine = sock.dup()
            mine.setblocking(False)
            if name == "udp":
                self.ports[name] = sock.getsockname()[1]
                self.udp = UdpListener(
                    self.connections,
                    options,
                    mine,
                    lambda listen: make_datagram_codec(listen, self.config),
                    is_reading=reads,
                )
                self.connections.attach(self.udp)
                continue
            if sock.family == socket.AF_INET:
                self.ports[name] = sock.getsockname()[1]
            listeners.append(Listener(options, mine))
        self.acceptor.open(listeners)

    async def close(self) -> None:
        await super().close()
        if "udp" in self.ports:
            self.udp.close()


def bound(directory: Path) -> dict[str, tuple[ListenerOptions, socket.socket]]:
    """Every kind of listening socket."""
    found: dict[str, tuple[ListenerOptions, socket.socket]] = {}
    for name, options in {**LISTEN, "websocket": WEBSOCKET, "balanced": BALANCED}.items():
        sock = socket.create_server(("127.0.0.1", 0))
        address = options.address.replace(":0", f":{sock.getsockname()[1]}")
        found[name] = msgspec.structs.replace(options, address=address), sock
    path = str(directory / "shared")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(100)
    found["unix"] = msgspec.structs.replace(LISTEN["chatserver"], address=f"unix:{path}"), sock
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
    found["udp"] = DATAGRAMS, udp
    return found


class Pair:
    """old: has the clients. new: succeeds it, from the start of hand_over() on. third: on the same bus and store."""

    def __init__(self, directory: Path, exchange: Exchange, limits: LimitOptions, timeouts: TimeoutOptions) -> None:
        self.exchange = exchange
        self.old = PairedHouse(directory, limits, timeouts, exchange)
        self.new = PairedHouse(directory, limits, timeouts, exchange)
        self.third = PairedHouse(directory, limits, timeouts, exchange)
        self.successor: Successor | None = None
        """Once the handover has begun."""
        self.socket: socket.socket | None = None
        """The predecessor's end of the pair."""
        self._sockets = bound(directory)

    async def hand_over(self) -> Moves:
        """All of it."""
        return await within(HANDOVER_S, "the handover", self.begin())

    async def open(self) -> None:
        await self.old.open_sharing(self._sockets, reads=True)
        await self.third.open()

    async def close(self) -> None:
        for house in (self.old, self.new, self.third):
            await house.close()
        if self.successor is not None:
            self.successor.close()
        if self.socket is not None:
            self.socket.close()
        for _, sock in self._sockets.values():
            sock.close()

    async def begin(self) -> Moves:
        await self.new.open_sharing(self._sockets, reads=False)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        new, old = self.new, self.old
        self.socket = theirs
        self.successor = Successor(new.core.arrivals, new.connections, new.acceptor, [new.udp], ours)
        self.successor.open()
        old.acceptor.close_listeners()
        return await Predecessor(old.core.departures, old.connections, [old.udp], theirs).run()


@asynccontextmanager
async def opened(directory: Path, limits: LimitOptions, timeouts: TimeoutOptions) -> AsyncIterator[Pair]:
    pair = Pair(directory, Exchange(), limits, timeouts)
    await pair.open()
    clocks = [asyncio.create_task(house.clock()) for house in (pair.old, pair.new, pair.third)]
    try:
        yield pair
    finally:
        for clock in clocks:
            clock.cancel()
        await pair.close()


def play(
    directory: Path,
    story: Callable[[Pair], Coroutine[Any, Any, T]],
    limits: LimitOptions | None = None,
    timeouts: TimeoutOptions | None = None,
) -> T:
    async def whole() -> T:
        async with opened(directory, limits or NO_RATES, timeouts or TimeoutOptions()) as pair:
            return await story(pair)

    return run(whole(), 60.0)
