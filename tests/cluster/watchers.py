"""People who watch who comes and goes, one on each host, and what they were told.

Owns: Watcher (never gives up, asks again after each login), Watchers, the check that no live user was shown offline.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from tests.cluster.figures import present
from tests.conversations.asking import Client
from tests.harness.cluster import Throng
from tests.harness.deadline import until
from tests.harness.journal import Line
from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.peer import Frame
from tests.harness.person import Town

AGAIN_S = 0.3
HEARTBEAT_S = 3.0
GRACE_S = 2.5
"""Comings and goings are told once a second: who came a moment ago may still be shown as gone."""


class Told(NamedTuple):
    at: int
    watcher: str
    user: str
    online: bool


class Watcher(Client):
    def __init__(self, town: Town, name: str, users: Sequence[str], told: list[Told]) -> None:
        super().__init__(town, name)
        self.users = users
        self.told = told
        self.watching = asyncio.Event()

    def hear(self, packet: Frame) -> None:
        before = len(self.notices)
        super().hear(packet)
        for notice in self.notices[before:]:
            if notice["event"] == "presence":
                self.note(notice["user"]["name"], notice["online"])

    def note(self, user: str, online: bool) -> None:
        self.told.append(Told(time.monotonic_ns(), self.name, user, online))

    async def stay(self) -> None:
        """Be there and watch, until cancelled."""
        while True:
            try:
                await self.arrive()
                for start in range(0, len(self.users), 50):
                    found = await self.ask("presence.subscribe", users=list(self.users[start : start + 50]))
                    for one in found["users"]:
                        self.note(one["name"], one["online"])
                self.watching.set()
                while not self.peer.gone.is_set():
                    self.peer.put({"type": 1, "from": self.name, "to": "0", "dataContent": "{}", "QoS": False})
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(HEARTBEAT_S):
                            await self.peer.gone.wait()
            except (AssertionError, ConnectionGone, LoginRefused, TimeoutError):  # refused for now, as anybody may be
                self.peer.abort()
            await asyncio.sleep(AGAIN_S)


class Watchers:
    """`told`: everything, in the order of time."""

    def __init__(self, people: list[Watcher], told: list[Told]) -> None:
        self.people = people
        self.told = told

    def shown(self, user: str) -> list[bool]:
        """What each watcher was told last."""
        last = {one.watcher: one.online for one in self.told if one.user == user}
        return list(last.values())

    def falsely_offline(self, lines: Iterable[Line], users: Iterable[str]) -> list[str]:
        """Who was told to be offline although logged in since GRACE_S before and for a second after."""
        presence = present(lines)
        wanted = set(users)
        found = []
        for one in self.told:
            if one.online or one.user not in wanted:
                continue
            for login_at, close_at in presence[one.user]:
                if login_at + GRACE_S * 1e9 < one.at and (not close_at or close_at > one.at + 1e9):
                    found.append(f"{one.watcher} was told {one.user} is offline, logged in for "
                                 f"{(one.at - login_at) / 1e9:.1f} s")  # fmt: skip
        return found


@contextlib.asynccontextmanager
async def watching(throng: Throng, users: Sequence[str]) -> AsyncIterator[Watchers]:
    """One watcher on each host while inside."""
    told: list[Told] = []
    people = []
    for number in range(len(throng.cluster.daemons)):
        name = await throng.region.newcomer("w")
        people.append(Watcher(throng.region.of(number), name, users, told))
    tasks = [asyncio.create_task(one.stay()) for one in people]
    try:
        for one, task in zip(people, tasks, strict=True):
            await until(20, f"{one.name} watches", lambda one=one, task=task: one.watching.is_set() or task.done())
        yield Watchers(people, told)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in people:
            one.leave()
