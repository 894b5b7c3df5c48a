"""Traffic over a bridge in both directions while things are killed, and the verdict on it.

Owns: Traffic: senders on both sides, each of whom repeats what was not answered under the same fp; judge().
Elsewhere: the faults (the tests).
Fails: AssertionError that says what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import aiormq

from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.mobileimsdk import ACK, ERROR, MobilePeer
from tests.harness.person import Town
from tests.harness.rabbitmq import JavaSide

WINDOW = 20
_PAUSE_S = 0.005
Stream = tuple[str, str]
"""Sender and recipient, as the sender's side calls them."""
STORED = (
    "SELECT s.name, t.name, m.body FROM message AS m JOIN pair AS p ON p.id = m.conversation"
    " JOIN user AS s ON s.id = m.sender_id"
    " JOIN user AS t ON t.id = CASE WHEN p.low = m.sender_id THEN p.high ELSE p.low END ORDER BY m.seq"
)
"""Of a store: sender, recipient and text of each message, in the order of their numbers."""


def by_stream(rows: Iterable[tuple[str, str, str]]) -> dict[Stream, list[str]]:
    found: dict[Stream, list[str]] = {}
    for sender, to, text in rows:
        found.setdefault((sender, to), []).append(text)
    return found


@dataclass
class Traffic:
    """here: accounts of the daemon. there: users of the other side. Each of `here` writes to each of `there` and the
    other way round.

    incoming, outgoing: by stream, the texts whose sender was told that they are on their way, in order. A message that
    was sent and not answered when the traffic ended is in neither.
    """

    town: Town
    java: JavaSide
    here: list[str]
    there: list[str]
    incoming: dict[Stream, list[str]] = field(default_factory=dict)
    outgoing: dict[Stream, list[str]] = field(default_factory=dict)
    ending: bool = False

    async def __aenter__(self) -> Traffic:
        self._tasks = [asyncio.create_task(self._speak(one)) for one in self.here]
        self._tasks.append(asyncio.create_task(self._write()))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Each sender first gets an answer to what it has sent."""
        self.ending = True
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    # ------------------------------------------------------------ the other side's users

    async def _write(self) -> None:
        """As the server there does: with confirms, so that its users know."""
        number = 0
        while not self.ending:
            number += 1
            for sender in self.there:
                for to in self.here:
                    text, fp = f"{sender} to {to}: {number}", str(uuid.uuid4())
                    await self._surely(sender, to, text, fp)
                    self.incoming.setdefault((sender, to), []).append(text)
            await asyncio.sleep(_PAUSE_S)

    async def _surely(self, sender: str, to: str, text: str, fp: str) -> None:
        while True:
            try:
                async with asyncio.timeout(5):
                    await self.java.say(sender, to, text, fp)
                    return
            except (OSError, TimeoutError, RuntimeError, aiormq.exceptions.AMQPError):
                with contextlib.suppress(OSError, aiormq.exceptions.AMQPError):
                    await self.java.disconnect()
                await self.java.reconnect()

    # ------------------------------------------------------------ this side's users

    async def _speak(self, name: str) -> None:
        """With up to WINDOW messages unanswered; those go again, in their order, on the next connection."""
        unanswered: deque[tuple[str, str, str]] = deque()
        number = 0
        while not self.ending or unanswered:
            try:
                peer = await self.town.on_mobile(name)
            except (ConnectionGone, LoginRefused, OSError, TimeoutError):
                await asyncio.sleep(0.1)
                continue
            with contextlib.suppress(ConnectionGone, OSError, TimeoutError):
                for to, text, fp in unanswered:
                    peer.say(name, to, text, fp)
                while unanswered or not self.ending:
                    while len(unanswered) < WINDOW and not self.ending:
                        number += 1
                        to = f"java:{self.there[number % len(self.there)]}"
                        unanswered.append((to, f"{name} to {to}: {number}", str(uuid.uuid4())))
                        peer.say(name, *unanswered[-1])
                    await self._answered(peer, unanswered)
                    await asyncio.sleep(_PAUSE_S)
            peer.close()

    async def _answered(self, peer: MobilePeer, unanswered: deque[tuple[str, str, str]]) -> None:
        """The oldest is answered."""
        async with asyncio.timeout(5):
            while True:
                packet: dict[str, Any] = await peer.take()
                if packet["type"] == ERROR:
                    raise ConnectionGone
                if packet["type"] == ACK and packet["dataContent"] == unanswered[0][2]:
                    break
        to, text, _ = unanswered.popleft()
        name = text.partition(" ")[0]
        self.outgoing.setdefault((name, to), []).append(text)

    # ------------------------------------------------------------ the verdict

    def all_came(self) -> bool:
        told = {packet["dataContent"] for packet in self.java.packets}
        return all(text in told for texts in self.outgoing.values() for text in texts)

    def judge(self, stored: dict[Stream, list[str]]) -> None:
        """stored: by stream, the texts of the other side's users in the store, by their numbers."""
        for stream, texts in self.incoming.items():
            found = stored.get((f"java:{stream[0]}", stream[1]), [])
            assert found[: len(texts)] == texts, f"{stream}: {_difference(texts, found)}"
            assert len(found) == len(set(found)), f"{stream}: stored twice"
        fps: dict[str, str] = {}
        came: dict[Stream, list[str]] = {}
        for packet in self.java.packets:
            text, fp = packet["dataContent"], packet["fp"]
            if fps.setdefault(text, fp) == fp and text not in came.setdefault((packet["from"], packet["to"]), []):
                came[packet["from"], packet["to"]].append(text)
            assert fps[text] == fp, f"{text} came under two fps"
        for (name, to), texts in self.outgoing.items():
            found = came.get((name, to.removeprefix("java:")), [])
            assert found[: len(texts)] == texts, f"{name} to {to}: {_difference(texts, found)}"


def _difference(wanted: list[str], found: list[str]) -> str:
    missing = [text for text in wanted if text not in set(found)]
    return f"missing {missing[:5]} of {len(wanted)}" if missing else f"another order: {found[:10]} for {wanted[:10]}"
