"""Stream connections that move to another worker: their clients notice nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.frames import Frame as WebFrame
from websockets.frames import Opcode

from chatd.config.schema import LimitOptions, TimeoutOptions
from chatd.core.sessions.kick import KickTarget
from chatd.protocol import Announcement
from tests.harness.chatserver import LOGIN, LOGIN_ACK, ONE_CHAT
from tests.harness.deadline import until
from tests.harness.mobileimsdk import ACK, DATA, KICKED, MobilePeer
from tests.harness.peer import Frame, NulPeer, Peer
from tests.harness.websocket import WebPeer
from tests.net.handover.pair import Pair, play
from tests.net.proxy_headers import Headed, v2

SMALL_BUFFER = 4096
LONG = "x" * 5000


class BalancedPeer(Headed, MobilePeer):
    head = v2("198.51.100.7", 4711)


def packet(text: str, fp: str = "", to: str = "bob") -> Frame:
    return {"type": DATA, "from": "alice", "to": to, "dataContent": text, "fp": fp or text, "QoS": True, "typeu": -1}


async def web(pair: Pair, name: str) -> WebPeer:
    peer = WebPeer()
    await peer.open(pair.old.ports["websocket"])
    await peer.log_in(name, "")
    return peer


async def acknowledged(peer: MobilePeer, fps: list[str]) -> None:
    """The peer is told of each of its messages that it is stored, in order."""
    for fp in fps:
        assert (await peer.find(type=ACK))["dataContent"] == fp


async def texts(peer: MobilePeer, count: int, *, acknowledges: bool = True) -> list[str]:
    found = []
    for _ in range(count):
        got = await peer.find(type=DATA)
        if acknowledges:
            peer.acknowledge(got)
        found.append(got["dataContent"])
    return found


def silent(*peers: Peer) -> bool:
    return not any(peer.frames or peer.gone.is_set() for peer in peers)


# ---------------------------------------------------------------- nothing is noticed


def test_a_session_goes_on_and_nobody_notices(memory_path: Path) -> None:
    """No login is counted, and whoever watches is told nothing."""

    async def story(pair: Pair) -> None:
        alice, bob, web_user = await pair.old.mobile("alice"), await pair.old.mobile("bob"), await web(pair, "carol")
        old = await pair.old.streaming("dora")
        friend = await pair.third.mobile("alice2")
        before = pair.old.row.logins + pair.new.row.logins
        assert await pair.hand_over() == (4, 0)
        assert pair.old.core.logins.count == 0
        assert pair.new.core.logins.count == 4
        alice.put(packet("to bob"))
        assert await texts(bob, 1) == ["to bob"]
        await acknowledged(alice, ["to bob"])
        friend.put({**packet("to carol", to="carol"), "from": "alice2"})
        assert await texts(web_user, 1) == ["to carol"]
        friend.put({**packet("to dora", to="dora"), "from": "alice2"})
        assert (await old.find(msgid=ONE_CHAT))["msg"] == "to dora"
        await acknowledged(friend, ["to carol", "to dora"])
        assert silent(alice, bob, web_user, old)
        assert pair.old.row.logins + pair.new.row.logins == before

    play(memory_path, story)


def test_a_client_on_a_unix_socket_moves(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        bob = NulPeer()
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: bob, str(memory_path / "shared"))
        bob.put({"msgid": LOGIN, "name": "bob", "password": "", "framing": "nul"})
        await bob.find(msgid=LOGIN_ACK)
        assert await pair.hand_over() == (1, 0)
        alice = await pair.third.mobile("alice")
        alice.put(packet("hello"))
        assert (await bob.find(msgid=ONE_CHAT))["msg"] == "hello"
        bob.put({"msgid": ONE_CHAT, "toname": "alice", "msg": "hi", "fp": "b1"})
        assert (await bob.find(msgid=13))["fp"] == "b1"

    play(memory_path, story)


def test_a_client_behind_a_balancer_keeps_its_address(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        bob = BalancedPeer()
        await bob.open(pair.old.ports["balanced"])
        await bob.log_in("bob", "")
        assert pair.old.of("bob").remote == "198.51.100.7:4711"
        assert await pair.hand_over() == (1, 0)
        moved = pair.new.of("bob")
        assert moved.remote == "198.51.100.7:4711"
        assert moved.receipts is not None
        assert moved.receipts.is_relayed
        assert moved.source is not None

    play(memory_path, story)


# ---------------------------------------------------------------- bytes under way


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 60, -1])
def test_a_packet_whose_first_part_was_read_is_read_to_its_end(memory_path: Path, cut: int) -> None:
    async def story(pair: Pair) -> None:
        alice, bob = await pair.old.mobile("alice"), await pair.old.mobile("bob")
        raw = alice.wrap(json.dumps(packet("one")).encode())
        alice.write(raw[:cut])
        codec = pair.old.of("alice").codec
        await until(5, "the part is read", lambda: codec.buffered_bytes)
        await pair.hand_over()
        alice.write(raw[cut:])
        alice.put(packet("two"))
        assert await texts(bob, 2) == ["one", "two"]
        await acknowledged(alice, ["one", "two"])

    play(memory_path, story)


@pytest.mark.parametrize("cut", [1, 20, -2, -1])
def test_an_object_whose_first_part_was_read_is_read_to_its_end(memory_path: Path, cut: int) -> None:
    async def story(pair: Pair) -> None:
        alice, bob = await pair.old.streaming("alice"), await pair.old.streaming("bob")
        raw = alice.wrap(json.dumps({"msgid": ONE_CHAT, "toname": "bob", "msg": 'a "{}" b', "fp": "f"}).encode())
        alice.write(raw[:cut])
        codec = pair.old.of("alice").codec
        await until(5, "the part is read", lambda: codec.buffered_bytes or cut == -1)
        await pair.hand_over()
        alice.write(raw[cut:])
        assert (await bob.find(msgid=ONE_CHAT))["msg"] == 'a "{}" b'
        assert (await alice.find(msgid=13))["fp"] == "f"

    play(memory_path, story)


def test_a_message_in_fragments_is_read_to_its_end(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        alice, bob = await web(pair, "alice"), await web(pair, "bob")
        body = json.dumps(packet("y" * 4000, "f")).encode()
        first = WebFrame(Opcode.TEXT, body[:2000], fin=False).serialize(mask=True)
        second = WebFrame(Opcode.CONT, body[2000:]).serialize(mask=True)
        alice.write(first + second[:700])
        reader = pair.old.of("alice").frames  # type: ignore[attr-defined]  # of a WebSocket
        await until(5, "the parts are read", lambda: reader.buffered_bytes and reader.fragment_bytes)
        await pair.hand_over()
        alice.write(second[700:])
        assert await texts(bob, 1) == ["y" * 4000]
        await acknowledged(alice, ["f"])

    play(memory_path, story)


@pytest.mark.parametrize("on_web", [False, True])
def test_a_packet_that_is_too_long_is_skipped_to_its_end(memory_path: Path, on_web: bool) -> None:
    async def story(pair: Pair) -> None:
        alice = await (web(pair, "alice") if on_web else pair.old.mobile("alice"))
        bob = await pair.old.mobile("bob")
        raw = alice.wrap(json.dumps(packet("z" * 100_000, "long")).encode())
        alice.write(raw[:50_000])
        connection = pair.old.of("alice")
        skips = connection.frames if on_web else connection.codec  # type: ignore[attr-defined]  # of a WebSocket
        await until(5, "the part is read", lambda: skips.buffered_bytes)
        await pair.hand_over()
        alice.write(raw[50_000:])
        refused = json.loads(json.loads((await alice.find(type=52))["dataContent"])["errorMsg"])
        assert refused["fp"] == "long"
        alice.put(packet("next"))
        assert await texts(bob, 1) == ["next"]

    play(memory_path, story)


def test_answers_that_the_client_has_not_read_arrive_whole_and_in_order(memory_path: Path) -> None:
    """More than its kernel and ours hold: some of it waits in the connection, and goes on from there."""
    count = 300

    async def story(pair: Pair) -> None:
        bob = await pair.old.streaming("bob", receive_buffer=SMALL_BUFFER)
        assert bob.transport is not None
        bob.transport.pause_reading()
        alice = await pair.third.streaming("alice")
        for number in range(count):
            alice.put({"msgid": ONE_CHAT, "toname": "bob", "msg": f"{number} {LONG}", "fp": f"f{number}"})
        for _ in range(count):
            await alice.find(msgid=13)
        old = pair.old.of("bob")
        await until(5, "much is queued", lambda: old.written > 200_000)
        moving = asyncio.create_task(pair.begin())
        await until(5, "it is held", lambda: old.stalled_at)
        bob.transport.resume_reading()
        assert await moving == (1, 0)
        for number in range(count):
            assert (await bob.find(msgid=ONE_CHAT))["msg"].split(" ")[0] == str(number)
        assert silent(bob)

    play(memory_path, story, LimitOptions(commands_per_s=0, recipients_per_s=0, changes_per_hour=0, in_flight=1000))


def test_what_the_kernel_holds_for_a_client_that_does_not_read_moves_with_the_socket(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        bob = await pair.old.streaming("bob", receive_buffer=SMALL_BUFFER)
        assert bob.transport is not None
        bob.transport.pause_reading()
        alice = await pair.third.streaming("alice")
        await pair.third.stored(alice, "bob", [f"{number} {LONG}" for number in range(40)])
        old = pair.old.of("bob")
        await until(5, "all is written", lambda: old.written > 200_000)
        assert await pair.hand_over() == (1, 0)
        assert pair.new.of("bob").written == old.written
        await pair.third.stored(alice, "bob", ["after"])
        bob.transport.resume_reading()
        for number in range(40):
            assert (await bob.find(msgid=ONE_CHAT))["msg"].startswith(f"{number} ")
        assert (await bob.find(msgid=ONE_CHAT))["msg"] == "after"

    play(memory_path, story)


def test_frames_that_wait_for_their_turn_go_on_in_their_order(memory_path: Path) -> None:
    """COMPAT: to the old chatserver client, frames go out one by one."""

    async def story(pair: Pair) -> None:
        bob = await pair.old.raw()
        bob.put({"msgid": LOGIN, "name": "bob", "password": ""})
        await bob.find(msgid=LOGIN_ACK)
        alice = await pair.third.streaming("alice")
        await pair.third.stored(alice, "bob", [f"text {number}" for number in range(20)])
        connection = pair.old.of("bob")
        await until(5, "frames wait", lambda: connection.paced)
        assert await pair.hand_over() == (1, 0)
        assert pair.new.of("bob").paced
        got = [(await bob.find(msgid=ONE_CHAT))["msg"] for _ in range(20)]
        assert got == [f"text {number}" for number in range(20)]

    play(memory_path, story)


class CountingPeer(NulPeer):
    """reads: the number of frames in each read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []

    def split(self, data: bytes) -> list[bytes]:
        found = super().split(data)
        self.reads.append(len(found))
        return found


def test_an_old_client_gets_one_frame_at_a_time_while_it_moves(memory_path: Path) -> None:
    """COMPAT: it would not see the second one. What is told to it at its arrival waits for its turn as well."""

    async def story(pair: Pair) -> None:
        bob = CountingPeer()
        await bob.open(pair.old.ports["chatserver"])
        bob.put({"msgid": LOGIN, "name": "bob", "password": ""})
        await bob.find(msgid=LOGIN_ACK)
        session = pair.old.of("bob").session
        assert session is not None
        user_id = session.user.id
        alice = await pair.third.streaming("alice")
        await pair.third.stored(alice, "bob", ["before"] * 3)
        await until(5, "nothing waits", lambda: len(bob.frames) == 3)
        moving = asyncio.create_task(pair.begin())
        await until(5, "it is offered", lambda: pair.new.core.hub.of_user(user_id), step_s=0)
        for number in range(3):
            for arriving in pair.new.core.hub.of_user(user_id):
                arriving.peer.push(Announcement(f"told {number}", user_id, 1))
        await moving
        await until(5, "all of it", lambda: len(bob.frames) == 6)
        assert max(bob.reads) == 1

    play(memory_path, story)


# ---------------------------------------------------------------- commands under way


def test_commands_sent_all_at_once_are_answered_in_order(memory_path: Path) -> None:
    """Some before, some after the move; requests take a while, and messages wait for their commit."""

    async def story(pair: Pair) -> None:
        alice = await pair.old.mobile("alice")
        await pair.old.mobile("bob")
        asked = []
        for number in range(200):
            if number % 5:
                alice.put(packet(f"m{number}"))
                asked.append(f"m{number}")
            else:
                alice.put({**packet(json.dumps({"op": "friend.list", "ref": number}), f"r{number}", to="0")})
                asked.append(f"r{number}")
            if number == 100:
                moving = asyncio.create_task(pair.begin())
                await asyncio.sleep(0)
        assert (await moving).moved == 2
        answers = [(await alice.find(type=ACK))["dataContent"] for _ in asked]
        assert [fp for fp in answers if fp[0] == "m"] == [fp for fp in asked if fp[0] == "m"]
        assert sorted(answers) == sorted(asked)

    play(memory_path, story)


def test_a_login_that_is_being_served_is_waited_for_and_moves(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        alice = MobilePeer()
        await alice.open(pair.old.ports["mobileimsdk"])
        alice.put(alice.login_packet("alice", ""))
        await until(5, "it is being served", lambda: any(one.pending for one in pair.old.connections.members), step_s=0)  # type: ignore[attr-defined]
        assert (await pair.hand_over()).moved == 1
        assert json.loads((await alice.find(type=50))["dataContent"])["code"] == 0
        assert pair.new.core.logins.count == 1

    play(memory_path, story)


def test_a_client_that_has_not_logged_in_stays(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        stranger = MobilePeer()
        await stranger.open(pair.old.ports["mobileimsdk"])
        await until(5, "it is there", lambda: pair.old.connections.members)
        assert await pair.hand_over() == (0, 1)
        await stranger.log_in("alice", "")
        assert pair.old.core.logins.count == 1

    play(memory_path, story)


# ---------------------------------------------------------------- messages


def test_messages_sent_during_the_move_arrive_once_and_in_order(memory_path: Path) -> None:
    """Once, as long as nothing is due again: a busy machine needs longer than the default times."""
    count = 400

    async def story(pair: Pair) -> None:
        peers = [await pair.old.mobile("bob"), await web(pair, "carol")]
        streaming = await pair.old.streaming("dora")
        alice = await pair.third.mobile("alice")

        async def talk() -> None:
            for number in range(count):
                for name in ("bob", "carol", "dora"):
                    alice.put(packet(str(number), f"{name}{number}", to=name))
                await asyncio.sleep(0.001)

        talking = asyncio.create_task(talk())
        await peers[0].find(type=DATA, dataContent="20")
        peers[0].frames.clear()
        assert (await pair.hand_over()).moved == 3
        await talking
        wanted = [str(number) for number in range(count)]
        assert await texts(peers[1], count) == wanted
        assert [(await streaming.find(msgid=ONE_CHAT))["msg"] for _ in wanted] == wanted
        await until(10, "the last", lambda: any(frame.get("dataContent") == wanted[-1] for frame in peers[0].frames))
        got = [frame["dataContent"] for frame in peers[0].frames if frame["type"] == DATA]
        assert got == wanted[-len(got) :]
        assert silent(streaming)

    limits = LimitOptions(commands_per_s=0, recipients_per_s=0, changes_per_hour=0, in_flight=2000)
    play(memory_path, story, limits, TimeoutOptions(resend_s=60.0, store_s=60.0))


def test_a_full_window_stays_full_and_opens_with_acknowledgements(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        bob = await pair.old.mobile("bob")
        alice = await pair.third.mobile("alice")
        for number in range(30):
            alice.put(packet(str(number)))
        await acknowledged(alice, [str(number) for number in range(30)])
        given = [await bob.find(type=DATA) for _ in range(10)]
        session = pair.old.of("bob").session
        assert session is not None
        await until(5, "it is behind", lambda: session.behind)
        assert await pair.hand_over() == (1, 0)
        moved = pair.new.of("bob").session
        assert moved is not None
        assert moved.unacknowledged == 10
        assert len(moved.in_flight or ()) == 10
        assert not bob.frames
        for one in given:
            bob.acknowledge(one)
        assert await texts(bob, 20) == [str(number) for number in range(10, 30)]
        await until(5, "nothing is unacknowledged", lambda: not moved.unacknowledged)
        assert not bob.frames

    play(memory_path, story, LimitOptions(commands_per_s=0, recipients_per_s=0, changes_per_hour=0, in_flight=10))


def test_what_is_not_acknowledged_is_sent_again_by_the_successor(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        bob = await pair.old.mobile("bob")
        alice = await pair.third.mobile("alice")
        alice.put(packet("one"))
        first = await bob.find(type=DATA)
        assert await pair.hand_over() == (1, 0)
        session = pair.new.of("bob").session
        assert session is not None
        (entry,) = (session.in_flight or {}).values()
        entry.next_at = 0.0
        assert await bob.find(type=DATA) == first
        bob.acknowledge(first)
        await until(5, "it is acknowledged", lambda: not session.in_flight)

    play(memory_path, story)


def test_receipts_go_on_with_the_bytes_that_the_kernel_counts(memory_path: Path) -> None:
    """A chatserver client acknowledges by reading: what it has read before and after the move counts, and what it has
    not read does not."""

    async def story(pair: Pair) -> None:
        bob = await pair.old.streaming("bob", receive_buffer=SMALL_BUFFER)
        alice = await pair.third.streaming("alice")
        await pair.third.stored(alice, "bob", ["one", "two"])
        await bob.find(msg="two")
        assert await pair.hand_over() == (1, 0)
        session = pair.new.of("bob").session
        assert session is not None
        await pair.third.stored(alice, "bob", ["three"])
        await bob.find(msg="three")
        await until(10, "all of it counts as received", lambda: not session.unacknowledged)
        assert bob.transport is not None
        bob.transport.pause_reading()
        await pair.third.stored(alice, "bob", [LONG] * 100)
        bob.abort()
        await until(5, "its connection is over", lambda: not pair.new.core.logins.count)
        again = await pair.third.streaming("bob")
        missed = [frame["msg"] for frame in again.frames if frame["msgid"] == ONE_CHAT]
        assert "three" not in missed

    play(memory_path, story)


# ---------------------------------------------------------------- what others do meanwhile


@pytest.mark.parametrize("when", ["offered", "sent", "after"])
def test_a_kick_during_the_move_ends_the_session_and_is_told(memory_path: Path, when: str) -> None:
    async def story(pair: Pair) -> None:
        bob = await pair.old.mobile("bob")
        alice = await pair.third.mobile("alice")
        moving = asyncio.create_task(pair.begin())
        conditions: dict[str, Callable[[], object]] = {
            "offered": lambda: pair.new.core.hub.of_user(bob_id),
            "sent": lambda: not pair.old.core.logins.count,
            "after": lambda: pair.new.core.logins.count,
        }
        session = pair.old.of("bob").session
        assert session is not None
        bob_id = session.user.id
        await until(5, when, conditions[when], step_s=0.0)
        await pair.third.core.kicks.kick(KickTarget(user_id=bob_id), "go away")
        assert (await bob.find(type=KICKED))["dataContent"]
        await bob.end()
        await moving
        assert not pair.new.core.logins.count
        await pair.new.core.store.settle()
        assert not pair.exchange.locks.get(bob_id << 2 | 2)
        alice.put(packet("later"))
        await acknowledged(alice, ["later"])

    play(memory_path, story)


@pytest.mark.parametrize("wire", ["mobileimsdk", "chatserver"])
def test_a_login_on_another_worker_during_the_move_follows_the_rule_of_the_wire(memory_path: Path, wire: str) -> None:
    """mobileimsdk: the later login wins. chatserver: the session stays."""

    async def story(pair: Pair) -> None:
        moving: asyncio.Task[object]
        if wire == "mobileimsdk":
            bob = await pair.old.mobile("bob")
            moving = asyncio.create_task(pair.begin())
            again = await pair.third.mobile("bob")
            await bob.find(type=KICKED)
            await moving
            assert pair.third.core.logins.count == 1
            assert silent(again)
            assert pair.exchange.locks.get(_lock(pair.third, "bob")) == pair.third.core.logins.locks._bus.slot  # type: ignore[attr-defined]
        else:
            old = await pair.old.streaming("bob")
            other = await pair.third.raw()
            moving = asyncio.create_task(pair.begin())
            other.put({"msgid": LOGIN, "name": "bob", "password": "", "framing": "nul"})
            assert (await other.find(msgid=LOGIN_ACK))["errno"] == 2
            await moving
            assert pair.new.core.logins.count == 1
            assert silent(old)

    play(memory_path, story)


def test_a_lock_is_never_free(memory_path: Path) -> None:
    """At no turn of the loop: somebody who tries to take it all the time does not get it."""

    async def story(pair: Pair) -> None:
        peers = [await pair.old.mobile(f"user{number}") for number in range(4)]
        keys = list(pair.exchange.locks)
        bus, seized = pair.third.core.arrivals.bus, list[int]()

        async def seize() -> None:
            while True:
                seized.extend([key for key in keys if await bus.lock(key)])

        seizing = asyncio.create_task(seize())
        assert (await pair.hand_over()).moved == len(peers)
        seizing.cancel()
        await asyncio.wait([seizing])
        assert not seized
        assert {pair.exchange.locks[key] for key in keys} == {1}

    play(memory_path, story)


def _lock(house: object, name: str) -> int:
    (session,) = [one for one in house.core.hub.sessions() if one.user.name == name]  # type: ignore[attr-defined]
    return int(session.user.id << 2 | session.protocol)
