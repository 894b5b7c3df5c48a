"""Sessions over UDP that move: worker and successor have the same socket, and one of them reads it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.harness.datagrams import DatagramPeer, TokenPeer
from tests.harness.deadline import until
from tests.harness.mobileimsdk import ACK, DATA
from tests.net.handover.pair import Pair, play
from tests.net.handover.test_streams import acknowledged, packet, silent, texts


async def logged_in(pair: Pair, name: str, kind: type[DatagramPeer] = DatagramPeer) -> DatagramPeer:
    peer = kind()
    await peer.open(pair.old.ports["udp"])
    await peer.log_in(name, "")
    return peer


@pytest.mark.parametrize("kind", [DatagramPeer, TokenPeer])
def test_a_session_goes_on_under_its_address(memory_path: Path, kind: type[DatagramPeer]) -> None:
    async def story(pair: Pair) -> None:
        alice, bob = await logged_in(pair, "alice", kind), await logged_in(pair, "bob", kind)
        assert (await pair.hand_over()).moved == 2
        assert not pair.old.udp.peers
        assert len(pair.new.udp.peers) == 2
        await until(5, "the successor reads", lambda: pair.new.udp.is_reading)
        alice.put(packet("hello"))
        assert await texts(bob, 1) == ["hello"]
        await acknowledged(alice, ["hello"])
        assert silent(alice, bob)

    play(memory_path, story)


def test_what_was_not_acknowledged_is_sent_again_by_the_successor(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        bob = await logged_in(pair, "bob")
        alice = await pair.third.mobile("alice")
        alice.put(packet("one"))
        first = await bob.find(type=DATA)
        await pair.hand_over()
        (peer,) = pair.new.udp.peers.values()
        assert peer.session is not None
        (entry,) = (peer.session.in_flight or {}).values()
        entry.next_at = 0.0
        assert await bob.find(type=DATA) == first

    play(memory_path, story)


def test_datagrams_sent_during_the_move_are_served_by_the_one_or_the_other(memory_path: Path) -> None:
    count = 300

    async def story(pair: Pair) -> None:
        alice, bob = await logged_in(pair, "alice"), await pair.third.mobile("bob")

        async def talk() -> None:
            for number in range(count):
                alice.put(packet(str(number)))
                await asyncio.sleep(0.001)

        talking = asyncio.create_task(talk())
        await bob.find(type=DATA, dataContent="20")
        assert (await pair.hand_over()).moved == 1
        await talking
        assert await texts(bob, count - 21) == [str(number) for number in range(21, count)]
        answered = {(await alice.find(type=ACK))["dataContent"] for _ in range(count)}
        assert len(answered) == count
        assert silent(alice)

    play(memory_path, story)


def test_a_login_that_is_being_served_is_waited_for_and_moves(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        alice = DatagramPeer()
        await alice.open(pair.old.ports["udp"])
        alice.put(alice.login_packet("alice", ""))
        await until(5, "it is being served", lambda: pair.old.udp.logging_in, step_s=0)
        assert (await pair.hand_over()).moved == 1
        await alice.find(type=50)
        alice.put(packet("me", to="alice"))
        assert (await alice.find(type=DATA))["dataContent"] == "me"

    play(memory_path, story)


def test_a_new_client_logs_in_at_the_successor(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        await pair.hand_over()
        alice = await logged_in(pair, "alice")
        assert silent(alice)
        assert len(pair.new.udp.peers) == 1

    play(memory_path, story)
