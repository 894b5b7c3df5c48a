"""One chatd on two hosts with one database and one Redis: the same behaviour whichever host a client is on."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from chatd.errors import ErrorCode
from tests.conversations.asking import Client, StreamingClient, Transport, befriend, new_group
from tests.conversations.featured import FeaturedClient
from tests.conversations.people import PeoplePlayer
from tests.conversations.player import SCRIPTS
from tests.conversations.reuse import use_one_fp_twice
from tests.conversations.test_kick import ctl
from tests.conversations.test_people_scripts import CASTS, EVERYWHERE, casts
from tests.conversations.test_requests_apart import parting
from tests.harness.chatserver import LOGIN_ACK
from tests.harness.cluster import Cluster, Region
from tests.harness.deadline import run, until
from tests.harness.link import ConnectionGone, Seen
from tests.harness.mobileimsdk import LOGIN_ANSWER, MobilePeer, content
from tests.harness.peer import NulPeer
from tests.harness.person import PORT_OF, Person, Town, Wire

pytestmark = pytest.mark.xdist_group("hosts")
PACE_MS = 40
PLAIN = tuple(wire for wire in PORT_OF if not wire.endswith("-tls"))
TRANSPORTS: tuple[Transport, ...] = ("mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws")

Towns = tuple[Town, Town]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("hosts"), workers=2, listen={"chatserver": {"pace_ms": PACE_MS}})
    for daemon in made.daemons:
        daemon.config["bus"] = {"lease_s": 2.0}
    try:
        yield made.start()
    finally:
        complaints = made.discard()
    assert not complaints, complaints


@pytest.fixture
def towns(cluster: Cluster) -> Towns:
    """The same accounts by the listeners of one host and of the other."""
    here, there = cluster.daemons
    first = Town(here)
    return first, Town(there, first.ids, first.secret, first.suffixes)


async def clients(towns: Towns, *names: str, transport: Transport = "mobileimsdk") -> list[Client]:
    """On the two hosts in turn."""
    made = [
        Client(towns[number % 2], await towns[0].newcomer(name), transport) for number, name in enumerate(names)
    ]  # fmt: skip
    await asyncio.gather(*(one.arrive() for one in made))
    return made


async def log_in_on_desk(town: Town, name: str) -> tuple[NulPeer, int]:
    """The connection and errno."""
    peer = await town.nul_peer()
    peer.put({"msgid": 1, "id": town.ids[name], "password": town.secret, "framing": "nul"})
    return peer, int((await peer.find(msgid=LOGIN_ACK))["errno"])


# ---------------------------------------------------------------- messages


def test_messages_and_groups_on_all_wires_both_ways(towns: Towns) -> None:
    async def story() -> None:
        sides = [[await towns[side].settle(f"{wire}{side}", wire) for wire in PLAIN] for side in (0, 1)]
        people = [person for side in sides for person in side]
        group = await towns[0].make_group("all", [person.name for person in people])
        await asyncio.gather(*(person.arrive() for person in people))
        pairs = [(one, other) for one in sides[0] for other in sides[1]]
        pairs += [(other, one) for one, other in pairs]

        async def greet(sender: Person, to: Person) -> None:
            sender.post(to.name, f"{sender.name} to {to.name}")
            await to.sees(Seen(sender.name, f"{sender.name} to {to.name}", 0))

        await asyncio.gather(*(greet(*pair) for pair in pairs))
        for sender in people:
            sender.post(f"#{group}", f"{sender.name} to all")
            for person in people:
                if person is not sender:
                    await person.sees(Seen(sender.name, f"{sender.name} to all", group))
        await asyncio.gather(*(person.leave() for person in people))

    run(story(), 60)


def test_what_was_not_acknowledged_on_one_host_is_given_on_the_other(towns: Towns) -> None:
    async def story() -> None:
        alice, bob = await towns[0].newcomer("alice"), await towns[0].newcomer("bob")
        sender = await towns[1].on_mobile(alice)
        left = [str(uuid.uuid4()) for _ in range(6)]
        for number, fp in enumerate(left):
            sender.say(alice, bob, str(number), fp)
        await sender.find(type=4, dataContent=left[-1])
        for number in range(5):
            peer = await towns[number % 2].mobile_peer()
            await peer.log_in(bob, towns[0].secret)
            packets = [await peer.take() for _ in left]
            assert [packet["fp"] for packet in packets] == left
            peer.acknowledge(packets[0])
            left = left[1:]

    run(story())


# ---------------------------------------------------------------- takeover


def test_a_takeover_ends_the_session_on_the_other_host(towns: Towns) -> None:
    async def story() -> None:
        name = await towns[0].newcomer("bob")
        old = StreamingClient(towns[0], name)
        await old.arrive()
        for number in range(1, 5):
            desk, errno = await log_in_on_desk(towns[number % 2], name)  # one that does not ask for it
            desk.close()
            assert errno == 2
            new = StreamingClient(towns[number % 2], name)
            await new.arrive(takeover=True)
            await until(10, "the old one has ended", lambda old=old: old.stream.gone.is_set())  # type: ignore[misc]
            assert [error["errmsg"] for error in old.errors] == ["logged in elsewhere"]
            assert len((await new.ask("session.list"))["sessions"]) == 1
            old = new

    run(story())


@pytest.mark.parametrize("path", sorted((SCRIPTS / "people").glob("*.txt")), ids=lambda path: path.stem)
def test_scripts_about_people(cluster: Cluster, path: Path) -> None:
    """Neighbours are on different hosts, and whoever comes back comes to the other one."""
    script = path.read_text()
    (cast,) = set(EVERYWHERE) & set(casts(script))
    region = Region(cluster.daemons[0], daemons=cluster.daemons, open={0, 1})
    run(PeoplePlayer(region, CASTS[cast]).play(script), 60)


# ---------------------------------------------------------------- requests, friends, presence


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_requests_and_their_notices(towns: Towns, transport: Transport) -> None:
    async def story() -> None:
        alice, bob = await clients(towns, "alice", "bob", transport=transport)
        await alice.ask("friend.request", user=bob.name)
        await bob.hears("friend.request")
        await bob.ask("friend.accept", user=alice.name)
        await alice.hears("friend.accepted")
        for one, other in ((alice, bob), (bob, alice)):
            (friend,) = (await one.ask("friend.list"))["friends"]
            assert (friend["name"], friend["online"]) == (other.name, True)
        number = await new_group(alice, bob)
        await alice.hears("group.joined", group=number)
        for one, other in ((alice, bob), (bob, alice)):
            await one.says(f"#{number}", f"from {one.name}")
            await other.sees(one.name, f"#{number}", f"from {one.name}")
            await one.says(other.name, f"hello {other.name}")
            await other.sees(one.name, other.name, f"hello {other.name}")
        members = (await bob.ask("group.members", group=number))["members"]
        assert [member["online"] for member in members] == [True, True]
        await alice.ask("group.kick", group=number, user=bob.name)
        await bob.hears("group.kicked", group=number)
        history = await bob.ask("history", with_=alice.name)
        assert [message["text"] for message in history["messages"]] == [f"hello {bob.name}", f"hello {alice.name}"]

    run(story())


def test_coming_and_going_is_told_on_the_other_host(towns: Towns) -> None:
    async def story() -> None:
        alice, bob = await clients(towns, "alice", "bob")
        await befriend(alice, bob)
        watched = await alice.ask("presence.subscribe", users=[bob.name])
        assert [user["online"] for user in watched["users"]] == [True]
        for _ in range(2):
            bob.leave()
            await alice.hears("presence", online=False)
            await bob.arrive()
            await alice.hears("presence", online=True)
        for number in range(6):  # a reconnect to the other host is no absence
            bob.town = towns[number % 2]
            old = bob.peer
            await bob.arrive()
            await until(10, "the old session is over", old.gone.is_set)
        await asyncio.sleep(3.0)  # a notice would have come within this
        assert not [one for one in alice.notices if one["event"] == "presence"]
        desk, errno = await log_in_on_desk(towns[0], alice.name)
        assert errno == 0
        desk.close()

    run(story())


def test_who_may_not_watch_any_more_hears_nothing_more(towns: Towns) -> None:
    async def story() -> None:
        carol, bob, alice, dave = await clients(towns, "carol", "bob", "alice", "dave")
        await parting(alice, bob, carol, dave)

    run(story())


def test_sessions_are_listed_and_ended_across_hosts(towns: Towns) -> None:
    async def story() -> None:
        (bob,) = await clients(towns, "bob")
        desk, errno = await log_in_on_desk(towns[1], bob.name)
        assert errno == 0
        listed = await bob.ask("session.list")
        assert listed["complete"]
        assert {one["wire"]: one["this"] for one in listed["sessions"]} == {"mobileimsdk": True, "chatserver": False}
        await bob.ask("session.kick", wire="chatserver")
        assert (await desk.end())[-1]["msgid"] == 12

    run(story())


def test_an_operator_kicks_on_every_host(towns: Towns) -> None:
    async def story() -> None:
        for asked in (0, 1):
            name = await towns[0].newcomer("bob")
            mobile, (desk, errno) = await towns[0].on_mobile(name), await log_in_on_desk(towns[1], name)
            assert errno == 0
            assert await ctl(towns[asked], "kick", name, "--reason", "tea time") == (0, "sessions ended: 2", "")
            packet = (await mobile.end())[-1]
            assert (packet["type"], content(packet)) == (54, {"code": 2, "reason": "tea time"})
            frame = (await desk.end())[-1]
            assert (frame["msgid"], frame["errmsg"]) == (12, "tea time")

    run(story())


# ---------------------------------------------------------------- one session per user and wire


async def stays(peer: MobilePeer) -> None:
    peer.put({"type": 1})
    assert (await peer.find(type=51))["from"] == "0"


@pytest.mark.parametrize("swap", [False, True], ids=["first to second", "second to first"])
def test_the_first_login_time_decides_who_stays(towns: Towns, *, swap: bool) -> None:
    async def story() -> None:
        here, there = reversed(towns) if swap else towns
        name = await here.newcomer("alice")
        old = await here.mobile_peer()
        first = await old.log_in(name, here.secret)
        new = await there.on_web(name, first + 10)  # newer: the old one goes
        (kick,) = await old.end()
        assert (kick["type"], content(kick)["code"]) == (54, 1)
        same = await here.on_datagrams(name, first + 10)  # a reconnect: replaces silently
        assert await new.end() == []
        older = await there.mobile_peer()
        older.put(older.login_packet(name, here.secret, first))  # older: goes itself
        assert (await older.end())[-1]["type"] == 54
        await stays(same)
        fresh = await there.on_mobile(name)  # of a new run of the app: the old one goes
        assert content(await same.find(type=54))["code"] == 1
        await stays(fresh)

    run(story())


def test_errno_2_until_the_other_has_left(towns: Towns) -> None:
    async def story() -> None:
        here, there = towns
        name = await here.newcomer("alice")
        first, errno = await log_in_on_desk(here, name)
        assert errno == 0
        assert (await log_in_on_desk(there, name))[1] == 2
        await here.finish(first)
        second, errno = await log_in_on_desk(there, name)
        assert errno == 0
        assert (await log_in_on_desk(here, name))[1] == 2
        second.close()

    run(story())


def test_of_many_logins_at_once_one_is_left(towns: Towns) -> None:
    async def story() -> None:
        names = [await towns[0].newcomer("user") for _ in range(5)]
        desks = {name: [await towns[number % 2].nul_peer() for number in range(6)] for name in names}
        mobiles = {name: [await towns[number % 2].mobile_peer() for number in range(6)] for name in names}
        for number in range(6):
            for name in names:
                login = {"msgid": 1, "id": towns[0].ids[name], "password": towns[0].secret, "framing": "nul"}
                desks[name][number].put(login)
                peer = mobiles[name][number]
                peer.put(peer.login_packet(name, towns[0].secret, 1000 + (7 * number) % 6))
        for name in names:
            errnos = [(await desk.find(msgid=LOGIN_ACK))["errno"] for desk in desks[name]]
            assert sorted(errnos) == [0, 2, 2, 2, 2, 2]
            *others, latest = sorted(range(6), key=lambda number: (7 * number) % 6)
            for number in others:
                await until(10, "it has gone", mobiles[name][number].gone.is_set)
            answer = await mobiles[name][latest].find(type=LOGIN_ANSWER)
            assert content(answer) == {"code": 0, "firstLoginTime": 1005}
            await stays(mobiles[name][latest])

    run(story())


@pytest.mark.parametrize("wires", [("streaming", "mobile"), ("web", "streaming")], ids="-".join)
def test_one_fp_for_two_messages_on_two_hosts_at_once(towns: Towns, wires: tuple[Wire, Wire]) -> None:
    """Exactly one is stored, the other is refused."""

    async def story() -> None:
        names = [await towns[0].newcomer(name) for name in ("alice", "bob", "carol")]
        one, other = (Person(towns[side], names[0], wires[side]) for side in (0, 1))
        bob, carol = (Person(towns[side], names[side + 1], "streaming") for side in (0, 1))
        for person in (one, other, bob, carol):
            await person.arrive()
        await use_one_fp_twice(one, other, (bob, carol), 20)
        for person in (one, other, bob, carol):
            await person.leave()

    run(story(), 60)


# ---------------------------------------------------------------- without Redis; these come last


def test_logins_while_redis_is_away_are_judged_when_it_is_back(towns: Towns, cluster: Cluster) -> None:
    async def story() -> None:
        here, there = towns
        kept, reconnecting, restarted = [await here.newcomer(name) for name in ("kept", "again", "new")]
        still = await here.on_mobile(kept)
        first = await here.mobile_peer()
        since = await first.log_in(reconnecting, here.secret)
        other = await here.on_mobile(restarted)
        await asyncio.to_thread(cluster.redis.kill)
        second = await there.on_mobile(reconnecting, since)
        newer = await there.on_mobile(restarted)
        desks = [await log_in_on_desk(town, kept) for town in towns]
        assert [errno for _, errno in desks] == [0, 0]
        for peer in (first, second, other, newer, still):
            await stays(peer)
        await asyncio.to_thread(cluster.redis.start)
        assert [packet["type"] for packet in await first.end(20)] == []
        (kick,) = await other.end(20)
        assert (kick["type"], content(kick)["code"]) == (54, 1)
        await until(20, "one desk has gone", lambda: sum(desk.gone.is_set() for desk, _ in desks) == 1)
        for peer in (second, newer, still):
            await stays(peer)
        assert (await log_in_on_desk(here, kept))[1] == 2
        assert (await log_in_on_desk(there, kept))[1] == 2

    run(story(), 60)


class Restless:
    """An account that logs in again and again, on both wires and both hosts, and now and then leaves."""

    def __init__(self, towns: Towns, name: str, chance: random.Random) -> None:
        self.towns, self.name, self.chance = towns, name, chance
        self.mobiles: list[MobilePeer] = []
        self.desks: list[NulPeer] = []
        self.time = 1000

    async def on_the_mobile(self, over: asyncio.Event) -> None:
        while not over.is_set():
            self.time += self.chance.choice((0, 1, 1, 2, -1))
            peer = await self.chance.choice(self.towns).mobile_peer()
            claimed = self.chance.choice((self.time, self.time, self.time, 0))
            peer.put(peer.login_packet(self.name, self.towns[0].secret, claimed))
            self.mobiles.append(peer)
            await self.pause(self.mobiles, 0.1)

    async def on_the_desk(self, over: asyncio.Event) -> None:
        while not over.is_set():
            peer = await self.chance.choice(self.towns).nul_peer()
            peer.put({"msgid": 1, "id": self.towns[0].ids[self.name], "password": self.towns[0].secret})
            self.desks.append(peer)
            await self.pause(self.desks, 0.3)

    async def pause(self, peers: list[MobilePeer] | list[NulPeer], leaving: float) -> None:
        await asyncio.sleep(self.chance.random() / 2)
        there = [peer for peer in peers if not peer.gone.is_set()]
        if there and self.chance.random() < leaving:
            self.chance.choice(there).close()

    async def living(self) -> tuple[int, int]:
        """How many sessions are served on each wire; one that is just being ended is none."""
        return (
            sum([await self._is_served(peer) for peer in self.mobiles if not peer.gone.is_set()]),
            sum([await self._is_at_desk(peer) for peer in self.desks if not peer.gone.is_set()]),
        )

    async def _is_served(self, peer: MobilePeer) -> bool:
        peer.put({"type": 1})
        try:
            return bool(await peer.find(type=51))
        except ConnectionGone:
            return False

    async def _is_at_desk(self, peer: NulPeer) -> bool:
        peer.frames.clear()
        peer.put({"msgid": 10, "id": self.towns[0].ids[self.name], "groupid": 999_999})
        try:
            return bool((await peer.find(msgid=12, ref=10))["errno"] != ErrorCode.NOT_LOGGED_IN)
        except ConnectionGone:
            return False


@pytest.mark.parametrize("seconds", [8, pytest.param(90, marks=pytest.mark.slow)])
def test_whatever_redis_does_one_session_per_user_and_wire_is_left(
    towns: Towns, cluster: Cluster, seconds: float
) -> None:
    chance = random.Random(int(seconds))

    def sessions() -> int:
        return sum(worker["sessions"] for daemon in cluster.daemons for worker in daemon.status()["workers"])

    def marks() -> int:
        with redis.Redis(port=cluster.redis.port) as asked:
            return len(list(asked.scan_iter("chatd:mark:*", count=1000)))

    async def trouble(over: asyncio.Event) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(chance.random() * 2)
            if chance.random() < 0.5:
                await asyncio.to_thread(cluster.redis.kill)
                await asyncio.sleep(chance.choice((0, 0.2, 1, 3)))
                await asyncio.to_thread(cluster.redis.start)
            else:
                cluster.redis.pause()
                await asyncio.sleep(chance.choice((0.1, 1, 3)))
                cluster.redis.go_on()
        over.set()

    async def story() -> None:
        people = [Restless(towns, await towns[0].newcomer("user"), chance) for _ in range(5)]
        over = asyncio.Event()
        lives = [life(over) for one in people for life in (one.on_the_mobile, one.on_the_desk)]
        await asyncio.gather(trouble(over), *lives)
        counted: list[tuple[int, int]] = []

        async def at_rest() -> bool:
            counted[:] = [await one.living() for one in people]
            return all(max(one) <= 1 for one in counted)

        async with asyncio.timeout(20):
            while not await at_rest():  # noqa: ASYNC110 - nothing tells when
                await asyncio.sleep(0.2)
        served = sum(map(sum, counted))
        await until(10, f"{served} sessions and as many marks", lambda: (sessions(), marks()) == (served, served))
        assert served >= len(people)

    run(story(), seconds + 60)


# ---------------------------------------------------------------- what clients ask for in their login


def test_numbers_typing_reading_and_cuts_across_hosts(towns: Towns) -> None:
    async def story() -> None:
        here, there = towns
        alice = FeaturedClient(here, await here.newcomer("alice"))
        bob = FeaturedClient(there, await here.newcomer("bob"), "mobileimsdk-udp")
        desk = StreamingClient(here, bob.name)
        for one in (alice, bob, desk):
            await one.arrive()
        place = f"#{await new_group(alice, bob)}"
        user = {"id": here.ids[bob.name], "name": bob.name}
        for number, to in enumerate((bob.name, place)):
            await alice.ask("typing", with_=to)
            for one in (bob, desk):
                await one.hears("typing", with_=place if number else alice.name)
            mentions = {"mentions": "all"} if number else {}
            done = await alice.sends(to, f"text {number}", **mentions)
            assert (await bob.is_given(f"text {number}"))["seq"] == done["seq"] == 1
            await alice.sends(to, "x" * 2000, reply=1)
            await alice.hears("message.cut", with_=to, seq=2, user=user)
        assert (await bob.unread())[place] | {"mentioned": [1], "unread": 2} == (await bob.unread())[place]
        await desk.ask("read", with_=place, seq=2)
        await bob.hears("read", with_=place, seq=2)
        await desk.ask("read", with_=alice.name, seq=1)
        await bob.hears("read", with_=alice.name, seq=1)
        heads = await bob.unread()
        assert (heads[place]["unread"], heads[alice.name]["unread"]) == (0, 1)
        desk.leave()

    run(story())
