"""What the mobileimsdk page says about bad input (over TCP), and the stock client as a whole."""

from __future__ import annotations

import json

import pytest

from chatd.errors import ErrorCode
from tests.conversations.test_mobileimsdk_rows import new_fp, silence
from tests.harness.deadline import run, until
from tests.harness.link import LoginRefused, Outcome, Seen
from tests.harness.mobileimsdk import MobilePeer, Remembered, Resender, StockLink, UnderWay, content
from tests.harness.peer import Frame
from tests.harness.person import Person, Town

# ---------------------------------------------------------------- bad input


def body(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


GARBAGE = {
    "empty body": body(b""),
    "over the limit": body(b"x" * 6145),
    "absurd length": b"\xff\xff\xff\xff",
    "looks like HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "not JSON": body(b"hello"),
    "not an object": body(b"[]"),
    "invalid UTF-8": body(b'{"type":2,"to":"\xff\xfe\xfd\xfc"}'),
    "invalid UTF-8 in a field nobody reads": body(b'{"type":5,"x":"\xff"}'),
    "nested too deep": body(b'{"type":5,"x":' + b"[" * 20 + b"]" * 20 + b"}"),
}


SKIPPED = "over the limit"
"""Only before a login does it end the connection."""


@pytest.mark.parametrize(
    ("name", "logged_in"),
    [(name, logged_in) for name in GARBAGE for logged_in in (False, True) if not (logged_in and name == SKIPPED)],
)
def test_garbage_ends_the_connection_with_an_error(town: Town, name: str, logged_in: bool) -> None:
    async def story() -> None:
        peer = await town.on_mobile(await town.newcomer()) if logged_in else await town.mobile_peer()
        peer.put({"type": 5, "dataContent": "good before"})
        peer.write(GARBAGE[name])
        packets = await peer.end()
        assert packets[0]["dataContent"] == "good before"
        assert [packet["type"] for packet in packets] == [53, 52]

    run(story())


@pytest.mark.parametrize("transport", ["tcp", "websocket"])
def test_a_packet_over_the_limit_is_refused_with_its_fp_and_the_session_stays(town: Town, transport: str) -> None:
    """Stock clients would send it again on every new connection."""

    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        peer: MobilePeer = await (town.on_mobile(alice) if transport == "tcp" else town.on_web(alice))
        for size in (7_000, 66_000, 300_000):
            fp = new_fp()
            peer.put({"type": 2, "dataContent": "x" * size, "from": alice, "to": bob, "fp": fp, "QoS": True})
            answer = await peer.find(type=52)
            assert content(answer)["errorCode"] == ErrorCode.TOO_LONG
            assert json.loads(content(answer)["errorMsg"])["fp"] == fp
        peer.put({"type": 2, "dataContent": "short", "from": alice, "to": bob, "fp": "short", "QoS": True})
        assert (await peer.find(type=4))["dataContent"] == "short"

    run(story())


@pytest.mark.parametrize("transport", ["tcp", "websocket"])
def test_the_longest_text_of_a_stock_client_arrives_whole(town: Town, transport: str) -> None:
    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        reader = await town.on_mobile(bob)
        peer: MobilePeer = await (town.on_mobile(alice) if transport == "tcp" else town.on_web(alice))
        packet = {"bridge": False, "type": 2, "dataContent": "", "from": alice, "to": bob, "fp": new_fp(), "QoS": True}
        packet |= {"typeu": -1, "sm": -1}
        text = "é" + "x" * (6144 - 2 - len(json.dumps(packet, separators=(",", ":"))))
        peer.put(packet | {"dataContent": text})
        assert (await peer.find(type=4))["dataContent"] == packet["fp"]
        arrived = await reader.find(type=2)
        assert arrived["dataContent"] == text
        assert arrived["fp"] == packet["fp"]

    run(story())


BAD_FIELDS: list[Frame] = [
    {"type": "2"},
    {"type": 2, "to": 7, "dataContent": "x", "fp": "bad-to"},
    {"type": 2, "to": "someone", "dataContent": {"x": 1}, "fp": "bad-content"},
    {"type": 2, "to": "someone", "dataContent": "x", "QoS": "yes", "fp": "bad-qos"},
    {"type": 2, "to": "someone", "dataContent": "x", "QoS": True},
    {"type": 2, "to": "someone", "dataContent": "x", "QoS": True, "fp": "f" * 300},
    {"type": 99, "fp": "unknown"},
    {"type": 50},
]


@pytest.mark.parametrize("packet", BAD_FIELDS, ids=lambda packet: json.dumps(packet)[:50])
def test_a_packet_that_makes_no_sense_is_refused_and_the_session_stays(town: Town, packet: Frame) -> None:
    async def story() -> None:
        peer = await town.on_mobile(await town.newcomer("alice"))
        peer.put(packet)
        answer = await peer.take()
        assert answer["type"] == 52, answer
        assert content(answer)["errorCode"] != 301
        await silence(peer)

    run(story())


# ---------------------------------------------------------------- the stock client as a whole


def test_stock_clients_talk_and_acknowledge_every_copy(town: Town) -> None:
    async def story() -> None:
        alice, bob = (
            Person(town, await town.newcomer("alice"), "mobile"),
            Person(town, await town.newcomer("bob"), "mobile"),
        )
        await alice.arrive()
        await bob.arrive()
        assert await alice.say(bob.name, "hello") == Outcome(True)
        await bob.sees(Seen(alice.name, "hello"))
        assert isinstance(bob.link, StockLink)
        bob.link.acknowledging = False
        await alice.say(bob.name, "not acknowledged")
        await bob.sees(Seen(alice.name, "not acknowledged"))
        await bob.vanish()
        await bob.arrive()
        assert isinstance(bob.link, StockLink)
        link = bob.link
        await until(10, "the copy", lambda: link.copies)
        await alice.say(bob.name, "once more")
        await bob.sees(Seen(alice.name, "once more"))

    run(story())


def test_a_refused_stock_client_hears_it_as_a_refusal(town: Town) -> None:
    async def story() -> None:
        person = Person(town, await town.newcomer("alice"), "mobile")
        town.ids[person.name] = 0
        secret, town.secret = town.secret, "wrong"
        try:
            with pytest.raises(LoginRefused):
                await person.arrive()
        finally:
            town.secret = secret

    run(story())


def test_the_resend_rule_and_the_memory_are_the_deployed_ones() -> None:
    rule = Resender()
    rule.waiting["fp"] = UnderWay({"fp": "fp"}, sent_at=100.0)
    assert rule.look(102.9) == ([], [])
    assert rule.look(105.0) == ([{"fp": "fp"}], [])
    assert rule.look(110.0) == ([{"fp": "fp"}], [])
    assert rule.look(115.0) == ([], ["fp"])
    assert rule.look(120.0) == ([], [])
    memory = Remembered()
    assert memory.is_new("fp", 0.0)
    assert not memory.is_new("fp", 500.0)
    assert not memory.is_new("fp", 1100.0)
    assert memory.is_new("fp", 1701.0)
