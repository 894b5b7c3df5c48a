"""The WebSocket connection by itself: a real socket on loopback, a small core."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from websockets.frames import Frame, Opcode

from chatd.config.schema import Config, LimitOptions
from chatd.core.sessions.session import Session
from chatd.errors import MEANINGS, Disconnect, ErrorCode
from chatd.model import Protocol, User
from chatd.net.admission import Admission
from chatd.net.websocket.connection import WebSocketConnection, WebSocketProfile
from chatd.net.websocket.handshake import UpgradePolicy
from chatd.protocol import Command, Echo, Echoed, Event, Failed, KeepAlive, KeptAlive, LoginAccepted, Malformed
from chatd.wire.mobileimsdk.codec import APART, MobileimsdkCodec
from chatd.wire.skipped import MAX_SKIPPED_BYTES_PER_S, MAX_SKIPPED_FRAME_BYTES
from tests.harness.deadline import run, until, within
from tests.net.house import acknowledged

HANDSHAKE = (
    b"GET /websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LIMIT = 65_536


class SmallCore:
    """Echo is served at once, a keep-alive when `gate` is set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.handled: list[Command] = []

    def handle(self, peer: WebSocketConnection, command: Command) -> Awaitable[None] | None:
        self.handled.append(command)
        if isinstance(command, Echo):
            peer.push(Echoed(command.raw))
        if isinstance(command, KeepAlive):
            return self._slow(peer)
        return None

    async def _slow(self, peer: WebSocketConnection) -> None:
        await self.gate.wait()
        peer.push(KeptAlive())


class SmallConnections:
    """What a connection needs of net.connections.Connections."""

    def __init__(self, **limits: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.core = SmallCore()
        self.handle = self.core.handle
        self.pings = 1 << 60
        """How many may_ask() admits."""
        self.members: set[WebSocketConnection] = set()
        self.add, self.remove = self.members.add, self.members.discard
        self.ends: list[Disconnect] = []
        self._config = Config(limits=LimitOptions(**limits))
        self.admission = Admission(self.config)
        self._tasks: set[asyncio.Task[None]] = set()

    def config(self) -> Config:
        return self._config

    def may_ask(self, session: Session) -> bool:
        self.pings -= 1
        return self.pings >= 0

    def failure(self, code: ErrorCode, text: str = "", *, command: Command | None = None, ref: int = 0) -> Failed:
        return Failed(code, text or MEANINGS[code].text, command, ref)

    def dirty(self, connection: WebSocketConnection) -> None:
        self.loop.call_soon(connection.flush)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def ended(self, connection: WebSocketConnection, reason: Disconnect) -> None:
        self.ends.append(reason)


class CountedConnection(WebSocketConnection):
    """writes: the size of each write to the transport."""

    writes: list[int]

    def flush(self) -> None:
        before = self.written
        super().flush()
        if self.written > before:
            self.writes.append(self.written - before)


@asynccontextmanager
async def connected(**limits: int) -> AsyncIterator[tuple[SmallConnections, CountedConnection, socket.socket]]:
    """A connection that has answered its handshake, and the client's end of its socket."""
    loop = asyncio.get_running_loop()
    server = SmallConnections(**limits)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname())
        sock, _ = listener.accept()
    sock.setblocking(False)
    codec = MobileimsdkCodec(LIMIT, 4096, 64, framing=APART)
    profile = WebSocketProfile(
        listener="ws://127.0.0.1:0/websocket",
        protocol=Protocol.MOBILEIMSDK,
        silence_s=0.0,
        upgrades=UpgradePolicy("/websocket", ()),
        max_message_bytes=LIMIT,
    )
    connection = CountedConnection(server, profile, codec, sock, "test")  # type: ignore[arg-type]
    connection.writes = []
    await loop.connect_accepted_socket(lambda: connection, sock)
    try:
        await loop.sock_sendall(client, HANDSHAKE)
        assert (await loop.sock_recv(client, 4096)).startswith(b"HTTP/1.1 101 ")
        yield server, connection, client
    finally:
        client.close()
        if connection.transport is not None:
            connection.transport.abort()


def text(packet: object) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(packet).encode()).serialize(mask=True)


def echo(what: str) -> bytes:
    return text({"type": 5, "dataContent": what})


def echoed(what: str) -> Event:
    return Echoed(json.dumps({"type": 5, "dataContent": what}).encode())


async def read_all(client: socket.socket, limit_s: float = 10.0) -> bytes:
    loop = asyncio.get_running_loop()
    found = b""
    while data := await within(limit_s, "the rest", loop.sock_recv(client, 65536)):
        found += data
    return found


def test_the_frames_of_a_turn_go_out_in_one_write() -> None:
    async def story() -> None:
        async with connected() as (_, connection, client):
            connection.writes.clear()
            ping = Frame(Opcode.PING, b"p").serialize(mask=True)
            await asyncio.get_running_loop().sock_sendall(client, echo("a") + ping + echo("b" * 200))
            await until(5, "answers", lambda: connection.writes)
            assert len(connection.writes) == 1

    run(story())


def test_acknowledged_counts_the_bytes_on_the_wire() -> None:
    """Answer to the handshake and frames' headers included, or a message would count as delivered too early."""

    async def story() -> None:
        async with connected() as (_, connection, client):
            handshake = connection.written
            assert acknowledged(connection) == handshake > 100
            offset = connection.push(echoed("x" * 500))
            assert offset - handshake == 4 + len(
                json.dumps({"type": 53, "dataContent": "x" * 500}, separators=(",", ":"))
            )
            assert acknowledged(connection) == handshake
            await until(5, "acknowledged by the kernel", lambda: acknowledged(connection) == offset)
            assert len(await asyncio.get_running_loop().sock_recv(client, 65536)) == offset - handshake

    run(story())


def test_what_follows_a_slow_command_waits_for_it() -> None:
    """Pings too: the order of the bytes is the order of the answers."""

    async def story() -> None:
        async with connected() as (server, _, client):
            loop = asyncio.get_running_loop()
            ping = Frame(Opcode.PING, b"p").serialize(mask=True)
            await loop.sock_sendall(client, text({"type": 1}) + ping + echo("after"))
            await until(5, "the slow command", lambda: server.core.handled)
            await loop.sock_sendall(client, echo("later"))
            server.core.gate.set()
            await until(5, "all of them", lambda: len(server.core.handled) == 3)
            received = b""
            while b"later" not in received:
                received += await within(5, "the answers", loop.sock_recv(client, 65536))
            places = [received.find(what) for what in (b'"type":51', b"\x8a\x01p", b"after", b"later")]
            assert -1 not in places
            assert places == sorted(places)

    run(story())


def test_nothing_is_said_after_the_close_frame() -> None:
    async def story() -> None:
        async with connected() as (server, connection, client):
            connection.push(echoed("the last word"))
            connection.close(Disconnect.KICKED_BY_ADMIN)
            connection.push(echoed("too late"))
            connection.close(Disconnect.SILENT)
            received = await read_all(client)
            assert b"the last word" in received
            reason = Disconnect.KICKED_BY_ADMIN.text.encode()
            assert received.endswith(bytes([0x88, 2 + len(reason)]) + (4002).to_bytes(2, "big") + reason)
            assert server.ends == [Disconnect.KICKED_BY_ADMIN]

    run(story())


def test_a_peer_that_reads_again_gets_everything_before_the_close() -> None:
    """What waited because the peer did not read is sent before the end, not dropped and not after it."""

    async def story() -> None:
        async with connected(outbox_bytes=16 * 1024 * 1024) as (_, connection, client):
            count = 0
            while not connection.stalled_at:
                connection.push(echoed(f"{count} " + "x" * 20_000))
                count += 1
                await asyncio.sleep(0)
            for _ in range(5):
                connection.push(echoed(f"{count} " + "x" * 20_000))
                count += 1
            connection.close(Disconnect.DRAINING)
            received = await read_all(client)
            assert received.count(b'"type":53') == count
            assert (1012).to_bytes(2, "big") + Disconnect.DRAINING.text.encode() in received[-100:]

    run(story())


def test_pings_are_answered_no_faster_than_commands_may_come() -> None:
    async def story() -> None:
        async with connected() as (server, connection, client):
            server.pings = 10
            connection.session = Session(User(1, "alice"), connection, 77)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, Frame(Opcode.PING, b"p").serialize(mask=True) * 50 + text({"type": 5}))
            await until(5, "all of them", lambda: server.pings == -40)
            received = await within(5, "the answers", loop.sock_recv(client, 65536))
            assert received.count(b"\x8a\x01p") == 10
            assert len(server.core.handled) == 1, "a command is core's to count"

    run(story())


def test_messages_over_the_limit_are_skipped_again_every_second() -> None:
    async def story() -> None:
        async with connected() as (server, connection, client):
            loop = asyncio.get_running_loop()
            user = User(7, "alice")
            connection.session = Session(user, connection, 77)
            connection.push_login(LoginAccepted(user, 77))
            for second in range(3):
                for number in range(MAX_SKIPPED_BYTES_PER_S // MAX_SKIPPED_FRAME_BYTES):
                    fp = f"{second}-{number}"
                    size = MAX_SKIPPED_FRAME_BYTES - 100
                    await loop.sock_sendall(client, text({"type": 2, "dataContent": "x" * size, "to": "b", "fp": fp}))
                done = 2 * (second + 1)
                await until(5, "they are refused", lambda done=done: len(server.core.handled) == done)
                connection.overdue(loop.time())
            refused = [(one.code, one.fp) for one in server.core.handled if isinstance(one, Malformed)]
            assert refused == [(ErrorCode.TOO_LONG, f"{second}-{number}") for second in range(3) for number in range(2)]
            assert not connection.closed

    run(story())
