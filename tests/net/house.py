"""One worker's core and server with real sockets, on the loop of the test.

The clients are on the same loop, so a step of one side is never overtaken by luck; what a test waits for, it waits for
with a deadline. `ticking` False stops the worker's clock: then nothing is swept, resent or found overdue.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from chatd.codecs import make_codec
from chatd.config.account_options import AccountOptions
from chatd.config.schema import Config, LimitOptions, ListenerOptions, TimeoutOptions
from chatd.core.core import Core
from chatd.core.parts import CoreParts
from chatd.net.acceptor import Acceptor, Listener
from chatd.net.connection import Connection
from chatd.net.connections import Connections
from chatd.net.receipts import tcp_state
from chatd.penalty_table import PenaltyTable
from chatd.scoreboard import ROW_BYTES, Row, State
from chatd.store.open import StoreLocation, open_tables
from tests.core.exchange import Exchange
from tests.core.stage import NO_RATES
from tests.harness.chatserver import LOGIN, LOGIN_ACK
from tests.harness.deadline import run, until
from tests.harness.mobileimsdk import MobilePeer
from tests.harness.peer import Frame, NulPeer

T = TypeVar("T")
OPEN = AccountOptions(login="open", insecure_open_login=True, argon2_memory_kib=1024, argon2_passes=1)
LISTEN = {
    "chatserver": ListenerOptions(protocol="chatserver", address="tcp://127.0.0.1:0"),
    "mobileimsdk": ListenerOptions(protocol="mobileimsdk", address="tcp://127.0.0.1:0"),
    "echo": ListenerOptions(protocol="echo", address="tcp://127.0.0.1:0"),
}
TICK_S = 0.02


class House:
    def __init__(
        self, directory: Path, limits: LimitOptions, timeouts: TimeoutOptions, exchange: Exchange | None = None
    ) -> None:
        self.config = Config(accounts=OPEN, limits=limits, timeouts=timeouts)
        self.row = Row(memoryview(bytearray(ROW_BYTES)).cast("q"))
        self.row.state = State.READY
        loop = asyncio.get_running_loop()
        self._penalty_table = PenaltyTable(sets=8)
        self.core = Core(
            CoreParts(
                tables=open_tables(StoreLocation(path=directory / "chatd.db"), 2.0, create=True),
                bus=(exchange or Exchange()).bus(),
                config=lambda: self.config,
                row=self.row,
                penalty_table=self._penalty_table,
                loop=loop,
            )
        )
        self.connections = Connections(self.core, lambda: self.config, self.row, loop)
        self.acceptor = Acceptor(self.connections, make_codec, (self.row,), 0)
        self.unix = str(directory / "listener")
        self.ports: dict[str, int] = {}
        self.ticking = True

    async def open(self) -> None:
        await self.core.open()
        listeners = []
        for name, listen in LISTEN.items():
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            self.ports[name] = sock.getsockname()[1]
            listeners.append(Listener(listen, sock))
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(self.unix)
        listeners.append(Listener(msgspec.structs.replace(LISTEN["chatserver"], address=f"unix:{self.unix}"), sock))
        for listener in listeners:
            listener.sock.listen(100)
            listener.sock.setblocking(False)
        self.acceptor.open(listeners)

    async def close(self) -> None:
        self.acceptor.shut()
        for connection in tuple(self.connections.members):
            connection.abort()
        await until(5, "every connection is gone", lambda: not self.connections.members)
        await self.core.store.settle()
        self.core.store.close()
        self._penalty_table.close()

    async def clock(self) -> None:
        """A worker's, faster: a round at every tick."""
        while True:
            await asyncio.sleep(TICK_S)
            if self.ticking:
                self.core.tick()
                self.connections.tick()
                self.connections.round()

    # ---------------------------------------------------------------- clients

    async def raw(self, receive_buffer: int = 0) -> NulPeer:
        peer = NulPeer()
        await peer.open(self.ports["chatserver"], receive_buffer=receive_buffer)
        return peer

    async def streaming(self, name: str, receive_buffer: int = 0) -> NulPeer:
        """A client that splits the stream, logged in. What waited comes first in its frames."""
        peer = await self.raw(receive_buffer)
        peer.put({"msgid": LOGIN, "name": name, "password": "", "framing": "nul"})
        answer = await peer.find(msgid=LOGIN_ACK)
        assert answer["errno"] == 0, answer
        peer.frames.extendleft(json.loads(text) for text in reversed(answer.get("offlinemsg", [])))
        return peer

    async def mobile(self, name: str) -> MobilePeer:
        peer = MobilePeer()
        await peer.open(self.ports["mobileimsdk"])
        await peer.log_in(name, "")
        return peer

    def of(self, name: str) -> Connection:
        """The connection that this user is logged in on."""
        (found,) = [one for one in self.connections.members if one.session and one.session.user.name == name]
        assert isinstance(found, Connection)
        return found

    async def stored(self, sender: NulPeer, name: str, texts: list[str]) -> list[Frame]:
        """Send all of them; returns when all are durable."""
        for number, text in enumerate(texts):
            sender.put({"msgid": 6, "toname": name, "msg": text, "fp": f"{name} {text[:20]} {number}"})
        return [await sender.find(msgid=13) for _ in texts]


def acknowledged(connection: Connection) -> int:
    """How many of the bytes written the client's kernel has, read or not."""
    state = tcp_state(connection.sock)
    assert state is not None
    return state.acknowledged


@asynccontextmanager
async def opened(directory: Path, limits: LimitOptions, timeouts: TimeoutOptions) -> AsyncIterator[House]:
    house = House(directory, limits, timeouts)
    await house.open()
    clock = asyncio.create_task(house.clock())
    try:
        yield house
    finally:
        clock.cancel()
        await house.close()


def play(
    directory: Path,
    story: Callable[[House], Coroutine[Any, Any, T]],
    limits: LimitOptions | None = None,
    timeouts: TimeoutOptions | None = None,
) -> T:
    async def whole() -> T:
        async with opened(directory, limits or NO_RATES, timeouts or TimeoutOptions()) as house:
            return await story(house)

    return run(whole(), 60.0)
