"""Thousands of messages in seconds, from people who do not wait for one answer before they send the next.

Owns: Sender (a pipelining client of mobileimsdk over TCP that never gives up), and Storm: pairs of them, and a group of
all, spread over the daemons of a cluster, so that the messages of a conversation come from several workers and hosts.
Elsewhere: what is killed meanwhile (the tests), the verdict (tests.webhooks.judge).
Fails: AssertionError when a message is refused for good. A message without an answer is sent again, as the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from chatd.errors import MEANINGS
from tests.harness.daemon import Daemon
from tests.harness.deadline import until
from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.mobileimsdk import ACK, DATA, ERROR, KICKED, MobilePeer
from tests.harness.person import Town
from tests.webhooks.judge import Told

WINDOW = 200
"""Messages of one sender that are not answered yet, at most."""
GROUP_EVERY = 16
"""Of so many messages, one goes to the group."""
Fault = Callable[[], Awaitable[None]]
_AGAIN_S = 0.2
_TEMPORARY = {int(code) for code, meaning in MEANINGS.items() if meaning.temporary}
_RELOGIN = 301


class _Packet(msgspec.Struct):
    type: int = 0
    dataContent: str = ""
    fp: str = ""
    sender: str = msgspec.field(default="", name="from")


_decode = msgspec.json.Decoder(_Packet).decode


class _Line(MobilePeer):
    """One connection of a sender."""

    limit = 1 << 20

    def decode(self, body: bytes) -> Any:
        return _decode(body)

    async def enter(self, name: str, secret: str) -> None:
        """Raises LoginRefused, ConnectionGone."""
        self.put(self.login_packet(name, secret))
        while (packet := await self.take()).type != 50:  # type: ignore[attr-defined]  # decode() gives structs
            pass
        if (code := json.loads(packet.dataContent)["code"]) != 0:  # type: ignore[attr-defined]
            raise LoginRefused(code, "")


class Sender:
    """quota: how many messages it sends in all; raised by Storm. Everything it is sent, it acknowledges."""

    def __init__(self, storm: Storm, name: str, home: int) -> None:
        self.name = name
        self.places: list[str] = []
        self.quota = self.said = 0
        self.unanswered: dict[str, bytes] = {}
        self.refused: list[int] = []
        """Codes of what was refused for good."""
        self.put_off = 0
        """How often something was refused for the moment."""
        self._storm = storm
        self._door = home
        self._line: _Line | None = None

    @property
    def is_done(self) -> bool:
        return self.said >= self.quota and not self.unanswered

    async def stay(self) -> None:
        """Be connected, until cancelled."""
        while True:
            line = _Line()
            try:
                daemon = self._storm.next_open(self._door)
                async with asyncio.timeout(4):
                    await line.open(daemon.ports["mobileimsdk"], daemon.address)
                    await line.enter(self.name, self._storm.town.secret)
                self._line, line.on_frame = line, self._heard
                for packet in [*line.frames]:
                    self._heard(packet)
                line.write(b"".join(self.unanswered.values()))
                self.fill()
                await line.gone.wait()
            except (ConnectionGone, LoginRefused, TimeoutError):
                pass
            finally:
                self._line = None
                line.abort()
            self._door += 1
            await asyncio.sleep(_AGAIN_S)

    def leave(self) -> None:
        """Connect again, elsewhere if this host is not open any more."""
        if self._line is not None:
            self._line.abort()

    def fill(self) -> None:
        if self._line is None:
            return
        packets = []
        while self.said < self.quota and len(self.unanswered) < WINDOW:
            self.said += 1
            fp = f"{self.name}-{self.said}"
            place = self.places[0] if self.said % GROUP_EVERY else self.places[1]
            packet = {"type": DATA, "from": self.name, "to": place, "dataContent": fp, "fp": fp, "QoS": True}
            packets.append(self._line.wrap(msgspec.json.encode({**packet, "typeu": -1})))
            self.unanswered[fp] = packets[-1]
        if packets:
            self._line.write(b"".join(packets))

    def _heard(self, packet: Any) -> None:
        line = self._line
        assert line is not None
        if packet.type == ACK:
            self.unanswered.pop(packet.dataContent, None)
            if len(self.unanswered) < WINDOW // 2:
                self.fill()
        elif packet.type == DATA and packet.fp:
            line.put({"type": ACK, "from": self.name, "to": packet.sender, "dataContent": packet.fp})
        elif packet.type == ERROR:
            self._refused(json.loads(packet.dataContent), line)
        elif packet.type == KICKED:
            line.abort()

    def _refused(self, body: dict[str, Any], line: _Line) -> None:
        if body["errorCode"] == _RELOGIN:
            line.abort()
            return
        fp = ""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            fp = json.loads(body["errorMsg"])["fp"]
        if body["errorCode"] in _TEMPORARY:
            self.put_off += 1
            asyncio.get_running_loop().call_later(_AGAIN_S, self._again, fp)
        else:
            self.refused.append(body["errorCode"])
            self.unanswered.pop(fp, None)

    def _again(self, fp: str) -> None:
        if self._line is not None and fp in self.unanswered:
            self._line.write(self.unanswered[fp])


class Storm:
    """open: the numbers of the daemons that take connections now; the tests change it."""

    def __init__(self, daemons: Sequence[Daemon]) -> None:
        self.daemons = daemons
        self.town = Town(daemons[0])
        self.open = set(range(len(daemons)))
        self.senders: list[Sender] = []

    def next_open(self, number: int) -> Daemon:
        count = len(self.daemons)
        return next(
            (self.daemons[(number + more) % count] for more in range(count) if (number + more) % count in self.open),
            self.daemons[number % count],
        )

    async def gather(self, pairs: int = 4) -> Storm:
        """One of each pair comes to one host, the other one to the next."""
        names = [await self.town.newcomer("storm") for _ in range(2 * pairs)]
        group = f"#{await self.town.make_group('storm', names)}"
        self.senders = [Sender(self, name, number) for number, name in enumerate(names)]
        for one, other in zip(self.senders[::2], self.senders[1::2], strict=True):
            one.places, other.places = [other.name, group], [one.name, group]
        return self

    @contextlib.asynccontextmanager
    async def staying(self) -> AsyncIterator[Storm]:
        """Inside, they are connected."""
        tasks = [asyncio.create_task(one.stay()) for one in self.senders]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, messages: int) -> None:
        """Send so many more, all together."""
        for number, one in enumerate(self.senders):
            one.quota += (messages + number) // len(self.senders)
            one.fill()

    async def hurt(self, messages: int, told: Told, faults: Sequence[Fault]) -> None:
        """Send so many, and do each of the faults once, evenly spread, while messages are both stored and told."""
        each = messages // (len(faults) + 1)
        for number, fault in enumerate(faults):
            self.begin(each)
            due = len(told.places) + each // 2 if number else each // 2
            await until(120, "half of them are told", lambda due=due: len(told.places) >= due)  # type: ignore[misc]
            await fault()
        self.begin(messages - each * len(faults))
        await self.done(200)

    async def trickle(self, enough: Callable[[], object], each: int = 8) -> None:
        """Send a few messages at a time until that is true. (Two who deliver would then cut the events into different
        batches.)"""
        ends = time.monotonic() + 30
        while not enough():
            assert time.monotonic() < ends
            self.begin(each)
            await asyncio.sleep(0.02)

    async def done(self, limit_s: float) -> None:
        """Until everything is answered."""
        await until(limit_s, "every message is answered", lambda: all(one.is_done for one in self.senders), 0.05)
        assert [code for one in self.senders for code in one.refused] == []
