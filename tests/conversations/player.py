"""Plays a conversation script with real clients against a real daemon.

Owns: the lines a script may have (LINES below) and what each does. A script names people and what they say and see;
the cast says on which wire each of them is, so one script runs on every wire and on mixtures.
Fails: with the script's line number and line.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from chatd.errors import ErrorCode
from chatd.net.receipts import SETTLE_S
from tests.harness.deadline import within
from tests.harness.link import LoginRefused, Seen
from tests.harness.person import Person, Town, Wire

SCRIPTS = Path(__file__).parent / "scripts"
CASTS: dict[str, tuple[Wire, ...]] = {
    "old": ("old",),
    "streaming": ("streaming",),
    "mobile": ("mobile",),
    "mobile-old": ("mobile", "old"),
    "streaming-mobile": ("streaming", "mobile"),
    "old-streaming-mobile": ("old", "streaming", "mobile"),
    "udp": ("udp",),
    "udp-mobile": ("udp", "mobile"),
    "old-udp": ("old", "udp"),
    "streaming-udp-mobile": ("streaming", "udp", "mobile"),
    "token": ("token",),
    "token-udp": ("token", "udp"),
    "old-token-mobile": ("old", "token", "mobile"),
    "web": ("web",),
    "web-mobile": ("web", "mobile"),
    "old-web": ("old", "web"),
    "streaming-web-udp": ("streaming", "web", "udp"),
    "tls": ("acking-tls", "mobile-tls", "web-tls"),
    "old-wss-tls": ("old", "web-tls", "acking-tls"),
}
ALREADY_LOGGED_IN = 2


def allowed(script: str) -> set[str]:
    """The wires of a script's `# wires:` line, all without one, and the same with TLS, where a streaming client must
    acknowledge."""
    found = re.search(r"^# wires: (.*)$", script, re.MULTILINE)
    plain = set(found[1].split()) if found else {"old", "streaming", "mobile", "udp", "token", "web"}
    secure = {"streaming": "acking-tls", "mobile": "mobile-tls", "web": "web-tls"}
    return plain | {wire for name, wire in secure.items() if name in plain}


class Player:
    def __init__(self, town: Town, cast: Sequence[Wire]) -> None:
        self.town = town
        self.wires = itertools.cycle(cast)
        self.people: dict[str, Person] = {}
        self.groups: dict[str, int] = {}
        self.suffix = f"{random.randrange(10**8):08d}"
        self.herald: Person | None = None
        self.lines = LINES

    async def play(self, script: str) -> None:
        for number, line in enumerate(script.splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                try:
                    await self._line(line.strip())
                except Exception as error:
                    raise AssertionError(f"line {number}: {line.strip()}\n  {type(error).__name__}: {error}") from error
        for person in self.people.values():
            person.check()
            if not person.away.is_set():
                await person.leave()

    async def _line(self, line: str) -> None:
        for pattern, act in self.lines:
            if (found := pattern.fullmatch(line)) is not None:
                return await within(20, line, act(self, *found.groups()))
        raise AssertionError("no such line in a script")

    # ------------------------------------------------------------ who

    async def person(self, name: str) -> Person:
        if name not in self.people:
            self.people[name] = await self.town.settle(f"{name}_{self.suffix}", next(self.wires))
        return self.people[name]

    async def address(self, name: str) -> str:
        if name.startswith("#"):
            return f"#{self.groups[name[1:]]}"
        return (await self.person(name)).name

    # ------------------------------------------------------------ the lines

    async def exist(self, names: str) -> None:
        for name in re.split(r", | and ", names):
            await self.person(name)

    async def group(self, group: str, names: str) -> None:
        members = [(await self.person(name)).name for name in re.split(r", | and ", names)]
        self.groups[group] = await self.town.make_group(group, members)

    async def logs_in(self, name: str) -> None:
        await (await self.person(name)).arrive()

    async def comes_back(self, name: str) -> None:
        """The server may still be noticing that the old connection has ended."""
        person = await self.person(name)
        while True:
            try:
                return await person.arrive()
            except LoginRefused as refused:
                if (
                    person.wire in ("mobile", "udp", "token", "web", "mobile-tls", "web-tls")
                    or refused.code != ALREADY_LOGGED_IN
                ):
                    raise
                await person.vanish()

    async def leaves(self, name: str) -> None:
        await (await self.person(name)).leave()

    async def vanishes(self, name: str) -> None:
        await (await self.person(name)).vanish()

    async def has_had_time(self, name: str) -> None:
        """What the kernel of a client had before this counts as received, where the wire has no acknowledgements."""
        await self.person(name)
        await asyncio.sleep(SETTLED_S)

    async def says(self, name: str, to: str, text: str) -> None:
        outcome = await (await self.person(name)).say(await self.address(to), text)
        assert outcome is None or outcome.ok, outcome

    async def repeats(self, name: str, to: str, text: str) -> None:
        """The same message again, as after a timeout: the answer is the first result."""
        person = await self.person(name)
        first = person.outcomes.pop(person.last_fp)
        assert await person.say(await self.address(to), text, person.last_fp) == first

    async def is_refused(self, name: str, to: str, text: str, code: str) -> None:
        person = await self.person(name)
        if to == "nobody":
            to, person.town.ids["nobody"] = "nobody", 2_000_000_000
        fp = person.post(await self.address(to) if to != "nobody" and not to.startswith("#0") else to, text)
        outcome = await person.told(fp)
        assert not outcome.ok
        assert outcome.code == ErrorCode[code], outcome

    async def sees(self, name: str, sender: str, text: str) -> None:
        await (await self.person(name)).sees(Seen((await self.person(sender)).name, text))

    async def sees_in(self, name: str, sender: str, group: str, text: str) -> None:
        await (await self.person(name)).sees(Seen((await self.person(sender)).name, text, self.groups[group]))

    async def sees_nothing_more(self, name: str) -> None:
        """A herald's message is the next thing shown, so nothing else was under way."""
        person = await self.person(name)
        if self.herald is None:
            self.herald = await self.town.settle(f"herald_{self.suffix}", "streaming")
            await self.herald.arrive()
        await self.herald.say(person.name, "the end")
        await person.sees(Seen(self.herald.name, "the end"))
        assert not person.unnoticed, person.unnoticed


SETTLED_S = SETTLE_S + 0.5
"""The settling time, and the moment until a worker looks."""
Act = Callable[..., Awaitable[None]]
WHO = r"(#?\w+)"
LINES: list[tuple[re.Pattern[str], Act]] = [
    (re.compile(pattern), act)
    for pattern, act in [
        (r"there are (.+)", Player.exist),
        (rf"in the group {WHO}: (.+)", Player.group),
        (rf"{WHO} logs in", Player.logs_in),
        (rf"{WHO} comes back", Player.comes_back),
        (rf"{WHO} leaves", Player.leaves),
        (rf"{WHO} vanishes", Player.vanishes),
        (rf"{WHO} has had time to read", Player.has_had_time),
        (rf"{WHO} says to {WHO}: (.*)", Player.says),
        (rf"{WHO} repeats to {WHO}: (.*)", Player.repeats),
        (rf"{WHO} tells {WHO}: (.*) -- and is refused: (\w+)", Player.is_refused),
        (rf"{WHO} sees from {WHO}: (.*)", Player.sees),
        (rf"{WHO} sees from {WHO} in #(\w+): (.*)", Player.sees_in),
        (rf"{WHO} sees nothing more", Player.sees_nothing_more),
    ]
]
