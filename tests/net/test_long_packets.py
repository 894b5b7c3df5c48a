"""Packets over the limit on a connection that is logged in: how much is skipped, and what happens beyond that."""

from __future__ import annotations

import json
from pathlib import Path

from chatd.errors import Disconnect, ErrorCode
from chatd.wire.skipped import MAX_SKIPPED_BYTES_PER_S, MAX_SKIPPED_FRAME_BYTES
from tests.harness.deadline import within
from tests.harness.mobileimsdk import MobilePeer, content
from tests.net.house import House, play

LONG = "x" * (MAX_SKIPPED_FRAME_BYTES - 100)
IN_A_SECOND = MAX_SKIPPED_BYTES_PER_S // MAX_SKIPPED_FRAME_BYTES


async def refused(peer: MobilePeer, number: int) -> None:
    peer.put({"type": 2, "dataContent": LONG, "to": "bob", "fp": str(number), "QoS": True})
    answer = await peer.find(type=52)
    assert content(answer)["errorCode"] == ErrorCode.TOO_LONG
    assert json.loads(content(answer)["errorMsg"])["fp"] == str(number)


def test_packets_are_skipped_again_every_second(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.ticking = False
        peer = await house.mobile("alice")
        for second in range(3):
            for number in range(IN_A_SECOND):
                await refused(peer, 10 * second + number)
            house.connections.round()
        assert not house.of("alice").closed

    play(tmp_path, story)


def test_more_than_may_be_skipped_in_a_second_ends_the_connection(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.ticking = False
        peer = await house.mobile("alice")
        here = house.of("alice")
        for number in range(IN_A_SECOND):
            await refused(peer, number)
        peer.put({"type": 2, "dataContent": LONG, "to": "bob", "fp": "too much", "QoS": True})
        await within(5, "the end", peer.gone.wait())
        assert here.reason is Disconnect.WIRE_ERROR

    play(tmp_path, story)


def test_before_a_login_nothing_is_skipped(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        peer = MobilePeer()
        await peer.open(house.ports["mobileimsdk"])
        peer.put({"type": 2, "dataContent": "x" * 7000, "to": "bob", "fp": "1", "QoS": True})
        assert content(await peer.find(type=52))["errorCode"] == ErrorCode.INVALID_PACKET
        await within(5, "the end", peer.gone.wait())

    play(tmp_path, story)
