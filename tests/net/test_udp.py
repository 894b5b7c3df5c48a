"""The UDP listener by itself: addresses without a session, logins, the order of commands, bursts, bounds, the end."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from chatd.errors import Disconnect, ErrorCode
from chatd.model import Message
from chatd.net.rate_limit import ADDRESSES_PER_S, ANSWERS_PER_S, REFUSALS_PER_S, AnswerLimiter
from chatd.protocol import Deliver, Draining, Failed, Login
from tests.harness.deadline import until
from tests.net.datagram_stage import played, stage

# ---------------------------------------------------------------- coming in


def test_a_login_makes_the_address_a_session() -> None:
    async def story() -> None:
        async with stage() as on:
            alice = await on.logged_in()
            alice.put(type=1, dataContent="{}")
            assert (await alice.take())["type"] == 51
            assert on.peer().remote == "{}:{}".format(*alice.sock.getsockname())
            assert len(on.listener.peers) == 1

    played(story)


def test_a_login_under_way_is_not_begun_again() -> None:
    async def story() -> None:
        async with stage() as on:
            on.core.gate.clear()
            alice = on.client()
            for _ in range(5):
                alice.login()
            alice.message("too early")
            await on.taken()
            assert [type(command) for command in on.core.handled] == [Login]
            on.core.gate.set()
            assert (await alice.take())["type"] == 50
            await on.taken()
            assert alice.heard() == []

    played(story)


def test_a_refused_login_leaves_nothing() -> None:
    async def story() -> None:
        async with stage() as on:
            mallory = on.client()
            mallory.login(secret="no")
            body = json.loads((await mallory.take())["dataContent"])
            assert body == {"code": ErrorCode.BAD_CREDENTIALS, "firstLoginTime": -1}
            await until(5, "forgotten", lambda: not on.listener.logging_in)
            assert not on.listener.peers
            mallory.login()
            assert json.loads((await mallory.take())["dataContent"])["code"] == 0

    played(story)


def test_a_login_that_takes_too_long_is_given_up() -> None:
    async def story() -> None:
        async with stage() as on:
            on.core.gate.clear()
            on.client().login()
            await until(5, "begun", lambda: on.listener.logging_in)
            on.listener.round(on.connections.now() + 9)
            assert on.connections.ends == []
            on.listener.round(on.connections.now() + 11)
            assert on.connections.ends == [("", Disconnect.LOGIN_TIMEOUT)]
            on.core.gate.set()
            await until(5, "forgotten", lambda: not on.listener.logging_in)
            assert not on.listener.peers

    played(story)


def test_another_user_at_the_same_address_takes_it_over() -> None:
    async def story() -> None:
        async with stage() as on:
            client = await on.logged_in("alice")
            client.login("bob", "no")
            assert json.loads((await client.take())["dataContent"])["code"] == ErrorCode.BAD_CREDENTIALS
            assert on.peer().session.user.name == "alice", "whoever fails to log in ends nobody"  # type: ignore[union-attr]
            client.login("bob")
            assert json.loads((await client.take())["dataContent"])["code"] == 0
            assert on.peer().session.user.name == "bob"  # type: ignore[union-attr]
            assert on.connections.ends[-1] == ("alice", Disconnect.REPLACED)

    played(story)


def test_full_is_said_and_counted() -> None:
    async def story() -> None:
        async with stage(connections=1) as on:
            await on.logged_in()
            other = on.client()
            other.login("bob")
            assert json.loads((await other.take())["dataContent"])["code"] == ErrorCode.BUSY
            assert on.connections.turned_away == 1

    played(story)


def test_logins_under_way_are_bounded() -> None:
    async def story() -> None:
        async with stage(login_queue=2) as on:
            on.core.gate.clear()
            first, second, third = on.client(), on.client(), on.client()
            for client in (first, second, third):
                client.login()
            assert json.loads((await third.take())["dataContent"])["code"] == ErrorCode.BUSY
            on.core.gate.set()
            for client in (first, second):
                assert json.loads((await client.take())["dataContent"])["code"] == 0

    played(story)


# ---------------------------------------------------------------- addresses without a session

QUESTIONS: list[dict[str, object]] = [
    {"type": 1, "dataContent": "{}"},
    {"type": 1, "dataContent": "{}", "from": "alice", "to": "0", "QoS": False, "typeu": -1, "sm": -1},
    {"type": 2, "dataContent": "hello", "from": "alice", "to": "bob", "fp": "f", "QoS": True},
    {"type": 2, "dataContent": '"' * 3000, "from": "alice", "to": "bob", "fp": "f", "QoS": True},
    {"type": 3},
    {"type": 4, "dataContent": "f", "from": "alice", "to": "bob"},
    {"type": 5},
    {"type": 5, "dataContent": "x" * 1000},
    {"type": 5, "dataContent": "x" * 3000},
    {"type": 99},
    {"type": "x"},
    {"type": 0},
    {"type": 0, "dataContent": "nonsense"},
    {"type": 0, "dataContent": '{"loginUserId":"a"}'},
    {"type": 0, "dataContent": '{"loginUserId":"a","loginToken":"no","firstLoginTime":0}', "from": "a", "to": "0"},
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: json.dumps(question)[:50])
@pytest.mark.parametrize("blanks", [0, 60])
def test_an_address_without_session_is_never_sent_more_than_it_sent(question: dict[str, object], blanks: int) -> None:
    async def story() -> None:
        async with stage() as on:
            client = on.client()
            raw = json.dumps(question, separators=(",", ":")).encode() + b" " * blanks
            client.sock.send(raw)
            await on.taken()
            await until(5, "nothing under way", lambda: not on.listener.logging_in)
            answers = client.heard()
            assert len(answers) <= 1
            assert all(len(answer) <= len(raw) for answer in answers), answers
            if blanks and question["type"] != 0 and len(raw) < 1024:
                assert answers, "there was room for an answer"

    played(story)


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"{", b"\xff" * 100, b"[" * 1000, b"{}" * 4000, b'{"type":1}' + b" " * 7000]
)
def test_garbage_from_an_address_without_session_is_not_answered(raw: bytes) -> None:
    async def story() -> None:
        async with stage() as on:
            client = on.client()
            client.sock.send(raw)
            await on.taken()
            assert client.heard() == []

    played(story)


def test_answers_to_an_address_without_session_are_limited() -> None:
    async def story() -> None:
        async with stage() as on:
            client = on.client()
            for kind in (1, 5) * 50:
                client.put(type=kind, dataContent="{}" + " " * 60)
            await on.taken()
            kinds = Counter(json.loads(one)["type"] for one in client.heard())
            assert kinds.total() == ANSWERS_PER_S
            assert kinds[52] <= REFUSALS_PER_S
            on.listener.round(on.connections.now())
            client.put(type=1, dataContent="{}" + " " * 60)
            assert (await client.take())["type"] == 52

    played(story)


def test_a_client_that_repeats_many_messages_can_log_in() -> None:
    """It has lost its session, and sends everything again at once. The answers leave room for its login."""

    async def story() -> None:
        async with stage() as on:
            client = on.client()
            for number in range(20):
                client.put(type=2, dataContent="hello", fp=str(number), QoS=True)
            await on.taken()
            assert [json.loads(one)["type"] for one in client.heard()] == [52] * REFUSALS_PER_S
            client.login()
            await until(5, "logged in", lambda: len(on.listener.peers) == 1)

    played(story)


def test_logins_of_one_address_are_counted_too() -> None:
    async def story() -> None:
        async with stage() as on:
            mallory = on.client()
            for guess in range(20):
                mallory.login(secret=f"guess {guess}")
                await on_turn()
                await until(5, "answered or dropped", lambda: not on.listener.logging_in)
            assert Counter(type(command) for command in on.core.handled)[Login] == ANSWERS_PER_S

    async def on_turn() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    played(story)


def test_a_session_s_echoes_are_counted_too() -> None:
    async def story() -> None:
        async with stage() as on:
            alice = await on.logged_in()
            for _ in range(50):
                alice.put(type=5, dataContent="x")
            await on.taken()
            assert len(alice.heard()) == ANSWERS_PER_S

    played(story)


def test_the_memory_of_the_limiter_is_bounded() -> None:
    limiter = AnswerLimiter()
    for port in range(ADDRESSES_PER_S + 500):
        assert limiter.allow(("10.0.0.1", port)) == (port < ADDRESSES_PER_S)
    assert len(limiter) == ADDRESSES_PER_S
    assert limiter.allow(("10.0.0.1", 5)), "an address counted in this second is still answered"
    limiter.next_second()
    assert len(limiter) == 0


# ---------------------------------------------------------------- the order of commands


def test_what_follows_a_slow_command_waits_for_it() -> None:
    async def story() -> None:
        async with stage() as on:
            alice = await on.logged_in()
            on.core.gate.clear()
            alice.message("1", "slow")
            alice.message("2")
            alice.message("3", "slow")
            alice.message("4")
            await on.taken()
            assert alice.heard() == []
            on.core.gate.set()
            assert [(await alice.take())["dataContent"] for _ in range(4)] == ["1", "2", "3", "4"]

    played(story)


def test_what_waits_for_a_slow_command_is_bounded() -> None:
    async def story() -> None:
        async with stage() as on:
            alice = await on.logged_in()
            on.core.gate.clear()
            alice.message("first", "slow")
            for number in range(100):
                alice.message(str(number))
            await on.taken()
            assert on.listener.dropped == 100 - 64
            on.core.gate.set()
            await until(5, "served", lambda: not on.peer().busy)
            assert [(await alice.take())["dataContent"] for _ in range(65)] == ["first", *map(str, range(64))]
            await on.taken()
            assert alice.heard() == []

    played(story)


def test_garbage_of_a_session_is_told_and_the_session_stays() -> None:
    """Anybody can write its address on a datagram."""

    async def story() -> None:
        async with stage() as on:
            alice = await on.logged_in()
            alice.sock.send(b"garbage")
            packet = await alice.take()
            assert (packet["type"], json.loads(packet["dataContent"])["errorCode"]) == (52, ErrorCode.INVALID_PACKET)
            alice.put(type=1, dataContent="{}")
            assert (await alice.take())["type"] == 51

    played(story)


# ---------------------------------------------------------------- going out


def deliver(number: int, size: int = 100) -> Deliver:
    return Deliver(
        Message(
            conversation=1,
            seq=number,
            sender_id=2,
            sender_name="bob",
            to_id=7,
            to_name="alice",
            group_id=0,
            body=f"{number} ".ljust(size, "x"),
            fp="",
            qos=False,
            typeu=-1,
            sent_at_ms=5,
        ),
        "",
        {},
    )


def test_a_burst_is_spread_and_keeps_its_order() -> None:
    async def story() -> None:
        async with stage() as on:
            alice = await on.logged_in()
            await asyncio.sleep(0.02)  # the burst of the login is over
            peer = on.peer()
            for number in range(300):
                offset = peer.push(deliver(number))
            at_once = alice.heard()
            assert len(at_once) <= 64
            assert peer.received() < offset == peer.received() + peer.out_bytes
            await until(5, "all sent", lambda: not peer.out_bytes)
            assert peer.received() == offset
            numbers = [int(json.loads(data)["dataContent"].split()[0]) for data in at_once + alice.heard()]
            assert numbers == list(range(300))

    played(story)


def test_what_waits_for_one_address_is_bounded() -> None:
    async def story() -> None:
        async with stage(outbox_bytes=16384) as on:
            alice = await on.logged_in()
            peer = on.peer()
            for number in range(200):
                peer.push(deliver(number, 800))
                assert peer.out_bytes <= 16384
            assert on.listener.dropped > 0
            await until(5, "all sent", lambda: not peer.out_bytes)
            assert len(alice.heard()) == 200 - on.listener.dropped
            assert not peer.closed

    played(story)


def test_no_datagram_is_longer_than_the_stock_client_reads() -> None:
    async def story() -> None:
        async with stage() as on:
            alice = await on.logged_in()
            on.peer().push(deliver(1, 4000))
            on.peer().push(Failed(ErrorCode.BAD_FIELD, "x" * 3000))
            await on.taken()
            datagrams = alice.heard()
            assert [len(data) <= 1024 for data in datagrams] == [True, True]
            assert json.loads(datagrams[0])["dataContent"].endswith("…")

    played(story)


# ---------------------------------------------------------------- the end


def test_silence_ends_a_session() -> None:
    async def story() -> None:
        async with stage() as on:
            alice = await on.logged_in()
            on.listener.round(on.connections.now() + 9.9)
            assert on.connections.ends == []
            on.listener.round(on.connections.now() + 10.1)
            assert on.connections.ends == [("alice", Disconnect.SILENT)]
            assert not on.listener.peers
            alice.message("still there?")
            assert json.loads((await alice.take())["dataContent"])["errorCode"] == 301

    played(story)


def test_the_last_words_overtake_what_waits() -> None:
    async def story() -> None:
        async with stage() as on:
            alice = await on.logged_in()
            peer = on.peer()
            for number in range(200):
                peer.push(deliver(number))
            peer.push(Failed(ErrorCode.INTERNAL, "goodbye"))
            peer.close(Disconnect.KICKED_BY_ADMIN)
            assert "goodbye" in alice.heard()[-1].decode()
            assert peer.push(deliver(999)) == peer.offset
            await on.taken()
            assert alice.heard() == []

    played(story)


def test_draining_tells_everybody_and_lets_go_of_the_socket() -> None:
    async def story() -> None:
        async with stage() as on:
            alice, bob = await on.logged_in("alice"), await on.logged_in("bob")
            on.core.gate.clear()
            late = on.client()
            late.login()
            await until(5, "begun", lambda: on.listener.logging_in)
            await on.listener.drain(Draining(5, 6))
            for client in (alice, bob):
                assert json.loads((await client.take())["dataContent"])["event"] == "draining"
            assert sorted(on.connections.ends, key=str) == sorted(
                [("", Disconnect.DRAINING), ("alice", Disconnect.DRAINING), ("bob", Disconnect.DRAINING)], key=str
            )
            assert not on.listener.peers
            late.login()
            assert (await late.take())["type"] == 50, "a refusal, instead of silence"
            on.listener.close()
            assert on.listener.sock.fileno() == -1
            on.core.gate.set()
            await until(5, "given up", lambda: not on.listener.logging_in)

    played(story)
