"""A bad network for datagrams: a UDP proxy on loopback that loses, doubles and delays by a seeded die.

Owns: LossyNetwork. Every client address gets a socket of its own towards the server, as a NAT would do; `rebind` gives
everybody new ones.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from tests.harness.datagrams import source

DELAY_S = 0.05


class LossyNetwork:
    """loss, doubling, delay: the chance of each for one datagram, either way. Delayed ones are overtaken by others.

    fates counts what became of them."""

    def __init__(
        self, server_port: int, seed: int, loss: float = 0.2, doubling: float = 0.1, delay: float = 0.2
    ) -> None:
        self.server = ("127.0.0.1", server_port)
        self.die = random.Random(seed)
        self.loss, self.doubling, self.delay = loss, doubling, delay
        self.fates: Counter[str] = Counter()
        self.port = 0
        self._inside: asyncio.DatagramTransport | None = None
        self._outside: dict[object, asyncio.DatagramTransport] = {}
        self._opening: set[asyncio.Task[None]] = set()

    async def open(self) -> LossyNetwork:
        loop = asyncio.get_running_loop()
        self._inside, _ = await loop.create_datagram_endpoint(lambda: _Inside(self), local_addr=("127.0.0.1", 0))
        self.port = self._inside.get_extra_info("sockname")[1]
        return self

    def close(self) -> None:
        self.rebind()
        if self._inside is not None:
            self._inside.close()

    def rebind(self) -> None:
        """Forget every address: the next datagram of a client leaves from another one."""
        for transport in self._outside.values():
            transport.close()
        self._outside.clear()

    def outwards(self, data: bytes, client: object) -> None:
        transport = self._outside.get(client)
        if transport is not None:
            self._throw(transport, data, None)
            return
        task = asyncio.get_running_loop().create_task(self._connect(data, client))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, data: bytes, client: object) -> None:
        if client not in self._outside:
            loop = asyncio.get_running_loop()
            made, _ = await loop.create_datagram_endpoint(
                lambda: _Outside(self, client), remote_addr=self.server, local_addr=source(self.server[0])
            )
            if client in self._outside:
                made.close()
            else:
                self._outside[client] = made
        self._throw(self._outside[client], data, None)

    def inwards(self, data: bytes, client: object) -> None:
        if self._inside is not None:
            self._throw(self._inside, data, client)

    def _throw(self, transport: asyncio.DatagramTransport, data: bytes, to: object) -> None:
        if self.die.random() < self.loss:
            self.fates["lost"] += 1
            return
        copies = 1 + (self.die.random() < self.doubling)
        self.fates["doubled"] += copies - 1
        for _ in range(copies):
            if self.die.random() < self.delay:
                self.fates["delayed"] += 1
                delay_s = self.die.uniform(0, DELAY_S)
                asyncio.get_running_loop().call_later(delay_s, _send, transport, data, to)
            else:
                self.fates["sent"] += 1
                _send(transport, data, to)


def _send(transport: asyncio.DatagramTransport, data: bytes, to: object) -> None:
    if not transport.is_closing():
        transport.sendto(data, to)  # type: ignore[arg-type]


class _Inside(asyncio.DatagramProtocol):
    def __init__(self, network: LossyNetwork) -> None:
        self.network = network

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.network.outwards(data, addr)


class _Outside(asyncio.DatagramProtocol):
    def __init__(self, network: LossyNetwork, client: object) -> None:
        self.network, self.client = network, client

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.network.inwards(data, self.client)

    def error_received(self, exc: Exception) -> None:
        """The server was not there for a moment: lost."""
        self.network.fates["lost"] += 1
