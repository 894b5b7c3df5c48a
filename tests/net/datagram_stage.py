"""The stage of the UDP listener's tests: a real socket on loopback, a small core that is slow when told to be.

Owns: Stage (a listener, clients with sockets of their own), SmallConnections and SmallCore, which keep to
what net.udp calls.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from chatd.address_bans import AddressBans
from chatd.config.schema import Config, LimitOptions, ListenerOptions
from chatd.core.sessions.session import Session
from chatd.errors import MEANINGS, Disconnect, ErrorCode
from chatd.model import User
from chatd.net.admission import Refusal
from chatd.net.udp.listener import UdpListener
from chatd.net.udp.peer import UdpPeer
from chatd.protocol import (
    Accepted,
    Command,
    Draining,
    Echo,
    Echoed,
    Failed,
    KeepAlive,
    KeptAlive,
    Login,
    LoginAccepted,
    Malformed,
    SendMessage,
)
from chatd.wire.mobileimsdk.codec import Framing, MobileimsdkCodec
from tests.harness.deadline import run

LISTEN = ListenerOptions(protocol="mobileimsdk", address="udp://127.0.0.1:0")


class SmallCore:
    """Lets in a client whose token is "yes"; messages to "slow" take until `gate` is set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.handled: list[Command] = []

    def handle(self, peer: UdpPeer, command: Command) -> Awaitable[None] | None:
        self.handled.append(command)
        match command:
            case Login():
                return self._login(peer, command)
            case SendMessage(to_name="slow"):
                return self._slow(peer, command)
            case SendMessage():
                peer.push(Accepted(command, 1, 2))
            case KeepAlive():
                peer.push(KeptAlive())
            case Echo(raw):
                peer.push(Echoed(raw))
            case Malformed(code, text):
                peer.push(Failed(code, text, command))
        return None

    async def _login(self, peer: UdpPeer, command: Login) -> None:
        await self.gate.wait()
        if peer.closed:
            return
        if command.secret == "yes":
            user = User(7, command.name)
            peer.session = Session(user, peer, 77)
            peer.push_login(LoginAccepted(user, 77))
        else:
            peer.push(Failed(ErrorCode.BAD_CREDENTIALS, "no", command))
            peer.close(Disconnect.LOGIN_REFUSED)

    async def _slow(self, peer: UdpPeer, command: SendMessage) -> None:
        await self.gate.wait()
        peer.push(Accepted(command, 1, 2))


class SmallConnections:
    """What a listener needs of net.connections.Connections."""

    def __init__(self, **limits: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.core = SmallCore()
        self.handle = self.core.handle
        self.ends: list[tuple[str, Disconnect]] = []
        self.turned_away = 0
        self.bans = AddressBans()
        self.tasks: set[asyncio.Task[None]] = set()
        self._config = Config(limits=LimitOptions(**limits))

    def config(self) -> Config:
        return self._config

    async def is_same_user(self, session: Session, command: Login) -> bool:
        return command.name.casefold() == session.user.name.casefold()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def ended(self, peer: UdpPeer, reason: Disconnect) -> None:
        self.ends.append((peer.session.user.name if peer.session else "", reason))
        peer.session = None

    def failure(self, code: ErrorCode, text: str = "", *, command: Command | None = None, ref: int = 0) -> Failed:
        return Failed(code, text or MEANINGS[code].text, command, ref)

    def count_refused(self) -> None:
        self.turned_away += 1

    def count_full(self) -> None:
        self.count_refused()

    def refused(self, refusal: Refusal) -> None:
        self.turned_away += 1


class Client:
    def __init__(self, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        self.sock.connect(("127.0.0.1", port))

    def put(self, **packet: object) -> int:
        data = json.dumps({name.rstrip("_"): value for name, value in packet.items()}).encode()
        self.sock.send(data)
        return len(data)

    def login(self, name: str = "alice", secret: str = "yes", **more: object) -> int:
        body = json.dumps({"loginUserId": name, "loginToken": secret, "firstLoginTime": 0})
        return self.put(type=0, dataContent=body, from_=name, to="0", **more)

    def message(self, text: str, to: str = "bob") -> None:
        self.put(type=2, dataContent=text, from_="alice", to=to, fp=text, QoS=True)

    def heard(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.sock.recv(65536))
            except BlockingIOError:
                return found

    async def take(self) -> dict[str, Any]:
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 65536), 5)
        found: dict[str, Any] = json.loads(data)
        return found


class Stage:
    def __init__(self, **limits: int) -> None:
        self.connections = SmallConnections(**limits)
        self.core = self.connections.core
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        self.port = sock.getsockname()[1]
        self.listener = UdpListener(self.connections, LISTEN, sock, make_codec)  # type: ignore[arg-type]
        self.clients: list[Client] = []

    def client(self) -> Client:
        self.clients.append(Client(self.port))
        return self.clients[-1]

    async def logged_in(self, name: str = "alice") -> Client:
        client = self.client()
        client.login(name)
        assert (await client.take())["type"] == 50
        return client

    def peer(self) -> UdpPeer:
        (peer,) = self.listener.peers.values()
        return peer

    async def taken(self) -> None:
        """Until everything sent so far has been read: a client without a session is answered last."""
        self.listener.limiter.next_second()
        client = self.client()
        client.put(type=5, dataContent="  ", from_="x", to="0", sm=-1)
        assert (await client.take())["type"] == 53


def make_codec(listen: ListenerOptions) -> MobileimsdkCodec:
    return MobileimsdkCodec(1024, 4096, 64, framing=Framing(prefixed=False, receive_bytes=6144))


@asynccontextmanager
async def stage(**limits: int) -> AsyncIterator[Stage]:
    made = Stage(**limits)
    try:
        yield made
    finally:
        if made.listener.sock.fileno() >= 0:
            await made.listener.drain(Draining(0, 0))
        for client in made.clients:
            client.sock.close()


def played(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run(story(), 20)
