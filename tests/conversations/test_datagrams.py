"""The mobileimsdk page over UDP, said datagram by datagram to a real daemon with one worker and with two."""

from __future__ import annotations

import json
import uuid

import pytest

from chatd.errors import ErrorCode
from tests.harness.datagrams import DatagramPeer
from tests.harness.deadline import run, until
from tests.harness.link import LoginRefused, Seen
from tests.harness.mobileimsdk import content
from tests.harness.peer import Frame
from tests.harness.person import Town

KEEP_ALIVE = {"type": 1, "from": "alice", "to": "0", "dataContent": "{}", "QoS": False, "typeu": -1, "sm": -1}


async def is_silent(peer: DatagramPeer) -> None:
    """Nothing was on its way: a keep-alive is answered next."""
    peer.put(KEEP_ALIVE)
    packet = await peer.take()
    assert packet["type"] == 51, packet


async def has_no_session(peer: DatagramPeer) -> None:
    peer.put(KEEP_ALIVE)
    packet = await peer.take()
    assert (packet["type"], content(packet)["errorCode"]) == (52, 301), packet


def test_an_unknown_address_gets_301(town: Town) -> None:
    async def story() -> None:
        for kind in (1, 2, 3, 4):  # an address is told so twice in a second at most
            peer = await town.datagram_peer()
            peer.put({**KEEP_ALIVE, "type": kind, "fp": "f"})
            packet = await peer.take()
            assert (packet["type"], content(packet)["errorCode"]) == (52, 301)

    run(story())


def test_echo_before_and_after_login(town: Town) -> None:
    async def story() -> None:
        peer = await town.datagram_peer()
        echo = {"type": 5, "from": "x", "to": "0", "dataContent": "äöü {", "fp": None, "typeu": 7, "own": [1, {"a": 2}]}
        peer.put({**echo, "bridge": False})
        answer = await peer.take()
        assert {"fp": None, **answer} == {**echo, "type": 53}, "without what readers assume anyway"
        name = await town.newcomer("alice")
        await peer.log_in(name, town.secret)
        peer.put(echo)
        assert await peer.take() == {**echo, "type": 53}

    run(story())


def test_a_refused_login_says_so_and_the_address_stays_without_a_session(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        peer = await town.datagram_peer()
        with pytest.raises(LoginRefused) as refused:
            await peer.log_in(name, "wrong")
        assert refused.value.code == ErrorCode.BAD_CREDENTIALS
        await has_no_session(peer)

    run(story())


def test_logout_ends_the_session_of_the_address(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        peer = await town.on_datagrams(name)
        await is_silent(peer)
        peer.put({"type": 3, "from": name, "to": "0"})
        await has_no_session(peer)

    run(story())


def test_a_login_repeated_at_once_is_one_login(town: Town) -> None:
    """A client that is impatient: nobody is kicked, nobody is asked for a hash ten times."""

    async def story() -> None:
        name = await town.newcomer("alice")
        peer = await town.datagram_peer()
        for _ in range(10):
            peer.put(peer.login_packet(name, town.secret))
        assert content(await peer.take())["code"] == 0
        await is_silent(peer)

    run(story())


@pytest.mark.parametrize("on", ["udp", "tcp", "websocket"])
def test_a_repeated_login_in_another_spelling_is_the_same_user(town: Town, on: str) -> None:
    """Over UDP the user was taken for somebody else behind the same address, and kicked by themselves."""

    async def story() -> None:
        name = await town.newcomer("Alice")
        here = {"udp": town.on_datagrams, "tcp": town.on_mobile, "websocket": town.on_web}[on]
        peer = await here(name)
        for spelling in (name.upper(), name.lower(), str(town.ids[name])):
            peer.put(peer.login_packet(spelling, town.secret))
            packet = await peer.take()
            assert (packet["type"], content(packet).get("code")) == (50, 0), packet
        peer.put(KEEP_ALIVE)
        packet = await peer.take()
        assert packet["type"] == 51, packet

    run(story())


@pytest.mark.parametrize("later", [0, -1, 5000], ids=["first login", "negative", "later"])
@pytest.mark.parametrize("old_on", ["udp", "tcp"])
def test_a_newer_first_login_kicks_the_old_session(town: Town, later: int, old_on: str) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        old = await town.datagram_peer() if old_on == "udp" else await town.mobile_peer()
        first = await old.log_in(name, town.secret)
        await town.on_datagrams(name, first + later if later > 0 else later)
        packet = await old.take()
        assert (packet["type"], content(packet)["code"]) == (54, 1)
        if isinstance(old, DatagramPeer):
            await has_no_session(old)
        else:
            assert await old.end() == []

    run(story())


@pytest.mark.parametrize("new_on", ["udp", "tcp"])
def test_the_same_first_login_from_a_new_address_replaces_silently(town: Town, new_on: str) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        old = await town.on_datagrams(name)
        old.put(old.login_packet(name, town.secret))
        first = content(await old.take())["firstLoginTime"]
        new = await town.datagram_peer() if new_on == "udp" else await town.mobile_peer()
        assert await new.log_in(name, town.secret, first) == first
        await has_no_session(old)
        sender = await town.on_mobile(await town.newcomer("bob"))
        sender.say("bob", name, "to the new address", str(uuid.uuid4()))
        assert (await new.take())["dataContent"] == "to the new address"

    run(story())


def test_an_older_first_login_is_kicked_itself(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        peer = await town.datagram_peer()
        first = await peer.log_in(name, town.secret)
        late = await town.datagram_peer()
        late.put(late.login_packet(name, town.secret, first - 1000))
        packet = await late.take()
        assert (packet["type"], content(packet)["code"]) == (54, 1)
        await has_no_session(late)
        await is_silent(peer)

    run(story())


def test_another_user_of_the_same_app(town: Town) -> None:
    """The goodbye of the first one was lost."""

    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        peer = await town.on_datagrams(alice)
        await peer.log_in(bob, town.secret)
        sender = await town.on_datagrams(await town.newcomer("carol"))
        for whom in (alice, bob):
            sender.say("carol", whom, f"for {whom}", str(uuid.uuid4()))
        assert (await peer.find(type=2))["dataContent"] == f"for {bob}"

    run(story())


def test_a_long_message_comes_shortened_with_its_fp(town: Town) -> None:
    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        sender, reader = await town.on_datagrams(alice), await town.on_datagrams(bob)
        for text in ("x" * 4000, "ü" * 2000, '"' * 1500):
            fp = str(uuid.uuid4())
            sender.say(alice, bob, text, fp)
            assert (await sender.find(type=4))["dataContent"] == fp
            packet = await reader.take()
            assert reader.too_long == 0
            assert packet["fp"] == fp
            assert packet["dataContent"].endswith("…")
            assert text.startswith(packet["dataContent"][:-1])
            reader.acknowledge(packet)

    run(story())


def test_what_is_not_acknowledged_comes_again_and_then_no_more(town: Town) -> None:
    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        sender, reader = await town.on_datagrams(alice), await town.on_datagrams(bob)
        sender.say(alice, bob, "hello", "fp-1")
        assert (await sender.take())["type"] == 4
        first = await reader.take()
        assert await reader.take(9) == first
        reader.acknowledge(first)
        reader.put({"type": 3, "from": bob, "to": "0"})
        await reader.log_in(bob, town.secret)
        await is_silent(reader)

    run(story())


def test_unacknowledged_messages_wait_for_the_next_login(town: Town) -> None:
    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        sender, reader = await town.on_datagrams(alice), await town.on_datagrams(bob)
        sender.say(alice, bob, "hello", "fp-1")
        first = await reader.take()
        reader.put({"type": 3, "from": bob, "to": "0"})
        await has_no_session(reader)
        other = await town.on_mobile(bob)
        packet = await other.take()
        assert {**packet, "sm": 0} == {**first, "sm": 0}
        other.acknowledge(packet)

    run(story())


def test_many_waiting_messages_arrive_in_order(town: Town) -> None:
    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        sender = await town.on_mobile(alice)
        for number in range(400):
            sender.say(alice, bob, f"{number}", f"fp-{number}")
        for _ in range(400):
            await sender.find(type=4)
        reader = await town.on_datagrams(bob)
        for number in range(400):
            packet = await reader.take()
            reader.acknowledge(packet)
            assert packet["dataContent"] == f"{number}"

    run(story())


def test_a_message_without_qos_is_told_by_a_wire_that_knows_none(town: Town) -> None:
    """chatserver has no QoS; a lost datagram would be a lost message, so the server asks for an acknowledgement."""

    async def story() -> None:
        alice = await town.settle(await _new(town, "alice"), "old")
        bob = await town.newcomer("bob")
        reader = await town.on_datagrams(bob)
        await alice.arrive()
        await alice.say(bob, "hello")
        first = await reader.take()
        assert (first["dataContent"], first["QoS"]) == ("hello", True)
        assert await reader.take(9) == first, "not acknowledged: again"
        reader.acknowledge(first)

    run(story())


async def _new(town: Town, prefix: str) -> str:
    return f"{prefix}{uuid.uuid4().hex[:8]}"


def test_garbage_does_not_end_a_session(town: Town) -> None:
    async def story() -> None:
        peer = await town.on_datagrams(await town.newcomer("alice"))
        for raw in (b"\xff\xfe", b"{", b"[]", b"x" * 7000):
            peer.write(raw)
            packet = await peer.take()
            assert (packet["type"], content(packet)["errorCode"]) == (52, ErrorCode.INVALID_PACKET)
        await is_silent(peer)

    run(story())


def test_a_refused_message_is_told(town: Town) -> None:
    async def story() -> None:
        alice = await town.newcomer("alice")
        peer = await town.on_datagrams(alice)
        peer.say(alice, "nobody at all", "hello", "fp-1")
        packet = await peer.take()
        assert content(packet)["errorCode"] == ErrorCode.UNKNOWN_RECIPIENT
        assert json.loads(content(packet)["errorMsg"])["fp"] == "fp-1"

    run(story())


def test_sessions_of_datagrams_are_counted(town: Town) -> None:
    async def story() -> None:
        peers = [await town.on_datagrams(await town.newcomer("u")) for _ in range(5)]

        def counted() -> bool:
            rows = town.daemon.status()["workers"]
            return sum(row["udp_peers"] for row in rows) >= 5 and all(
                row["connections"] >= row["udp_peers"] for row in rows
            )

        await until(10, "counted", counted, 0.2)
        for peer in peers:
            peer.put({"type": 3, "from": "", "to": "0"})

    run(story())


@pytest.mark.parametrize(
    "packet", [{**KEEP_ALIVE, "type": kind} for kind in range(7)], ids=lambda packet: packet["type"]
)
def test_an_address_without_a_session_is_never_sent_more_than_it_sent(town: Town, packet: Frame) -> None:
    async def story() -> None:
        answers: dict[int, int] = {}
        for size in (0, 10, 30, 60, 100):
            raw = json.dumps({**packet, "dataContent": "x" * size}, separators=(",", ":")).encode()
            peer = await town.datagram_peer()

            def hear(data: bytes, addr: object, said: int = len(raw)) -> None:
                answers[said] = len(data)

            peer.datagram_received = hear  # type: ignore[method-assign]
            peer.write(raw)
        await until(5, "the longest is answered", lambda: len(raw) in answers)
        assert all(answer <= said for said, answer in answers.items()), answers

    run(story())


def test_seen_by_a_person(town: Town) -> None:
    """The whole model of the stock client, with duplicate removal."""

    async def story() -> None:
        alice = await town.settle(await _new(town, "alice"), "udp")
        bob = await town.settle(await _new(town, "bob"), "udp")
        await alice.arrive()
        await bob.arrive()
        for number in range(20):
            assert (await alice.say(bob.name, f"{number}")).ok  # type: ignore[union-attr]
            await bob.sees(Seen(alice.name, f"{number}"))
        await alice.leave()
        await bob.leave()

    run(story())
