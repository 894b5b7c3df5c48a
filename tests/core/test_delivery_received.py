"""Delivery: acknowledgements, and groups."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chatd.errors import Disconnect
from chatd.model import Protocol
from chatd.protocol import Deliver, GroupReady, Login, Received
from tests.core.stage import FRAME_BYTES, Peer, Stage, play
from tests.core.test_delivery import numbers, pair

# ---------------------------------------------------------------- acknowledgements


def test_what_is_not_acknowledged_is_given_again_ever_more_slowly(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.time_out(resend_s=5.0)
        alice, bob = await pair(stage)
        alice.send("bob", "hello", "fp")
        alice.send("bob", "plain", qos=False)
        await stage.until("bob has them", lambda: len(bob.messages) == 2)
        copies = []
        for _ in range(160):
            await stage.pass_time(1.0)
            copies.append(bob.bodies.count("hello"))
        assert [second + 1 for second in range(1, 160) if copies[second] > copies[second - 1]] == [5, 15, 35, 75, 135]
        assert bob.bodies.count("plain") == 1
        assert len({event.fp for event in bob.given if event.message.body == "hello"}) == 1
        bob.acknowledge("fp")
        await stage.pass_time(1000.0)
        assert bob.bodies.count("hello") == 6

    play(tmp_path, story)


def test_what_was_acknowledged_is_not_given_at_the_next_login(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        for number in range(6):
            alice.send("bob", str(number), str(number))
        await stage.until("bob has them", lambda: len(bob.messages) == 6)
        for fp in ("0", "1", "4", "1"):
            bob.acknowledge(fp)
        bob.leave()
        bob = await stage.workers[0].mobile("bob")
        await stage.until("the rest is given", lambda: len(bob.messages) == 4)
        assert bob.bodies == numbers(2, 6)  # the cursor is where the first hole is: 4 is given once more
        for fp in ("5", "4", "3", "2"):
            bob.acknowledge(fp)
        bob.leave()
        bob = await stage.workers[1].mobile("bob")
        alice.send("bob", "last")
        await stage.until("the last is given", lambda: bob.messages)
        assert bob.bodies == ["last"]

    play(tmp_path, story)


def test_an_acknowledgement_counts_only_from_the_session_that_was_given_the_packet(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        carol = await stage.workers[1].mobile("carol")
        alice.send("bob", "hello", "fp")
        await stage.until("bob has it", lambda: bob.messages)
        for peer in (carol, alice):
            peer.acknowledge("fp")
        bob.acknowledge("another")
        bob.leave()
        again = await stage.workers[1].mobile("bob")
        await stage.until("it is given again", lambda: again.messages)
        bob.acknowledge("fp")  # too late: its session is over
        again.leave()
        last = await stage.workers[0].mobile("bob")
        await stage.until("it is given again", lambda: last.messages)

    play(tmp_path, story)


def test_two_senders_with_one_fp_are_acknowledged_apart(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        carol = await stage.workers[0].mobile("carol")
        alice.send("bob", "from alice", "same")
        carol.send("bob", "from carol", "same")
        await stage.until("bob has both", lambda: len(bob.messages) == 2)
        fps = [event.fp for event in bob.given]
        assert fps[0] == "same"
        assert fps[1] != "same"
        bob.acknowledge("same")
        bob.leave()
        bob = await stage.workers[0].mobile("bob")
        await stage.until("the other is given again", lambda: bob.messages)
        assert bob.bodies == ["from carol"]

    play(tmp_path, story)


def test_the_kernels_word_is_the_acknowledgement_of_a_wire_without(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, _ = await pair(stage)
        bob = await stage.workers[1].desk("bob desk")
        start = bob.queued
        for number in range(5):
            alice.send("bob desk", str(number))
        await stage.until("bob has them", lambda: len(bob.messages) == 5)
        bob.kernel = start + 3 * FRAME_BYTES - 1  # two and most of the third
        bob.leave()
        bob = await stage.workers[0].desk("bob desk")
        await stage.until("the rest is given", lambda: len(bob.messages) == 3)
        assert bob.bodies == numbers(2, 5)
        bob.read_all()
        stage.tick()
        bob.leave()
        bob = await stage.workers[1].desk("bob desk")
        alice.send("bob desk", "last")
        await stage.until("the last is given", lambda: bob.messages)
        assert bob.bodies == ["last"]

    play(tmp_path, story)


def test_messages_in_the_login_answer_are_acknowledged_with_it(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, _ = await pair(stage)
        (await stage.workers[1].desk("dora")).leave()
        for number in range(6):
            alice.send("dora", str(number))
        await stage.settled()
        dora = stage.workers[1].peer(Protocol.CHATSERVER)
        dora.login_room = 4
        await dora.login("dora")
        assert dora.bodies == numbers(0, 6)
        dora.kernel = FRAME_BYTES
        stage.tick()
        dora.leave()
        dora = await stage.workers[0].desk("dora")
        await stage.until("the rest is given", lambda: len(dora.messages) == 2)
        assert dora.bodies == ["4", "5"]

    play(tmp_path, story)


def test_a_wire_that_acknowledges_is_not_believed_by_the_kernel(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        alice.send("bob", "wants an answer", "fp")
        alice.send("bob", "does not", qos=False)
        await stage.until("bob has both", lambda: len(bob.messages) == 2)
        bob.read_all()
        stage.tick()
        bob.leave()
        bob = await stage.workers[1].mobile("bob")
        await stage.until("the first again", lambda: bob.messages)
        assert bob.bodies[0] == "wants an answer"

    play(tmp_path, story)


def test_a_peer_that_is_cut_while_it_is_given_messages_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, _ = await pair(stage)
        for wire in (Protocol.MOBILEIMSDK, Protocol.CHATSERVER):
            name = f"user of {wire.name}"
            (await stage.workers[1].peer(wire).login(name)).leave()
            for number in range(10):
                alice.send(name, str(number))
            await stage.settled()
            peer = stage.workers[1].peer(wire)
            keep = peer.push

            def push(event: Any, peer: Peer = peer, keep: Any = keep) -> int:
                if isinstance(event, Deliver) and event.message.body == "3":
                    peer.close(Disconnect.SLOW_CONSUMER)
                return int(keep(event))

            peer.push = push  # type: ignore[method-assign]
            await peer.login(name)
            assert peer.closed
            stage.tick()
            await stage.pass_time(100.0)
            in_flight = stage.workers[1].core.delivery.in_flight
            assert not in_flight.receiving
            assert not in_flight.resending
            again = await stage.workers[0].peer(wire).login(name)
            await stage.until("everything again", lambda again=again: len(again.messages) == 10)
            assert again.bodies == numbers(0, 10)

    play(tmp_path, story)


# ---------------------------------------------------------------- groups


def test_a_group_message_reaches_every_member_and_nobody_else(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        workers = [await stage.worker() for _ in range(3)]
        members = [await workers[number % 3].mobile(f"user {number}") for number in range(9)]
        stranger = await workers[0].mobile("stranger")
        group = await members[0].make_group()
        for peer in members[1:]:
            await peer.join(group)
        before = stage.exchange.published
        for number, peer in enumerate(members):
            peer.send(group, str(number))
        stranger.send(group, "let me in")
        await stage.until("all have all", lambda: all(len(peer.messages) == 8 for peer in members))
        orders = {tuple(message.seq for message in peer.messages) for peer in members}
        assert len(orders) == 9  # each misses its own
        for number, peer in enumerate(members):
            assert sorted(peer.bodies) == [str(other) for other in range(9) if other != number]
            seqs = [message.seq for message in peer.messages]
            assert seqs == sorted(seqs)
        assert stranger.messages == []
        assert len(stranger.failures) == 1
        assert stage.exchange.published - before == 9  # one publish a message, whatever the size of the group

    play(tmp_path, story)


def test_a_fan_out_shares_its_encoded_frame(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        members = [await worker.mobile(f"user {number}") for number in range(4)]
        group = await members[0].make_group()
        for peer in members[1:]:
            await peer.join(group)
        await stage.settled()
        members[0].send(group, "hello")
        await stage.until("all have it", lambda: all(peer.messages for peer in members[1:]))
        assert len({id(peer.given[0].frames) for peer in members[1:]}) == 1

    play(tmp_path, story)


def test_a_message_stored_while_a_member_joins_is_given(tmp_path: Path) -> None:
    """Between the commit of the membership and the subscription, a message of another worker notifies nobody here."""

    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        group = await alice.make_group()
        stage.exchange.gate = asyncio.Event()
        joining = asyncio.ensure_future(bob.join(group))
        await stage.until("bob's worker subscribes", lambda: stage.exchange.waiting == 1)
        alice.send(group, "welcome")
        await stage.until("it is stored", lambda: alice.accepted)
        assert not joining.done()
        stage.exchange.gate.set()
        await joining
        await stage.until("bob has it", lambda: bob.messages)
        assert bob.bodies == ["welcome"]
        assert bob.told(GroupReady)

    play(tmp_path, story)


def test_another_session_of_who_joins_hears_the_group_too(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        desk = await stage.workers[0].desk("bob")
        group = await alice.make_group()
        await bob.join(group)
        await stage.until("both sessions are members", lambda: _in_group(desk, group) and _in_group(bob, group))
        alice.send(group, "hello")
        await stage.until("both have it", lambda: bob.messages and desk.messages)
        assert (bob.bodies, desk.bodies) == (["hello"], ["hello"])

    play(tmp_path, story)


def _in_group(peer: Peer, group: int) -> bool:
    assert peer.session is not None
    return group in (peer.session.groups or ())


@pytest.mark.parametrize("kind", ["group", "user"])
def test_who_logs_in_beside_another_waits_for_the_same_subscription(tmp_path: Path, kind: str) -> None:
    """The topic is being subscribed for somebody else: what is stored after our read must still reach us."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice = await one.mobile("alice")
        group = await alice.make_group()
        names = ("bob", "bob") if kind == "user" else ("bob", "carol")
        for name in dict.fromkeys(names):
            peer = await two.mobile(name)
            await peer.join(group)
            peer.leave()
        await stage.settled()
        gate = stage.exchange.gate = asyncio.Event()
        first = asyncio.ensure_future(two.mobile(names[0]))
        await stage.until("the first subscribes", lambda: stage.exchange.waiting == 1)
        stage.exchange.gate = None
        second = two.peer(Protocol.CHATSERVER)
        entering = asyncio.ensure_future(second.login(names[1]))
        await stage.until("the second has come as far", lambda: second.logged_in or stage.exchange.waiting == 2)
        alice.send(group if kind == "group" else "bob", "hello")
        await stage.until("it is stored", lambda: alice.accepted)
        gate.set()
        await asyncio.gather(first, entering)
        await stage.until("the second has it", lambda: second.messages)

    play(tmp_path, story)


# ---------------------------------------------------------------- clients that say how far they are


async def acking(stage: Stage, worker: int, name: str) -> Peer:
    """A client of the chatserver wire that acknowledges by conversation and seq."""
    peer = stage.workers[worker].peer(Protocol.CHATSERVER)
    peer.name = name
    await peer.do(Login(name, 0, "", 0, streaming=True, acks=True))
    return peer


async def receive(peer: Peer, body: str) -> None:
    """Acknowledge this message, and with it all before it in its conversation."""
    (message,) = [message for message in peer.messages if message.body == body]
    await peer.do(Received(message.conversation, message.seq))


def test_a_client_that_says_how_far_it_is_is_not_believed_by_the_bytes(tmp_path: Path) -> None:
    """Whatever its kernel has. What it did not acknowledge is given again at the next login, not before."""

    async def story(stage: Stage) -> None:
        alice, _ = await pair(stage)
        bob = await acking(stage, 1, "bob desk")
        for number in range(6):
            alice.send("bob desk", str(number))
        await stage.until("bob has them", lambda: len(bob.messages) == 6)
        await receive(bob, "2")
        await receive(bob, "1")  # late: it was acknowledged with the other
        bob.read_all()
        stage.tick()
        await stage.pass_time(1000.0)
        assert bob.bodies == numbers(0, 6)
        bob.leave()
        bob = await acking(stage, 0, "bob desk")
        await stage.until("the rest is given", lambda: len(bob.messages) == 3)
        assert bob.bodies == numbers(3, 6)
        await receive(bob, "5")
        bob.leave()
        bob = await acking(stage, 1, "bob desk")
        alice.send("bob desk", "last")
        await stage.until("the last is given", lambda: bob.messages)
        assert bob.bodies == ["last"]

    play(tmp_path, story)


def test_a_window_opens_with_what_the_client_has_received(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(in_flight=8)
        alice, _ = await pair(stage)
        bob = await acking(stage, 1, "bob desk")
        for number in range(40):
            alice.send("bob desk", str(number), str(number))
        await stage.until("all are stored", lambda: len(alice.accepted) == 40)
        await stage.until("a window is given", lambda: len(bob.messages) == 8)
        for number in range(40):
            await stage.until("the next is given", lambda number=number: len(bob.messages) > number)
            await receive(bob, str(number))
        assert bob.bodies == numbers(0, 40)

    play(tmp_path, story)


@pytest.mark.parametrize("acks", [True, False])
def test_what_a_client_was_not_given_it_cannot_acknowledge(tmp_path: Path, acks: bool) -> None:
    """Nor can one that did not say at its login that it would."""

    async def story(stage: Stage) -> None:
        alice, _ = await pair(stage)
        bob = await (acking(stage, 1, "bob desk") if acks else stage.workers[1].desk("bob desk"))
        alice.send("bob desk", "0")
        await stage.until("bob has it", lambda: bob.messages)
        (message,) = bob.messages
        if acks:
            await bob.do(Received(message.conversation, message.seq + 5))
            await bob.do(Received(message.conversation + 1, 1))
            await bob.do(Received(-7, 1 << 62))
            bob.leave()
            alice.send("bob desk", "1")
        else:
            await bob.do(Received(message.conversation, message.seq))
            bob.leave()
        await stage.settled()
        again = await acking(stage, 0, "bob desk")
        await stage.until("it is given", lambda: again.messages)
        assert again.bodies == (["1"] if acks else ["0"])

    play(tmp_path, story)


def test_a_group_that_was_left_gives_its_part_of_the_window_back(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(in_flight=4)
        alice, _ = await pair(stage)
        bob = await acking(stage, 1, "bob desk")
        group = await alice.make_group()
        await bob.join(group)
        for number in range(4):
            alice.send(group, str(number))
        await stage.until("the window is full", lambda: len(bob.messages) == 4)
        assert bob.session is not None
        bob.worker.core.delivery.group_left(bob.session, group)
        alice.send("bob desk", "to bob")
        await stage.until("bob has it", lambda: "to bob" in bob.bodies)
        await bob.do(Received(-group, 4))  # on its way when he left

    play(tmp_path, story)


def test_the_other_wire_is_given_what_this_one_acknowledged(tmp_path: Path) -> None:
    """While it lives. The cursor is the user's, but each session goes on from where it is itself."""

    async def story(stage: Stage) -> None:
        alice, mobile = await pair(stage)
        desk = await acking(stage, 0, "bob")
        for number in range(5):
            alice.send("bob", str(number), str(number))
        await stage.until("both have all", lambda: len(mobile.messages) == len(desk.messages) == 5)
        await receive(desk, "4")
        mobile.acknowledge("1")
        for number in range(5, 8):
            alice.send("bob", str(number), str(number))
        await stage.until("both have the rest", lambda: len(mobile.messages) == len(desk.messages) == 8)
        assert mobile.bodies == desk.bodies == numbers(0, 8)

    play(tmp_path, story)
