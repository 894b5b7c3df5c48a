"""Requests to the server (C2S) by mobileimsdk clients of a town, over any of its transports.

Owns: Client, which sorts what it is sent into answers, notices and messages and acknowledges each packet, as a stock
client does, and drops copies.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, Literal

from chatd.errors import ErrorCode
from tests.harness.datagrams import DatagramPeer
from tests.harness.deadline import until
from tests.harness.mobileimsdk import MobilePeer
from tests.harness.peer import Frame
from tests.harness.person import Town
from tests.harness.websocket import WebPeer

Transport = Literal["mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws"]
PEERS: dict[Transport, type[MobilePeer]] = {
    "mobileimsdk": MobilePeer,
    "mobileimsdk-udp": DatagramPeer,
    "mobileimsdk-ws": WebPeer,
}


class Client:
    """acknowledging False: nothing is acknowledged, and copies are counted. source: the address it comes from."""

    def __init__(self, town: Town, name: str, transport: Transport = "mobileimsdk") -> None:
        self.town = town
        self.name = name
        self.transport: Transport = transport
        self.peer: MobilePeer = PEERS[transport]()
        self.first_login_time = 0
        self.seen: set[str] = set()
        self.copies: dict[str, int] = {}
        self.answers: dict[Any, dict[str, Any]] = {}
        self.notices: list[dict[str, Any]] = []
        self.messages: list[tuple[str, str, str]] = []
        self.accepted: set[str] = set()
        self.errors: list[dict[str, Any]] = []
        self.acknowledging = True
        self.source = ""

    async def arrive(self) -> Client:
        """Log in, or log in again as an app does that has lost its connection."""
        self.peer = PEERS[self.transport]()
        self.peer.source = self.source
        await self.peer.open(self.town.daemon.ports[self.transport], self.town.daemon.address)
        self.first_login_time = await self.peer.log_in(self.name, self.town.secret, self.first_login_time)
        self.peer.on_frame = self.hear
        while self.peer.frames:
            self.hear(self.peer.frames.popleft())
        return self

    def leave(self) -> None:
        self.peer.close()

    def hear(self, packet: Frame) -> None:
        kind = packet["type"]
        if kind == 4:
            self.accepted.add(packet["dataContent"])
        elif kind == 52:
            self.errors.append(json.loads(packet["dataContent"]))
        elif kind == 2:
            self._text(packet)

    def _text(self, packet: Frame) -> None:
        fp = packet.get("fp")
        if fp is not None:
            self.copies[fp] = self.copies.get(fp, 0) + 1
            if self.acknowledging:
                self.peer.acknowledge(packet)
            if fp in self.seen:
                return
            self.seen.add(fp)
        if packet["from"] != "0":
            self.messages.append((packet["from"], packet["to"], packet["dataContent"]))
            return
        body = json.loads(packet["dataContent"])
        if "event" in body:
            self.notices.append(body)
        else:
            assert body["ref"] not in self.answers, f"answered twice: {body}"
            self.answers[body["ref"]] = body

    # ------------------------------------------------------------ asking

    def put(self, op: str, fp: str = "", ref: str = "", **arguments: Any) -> str:
        """`with_` stands for the argument "with". Gives the ref."""
        fp = fp or str(uuid.uuid4())
        ref = ref or fp
        named = {name.rstrip("_"): value for name, value in arguments.items()}
        self.peer.say(self.name, "0", json.dumps({"op": op, "ref": ref, **named}), fp)
        return ref

    async def answer(self, ref: str) -> dict[str, Any]:
        return await until(10, f"{self.name} is answered", lambda: self.answers.get(ref))

    async def ask(self, op: str, **arguments: Any) -> Any:
        found = await self.answer(self.put(op, **arguments))
        assert found["ok"] is True, (op, found)
        return found["result"]

    async def refused(self, op: str, **arguments: Any) -> ErrorCode:
        found = await self.answer(self.put(op, **arguments))
        assert found["ok"] is False, (op, found)
        return ErrorCode(found["error"]["code"])

    async def hears(self, event: str, **fields: object) -> dict[str, Any]:
        """The first notice with these fields; it is taken off the list."""

        def there() -> dict[str, Any] | None:
            wanted = {"event": event, **fields}
            return next((one for one in self.notices if wanted.items() <= one.items()), None)

        try:
            found = await until(10, f"{self.name} hears {event} {fields}", there)
        except TimeoutError as error:
            raise TimeoutError(f"{error}, but {self.notices}") from None
        self.notices.remove(found)
        return found

    # ------------------------------------------------------------ talking

    def say(self, to: str, text: str) -> str:
        fp = str(uuid.uuid4())
        self.peer.say(self.name, to, text, fp)
        return fp

    async def says(self, to: str, text: str) -> None:
        fp = self.say(to, text)
        await until(10, f"{self.name}'s message is stored", lambda: fp in self.accepted)

    async def sees(self, sender: str, to: str, text: str) -> None:
        await until(10, f"{self.name} sees {text}", lambda: (sender, to, text) in self.messages)

    async def is_up_to_date(self) -> None:
        """Everything the server had to say to this client when asked has come."""
        await self.ask("echo")


async def clients(town: Town, *names: str, transport: Transport = "mobileimsdk") -> list[Client]:
    made = [Client(town, await town.newcomer(name), transport) for name in names]
    await asyncio.gather(*(one.arrive() for one in made))
    return made


async def befriend(one: Client, other: Client) -> None:
    await one.ask("friend.request", user=other.name)
    await other.ask("friend.accept", user=one.name)


async def new_group(owner: Client, *members: Client, name: str = "team") -> int:
    number = int((await owner.ask("group.create", name=name))["group"]["id"])
    for member in members:
        await member.ask("group.join", group=number)
    return number
