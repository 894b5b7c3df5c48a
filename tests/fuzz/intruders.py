"""Vandals at what is there to keep strangers out: TLS, PROXY headers, tokens, registration, passwords, the control
socket.

Owns: Intruders, one method per kind of vandal; each raises AssertionError if it was let through, or is not answered.
Elsewhere: the daemon, and the vandals at the plain wires (test_daemon).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import time
from typing import Any

from tests.fuzz.texts import CONTROL_LINES, some_text
from tests.harness import chatserver
from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.mobileimsdk import KEEP_ALIVE, KEPT_ALIVE, LOGIN_ANSWER, MobilePeer, content
from tests.harness.peer import WAIT_S, NulPeer
from tests.harness.person import Town
from tests.harness.websocket import WebPeer
from tests.net.test_proxy_header import whatever
from tests.wire.test_fuzz import mutate

BALANCER = "127.0.0.9"
"""Who comes from here must send a PROXY header."""
SECURE = ("chatserver-tls", "mobileimsdk-tls", "mobileimsdk-wss")
HARMLESS = [
    line for line in CONTROL_LINES if not any(one in line for one in (b"stop", b"scale", b"kick", b"log-level"))
]


class Intruders:
    """corpora: what the clients of each listener send. own, holder: accounts that nobody else uses; the
    first one's password changes, the other has a token."""

    def __init__(self, town: Town, rng: random.Random, people: list[str], corpora: dict[str, list[bytes]]) -> None:
        self.town, self.rng, self.people, self.corpora = town, rng, people, corpora
        self.own = self.holder = ""
        self.secret = town.secret
        assert town.daemon.certificate is not None
        self.client = town.daemon.certificate.client()

    # ------------------------------------------------------------ TLS

    def hello(self) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
        """A client whose first bytes are in the last one."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        return client, incoming, outgoing

    async def records(self) -> None:
        """No TLS at all, a first record that is broken, or broken records after a good handshake."""
        headed = self.rng.random() < 0.3
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.town.daemon.ports[self.rng.choice(SECURE)],
            local_addr=(BALANCER if headed else "127.0.0.1", 0),
        )
        client, incoming, outgoing = self.hello()
        first = outgoing.read()
        try:
            if headed:
                writer.write(whatever(self.rng))
            match self.rng.randrange(3):
                case 0:
                    writer.write(self.rng.randbytes(self.rng.randrange(1, 600)))
                case 1:
                    writer.write(mutate(first, self.rng))
                case _:
                    writer.write(first)
                    await self.shake_hands(client, incoming, outgoing, reader, writer, 0.5 if headed else WAIT_S)
                    for _ in range(5):
                        client.write(self.rng.choice(self.corpora["chatserver-tls"]))
                        record = outgoing.read()
                        writer.write(mutate(record, self.rng) if self.rng.random() < 0.5 else record)
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(4096), 0.05)
        except ssl.SSLError:  # it was not shaken hands with
            pass
        except TimeoutError:
            if not headed:  # otherwise what was taken for a header may have swallowed the first record
                raise
        finally:
            writer.close()

    async def shake_hands(
        self,
        client: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limit_s: float,
    ) -> None:
        """limit_s: how long the server may take for an answer."""
        while True:
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                data = await asyncio.wait_for(reader.read(65536), limit_s)
                if not data:
                    raise ConnectionGone("in the handshake") from None
                incoming.write(data)
            else:
                writer.write(outgoing.read())
                return

    async def frames(self) -> None:
        """Inside TLS, logged in or not, worse and worse."""
        listener = self.rng.choice(SECURE)
        peer: NulPeer | MobilePeer = {"chatserver-tls": NulPeer, "mobileimsdk-tls": MobilePeer}.get(listener, WebPeer)()
        peer.tls = self.client
        await peer.open(self.town.daemon.ports[listener])
        name = self.rng.choice(self.people)
        try:
            if self.rng.random() < 0.5 and isinstance(peer, MobilePeer):
                await peer.log_in(name, self.town.secret)
            elif self.rng.random() < 0.5:
                acks = {"framing": "nul", "acks": self.rng.random() < 0.8}
                peer.put({"msgid": chatserver.LOGIN, "name": name, "password": self.town.secret, **acks})
            for _ in range(20):
                frame = mutate(self.rng.choice(self.corpora[listener]), self.rng)
                peer.write(peer.wrap(frame) if isinstance(peer, WebPeer) else frame)
                await asyncio.sleep(0.001)
                if peer.gone.is_set():
                    break
        finally:
            peer.close()

    # ------------------------------------------------------------ tokens

    async def without_token(self) -> None:
        """Whatever comes from a client's address without its token, the session goes on, and is still this user's."""
        try:
            peer = await self.town.with_token(self.holder)
        except TimeoutError:  # its address had to prove itself too often
            return
        try:
            for _ in range(20):
                packet = mutate(self.rng.choice(self.corpora["mobileimsdk-udp"]), self.rng)
                wrong = mutate(peer.token, self.rng)[: len(peer.token)]
                token = self.rng.choice([b"", b"x" * 24, peer.token[:-1], wrong, packet[:24]])
                if not (token + packet).startswith(peer.token):
                    peer.write(token + packet)
            peer.frames.clear()
            peer.put({"type": KEEP_ALIVE, "from": "", "to": "0"})
            await peer.find(type=KEPT_ALIVE)
        finally:
            peer.close()

    # ------------------------------------------------------------ accounts

    async def registering(self) -> None:
        """Every REGISTER is answered once, whatever the name, the password and the invite code."""
        peer = NulPeer()
        await peer.open(self.town.daemon.ports["chatserver"])
        try:
            for _ in range(3):
                texts = [some_text(self.rng).encode(errors="replace").decode() for _ in range(3)]
                frame: dict[str, Any] = {"msgid": chatserver.REGISTER, "name": texts[0], "password": texts[1]}
                if self.rng.random() < 0.5:
                    frame["invite"] = self.rng.choice([texts[2], "6FTJ31-2K4GYD-3NA636", None, 7, []])
                peer.put(frame)
                answer = await peer.take()
                assert answer["msgid"] in (chatserver.REGISTER_ACK, chatserver.ERROR), answer
                assert "1043" not in json.dumps(answer), "a bug of the server"
        finally:
            peer.close()

    async def guesses(self) -> None:
        """Names that nobody has, over TLS and without: the log has to bear them."""
        secure = self.rng.random() < 0.5
        peer = MobilePeer()
        peer.tls = self.client if secure else None
        await peer.open(self.town.daemon.ports["mobileimsdk-tls" if secure else "mobileimsdk"])
        packet = peer.login_packet(some_text(self.rng).encode(errors="replace").decode(), "a guess")
        peer.put(packet)
        try:
            answer = await peer.take()
            assert answer["type"] != LOGIN_ANSWER or content(answer)["code"] != 0, f"let in: {packet}"
        finally:
            peer.close()

    async def passwords(self) -> None:
        """password.change with the right old password and with others: afterwards exactly one of them is right."""
        peer = await self.enter(self.secret)
        try:
            for number in range(3):
                right = self.rng.random() < 0.5
                new = self.rng.choice(["", "new words", some_text(self.rng).encode(errors="replace").decode()])
                asked = {"op": "password.change", "ref": number, "old": self.secret if right else "x", "new": new}
                peer.say(self.own, "0", json.dumps(asked), f"{time.time_ns()}")
                while True:
                    packet = await peer.find(type=2, **{"from": "0"})  # other vandals may write to this user
                    if "fp" in packet:
                        peer.acknowledge(packet)
                    answer = json.loads(packet["dataContent"])
                    if answer.get("ref") == number:
                        break
                assert answer["ok"] is False or right, "changed without the password"
                if answer["ok"]:
                    self.secret = new
        finally:
            peer.close()
        (await self.enter(self.secret)).close()
        try:
            await self.enter(f"{self.secret}x")
        except LoginRefused:
            return
        raise AssertionError("logged in with a wrong password")

    async def enter(self, secret: str) -> MobilePeer:
        peer = MobilePeer()
        await peer.open(self.town.daemon.ports["mobileimsdk"])
        await peer.log_in(self.own, secret)
        return peer

    # ------------------------------------------------------------ operators

    async def control(self) -> None:
        """Every line is answered with one object."""
        reader, writer = await asyncio.open_unix_connection(self.town.daemon.runtime_dir / "control.sock")
        line = self.rng.choice(HARMLESS)
        line = mutate(line, self.rng) if self.rng.random() < 0.8 else line
        writer.write(line + b"\n")
        try:
            answer = json.loads(await asyncio.wait_for(reader.read(), WAIT_S))
            assert isinstance(answer["ok"], bool), answer
        finally:
            writer.close()
        await asyncio.sleep(0.02)  # so that it is not the master's only work
