"""Clients that ask for features in their login, and what they are told beyond the stock client.

Owns: FeaturedClient; live(), which logs several in.
Elsewhere: requests and notices (tests.conversations.asking).
"""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

from tests.conversations.asking import Client, Transport
from tests.harness.deadline import until
from tests.harness.peer import Frame
from tests.harness.person import Town


def asking_for(*features: str) -> str:
    """The `extra` of a login."""
    return json.dumps({"chatd": {"features": features}})


class FeaturedClient(Client):
    """given: the messages as they came, without copies. acknowledged: type 4 by fp."""

    def __init__(
        self, town: Town, name: str, transport: Transport = "mobileimsdk", features: tuple[str, ...] = ("seq", "typing")
    ) -> None:
        super().__init__(town, name, transport)
        self.extra = asking_for(*features)
        self.given: list[Frame] = []
        self.acknowledged: dict[str, Frame] = {}

    def hear(self, packet: Frame) -> None:
        if packet["type"] == 4:
            self.acknowledged.setdefault(packet["dataContent"], packet)
        elif packet["type"] == 2 and packet["from"] != "0" and packet.get("fp") not in self.seen:
            self.given.append(packet)
        super().hear(packet)

    async def sends(self, to: str, text: str, **more: Any) -> Frame:
        """The acknowledgement."""
        fp = str(uuid.uuid4())
        self.peer.say(self.name, to, text, fp, **more)
        return await until(10, f"{self.name}'s message is stored", lambda: self.acknowledged.get(fp))

    async def is_refused(self, to: str, text: str = "x", **more: Any) -> int:
        """The code with which a message is refused."""
        fp = str(uuid.uuid4())
        self.peer.say(self.name, to, text, fp, **more)

        def error() -> int:
            found = (one for one in self.errors if json.loads(one["errorMsg"])["fp"] == fp)
            return next((int(one["errorCode"]) for one in found), 0)

        return await until(10, f"{self.name} is refused", error)

    async def is_given(self, text: str) -> Frame:
        def there() -> Frame | None:
            return next((one for one in self.given if one["dataContent"] == text), None)

        return await until(10, f"{self.name} is given {text}", there)

    async def unread(self) -> dict[str, dict[str, Any]]:
        """By conversation, what `sync` says of it."""
        found = await self.ask("sync")
        return {head["with"]: head for head in found["conversations"]}


async def live(
    town: Town, *names: str, transport: Transport = "mobileimsdk", features: tuple[str, ...] = ("seq", "typing")
) -> list[FeaturedClient]:
    made = [FeaturedClient(town, await town.newcomer(name), transport, features) for name in names]
    await asyncio.gather(*(one.arrive() for one in made))
    return made
