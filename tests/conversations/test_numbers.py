"""Numbers that fit nowhere, in every field of every wire and request, against a real daemon: each is refused in the
protocol's own terms, and no worker notices more of it than that."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from chatd.errors import ErrorCode
from tests.conversations.asking import Transport
from tests.conversations.number_places import requests_with_a_number
from tests.harness.datagrams import DatagramPeer
from tests.harness.deadline import run
from tests.harness.link import ConnectionGone
from tests.harness.mobileimsdk import MobilePeer, NumberedLink, content
from tests.harness.person import Town
from tests.harness.websocket import WebPeer

PEERS: dict[Transport, type[MobilePeer]] = {
    "mobileimsdk": MobilePeer,
    "mobileimsdk-udp": DatagramPeer,
    "mobileimsdk-ws": WebPeer,
}
DAY_MS = 24 * 3600 * 1000
REFUSALS = {ErrorCode.BAD_FIELD, ErrorCode.INVALID_PACKET, ErrorCode.UNKNOWN_REQUEST}

numbers = st.one_of(
    st.integers(2**63, 2**400).map(str),
    st.integers(-(2**400), -(2**63) - 1).map(str),
    st.sampled_from(["1e19", "1e400", "-1e400", "1.5", "9" * 5000, "1e9999999999"]),
)
"""As they are written in JSON: none is an integer of 64 bits."""
no_numbers = st.sampled_from(["NaN", "-Infinity", "0x10", "+1"])
"""What only some readers of JSON accept."""

FRAMES = [
    '{"msgid":%s}',
    '{"msgid":1,"id":%s,"password":"x"}',
    '{"msgid":6,"id":%s,"toid":1,"msg":"x"}',
    '{"msgid":6,"toid":%s,"msg":"x"}',
    '{"msgid":7,"friendid":%s}',
    '{"msgid":8,"friendid":%s,"flag":true}',
    '{"msgid":10,"groupid":%s}',
    '{"msgid":11,"groupid":%s,"msg":"x"}',
    '{"msgid":11,"groupid":1,"msg":"x","fp":"fp","reply":%s}',
    '{"msgid":15,"conv":%s,"seq":1}',
    '{"msgid":15,"conv":1,"seq":%s}',
]
PACKETS = [
    '{"type":%s,"to":"0","dataContent":"x","fp":"fp"}',
    '{"type":2,"to":"0","dataContent":"x","QoS":true,"fp":"fp","typeu":%s}',
]
NUMBERED_PACKETS = [
    '{"type":2,"to":"#1","dataContent":"x","QoS":true,"fp":"fp","reply":%s}',
    '{"type":2,"to":"#1","dataContent":"x","QoS":true,"fp":"fp","mentions":[%s]}',
]
"""Of a client that has asked for numbers."""
REQUESTS = requests_with_a_number()
LOGIN = '{"loginUserId":"nobody","loginToken":"x","firstLoginTime":%s}'

few = settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
"""An example that fails is not made smaller: it would take a time limit for each attempt."""


async def somebody(town: Town) -> str:
    """One account for all examples, and of these tests alone: another's may still be logged in."""
    return next((name for name in town.ids if name.startswith("numbers")), "") or await town.newcomer("numbers")


async def opened(town: Town, transport: Transport) -> MobilePeer:
    peer = PEERS[transport]()
    await peer.open(town.daemon.ports[transport], town.daemon.address)
    return peer


@few
@given(st.sampled_from(FRAMES), numbers | no_numbers)
def test_on_the_chatserver_wire(town: Town, frame: str, number: str) -> None:
    async def story() -> None:
        peer = await town.errand(await somebody(town), framing="nul" if '"fp"' in frame else "compatible")
        peer.write((frame % number).encode() + b"\0")
        error = await peer.find(3.0, msgid=12)
        assert error["errno"] in REFUSALS, error
        await town.finish(peer)

    run(story())


@few
@given(
    st.sampled_from(["mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws"]),
    st.sampled_from(PACKETS + NUMBERED_PACKETS),
    numbers | no_numbers,
)
def test_in_packets_of_the_mobileimsdk_wire(town: Town, transport: Transport, packet: str, number: str) -> None:
    async def story() -> None:
        raw = (packet % number).encode()
        if transport == "mobileimsdk-udp" and len(raw) > 1000:
            return
        peer = await opened(town, transport)
        if packet in NUMBERED_PACKETS:
            peer.extra = NumberedLink.extra
        await peer.log_in(await somebody(town), town.secret)
        peer.write(peer.wrap(raw))
        error = content(await peer.find(3.0, type=52))
        assert error["errorCode"] in REFUSALS, error
        peer.close()

    run(story())


def test_no_operation_with_a_number_is_left_out() -> None:
    named = {json.loads(request % "1")["op"] for request in REQUESTS}
    assert {"group.mute", "message.edit", "history.delete", "sync", "presence.get", "block.list"} <= named


@few
@given(st.sampled_from(["mobileimsdk", "mobileimsdk-ws"]), st.sampled_from(REQUESTS), numbers)
def test_in_requests(town: Town, transport: Transport, body: str, number: str) -> None:
    async def story() -> None:
        peer = await opened(town, transport)
        await peer.log_in(await somebody(town), town.secret)
        peer.say("me", "0", body % number, None, qos=False)
        while "ok" not in (answer := content(await peer.find(3.0, type=2))):
            assert "event" in answer, "a notice of what another test did with this user"
        assert answer["ok"] is False
        assert answer["error"]["code"] in {ErrorCode.BAD_FIELD, ErrorCode.UNKNOWN_REQUEST}, answer
        peer.close()

    run(story())


@few
@given(st.sampled_from(["mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws"]), numbers | no_numbers)
def test_as_the_time_of_the_first_login(town: Town, transport: Transport, number: str) -> None:
    async def story() -> None:
        packet = {"type": 0, "to": "0", "dataContent": LOGIN % number}
        if transport == "mobileimsdk-udp" and len(json.dumps(packet)) > 1000:
            return
        peer = await opened(town, transport)
        peer.put(packet)
        answer = await peer.take()
        assert answer["type"] == 52
        wanted = ErrorCode.NOT_LOGGED_IN if transport == "mobileimsdk-udp" else ErrorCode.BAD_FIELD
        assert content(answer)["errorCode"] == wanted
        peer.close()

    run(story())


@pytest.mark.parametrize("transport", ["mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws"])
def test_a_first_login_lies_not_in_the_future(town: Town, transport: Transport) -> None:
    """Later logins get a later time, which would leave 64 bits; and a client that says so would outrank every other."""

    async def story() -> None:
        name = await town.newcomer()
        now_ms = time.time_ns() // 1_000_000
        for ahead in (2**63 - 1, 2**62, now_ms + DAY_MS + 60_000):
            peer = await opened(town, transport)
            peer.put(peer.login_packet(name, town.secret, ahead))
            assert content(await peer.find(type=50))["code"] == ErrorCode.BAD_FIELD
            peer.close()
        first = await opened(town, transport)
        said = now_ms + DAY_MS // 2
        assert await first.log_in(name, town.secret, said) == said
        second = await opened(town, transport)
        assert await second.log_in(name, town.secret) > said
        with pytest.raises((ConnectionGone, TimeoutError)):
            await first.find(1.0, type=51)  # it was kicked by the later login
        second.close()

    run(story())


def test_after_all_that_everybody_is_served(town: Town) -> None:
    async def story() -> None:
        peer = await town.on_mobile(await somebody(town))
        peer.say("me", "0", '{"op":"echo","ref":1,"text":"here"}', None, qos=False)
        assert content(await peer.find(3.0, type=2))["result"] == {"text": "here"}
        peer.close()
        await town.finish(await town.errand(await somebody(town)))

    run(story())
