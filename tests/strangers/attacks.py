"""Attacks of strangers on a daemon, each an assertion that it did not succeed.

Owns: the attacks, so that the same one finds nothing in chatd as it is, and something in chatd with a guard switched
off (test_attacks, test_planted_bugs).
Fails: AssertionError, TimeoutError or ConnectionGone when the attack succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import psutil

from chatd.errors import ErrorCode
from tests.harness import chatserver
from tests.harness.daemon import Daemon
from tests.harness.datagrams import DatagramPeer, TokenPeer, forge
from tests.harness.deadline import until
from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.mobileimsdk import ERROR, KICKED, LOGIN_ANSWER, MobilePeer, content
from tests.harness.peer import LengthPeer, NulPeer, Peer
from tests.harness.person import Town
from tests.harness.websocket import Refused, WebPeer
from tests.trail.visitors import attempt

ATTACKER, USER = "127.0.0.2", "127.0.0.3"
STREAMS = ("chatserver", "mobileimsdk", "mobileimsdk-ws")
WIRES = (*STREAMS, "mobileimsdk-udp")
REQUEST = b"GET /websocket HTTP/1.1\r\nHost: chat\r\nUpgrade: websocket\r\n"
SECURE = ("chatserver-tls", "mobileimsdk-tls", "mobileimsdk-wss")
HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""The beginning of a TLS handshake."""
HALF = {
    "chatserver": b'{"msgid":1,"name":"a',
    "mobileimsdk": b"\0\0\1\0{",
    "mobileimsdk-ws": REQUEST,
    **dict.fromkeys(SECURE, HALF_HELLO),
}
LOGIN_S = 5.0
"""How long a login may take during an attack; alone it takes a few milliseconds."""

Attack = Callable[[Daemon], Awaitable[None]]


def memory(daemon: Daemon) -> int:
    """Bytes, of all workers."""
    return sum(psutil.Process(pid).memory_info().rss for pid in daemon.workers())


# ---------------------------------------------------------------- holding connections


@dataclass
class Holder:
    """Opens connections from one address, as many as it is let, and opens another one for each that is ended."""

    daemon: Daemon
    wires: tuple[str, ...] = STREAMS
    held: list[socket.socket] = field(default_factory=list)
    opened: int = 0

    def connect(self, wire: str, first: bytes = b"") -> None:
        """first: what is sent; then nothing more."""
        sock = socket.socket()
        try:
            sock.bind((ATTACKER, 0))
            sock.settimeout(2)
            sock.connect(("127.0.0.1", self.daemon.ports[wire]))
            sock.sendall(first)
            sock.setblocking(False)
        except OSError:
            sock.close()
            return
        self.opened += 1
        self.held.append(sock)

    def prune(self) -> None:
        """Forget the connections that the server has ended."""
        kept = []
        for sock in self.held:
            if is_open(sock):
                kept.append(sock)
            else:
                sock.close()
        self.held = kept

    async def fill(self, count: int) -> None:
        """Hold `count` connections if possible: silent ones, half requests, handshakes that have begun."""
        for number in range(count):
            wire = self.wires[number % len(self.wires)]
            self.connect(wire, HALF[wire] if number % 2 else b"")
            if number % 20 == 19:
                await asyncio.sleep(0)

    async def go_on(self, keep: int) -> None:
        while True:
            self.prune()
            await self.fill(keep - len(self.held))
            await asyncio.sleep(0.02)

    def close(self) -> None:
        for sock in self.held:
            sock.close()


def is_open(sock: socket.socket) -> bool:
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def hold_every_connection(daemon: Daemon) -> None:
    """One address holds all connections that it can get; a user from another one logs in on every wire."""
    await Town(daemon).register("honest")
    secret = Town(daemon).secret
    before = memory(daemon)
    holder = Holder(daemon)
    await holder.fill(500)
    holding = asyncio.create_task(holder.go_on(500))
    try:
        for wire in WIRES:
            began = time.monotonic()
            code = await asyncio.wait_for(attempt(daemon, wire, "honest", secret, USER), LOGIN_S)
            assert code == 0, f"over {wire}: refused with {code}"
            assert time.monotonic() - began < LOGIN_S
        assert holder.opened > 500
        assert memory(daemon) - before < 60 * 1024 * 1024
    finally:
        holding.cancel()
        holder.close()


async def hold_every_handshake(daemon: Daemon) -> None:
    """The same at listeners with TLS: nothing is sent, or a handshake has only begun."""
    town = Town(daemon)
    people = [await town.settle(f"honest{number}", wire) for number, wire in enumerate(("mobile-tls", "web-tls"))]
    holder = Holder(daemon, SECURE)
    await holder.fill(500)
    holding = asyncio.create_task(holder.go_on(500))
    try:
        for person in people:
            await asyncio.wait_for(person.arrive(), LOGIN_S)
        assert holder.opened > 500
    finally:
        holding.cancel()
        holder.close()


async def take_more_than_a_share(daemon: Daemon, share: int = 20) -> None:
    """Connections that are logged in, or that busily ask, are not idle; but a source may not have more than its share
    of them."""
    town = Town(daemon)
    names = [await town.newcomer("greedy") for _ in range(share + 5)]
    peers: list[MobilePeer] = []
    refused = 0
    for name in names:
        peer = MobilePeer()
        peer.source = ATTACKER
        await peer.open(daemon.ports["mobileimsdk"])
        try:
            await peer.log_in(name, town.secret)
            peers.append(peer)
        except (LoginRefused, ConnectionGone):
            refused += 1
    assert len(peers) == share, f"one source has {len(peers)} connections"
    assert refused == 5
    assert await attempt(daemon, "mobileimsdk", names[0], town.secret, USER) == 0
    for peer in peers:
        peer.close()


async def who_is_refused_is_told(daemon: Daemon, wire: str, share: int = 20) -> None:
    """In the protocol's own terms, and it is temporary."""
    kept = []
    for _ in range(share):
        echo = socket.socket()
        echo.bind((ATTACKER, 0))
        echo.connect(("127.0.0.1", daemon.ports["echo"]))
        kept.append(echo)
    await until(10, "all are there", lambda: daemon.status()["workers"][0]["connections"] >= share, 0.1)
    if wire == "mobileimsdk-ws":
        web = WebPeer()
        web.source = ATTACKER
        with contextlib.suppress(Refused):
            await web.open(daemon.ports[wire])
            raise AssertionError("not refused")
    else:
        peer: Peer = NulPeer() if wire == "chatserver" else LengthPeer()
        peer.source = ATTACKER
        await peer.open(daemon.ports[wire])
        (answer,) = await peer.end()
        if wire == "chatserver":
            assert (answer["msgid"], answer["errno"]) == (chatserver.ERROR, ErrorCode.BUSY)
        else:
            assert (answer["type"], content(answer)["errorCode"]) == (ERROR, ErrorCode.BUSY)
            assert json.loads(content(answer)["errorMsg"])["temporary"] is True
    for sock in kept:
        sock.close()


# ---------------------------------------------------------------- much before the login


def login_with_a_tail(wire: str, tail: int) -> bytes:
    """A login whose password is checked, and behind it bytes that must wait for it."""
    if wire == "chatserver":
        return b'{"msgid":1,"name":"nobody","password":"x"}\0{"msgid":6,"msg":"' + b"x" * tail
    body = json.dumps({"loginUserId": "nobody", "loginToken": "x"})
    packet = json.dumps({"type": 0, "dataContent": body}).encode()
    return len(packet).to_bytes(4, "big") + packet + b"\0\1\0\0{" + b"x" * tail


async def send_much_before_the_login(daemon: Daemon) -> None:
    """A frame that only a user may send, and bytes without end behind a login."""
    for wire in ("chatserver", "mobileimsdk"):
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.ports[wire])
        begin = b'{"msgid":6,"msg":"' if wire == "chatserver" else (20_000).to_bytes(4, "big") + b'{"x":"'
        for _ in range(18):
            writer.write(begin + b"x" * 1000)
            begin = b""
            await asyncio.sleep(0.01)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert b"limit" in answer or b"too long" in answer, answer
        writer.close()
    for wire in ("chatserver", "mobileimsdk"):
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.ports[wire])
        writer.write(login_with_a_tail(wire, 60_000))
        answer = await asyncio.wait_for(reader.read(), 5)
        assert b"before it has logged in" in answer, answer
        writer.close()


# ---------------------------------------------------------------- forged datagrams


async def forge_datagrams(daemon: Daemon) -> None:
    """Everything that a forger could want, with the address of a client that has a token."""
    town = Town(daemon)
    alice, bob, mallory = [await town.newcomer(prefix) for prefix in ("alice", "bob", "mallory")]
    victim, reader = await town.with_token(alice), await town.on_mobile(bob)
    assert len(victim.token) == 24
    reader.say(bob, alice, "unread", "f-unread")
    assert (await victim.find(type=2))["dataContent"] == "unread"
    source = ("127.0.0.1", victim.address[1])
    to = ("127.0.0.1", daemon.ports["mobileimsdk-udp"])
    message = {"type": 2, "from": alice, "to": bob, "dataContent": "forged", "fp": "f-1", "QoS": True}
    packets = [
        TokenPeer().login_packet(mallory, town.secret),
        message,
        {"type": 4, "from": alice, "to": bob, "dataContent": "f-unread"},
        {"type": 1, "from": alice, "to": "0", "dataContent": "{}"},
        DatagramPeer().login_packet(mallory, town.secret),
        DatagramPeer().login_packet(alice, town.secret),
        TokenPeer().login_packet(alice, "wrong"),
        {"type": 3, "from": alice, "to": "0"},
    ]
    tokens = (b"", b"x" * 24, victim.token[:-1] + b"!", victim.token[:23])
    for packet in packets:
        for token in tokens:
            forge(source, to, token + json.dumps(packet).encode())
            await asyncio.sleep(0.01)
    await until(10, "they have come", lambda: daemon.status()["totals"]["datagrams_refused"] >= 20, 0.1)

    assert not victim.gone.is_set()
    victim.put({"type": 1, "from": alice, "to": "0", "dataContent": "{}"})
    heard = []
    while (packet := await victim.take())["type"] != 51:
        heard.append(packet)
    assert all(packet["type"] == 2 for packet in heard), f"the client was told {heard}"
    victim.say(alice, bob, "true", "f-2")
    assert (await reader.find(type=2))["dataContent"] == "true", "what was forged came first"
    victim.put({"type": 3, "from": alice, "to": "0"})
    other = await town.on_mobile(alice)
    assert (await other.find(type=2))["dataContent"] == "unread", "the forged acknowledgement counted"


async def forget_the_token(daemon: Daemon) -> None:
    """The client itself may log in again without its token, as when the answer was lost; it gets the same one."""
    town = Town(daemon)
    alice = await town.newcomer("alice")
    peer = await town.with_token(alice)
    token, peer.token = peer.token, b""
    peer.put(peer.login_packet(alice, town.secret))
    answers = [await peer.take()]
    assert (answers[0]["type"], content(answers[0])["code"]) == (LOGIN_ANSWER, 0), answers
    assert peer.token == token
    peer.put({"type": 1, "from": alice, "to": "0", "dataContent": "{}"})
    packet = await peer.take()
    assert packet["type"] == 51, packet
    assert packet["type"] != KICKED


# ---------------------------------------------------------------- pages of other sites


async def connect_from_another_site(daemon: Daemon) -> None:
    port = daemon.ports["mobileimsdk-ws"]
    for origin in ("https://evil.example", "null", "http://localhost"):
        with contextlib.suppress(Refused):
            await page(origin, port)
            raise AssertionError(f"{origin} was let in")
    await page("http://127.0.0.1:8000", port)
    await page(None, port)


async def page(origin: str | None, port: int) -> None:
    peer = WebPeer()
    peer.origin = origin
    await peer.open(port)
    peer.close()


# ---------------------------------------------------------------- floods


@contextlib.contextmanager
def datagram_sockets(count: int) -> Iterator[list[socket.socket]]:
    made = []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((ATTACKER, 0))
        sock.setblocking(False)
        made.append(sock)
    try:
        yield made
    finally:
        for sock in made:
            sock.close()


async def flood(daemon: Daemon, seconds: float, per_s: int) -> int:
    """Connects that send nothing, and datagrams that are logins, each `per_s`, from one address. Returns how many
    connects there were."""
    login = json.dumps(DatagramPeer().login_packet("nobody", "wrong")).encode()
    to = ("127.0.0.1", daemon.ports["mobileimsdk-udp"])
    held: list[socket.socket] = []
    began, step = time.monotonic(), 0
    with datagram_sockets(200) as senders:
        while (elapsed := time.monotonic() - began) < seconds:
            while step < elapsed * per_s:
                step += 1
                with contextlib.suppress(BlockingIOError):
                    senders[step % len(senders)].sendto(login, to)
                sock = socket.socket()
                sock.setblocking(False)
                sock.bind((ATTACKER, 0))
                with contextlib.suppress(BlockingIOError):
                    sock.connect(("127.0.0.1", daemon.ports[STREAMS[step % 3]]))
                held.append(sock)
                if len(held) > 800:
                    held.pop(0).close()
            await asyncio.sleep(0.002)
    for sock in held:
        sock.close()
    return step
