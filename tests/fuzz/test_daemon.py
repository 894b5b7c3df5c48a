"""A real daemon between vandals, over every wire and transport, while two people talk undisturbed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from chatd.core.requests.operations import described
from tests.conversations.asking import Client, clients
from tests.fuzz.intruders import BALANCER, SECURE, Intruders
from tests.fuzz.shares import SECONDS
from tests.fuzz.texts import Writer
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.mobileimsdk import MobilePeer
from tests.harness.peer import Frame
from tests.harness.person import Town
from tests.harness.websocket import WebPeer
from tests.wire.chatserver import test_codec as test_chatserver
from tests.wire.mobileimsdk import test_codec as test_mobileimsdk
from tests.wire.test_fuzz import mutate

GROWTH_BYTES = 60 * 1024 * 1024
"""Of one worker's memory, beyond what it had when the vandals came."""
PACKETS = [row[1] for row in [*test_mobileimsdk.RECEIVED, *test_mobileimsdk.REFUSED] if len(row[1]) < 3000]
FRAMES = [row[1] for row in [*test_chatserver.RECEIVED, *test_chatserver.REFUSED] if len(row[1]) < 3000]
TABLE = described()


class Ordeal:
    def __init__(self, town: Town, seed: int) -> None:
        self.town = town
        self.rng = random.Random(seed)
        self.people: list[str] = []
        self.ends = time.monotonic() + SECONDS["daemon"]
        self.done: dict[str, int] = {}

    async def vandal(self, name: str, once: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self.ends:
            with contextlib.suppress(ConnectionGone, ConnectionError, LoginRefused):
                await once()
            self.done[name] = self.done.get(name, 0) + 1

    def intruders(self) -> Intruders:
        packets = [packet[4:] for packet in PACKETS]
        streams = {"chatserver-tls": FRAMES, "mobileimsdk-tls": PACKETS}
        corpora = {**streams, "mobileimsdk-wss": packets, "mobileimsdk-udp": packets}
        return Intruders(self.town, self.rng, self.people, corpora)

    # ------------------------------------------------------------ bytes that make no sense

    async def stream(self, port: str, corpus: list[bytes], login: bytes) -> None:
        """A connection, logged in or not, that speaks worse and worse until it is closed or hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.town.daemon.ports[port])
        try:
            if self.rng.random() < 0.5:
                writer.write(login)
            for _ in range(20):
                frames = self.rng.choices(corpus, k=self.rng.randint(1, 5))
                writer.write(mutate(b"".join(frames), self.rng) if self.rng.random() < 0.7 else b"".join(frames))
                await asyncio.sleep(self.rng.choice([0, 0, 0.01]))
                if reader.at_eof():
                    break
        finally:
            writer.close()

    async def packets(self) -> None:
        await self.stream("mobileimsdk", PACKETS, packet_of(MobilePeer().login_packet(*self.somebody())))

    async def chats(self) -> None:
        name, secret = self.somebody()
        login = json.dumps({"msgid": 1, "id": self.town.ids[name], "password": secret}).encode() + b"\0"
        await self.stream("chatserver", FRAMES, login)

    async def datagrams(self) -> None:
        peer = await self.town.datagram_peer()
        try:
            if self.rng.random() < 0.5:
                await peer.log_in(*self.somebody())
            for _ in range(30):
                peer.write(mutate(self.rng.choice(PACKETS)[4:], self.rng))
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
        except TimeoutError:  # a datagram that looked like a logout, or the address was not answered
            pass
        finally:
            peer.close()

    async def web(self) -> None:
        peer = WebPeer()
        await peer.open(self.town.daemon.ports["mobileimsdk-ws"])
        try:
            if self.rng.random() < 0.5:
                await peer.log_in(*self.somebody())
            for _ in range(20):
                packet = mutate(self.rng.choice(PACKETS)[4:], self.rng)
                peer.write(peer.wrap(packet))
                if self.rng.random() < 0.05 and peer.transport is not None and not peer.transport.is_closing():
                    peer.transport.write(mutate(packet, self.rng))  # no frame at all
                await asyncio.sleep(0.001)
        finally:
            peer.close()

    # ------------------------------------------------------------ requests

    async def requests(self) -> None:
        """Every answer is one, and fits; the session stays."""
        name, secret = self.somebody()
        peer = MobilePeer()
        await peer.open(self.town.daemon.ports["mobileimsdk"])
        await peer.log_in(name, secret)
        texts: list[dict[str, Any]] = []

        def hear(packet: Frame) -> None:
            if packet["type"] == 2 and packet["from"] == "0":
                texts.append(json.loads(packet["dataContent"]))
                if self.rng.random() < 0.9:
                    peer.acknowledge(packet)

        peer.on_frame = hear
        writer = Writer(TABLE, self.people)
        for number in range(40):
            text = writer.text(self.rng)
            if "password.change" not in text:
                peer.say(name, "0", text, f"{time.time_ns()}-{number}")
            await asyncio.sleep(0.002)
        peer.say(name, "0", '{"op":"echo","ref":"the end"}', f"{time.time_ns()}")
        await until(10, "the last answer", lambda: peer.gone.is_set() or any(t.get("ref") == "the end" for t in texts))
        assert all(text.keys() & {"event", "ok"} for text in texts)
        assert not any(text.get("error", {}).get("code") == 1043 for text in texts), "a bug of the server"
        peer.close()

    def somebody(self) -> tuple[str, str]:
        return self.rng.choice(self.people), self.town.secret


def packet_of(frame: Frame) -> bytes:
    body = json.dumps(frame).encode()
    return len(body).to_bytes(4, "big") + body


async def talk(alice: Client, bob: Client, ends: float) -> int:
    """Undisturbed: each message is acknowledged and arrives, within the usual time."""
    count = 0
    while time.monotonic() < ends:
        text = f"message {count}"
        await alice.says(bob.name, text)
        await bob.sees(alice.name, bob.name, text)
        await bob.ask("read", with_=alice.name, seq=count + 1)
        count += 1
    return count


def memory(daemon: Daemon) -> dict[int, int]:
    return {pid: psutil.Process(pid).memory_info().rss for pid in daemon.workers()}


@pytest.mark.slow
def test_vandals(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    seed = int(os.environ.get("CHATD_FUZZ_SEED", time.time_ns() % 10**9))
    print(f"CHATD_FUZZ_SEED={seed}")  # shown when the test fails
    daemon = make_daemon(
        workers=2,
        certificate=Certificate(tmp_path / "certificate"),
        listen={name: {"proxy_from": [BALANCER]} for name in SECURE},
        limits={"friends_per_user": 5, "groups_per_user": 20},
        penalties={"account_failures": 10_000, "delay_s": 0.0},
    ).start()

    async def story() -> None:
        town = Town(daemon)
        alice, bob = await clients(town, "alice", "bob")
        ordeal = Ordeal(town, seed)
        ordeal.people = [await town.newcomer("vandal") for _ in range(4)]
        intruders = ordeal.intruders()
        intruders.own, intruders.holder = await town.newcomer("changer"), await town.newcomer("holder")
        before = memory(daemon)
        ways = [
            *(ordeal.packets, ordeal.chats, ordeal.datagrams, ordeal.web, ordeal.requests, ordeal.requests),
            *(intruders.records, intruders.frames, intruders.without_token, intruders.registering),
            *(intruders.guesses, intruders.passwords, intruders.control),
        ]
        vandals = [ordeal.vandal(way.__name__, way) for way in ways]
        said, *_ = await asyncio.gather(talk(alice, bob, ordeal.ends), *vandals)
        assert said > 20
        after = memory(daemon)
        assert before.keys() == after.keys(), "a worker has died"
        assert max(after[pid] - before[pid] for pid in after) < GROWTH_BYTES
        assert min(ordeal.done.get(way.__name__, 0) for way in ways) >= 5, ordeal.done

    run(story(), SECONDS["daemon"] + 60)
    for path in (daemon.root / "log").iterdir():
        assert all(line.isprintable() for line in path.read_text().split("\n")), path
