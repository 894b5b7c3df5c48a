"""The life of sessions against a model: logins on both wires and two workers, kicks, groups, requests, messages.

After each step everybody has what the model says, once and in order; every worker's index, topics and locks are those
of the sessions that are there, and nothing is left of those that are not.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chatd.bus.contract import topic_of_group, topic_of_user
from chatd.core.sessions.exclusive import lock_key
from chatd.core.sessions.kick import KickTarget
from chatd.core.sessions.session import SessionState
from chatd.errors import Disconnect, ErrorCode
from chatd.model import Protocol
from chatd.protocol import Accepted, Acknowledge, Deliver, Kicked, LoginAccepted, ServerMessage, ServerRequest
from tests.core.asking import ask, refused
from tests.core.stage import Peer, Stage

T = TypeVar("T")
NAMES = ("alice", "bob", "carol")
WIRES = (Protocol.MOBILEIMSDK, Protocol.CHATSERVER)
READS = ["whoami", "echo", "friend.list", "group.list", "session.list", "sync", "profile.get"]

NONSENSE = ['{"op":"', '{"op":"no"}', '{"op":"read","seq":[]}']


@dataclass
class There:
    """A session that must be there. seen: what it must have been shown, in order within each place."""

    peer: Peer
    since: int
    seen: list[tuple[str, str]] = field(default_factory=list)


Key = tuple[str, Protocol]


class Sessions(RuleBasedStateMachine):
    users = st.sampled_from(NAMES)
    wires = st.sampled_from(WIRES)
    workers = st.integers(0, 1)

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory(prefix="chatd-sessions-")
        self.there: dict[Key, There] = {}
        self.gone: list[There] = []
        self.members: dict[int, list[str]] = {}
        self.banned: set[tuple[int, str]] = set()
        """Of each group, the owner first (nobody is made admin here)."""
        self.waiting: dict[str, list[tuple[str, str]]] = {name: [] for name in NAMES}
        self.numbers = itertools.count()
        self.times = itertools.count(1_700_000_000_000, 1000)

    def run(self, work: Any) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(30):
                return await work

        return self.runner.run(bounded())

    @initialize()
    def begin(self) -> None:
        async def opening() -> None:
            self.stage = Stage(Path(self.folder.name) / "chatd.db", self.stack)
            for _ in range(2):
                await self.stage.worker()
            for name in NAMES:  # in this order, so that alice has the id 1
                (await self.stage.workers[0].mobile(name)).leave()
            await self.stage.settled()

        self.run(opening())

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    # ------------------------------------------------------------ the model

    def on(self, name: str) -> list[There]:
        return [one for (user, _), one in self.there.items() if user == name]

    def ended(self, key: Key, reason: Disconnect) -> None:
        one = self.there.pop(key)
        self.gone.append(one)
        assert (one.peer.closed, one.peer.reason) == (True, reason)

    def began(self, key: Key, peer: Peer, since: int) -> None:
        new = self.there[key] = There(peer, since)
        new.seen += self.waiting[key[0]]
        self.waiting[key[0]] = []

    # ------------------------------------------------------------ coming and going

    @rule(name=users, worker=workers, relation=st.sampled_from(["first", "newer", "same", "older"]))
    def log_in_on_the_mobile(self, name: str, worker: int, relation: str) -> None:
        key = (name, Protocol.MOBILEIMSDK)
        old = self.there.get(key)
        claimed = 0 if relation == "first" else next(self.times)
        if old is not None:
            claimed = {"first": 0, "newer": old.since + 1, "same": old.since, "older": old.since - 1}[relation]
        peer = self.run(self.stage.workers[worker].mobile(name, claimed))
        if old is not None and relation == "older":
            assert peer.reason is Disconnect.KICKED_DUPLICATE
            assert not old.peer.closed
            return
        assert peer.logged_in, peer.events
        since = peer.told(LoginAccepted)[0].first_login_time
        assert claimed in (0, since)
        if old is not None:
            self.ended(key, Disconnect.REPLACED if relation == "same" else Disconnect.KICKED_DUPLICATE)
            assert len(old.peer.told(Kicked)) == (relation != "same")
        self.began(key, peer, since)

    @rule(name=users, worker=workers)
    def log_in_on_the_desk(self, name: str, worker: int) -> None:
        key = (name, Protocol.CHATSERVER)
        peer = self.run(self.stage.workers[worker].desk(name))
        if key in self.there:
            assert peer.failures == [ErrorCode.ALREADY_LOGGED_IN]
            return
        assert peer.logged_in, peer.events
        self.began(key, peer, 0)

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.there)))

        async def leaving() -> None:
            self.there[key].peer.leave()

        self.run(leaving())
        self.ended(key, Disconnect.PEER_LEFT)

    @rule(name=users)
    def kick(self, name: str) -> None:
        async def kicking() -> int:
            first = self.stage.workers[len(name) % 2]  # the other one's too
            return (await first.core.kicks.kick(KickTarget(name), "because")).sessions

        assert self.run(kicking()) == len(self.on(name))
        for key in [key for key in self.there if key[0] == name]:
            assert self.there[key].peer.told(Kicked)[-1] == Kicked(True, "because")
            self.ended(key, Disconnect.KICKED_BY_ADMIN)

    @rule(worker=workers, whole=st.booleans())
    def the_bus_blinks(self, worker: int, whole: bool) -> None:
        """A worker is cut off, and its lease over; or everything is forgotten. At once it is back."""

        async def blinking() -> None:
            exchange = self.stage.exchange
            if whole:
                exchange.forget()
            else:
                exchange.cut(worker)
                exchange.expire(worker)
                exchange.mend(worker)

        self.run(blinking())

    # ------------------------------------------------------------ groups

    def asking(self, data: st.DataObject, names: list[str] | tuple[str, ...] = NAMES) -> Peer | None:
        """A mobile session of one of these."""
        keys = [(name, Protocol.MOBILEIMSDK) for name in names if (name, Protocol.MOBILEIMSDK) in self.there]
        return self.there[data.draw(st.sampled_from(keys))].peer if keys else None

    @precondition(lambda self: len(self.members) < 3)
    @rule(data=st.data())
    def create(self, data: st.DataObject) -> None:
        if (peer := self.asking(data)) is not None:
            made = self.run(ask(peer, "group.create", name="team", join="open"))["group"]["id"]
            assert made not in self.members
            self.members[made] = [peer.name]

    @precondition(lambda self: self.members)
    @rule(data=st.data(), name=users, wire=wires)
    def join(self, data: st.DataObject, name: str, wire: Protocol) -> None:
        number = data.draw(st.sampled_from(sorted(self.members)))
        one = self.there.get((name, wire))
        if one is None:
            return
        if (number, name) in self.banned:
            if wire is Protocol.CHATSERVER:
                self.run(one.peer.join(number))
                assert one.peer.failures[-1] is ErrorCode.BANNED
            else:
                assert self.run(refused(one.peer, "group.join", group=number)) is ErrorCode.BANNED
            return
        if wire is Protocol.CHATSERVER:
            self.run(one.peer.join(number))
        else:
            self.run(ask(one.peer, "group.join", group=number))
        if name not in self.members[number]:
            self.members[number].append(name)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def leave_a_group(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.members)))
        if (peer := self.asking(data)) is None:
            return
        members = self.members[number]
        if peer.name not in members:
            assert self.run(refused(peer, "group.leave", group=number)) is ErrorCode.NOT_A_MEMBER
            return
        left = self.run(ask(peer, "group.leave", group=number))
        self.out(number, peer.name)
        assert left["ended"] is (not members)
        if not members:
            del self.members[number]
        else:  # joined in the same millisecond: the least id
            owner = next(name for name in NAMES if self.is_owner(number, name))
            members.remove(owner)
            members.insert(0, owner)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), name=users)
    def kick_out_of_a_group(self, data: st.DataObject, name: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.members)))
        members = self.members[number]
        if (peer := self.asking(data)) is None:
            return
        if peer.name not in members or name not in members:
            assert self.run(refused(peer, "group.kick", group=number, user=name)) in (
                ErrorCode.NOT_A_MEMBER, ErrorCode.NOT_ALLOWED,
            )  # fmt: skip
        elif peer.name == members[0] and name != peer.name:
            self.run(ask(peer, "group.kick", group=number, user=name))
            self.banned.add((number, name))
            self.out(number, name)
        else:
            assert self.run(refused(peer, "group.kick", group=number, user=name)) is ErrorCode.NOT_ALLOWED

    def out(self, number: int, name: str) -> None:
        self.members[number].remove(name)
        self.waiting[name] = [one for one in self.waiting[name] if one[0] != f"#{number}"]

    def is_owner(self, number: int, name: str) -> bool:
        tables = self.stage.workers[0].tables
        return any(user.name == name and role == 1 for user, role in tables.groups.members(number, 0, 10))

    # ------------------------------------------------------------ talking and asking

    @rule(data=st.data(), name=users, wire=wires)
    def say(self, data: st.DataObject, name: str, wire: Protocol) -> None:
        """To another user or to a group."""
        one = self.there.get((name, wire))
        if one is None:
            return
        to = data.draw(st.sampled_from([*(n for n in NAMES if n != name), *sorted(self.members)]))
        text = f"text {next(self.numbers)}"
        failures = len(one.peer.failures)
        accepted = len(one.peer.told(Accepted))

        async def saying() -> None:
            one.peer.send(to, text, text)

        self.run(saying())
        if isinstance(to, int) and name not in self.members[to]:
            self.run(self.stage.until("refused", lambda: len(one.peer.failures) > failures))
            assert one.peer.failures[-1] is ErrorCode.NOT_A_MEMBER
            return
        self.run(self.stage.until("accepted", lambda: len(one.peer.told(Accepted)) > accepted))
        place = f"#{to}" if isinstance(to, int) else name
        for other in self.members[to] if isinstance(to, int) else [to]:
            if other == name:
                continue
            for session in self.on(other):
                session.seen.append((place, text))
            if not self.on(other):
                self.waiting[other].append((place, text))

    @rule(data=st.data(), op=st.sampled_from(READS), again=st.booleans())
    def ask_something(self, data: st.DataObject, op: str, again: bool) -> None:
        if (peer := self.asking(data)) is not None:
            fp = f"asked {next(self.numbers)}"
            for _ in range(1 + again):
                self.run(ask(peer, op, fp))

    @rule(
        data=st.data(),
        text=st.text(max_size=30) | st.sampled_from(NONSENSE),
    )
    def ask_nonsense(self, data: st.DataObject, text: str) -> None:
        if (peer := self.asking(data)) is not None:
            accepted = len(peer.told(Accepted))
            self.run(peer.do(ServerRequest(text.encode(errors="replace").decode(), f"n{next(self.numbers)}", True)))
            assert len(peer.told(Accepted)) == accepted + 1
            assert not peer.closed

    # ------------------------------------------------------------ what must be true after each step

    @invariant()
    def everything_is_as_it_must_be(self) -> None:
        if not hasattr(self, "stage"):
            return
        self.run(self.settle())
        for session in [*self.there.values(), *self.gone]:
            assert shown(session.peer) == by_place(session.seen), session.peer.name
        self.check_workers()

    async def settle(self) -> None:
        stage = self.stage
        await stage.until("everybody has everything", lambda: all(self.has_all(one) for one in self.there.values()))
        for session in self.there.values():
            peer = session.peer
            peer.read_all()
            for event in peer.events:
                if isinstance(event, (Deliver, ServerMessage)) and event.fp:
                    await peer.do(Acknowledge(event.fp))
        stage.tick()
        await stage.settled()
        await stage.until("locks are free", lambda: len(stage.exchange.locks) == len(self.there))

    def has_all(self, one: There) -> bool:
        session = one.peer.session
        return session is not None and session.buffer is None and shown(one.peer) == by_place(one.seen)

    def check_workers(self) -> None:
        locks = set()
        for worker in self.stage.workers:
            here = [one.peer for one in self.there.values() if one.peer.worker is worker]
            assert worker.core.logins.count == len(here)
            topics: set[int] = set()
            for peer in here:
                session = peer.session
                assert session is not None
                assert session.state is SessionState.LIVE
                groups = {number for number, members in self.members.items() if peer.name in members}
                assert set(session.groups or ()) == groups, peer.name
                assert not session.unacknowledged
                topics.add(topic_of_user(session.user.id))
                topics |= {topic_of_group(number) for number in groups}
                locks.add(lock_key(session.user, session.protocol))
            assert worker.bus.own == topics
            online = self.run(worker.core.hub.online(range(1, len(NAMES) + 1)))
            assert online == {user_id for user_id, name in enumerate(NAMES, 1) if self.on(name)}
        assert self.stage.exchange.locks.keys() == locks


def by_place(seen: list[tuple[str, str]]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for place, text in seen:
        places.setdefault(place, []).append(text)
    return places


def shown(peer: Peer) -> dict[str, list[str]]:
    return by_place([(f"#{m.group_id}" if m.group_id else m.sender_name, m.body) for m in peer.messages])


def play(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Sessions,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_sessions() -> None:
    play(20, 30)


@pytest.mark.slow
def test_sessions_at_length() -> None:
    play(400, 60)
