"""A person with a client: the same verbs whatever the wire.

Owns: Person (log in, send, see, come back), Town (who lives here: names, passwords, numeric ids, which wire), and what
a person remembers between connections, as its client would.
Elsewhere: many people at once under faults (crowd); the wires (chatserver, mobileimsdk).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.harness import chatserver
from tests.harness.chatserver import AckingLink, AskingLink, OldLink, StreamingLink
from tests.harness.daemon import Daemon
from tests.harness.datagrams import DatagramLink, DatagramPeer, TokenLink, TokenPeer
from tests.harness.deadline import until
from tests.harness.link import Outcome, Seen
from tests.harness.mobileimsdk import MobilePeer, NumberedLink, Remembered, StockLink
from tests.harness.peer import NulPeer, Peer
from tests.harness.websocket import WebLink, WebPeer

Wire = Literal[
    "old", "streaming", "acking", "asking", "mobile", "numbered", "udp", "token", "web",
    "streaming-tls", "acking-tls", "mobile-tls", "web-tls",
]  # fmt: skip
"""acking: streaming, and acknowledges messages. asking: acking, and has requests. numbered: mobile, and has asked for
`seq`. udp: mobileimsdk in datagrams. token: the same, each with a token. web:
over WebSocket. -tls: with TLS, of a daemon with a certificate."""
WIRES: tuple[Wire, ...] = ("old", "streaming", "mobile")
PORT_OF: dict[Wire, str] = {
    "old": "chatserver",
    "streaming": "chatserver",
    "acking": "chatserver",
    "asking": "chatserver",
    "mobile": "mobileimsdk",
    "numbered": "mobileimsdk",
    "udp": "mobileimsdk-udp",
    "token": "mobileimsdk-udp",
    "web": "mobileimsdk-ws",
    "streaming-tls": "chatserver-tls",
    "acking-tls": "chatserver-tls",
    "mobile-tls": "mobileimsdk-tls",
    "web-tls": "mobileimsdk-wss",
}

AnyLink = OldLink | StreamingLink | StockLink


@dataclass
class Town:
    """Accounts of one daemon. Setting up goes over chatserver, the wire that has requests for it."""

    daemon: Daemon
    ids: dict[str, int] = field(default_factory=dict)
    secret: str = "open sesame"
    suffixes: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def port(self, wire: Wire) -> int:
        return self.daemon.ports[PORT_OF[wire]]

    def address_of(self, name: str, wire: Wire) -> tuple[int, str]:
        """Port and address where this person's client connects now."""
        return self.port(wire), self.daemon.address

    async def register(self, name: str) -> int:
        peer = await self.nul_peer()
        peer.put({"msgid": chatserver.REGISTER, "name": name, "password": self.secret})
        answer = await peer.find(msgid=chatserver.REGISTER_ACK)
        peer.close()
        if answer["errno"] != 0:
            raise AssertionError(f"cannot register {name}: {answer}")
        self.ids[name] = answer["id"]
        return self.ids[name]

    async def newcomer(self, prefix: str = "user") -> str:
        """An account with a name nobody had."""
        name = f"{prefix}{next(self.suffixes)}_{random.randrange(10**6)}"
        await self.register(name)
        return name

    async def pair(self) -> tuple[Person, Person]:
        """Ann and bob, who are there; others at each call."""
        number = next(self.suffixes)
        ann, bob = await self.settle(f"ann{number}", "mobile"), await self.settle(f"bob{number}", "mobile")
        await ann.arrive()
        await bob.arrive()
        return ann, bob

    async def settle(self, name: str, wire: Wire) -> Person:
        """A new account and its person."""
        await self.register(name)
        return Person(self, name, wire)

    async def nul_peer(self) -> NulPeer:
        peer = NulPeer()
        await peer.open(self.daemon.ports["chatserver"], self.daemon.address)
        return peer

    async def mobile_peer(self) -> MobilePeer:
        peer = MobilePeer()
        await peer.open(self.daemon.ports["mobileimsdk"], self.daemon.address)
        return peer

    async def web_peer(self) -> WebPeer:
        peer = WebPeer()
        await peer.open(self.daemon.ports["mobileimsdk-ws"], self.daemon.address)
        return peer

    async def on_web(self, name: str, first_login_time: int = 0) -> WebPeer:
        """A logged-in mobileimsdk client on WebSocket."""
        peer = await self.web_peer()
        await peer.log_in(name, self.secret, first_login_time)
        return peer

    async def datagram_peer(self) -> DatagramPeer:
        peer = DatagramPeer()
        await peer.open(self.daemon.ports["mobileimsdk-udp"], self.daemon.address)
        return peer

    async def with_token(self, name: str, first_login_time: int = 0) -> TokenPeer:
        """A logged-in mobileimsdk client on UDP that has a token."""
        peer = TokenPeer()
        await peer.open(self.daemon.ports["mobileimsdk-udp"], self.daemon.address)
        await peer.log_in(name, self.secret, first_login_time)
        return peer

    async def on_datagrams(self, name: str, first_login_time: int = 0) -> DatagramPeer:
        """A logged-in mobileimsdk client on UDP."""
        peer = await self.datagram_peer()
        await peer.log_in(name, self.secret, first_login_time)
        return peer

    async def errand(self, name: str, framing: str = "nul") -> NulPeer:
        """A logged-in chatserver connection, also for setting things up; finish it before the person arrives."""
        peer = await self.nul_peer()
        peer.put({"msgid": chatserver.LOGIN, "id": self.ids[name], "password": self.secret, "framing": framing})
        answer = await peer.find(msgid=chatserver.LOGIN_ACK)
        assert answer["errno"] == 0, answer
        return peer

    async def on_mobile(self, name: str, first_login_time: int = 0) -> MobilePeer:
        """A logged-in mobileimsdk connection."""
        peer = await self.mobile_peer()
        await peer.log_in(name, self.secret, first_login_time)
        return peer

    async def finish(self, peer: NulPeer) -> None:
        """Log out and wait until the server has closed its half too, so that the account is free again."""
        peer.put({"msgid": chatserver.LOGOUT, "id": 0})
        assert peer.transport is not None
        peer.transport.write_eof()
        await peer.end()

    async def make_group(self, name: str, members: list[str]) -> int:
        """The first member creates it, the others join."""
        peer = await self.errand(members[0])
        peer.put({"msgid": chatserver.CREATE_GROUP, "id": self.ids[members[0]], "groupname": name, "groupdesc": name})
        number = int((await peer.find(msgid=chatserver.GROUP_ACK))["groupid"])
        await self.finish(peer)
        for member in members[1:]:
            await self.join_group(member, number)
        return number

    async def join_group(self, member: str, number: int) -> None:
        peer = await self.errand(member)
        peer.put({"msgid": chatserver.JOIN_GROUP, "id": self.ids[member], "groupid": number})
        await peer.find(msgid=chatserver.GROUP_ACK, groupid=number)
        await self.finish(peer)


class Person:
    """`seen` is everything shown, over all connections; `outcomes` by fp."""

    def __init__(self, town: Town, name: str, wire: Wire) -> None:
        self.town, self.name, self.wire = town, name, wire
        self.link: AnyLink | None = None
        self.seen: list[Seen] = []
        self.unnoticed: list[Seen] = []
        self.outcomes: dict[str, Outcome] = {}
        self.away = asyncio.Event()
        self.away.set()
        self.marks: set[tuple[object, ...]] = set()
        self.memory = Remembered()
        self.first_login_time = 0
        self.last_fp = ""

    # ------------------------------------------------------------ Ears

    def message(self, seen: Seen) -> None:
        self.seen.append(seen)
        self.unnoticed.append(seen)

    def outcome(self, fp: str, outcome: Outcome) -> None:
        self.outcomes[fp or self.last_fp] = outcome

    def closed(self) -> None:
        self.away.set()

    def notice(self, body: dict[str, Any]) -> None:
        """Not listened to."""

    # ------------------------------------------------------------ coming and going

    def make_link(self) -> AnyLink:
        link = self._make_link(self.wire.removesuffix("-tls"))
        if self.wire.endswith("-tls"):
            assert isinstance(link, Peer)
            assert self.town.daemon.certificate is not None
            link.tls = self.town.daemon.certificate.client()
        return link

    def _make_link(self, wire: str) -> AnyLink:
        if wire == "old":
            return OldLink(self)
        if wire == "streaming":
            return StreamingLink(self, self.marks)
        if wire == "acking":
            return AckingLink(self, self.marks)
        if wire == "asking":
            return AskingLink(self, self.marks)
        if wire == "udp":
            return DatagramLink(self, self.memory, self.first_login_time)
        if wire == "token":
            return TokenLink(self, self.memory, self.first_login_time)
        if wire == "numbered":
            return NumberedLink(self, self.memory, self.first_login_time)
        if wire == "web":
            return WebLink(self, self.memory, self.first_login_time)
        return StockLink(self, self.memory, self.first_login_time)

    async def arrive(self) -> None:
        """Connect and log in. Raises LoginRefused, ConnectionGone."""
        link = self.make_link()
        await link.open(*self.town.address_of(self.name, self.wire))
        self.away.clear()
        self.link = link
        try:
            await link.login(self.name, self.town.ids.get(self.name, 0), self.town.secret)
        except asyncio.CancelledError:
            link.abort()  # whoever gives up a login closes the connection, on which it would succeed later
            raise
        if isinstance(link, StockLink):
            self.first_login_time = link.first_login_time

    async def leave(self) -> None:
        """Close the connection properly."""
        assert self.link is not None
        self.link.close()
        await until(10, f"{self.name} has left", self.away.is_set)

    async def vanish(self) -> None:
        """The connection is reset, whatever was under way."""
        assert self.link is not None
        self.link.abort()
        await until(10, f"{self.name} has vanished", self.away.is_set)

    # ------------------------------------------------------------ talking

    def post(self, to: str, text: str, fp: str = "") -> str:
        """Send; the fp under which the outcome will be known."""
        assert self.link is not None
        self.last_fp = fp or str(uuid.uuid4())
        self.link.send(to, 0 if to.startswith("#") else self.town.ids.get(to, 0), text, self.last_fp)
        return self.last_fp

    async def say(self, to: str, text: str, fp: str = "") -> Outcome | None:
        """Send and wait for the outcome; None where the wire has none unless it is refused."""
        fp = self.post(to, text, fp)
        assert self.link is not None
        return await self.told(fp) if self.link.acknowledges else None

    async def told(self, fp: str, limit_s: float = 10.0) -> Outcome:
        return await until(limit_s, f"{self.name} is told about {fp}", lambda: self.outcomes.get(fp))

    async def sees(self, seen: Seen, limit_s: float = 10.0) -> None:
        """The next message shown in this conversation is this one (its seq does not matter).

        Between conversations there is no order."""

        def next_there() -> Seen | None:
            return next((one for one in self.unnoticed if _place(one) == _place(seen)), None)

        try:
            await until(limit_s, f"{self.name} sees {seen}", lambda: next_there() or self._dead())
        except TimeoutError as error:
            raise TimeoutError(f"{error}; unnoticed are {self.unnoticed}") from None
        self.check()
        found = next_there()
        assert found is not None
        assert (found.sender, found.text) == (seen.sender, seen.text), f"{self.name}: {found}"
        self.unnoticed.remove(found)

    def _dead(self) -> bool:
        return isinstance(self.link, OldLink) and self.link.death is not None

    def check(self) -> None:
        if isinstance(self.link, OldLink):
            self.link.check()


def _place(seen: Seen) -> object:
    return seen.group or seen.sender
