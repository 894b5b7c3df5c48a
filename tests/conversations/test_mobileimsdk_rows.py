"""Every row of the mobileimsdk page that is about the server (over TCP), said packet by packet."""

from __future__ import annotations

import json
import time
import uuid

import pytest

from chatd.errors import ErrorCode
from tests.harness.chatserver import chat
from tests.harness.deadline import run, until
from tests.harness.mobileimsdk import MobilePeer, content
from tests.harness.person import Town


def new_fp() -> str:
    return str(uuid.uuid4())


async def silence(peer: MobilePeer) -> None:
    """Nothing was on its way: a keep-alive is answered next."""
    peer.put({"type": 1, "from": "", "to": "0", "dataContent": "{}"})
    packet = await peer.take()
    assert packet["type"] == 51, packet


async def two(town: Town) -> tuple[str, MobilePeer, str, MobilePeer]:
    alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
    return alice, await town.on_mobile(alice), bob, await town.on_mobile(bob)


# ---------------------------------------------------------------- control packets


def test_login_is_answered_with_the_servers_time(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        peer = await town.mobile_peer()
        peer.put(peer.login_packet(name, town.secret))
        packet = await peer.take()
        assert (packet["type"], packet["from"], packet["to"]) == (50, "0", name)
        body = content(packet)
        assert body["code"] == 0
        assert abs(body["firstLoginTime"] - time.time() * 1000) < 60_000

    run(story())


def test_a_refused_login_says_so_and_is_closed(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        answers = []
        for whom, secret in ((name, "wrong"), ("nobody at all", town.secret)):
            peer = await town.mobile_peer()
            peer.put(peer.login_packet(whom, secret))
            (packet,) = await peer.end()
            assert (packet["type"], packet["from"], packet["to"]) == (50, "0", "-1")
            answers.append(content(packet))
        assert answers == [{"code": ErrorCode.BAD_CREDENTIALS, "firstLoginTime": -1}] * 2

    run(story())


def test_login_again_on_the_same_connection_is_answered_again(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        peer = await town.mobile_peer()
        first = await peer.log_in(name, town.secret)
        for first_login_time in (first, 0, 1):
            await peer.log_in(name, town.secret, first_login_time)
        await silence(peer)

    run(story())


def test_keep_alive_logout_and_echo(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        peer = await town.mobile_peer()
        echo = {"type": 5, "from": "x", "to": "0", "dataContent": "äöü {", "fp": None, "typeu": 7, "own": [1, {"a": 2}]}
        peer.put(echo)
        assert await peer.take() == {**echo, "type": 53}
        await peer.log_in(name, town.secret)
        peer.put({"type": 1, "from": name, "to": "0", "dataContent": "{}"})
        packet = await peer.take()
        assert (packet["type"], packet["from"], packet["dataContent"]) == (51, "0", "{}")
        peer.put(echo)
        assert (await peer.take())["type"] == 53
        peer.put({"type": 3, "from": name, "to": "0"})
        assert await peer.end() == []

    run(story())


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_not_logged_in_gets_301_with_the_packet_and_is_closed(town: Town, kind: int) -> None:
    async def story() -> None:
        peer = await town.mobile_peer()
        packet = {"type": kind, "from": "x", "to": "y", "dataContent": "text", "fp": new_fp(), "QoS": True}
        peer.put(packet)
        (answer,) = await peer.end()
        assert (answer["type"], answer["from"], answer["to"]) == (52, "0", "-1")
        assert content(answer)["errorCode"] == 301
        assert json.loads(content(answer)["errorMsg"]) == packet

    run(story())


# ---------------------------------------------------------------- duplicate logins


@pytest.mark.parametrize("later", [0, -1, 5000], ids=["first login", "negative", "later"])
def test_a_newer_first_login_kicks_the_old_session(town: Town, later: int) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        old = await town.mobile_peer()
        first = await old.log_in(name, town.secret)
        new = await town.on_mobile(name, first + later if later > 0 else later)
        (kick,) = await old.end()
        assert (kick["type"], kick["from"], content(kick)["code"]) == (54, "0", 1)
        await silence(new)

    run(story())


def test_the_same_first_login_replaces_the_old_session_silently(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        old = await town.mobile_peer()
        first = await old.log_in(name, town.secret)
        new = await town.mobile_peer()
        assert await new.log_in(name, town.secret, first) == first
        assert await old.end() == []
        await silence(new)

    run(story())


def test_an_older_first_login_is_itself_kicked(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        old = await town.mobile_peer()
        first = await old.log_in(name, town.secret)
        new = await town.mobile_peer()
        new.put(new.login_packet(name, town.secret, first - 5000))
        packets = await new.end()
        assert packets[-1]["type"] == 54
        assert content(packets[-1])["code"] == 1
        await silence(old)

    run(story())


def test_many_logins_at_once_leave_exactly_one_session(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        peers = [await town.mobile_peer() for _ in range(12)]
        for peer in peers:
            peer.put(peer.login_packet(name, town.secret))
        await until(20, "one is left", lambda: sum(not peer.gone.is_set() for peer in peers) <= 1)
        (last,) = [peer for peer in peers if not peer.gone.is_set()]
        assert content(await last.find(type=50))["code"] == 0
        await silence(last)
        sender = await town.on_mobile(await town.newcomer("sender"))
        sender.say("", name, "who is it?", new_fp())
        assert (await last.take())["dataContent"] == "who is it?"

    run(story())


# ---------------------------------------------------------------- messages


def test_what_a_message_and_its_acknowledgement_look_like(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        fp = new_fp()
        one.say(alice, bob, "<hello> = 'żółw' & 🙂", fp, typeu=42)
        packet = await other.take()
        assert (packet["type"], packet["from"], packet["to"]) == (2, alice, bob)
        assert (packet["dataContent"], packet["fp"]) == ("<hello> = 'żółw' & 🙂", fp)
        assert (packet["QoS"], packet["typeu"]) == (True, 42)
        assert abs(packet["sm"] - time.time() * 1000) < 60_000
        ack = await one.take()
        assert (ack["type"], ack["from"], ack["to"], ack["dataContent"]) == (4, bob, alice, fp)
        other.acknowledge(packet)
        await silence(other)
        await silence(one)

    run(story())


def test_fields_may_be_absent_null_escaped_or_unknown(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        fps = [new_fp() for _ in range(3)]
        raw = [
            f'{{"to":"{bob}","type":2,"dataContent":"a\\u003db\\u003c\\u0026\\u0027","fp":"{fps[0]}","QoS":true}}',
            f'{{"fp":"{fps[1]}","bridge":null,"typeu":null,"sm":null,"from":null,"QoS":true,"dataContent":"b","to":"{bob}","type":2}}',
            f'{{"type":2,"dataContent":"c","from":"{alice}","to":"{bob}","fp":"{fps[2]}","QoS":true,"new":{{"x":[1]}},"retryCount":1}}',
        ]
        for body in raw:
            one.write(one.wrap(body.encode()))
        assert [(await other.take())["dataContent"] for _ in raw] == ["a=b<&'", "b", "c"]
        assert [(await one.take())["dataContent"] for _ in raw] == fps

    run(story())


def test_without_qos_it_is_stored_and_delivered_and_nobody_acknowledges(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        one.say(alice, bob, "now", None, qos=False)
        packet = await other.take()
        assert (packet["dataContent"], packet.get("QoS", False)) == ("now", False)
        other.put({"type": 3})
        await other.end()
        one.say(alice, bob, "later", None, qos=False)
        await silence(one)
        other = await town.on_mobile(bob)
        assert (await other.take())["dataContent"] == "later"
        await silence(other)

    run(story())


def test_the_sender_is_who_is_logged_in_whatever_the_packet_claims(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        one.say("mallory", bob, "who am I?", new_fp())
        assert (await other.take())["from"] == alice

    run(story())


def test_a_resent_packet_is_stored_once_and_acknowledged_again_on_any_connection(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        fp = new_fp()
        one.say(alice, bob, "once", fp)
        first = await other.take()
        other.acknowledge(first)
        for _ in range(6):
            one.say(alice, bob, "once", fp)
            assert (await one.find(type=4))["dataContent"] == fp
            one.put({"type": 3})
            await one.end()
            one = await town.on_mobile(alice)
        one.say(alice, bob, "after", new_fp())
        assert (await other.take())["dataContent"] == "after"

    run(story())


def test_an_fp_used_for_something_else_is_refused(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        fp = new_fp()
        one.say(alice, bob, "first", fp)
        await one.find(type=4)
        one.say(alice, bob, "something else", fp)
        answer = await one.take()
        assert answer["type"] in (4, 52)  # the first result, or a plain refusal; never a second message
        assert (await other.take())["dataContent"] == "first"
        await silence(other)

    run(story())


def test_refusals_are_told_with_the_fp_and_stored_nowhere(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, _ = await two(town)
        group = await town.make_group("secret", [await town.newcomer("carol")])
        for to, text, code in (
            ("nobody at all", "x", ErrorCode.UNKNOWN_RECIPIENT),
            ("2000000000", "x", ErrorCode.UNKNOWN_RECIPIENT),
            ("#2000000000", "x", ErrorCode.UNKNOWN_GROUP),
            (f"#{group}", "x", ErrorCode.NOT_A_MEMBER),
            (bob, "x" * 7000, ErrorCode.TOO_LONG),
        ):
            fp = new_fp()
            one.say(alice, to, text, fp)
            answer = await one.take()
            assert (answer["type"], answer["from"], answer["to"]) == (52, "0", "-1")
            assert content(answer)["errorCode"] == code
            told = json.loads(content(answer)["errorMsg"])
            assert (told["fp"], told["temporary"]) == (fp, False)
            assert isinstance(told["text"], str)
        await silence(one)

    run(story())


def test_what_the_server_is_told_and_does_not_understand_is_acknowledged_and_dropped(town: Town) -> None:
    async def story() -> None:
        peer = await town.on_mobile(await town.newcomer("alice"))
        for text in ("just text", "[1]", "{}"):
            fp = new_fp()
            peer.say("", "0", text, fp)
            assert (await peer.find(type=4))["dataContent"] == fp
        await silence(peer)

    run(story())


# ---------------------------------------------------------------- until acknowledged


def test_a_message_waits_until_acknowledged_over_many_logins(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        fps = [new_fp() for _ in range(3)]
        for index, fp in enumerate(fps):
            one.say(alice, bob, str(index), fp)
        for _ in range(3):
            packets = [await other.take() for _ in fps]
            assert [packet["fp"] for packet in packets] == fps
            other.abort()
            other = await town.on_mobile(bob)
        packets = [await other.take() for _ in fps]
        other.acknowledge(packets[0])
        await silence(other)
        other.abort()
        other = await town.on_mobile(bob)
        assert [(await other.take())["fp"] for _ in fps[1:]] == fps[1:]
        await silence(other)

    run(story())


def test_an_acknowledgement_is_honoured_only_from_the_session_it_was_given_to(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        eve = await town.on_mobile(await town.newcomer("eve"))
        fp = new_fp()
        one.say(alice, bob, "for bob", fp)
        packet = await other.take()
        eve.acknowledge(packet)
        await silence(eve)
        one.acknowledge(packet)
        await one.find(type=4)
        await silence(one)
        other.abort()
        other = await town.on_mobile(bob)
        assert (await other.take())["fp"] == fp

    run(story())


def test_acknowledging_what_was_never_given_changes_nothing(town: Town) -> None:
    async def story() -> None:
        peer = await town.on_mobile(await town.newcomer("alice"))
        for what in (new_fp(), "", None):
            peer.put({"type": 4, "from": "a", "to": "b", "dataContent": what})
        while True:
            peer.put({"type": 1})
            if (await peer.take())["type"] == 51:
                break

    run(story())


# ---------------------------------------------------------------- addresses and the other wire


def test_numbers_names_and_groups_reach_the_other_wire_and_back(town: Town) -> None:
    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        group = await town.make_group("both wires", [alice, bob])
        mobile, old = await town.on_mobile(alice), await town.errand(bob)
        for to in (bob, str(town.ids[bob])):
            mobile.say(alice, to, f"to {to}", new_fp())
            await mobile.find(type=4)
            frame = await old.take()
            assert (frame["msgid"], frame["id"], frame["name"], frame["msg"]) == (6, town.ids[alice], alice, f"to {to}")
            assert len(frame["time"]) == len("2000-01-01 00:00:00")
        mobile.say(alice, f"#{group}", "to all", new_fp())
        assert (await mobile.take())["from"] == f"#{group}"
        frame = await old.take()
        assert (frame["msgid"], frame["groupid"], frame["name"], frame["msg"]) == (11, group, alice, "to all")
        old.put(chat(town.ids[bob], bob, "", town.ids[alice], "back"))
        packet = await mobile.take()
        assert (packet["type"], packet["from"], packet["to"], packet["dataContent"]) == (2, bob, alice, "back")
        mobile.acknowledge(packet)
        old.put(chat(town.ids[bob], bob, f"#{group}", 0, "back to all"))
        packet = await mobile.take()
        assert (packet["from"], packet["to"], packet["dataContent"]) == (bob, f"#{group}", "back to all")

    run(story())


def test_what_waits_from_one_wire_is_given_on_the_other(town: Town) -> None:
    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        old = await town.errand(alice)
        old.put({**chat(town.ids[alice], alice, "", town.ids[bob], "waiting"), "fp": "w"})
        await old.find(msgid=13)
        mobile = await town.on_mobile(bob)
        packet = await mobile.take()
        assert (packet["from"], packet["dataContent"]) == (alice, "waiting")
        mobile.acknowledge(packet)
        mobile.say(bob, alice, "waiting too", new_fp())
        assert (await old.find(msgid=6))["msg"] == "waiting too"

    run(story())
