"""People who join and leave a group all the time, on whatever host, while others write in it.

Owns: Movers: the group, its owner and an admin (one on each host, so that a kick may come from either), and what the
journal says of every change.
Elsewhere: the faults, and the verdict (tests.harness.judge knows who was a member when).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from tests.conversations.asking import Client
from tests.harness import chatserver
from tests.harness.chatserver import StreamingLink
from tests.harness.cluster import Throng
from tests.harness.crowd import Talker
from tests.harness.deadline import until
from tests.harness.link import ConnectionGone, LoginRefused

STAY_S = (0.1, 0.8)
"""Between two changes of one mover."""
INSIST = 20
"""Times a change is asked for."""
PASSING = (AssertionError, ConnectionGone, LoginRefused, TimeoutError)
"""What a request may end in while something is broken: it is made again."""


class Movers:
    """`people` join and leave; of `throng`, on the streaming wire, because its clients are told numbers."""

    def __init__(self, throng: Throng, people: Sequence[Talker]) -> None:
        self.throng = throng
        self.people = people
        self.group = 0
        self.changes = 0
        self.joined_at: dict[str, int] = {}
        """Of each mover, the number of the journal's line of the latest change."""
        self.kickers: list[Client] = []

    @property
    def conv(self) -> str:
        return f"#{self.group}"

    def note(self, event: str, talker: Talker) -> None:
        self.throng.journal.note(event, talker.name, conv=self.conv)  # type: ignore[arg-type]

    def host(self) -> int:
        return random.randrange(len(self.throng.cluster.daemons))

    async def open(self, writers: Sequence[Talker], silent_host: int | None = None) -> None:
        """Make the group; the writers are in it from now on, and write to it, except those on this host."""
        hosts = [self.throng.region.of(number) for number in range(len(self.throng.cluster.daemons))]
        for host in hosts:
            name = await self.throng.region.newcomer("owner")
            self.kickers.append(await Client(host, name).arrive())
        owner = self.kickers[0]
        self.group = int((await owner.ask("group.create", name="moving", join="open"))["group"]["id"])
        for other in self.kickers[1:]:
            await other.ask("group.join", group=self.group)
            await owner.ask("group.role", group=self.group, user=other.name, role="admin")
        for talker in writers:
            await self._enter(talker)
        names = {talker.name for talker in writers}
        self.throng.members[self.conv] = names
        self.throng.journal.note("members", "", conv=self.conv, users=tuple(names))
        for talker in writers:
            if self.throng.region.last[talker.name] != silent_host:
                talker.peers.append(self.conv)

    async def _enter(self, talker: Talker) -> None:
        """On the wire that the person does not use: there is one session per wire."""
        if talker.wire != "streaming":
            await self.throng.region.join_group(talker.name, self.group)
            return
        client = await Client(self.throng.region.of(0), talker.name).arrive()
        await client.ask("group.join", group=self.group)
        client.leave()

    async def join(self, talker: Talker, host: int | None = None) -> bool:
        return await self._change("joining", "joined", talker, "group.join", host)

    async def join_here(self, talker: Talker) -> bool:
        """On the person's own connection."""
        self.note("joining", talker)
        link = talker.link
        if not isinstance(link, StreamingLink) or not talker.logged_in:
            return False
        try:
            link.put({"msgid": chatserver.JOIN_GROUP, "id": link.id, "groupid": self.group})
            await link.find(5, msgid=chatserver.GROUP_ACK, groupid=self.group)
        except PASSING:
            return False
        self._changed("joined", talker)
        return True

    async def leave(self, talker: Talker, host: int | None = None) -> bool:
        return await self._change("leaving", "left", talker, "group.leave", host)

    async def _change(self, before: str, after: str, talker: Talker, op: str, host: int | None) -> bool:
        """By another client of the same person, on any host. False: its outcome is not known."""
        self.note(before, talker)
        client = Client(self.throng.region.of(self.host() if host is None else host), talker.name)
        client.acknowledging = False
        try:
            async with asyncio.timeout(5):
                await client.arrive()
                await client.ask(op, group=self.group)
        except PASSING:
            return False
        finally:
            with contextlib.suppress(AssertionError):
                client.leave()
        self._changed(after, talker)
        return True

    async def kick(self, talker: Talker, host: int | None = None) -> bool:
        kicker = self.kickers[self.host() if host is None else host]
        self.note("leaving", talker)
        try:
            async with asyncio.timeout(5):
                await kicker.ask("group.kick", group=self.group, user=talker.name)
                await kicker.ask("group.unban", group=self.group, user=talker.name)
        except PASSING:
            return False
        self._changed("left", talker)
        return True

    def _changed(self, event: str, talker: Talker) -> None:
        self.note(event, talker)
        self.changes += 1
        self.joined_at[talker.name] = len(self.throng.journal.lines)

    def missing(self, talker: Talker) -> set[str]:
        """What was acknowledged in the group since this mover became a member, and not shown to them yet. Of movers
        who are members now."""
        lines = self.throng.journal.lines[self.joined_at[talker.name] :]
        sent = {line.id for line in lines if line.event == "send" and line.conv == self.conv}
        return {line.id for line in lines if line.event == "ok" and line.id in sent} - talker.has

    async def settle(self, limit_s: float) -> None:
        """Everybody has everything, or it is too late: then it is the judge's to say."""
        with contextlib.suppress(TimeoutError):
            await until(limit_s, "the movers have all", lambda: not any(map(self.missing, self.people)), 0.1)

    @contextlib.asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """They move while inside; at the end everybody is a member."""
        ending = asyncio.Event()
        tasks = [asyncio.create_task(self._move(talker, ending)) for talker in self.people]
        try:
            yield
        finally:
            ending.set()
            await asyncio.gather(*tasks)

    async def _move(self, talker: Talker, ending: asyncio.Event) -> None:
        """Mostly kicked on one host or another, and back at once by the own connection, so that word of the kick may
        come after it."""
        for number in itertools.count():
            join = self.join if number % 4 == 3 else self.join_here
            await self._insist(lambda: join(talker))  # noqa: B023  called within this round
            if ending.is_set():
                return
            await asyncio.sleep(random.uniform(*STAY_S))
            leave = self.leave if number % 4 == 2 else self.kick
            await self._insist(lambda: leave(talker))  # noqa: B023  called within this round
            if number % 2:
                await asyncio.sleep(random.uniform(*STAY_S))

    async def _insist(self, change: Callable[[], Awaitable[bool]]) -> None:
        """Until it is known to have happened. A leave that had happened before it could be told is refused for ever."""
        for _ in range(INSIST):
            if await change():
                return
            await asyncio.sleep(0.1)

    def close(self) -> None:
        for kicker in self.kickers:
            kicker.leave()
