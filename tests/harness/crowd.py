"""Many people who talk, lose their connection, come back, repeat what was not answered, and write everything down.

Owns: Talker (a Person that never gives up), Crowd (who talks to whom, how fast, when it is over) and the way from a run
to a verdict.
Elsewhere: the faults done meanwhile (tests.faults), the judging (judge).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from chatd.errors import MEANINGS
from tests.harness.chatserver import AskingLink
from tests.harness.deadline import until
from tests.harness.journal import Journal, digest, next_connection, pair
from tests.harness.judge import Verdict, judge
from tests.harness.link import ConnectionGone, LoginRefused, Outcome, Seen
from tests.harness.mobileimsdk import KEEP_ALIVE, StockLink
from tests.harness.person import Person, Town, Wire

FIRST_RETRY_S, LONGEST_RETRY_S = 0.05, 0.5
REFUSED_RETRY_S = 0.2
HEARTBEAT_S = 1.0
PATIENCE_S = 5.0
"""A client that hears nothing for this long, not even an answer to a keep-alive, takes the connection for lost."""
KEEP_ALIVE_PACKET = {"type": KEEP_ALIVE, "from": "", "to": "0", "dataContent": "{}", "QoS": False, "typeu": -1}
TEMPORARY = {int(code) for code, meaning in MEANINGS.items() if meaning.temporary}


GONE_TEXTS = ("(message recalled)", "(message removed by a group admin)")


def told_as_text(text: str) -> str | None:
    """What a client without notices is told of a change: the new text, "" for one that is gone. None: it is a
    message."""
    if text.startswith("(edited, sent "):
        return text.partition(") ")[2]
    return "" if text.startswith(("(recalled the message sent ", "(removed the message that ")) else None


class Talker(Person):
    """Sends to each of `peers` in turn with at most `window` unanswered; a wire without answers counts none."""

    def __init__(self, crowd: Crowd, name: str, wire: Wire) -> None:
        super().__init__(crowd.town, name, wire)
        self.crowd = crowd
        self.peers: list[str] = []
        self.conn = 0
        self.said = 0
        self.unanswered: dict[str, tuple[str, str]] = {}
        self.room = asyncio.Event()
        self.has: set[str] = set()
        self.owed: set[str] = set()
        self.logged_in = False
        self.logins = 0
        self.deaths: list[str] = []
        self.put_at: dict[str, float] = {}
        self.asked: dict[str, tuple[dict[str, Any], str]] = {}
        """Requests that change a message, and the message, by fp, until they are answered."""
        self.pages: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.stored = 0

    # ------------------------------------------------------------ Ears

    def message(self, seen: Seen) -> None:
        conv = f"#{seen.group}" if seen.group else pair(seen.sender, self.name)
        if (told := told_as_text(seen.text)) is not None:
            if told:
                self._shown(conv, id=told.split(" ", 1)[0], hash=digest(told))
            return
        if seen.text in GONE_TEXTS:
            self.crowd.journal.note(
                "receive", self.name, self.conn, id=seen.fp, conv=conv, sender=seen.sender, hash="", seq=seen.seq
            )
            self.has.add(seen.fp)
            self.owed.discard(seen.fp)
            return
        message_id = seen.text.split(" ", 1)[0]
        self.crowd.journal.note(
            "receive",
            self.name,
            self.conn,
            id=message_id,
            conv=conv,
            sender=seen.sender,
            hash=digest(seen.text),
            seq=seen.seq,
        )
        self.has.add(message_id)
        self.owed.discard(message_id)

    def notice(self, body: dict[str, Any]) -> None:
        if body.get("event") == "message.changed":
            place, text = body["with"], body.get("text", "")
            conv = place if place.startswith("#") else pair(self.name, place)
            message_id = text.split(" ", 1)[0]
            self._shown(conv, id=message_id, hash=text and digest(text), seq=body["seq"], version=body["version"])
        elif (asked := self.asked.pop(body.get("ref", ""), None)) is not None:
            self._changed(*asked, body)
        elif (page := self.pages.pop(body.get("ref", ""), None)) is not None:
            page.set_result(body)

    def _shown(self, conv: str, **about: Any) -> None:
        self.crowd.journal.note("show", self.name, self.conn, conv=conv, **about)

    def _changed(self, request: dict[str, Any], message_id: str, body: dict[str, Any]) -> None:
        text = request.get("text", "")
        about = {"id": message_id, "hash": text and digest(text)}
        if body["ok"]:
            self.crowd.journal.note("changed", self.name, self.conn, version=body["result"]["version"], **about)
        elif body["error"]["temporary"]:
            asyncio.get_running_loop().call_later(REFUSED_RETRY_S, self._ask, request, message_id, body["ref"])
        else:
            self.crowd.journal.note("unchanged", self.name, self.conn, code=body["error"]["code"], **about)

    def outcome(self, fp: str, outcome: Outcome) -> None:
        self.put_at.pop(fp, None)
        known = self.unanswered.get(fp)
        if outcome.ok:
            self.crowd.journal.note("ok", self.name, self.conn, id=fp, seq=outcome.seq)
            if known is not None:
                self.crowd.owe(self.name, known[0], fp)
                del self.unanswered[fp]
                self._perhaps_change(known[0], outcome.seq, fp)
        elif fp:
            self.crowd.journal.note("refused", self.name, self.conn, id=fp, code=outcome.code)
            if outcome.code in TEMPORARY and known is not None:
                asyncio.get_running_loop().call_later(REFUSED_RETRY_S, self._again, fp)
            else:
                self.unanswered.pop(fp, None)
        self.room.set()

    def closed(self) -> None:
        if self.conn:
            self.crowd.journal.note("close", self.name, self.conn)
            for fp in self.unanswered:
                self.crowd.journal.note("unknown", self.name, self.conn, id=fp)
        self.logged_in = False
        self.room.set()
        super().closed()

    # ------------------------------------------------------------ staying

    async def stay(self) -> None:
        """Be logged in, always; after each login repeat what was not answered."""
        wait_s = FIRST_RETRY_S
        while True:
            try:
                await self._enter()
                wait_s = FIRST_RETRY_S
                await self._remain()
            except (LoginRefused, ConnectionGone, TimeoutError):
                if self.link is not None:
                    self.link.abort()
            if (death := getattr(self.link, "death", None)) is not None:
                self.deaths.append(str(death))
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_RETRY_S)

    async def _enter(self) -> None:
        self.conn = next_connection()
        link_class_removes = self.wire != "old"
        self.crowd.journal.note("connect", self.name, self.conn, dedupe=link_class_removes)
        async with asyncio.timeout(self.crowd.arrive_s):
            await self.arrive()
        self.crowd.journal.note("login", self.name, self.conn)
        self.logged_in = True
        self.logins += 1
        for fp in list(self.unanswered):
            self._again(fp)
        for fp, (request, message_id) in list(self.asked.items()):
            self._ask(request, message_id, fp)
        self.room.set()

    async def _remain(self) -> None:
        """Until the connection is lost, or taken for lost: on UDP nobody says so, on a cut cable neither."""
        link = self.link
        if not isinstance(link, StockLink) or not (self.wire == "udp" or self.crowd.has_heartbeats):
            await self.away.wait()
            return
        link.heard_at = time.monotonic()
        while not self.away.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self.away.wait()
            link.put(KEEP_ALIVE_PACKET)
            if time.monotonic() - link.heard_at > PATIENCE_S:
                link.abort()
                await self.away.wait()
            elif self.wire == "udp":
                for fp in [fp for fp, at in self.put_at.items() if time.monotonic() - at > HEARTBEAT_S]:
                    self.put_at.pop(fp)
                    self._again(fp)

    def _again(self, fp: str) -> None:
        if self.logged_in and fp in self.unanswered:
            self._put(fp, *self.unanswered[fp])

    def _put(self, fp: str, to: str, text: str) -> None:
        conv = to if to.startswith("#") else pair(self.name, to)
        self.crowd.journal.note("send", self.name, self.conn, id=fp, conv=conv, hash=digest(text))
        if self.wire == "udp":
            self.put_at[fp] = time.monotonic()
        self.post(to, text, fp)

    # ------------------------------------------------------------ changing

    def _perhaps_change(self, to: str, seq: int, message_id: str) -> None:
        """Edit it, twice, or recall it, or edit it and recall it."""
        self.stored += 1
        every = self.crowd.change_every
        if not every or self.wire != "asking" or self.stored % every:
            return
        turn = self.stored // every % 3
        texts = [[f"{message_id} edited", f"{message_id} edited again"], [""], [f"{message_id} changed", ""]][turn]
        for number, text in enumerate(texts):
            self.change(to, seq, message_id, text, f"{message_id}/{number}")

    def change(self, to: str, seq: int, message_id: str, text: str, fp: str) -> None:
        """Ask for it. text "": a recall."""
        request: dict[str, Any] = {"op": "message.recall", "with": to, "seq": seq}
        if text:
            request |= {"op": "message.edit", "text": text}
        self.crowd.journal.note("change", self.name, self.conn, id=message_id, hash=text and digest(text))
        self._ask(request, message_id, fp)

    def _ask(self, request: dict[str, Any], message_id: str, fp: str) -> None:
        self.asked[fp] = request, message_id
        if self.logged_in and isinstance(self.link, AskingLink):
            self.link.request(request["op"], fp, request)

    async def look_back(self) -> None:
        """Write down what the history has of every conversation in the end; on the wire "asking" only."""
        for place in self.peers or [one for one, members in self.crowd.members.items() if self.name in members]:
            conv = place if place.startswith("#") else pair(self.name, place)
            after = 0
            while isinstance(self.link, AskingLink) and self.logged_in:
                ref = f"{self.name}:{place}:{after}"
                page_of = self.pages[ref] = asyncio.get_running_loop().create_future()
                self.link.request("history", ref, {"with": place, "after": after, "limit": 100})
                async with asyncio.timeout(10):
                    page = (await page_of)["result"]["messages"]
                for one in page:
                    text, after = one["text"], one["seq"]
                    message_id = text.split(" ", 1)[0]
                    about = {"id": message_id, "hash": text and digest(text), "version": one.get("version", 0)}
                    self.crowd.journal.note("final", self.name, self.conn, conv=conv, seq=after, **about)
                if not page:
                    break

    # ------------------------------------------------------------ talking

    async def talk(self, window: int, think_s: float) -> None:
        """Until cancelled."""
        while self.peers:
            while not self.logged_in or len(self.unanswered) >= window:
                self.room.clear()
                await self.room.wait()
            to = self.peers[self.said % len(self.peers)]
            self.said += 1
            fp = f"{self.name}-{self.said}"
            text = f"{fp} {'x' * (self.said % 40)}"
            assert self.link is not None
            if self.link.acknowledges:
                self.unanswered[fp] = (to, text)
            self._put(fp, to, text)
            await asyncio.sleep(think_s)


class Crowd:
    """Made by `gather`; talks while inside `async with talking()`; `verdict` settles and judges.

    arrive_s: how long a person tries to get in before it tries again, elsewhere if the town has more than one door.
    has_heartbeats: clients of mobileimsdk notice a silent server (on UDP they always do)."""

    arrive_s = 30.0
    has_heartbeats = False
    change_every = 0
    """Of so many acknowledged messages, people on the wire "asking" change one. In the end they also write down what is
    in their history. 0 = none."""

    def __init__(self, town: Town, evidence: Path | None = None) -> None:
        self.town = town
        self.journal = Journal(evidence)
        self.people: dict[str, Talker] = {}
        self.members: dict[str, set[str]] = {}
        self.staying: list[asyncio.Task[None]] = []

    async def gather(self, wires: Sequence[Wire], groups: Sequence[Sequence[int]] = (), prefix: str = "p") -> None:
        """One account per wire given; neighbours (0 and 1, 2 and 3, …) talk to each other; `groups` by index."""
        for index, wire in enumerate(wires):
            name = f"{prefix}{index}_{time.monotonic_ns() % 10**9}"
            await self.town.register(name)
            self.people[name] = Talker(self, name, wire)
        everybody = list(self.people.values())
        for one, other in zip(everybody[::2], everybody[1::2], strict=False):
            one.peers.append(other.name)
            other.peers.append(one.name)
        for number, indexes in enumerate(groups):
            names = [everybody[index].name for index in indexes]
            group_id = await self.town.make_group(f"{prefix}g{number}", names)
            self.members[f"#{group_id}"] = set(names)
            self.journal.note("members", "", conv=f"#{group_id}", users=tuple(names))
            for index in indexes:
                everybody[index].peers.append(f"#{group_id}")
        self.staying = [asyncio.create_task(talker.stay()) for talker in everybody]
        await until(20, "everybody logged in", lambda: all(talker.logged_in for talker in everybody))

    def listeners(self) -> list[Talker]:
        """One of each two neighbours."""
        return list(self.people.values())[1::2]

    def owe(self, sender: str, to: str, message_id: str) -> None:
        for name in self.members[to] - {sender} if to.startswith("#") else {to}:
            if message_id not in self.people[name].has:
                self.people[name].owed.add(message_id)

    @contextlib.asynccontextmanager
    async def talking(self, window: int = 4, think_s: float = 0.02) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(talker.talk(window, think_s)) for talker in self.people.values()]
        try:
            yield
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def acknowledged(self) -> int:
        return self.journal.counts["ok"]

    def logins(self) -> int:
        return sum(talker.logins for talker in self.people.values())

    async def verdict(self, settle_s: float = 30.0, stale_s: float | None = None) -> Verdict:
        """Wait until everything is answered and everything acknowledged has arrived, or settle_s; then judge."""
        talkers = self.people.values()
        with contextlib.suppress(TimeoutError):  # what is still owed then is what the judge calls lost
            await until(
                settle_s,
                "settled",
                lambda: all(
                    not talker.unanswered and not talker.owed and not talker.asked and talker.logged_in
                    for talker in talkers
                ),
            )
        for talker in talkers:
            if self.change_every:
                await talker.look_back()
        unanswered = sum(len(talker.unanswered) for talker in talkers)
        await self.disperse()
        self.journal.save()
        found = judge(self.journal.lines, stale_s=stale_s)
        found.counts["people"] = len(self.people)
        found.counts["unanswered at the end"] = unanswered
        return found

    async def disperse(self) -> None:
        for task in self.staying:
            task.cancel()
        await asyncio.gather(*self.staying, return_exceptions=True)
        for talker in self.people.values():
            if talker.link is not None and not talker.away.is_set():
                talker.link.close()
        deaths = [f"{talker.name}: {death}" for talker in self.people.values() for death in talker.deaths]
        assert not deaths, f"old clients died: {deaths[:5]}"
