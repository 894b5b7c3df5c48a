"""Requests to the server (C2S) by clients of a town, over any of its transports.

Owns: Client, which sorts what it is sent into answers, notices and messages and acknowledges each packet, as a stock
client of the mobileimsdk wire does, and drops copies; StreamingClient, the same on the chatserver wire.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, Literal

from chatd.errors import ErrorCode
from tests.harness.chatserver import LOGIN, LOGIN_ACK, chat
from tests.harness.datagrams import DatagramPeer
from tests.harness.deadline import until
from tests.harness.mobileimsdk import MobilePeer
from tests.harness.peer import Frame, NulPeer
from tests.harness.person import Town
from tests.harness.websocket import WebPeer

Transport = Literal["mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws", "chatserver"]
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
        self.peer: MobilePeer = PEERS.get(transport, MobilePeer)()
        """Connected by arrive()."""
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
        self.extra: object = None
        """Of its logins."""

    async def arrive(self) -> Client:
        """Log in, or log in again as an app does that has lost its connection."""
        self.peer = PEERS[self.transport]()
        self.peer.source = self.source
        self.peer.extra = self.extra
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
        self._put({"op": op, "ref": ref, **named}, fp)
        return ref

    def _put(self, request: dict[str, Any], fp: str) -> None:
        self.peer.say(self.name, "0", json.dumps(request), fp)

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
            wanted = {"event": event, **{name.rstrip("_"): value for name, value in fields.items()}}
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


class StreamingClient(Client):
    """On the chatserver wire, in streaming mode, with acknowledgements and requests, over `stream`. Addresses are those
    of the other wire: names, "#" before the number of a group."""

    def __init__(self, town: Town, name: str, transport: Transport = "chatserver") -> None:
        super().__init__(town, name, transport)
        self.stream = NulPeer()
        self.login: Frame = {}
        """The LOGIN_ACK."""
        self.given: list[Frame] = []
        """The messages as they came."""

    async def arrive(self, **options: object) -> StreamingClient:
        """Log in, as soon as the server has noticed the end of the last connection."""
        while True:
            self.stream = await self.town.nul_peer()
            self.stream.put({
                "msgid": LOGIN, "name": self.name, "password": self.town.secret,
                "framing": "nul", "acks": True, "requests": True, **options,
            })  # fmt: skip
            self.login = await self.stream.find(msgid=LOGIN_ACK)
            if self.login["errno"] != 2:
                break
            self.stream.close()
        assert (self.login["errno"], self.login.get("requests")) == (0, True), self.login
        for text in self.login.get("offlinemsg", []):
            self.hear(json.loads(text))
        self.stream.on_frame = self.hear
        while self.stream.frames:
            self.hear(self.stream.frames.popleft())
        return self

    def leave(self) -> None:
        self.stream.close()

    def hear(self, packet: Frame) -> None:
        match packet.pop("msgid"):
            case 6 | 11:
                self.given.append(packet)
                self.stream.put({"msgid": 15, "conv": packet["conv"], "seq": packet["seq"]})
                place = f"#{packet['groupid']}" if "groupid" in packet else self.name
                self.messages.append((packet["name"], place, packet["msg"]))
            case 12:
                self.errors.append(packet)
            case 13:
                self.accepted.add(packet["fp"])
            case 17:
                assert packet["ref"] not in self.answers, f"answered twice: {packet}"
                self.answers[packet["ref"]] = packet
            case 18:
                self.notices.append(packet)
            case other:
                raise AssertionError(f"not asked for: {other} {packet}")

    def _put(self, request: dict[str, Any], fp: str) -> None:
        self.stream.put({"msgid": 16, **request, "fp": fp})

    def say(self, to: str, text: str) -> str:
        fp = str(uuid.uuid4())
        self.stream.put({**chat(self.town.ids[self.name], self.name, to, 0, text), "fp": fp})
        return fp


def make_client(town: Town, name: str, transport: Transport = "mobileimsdk") -> Client:
    return StreamingClient(town, name) if transport == "chatserver" else Client(town, name, transport)


async def clients(town: Town, *names: str, transport: Transport = "mobileimsdk") -> list[Client]:
    made = [make_client(town, await town.newcomer(name), transport) for name in names]
    await asyncio.gather(*(one.arrive() for one in made))
    return made


async def befriend(one: Client, other: Client) -> None:
    await one.ask("friend.request", user=other.name)
    await other.ask("friend.accept", user=one.name)


async def new_group(owner: Client, *members: Client, name: str = "team") -> int:
    """Open: the members join by its number."""
    number = int((await owner.ask("group.create", name=name, join="open"))["group"]["id"])
    for member in members:
        await member.ask("group.join", group=number)
    return number
