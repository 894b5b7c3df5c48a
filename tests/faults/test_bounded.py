"""Peers that do not read, do not log in, or are too many. Each is bounded, told why where it can be, and
disturbs nobody else."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable

import msgspec
import psutil
import pytest

from chatd.config.schema import LEAST_OUTBOX_BYTES
from chatd.errors import Disconnect, ErrorCode
from chatd.net.connection import COMMANDS_BEFORE_LOGIN
from tests.faults.ordeal import EIGHT, acquit, more_talk, ordeal
from tests.harness.chatserver import LOGIN
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.mobileimsdk import MobilePeer, content
from tests.harness.peer import Frame, NulPeer, Peer
from tests.harness.person import Person, Town

OUTBOX_BYTES = 64 * 1024
BODY = "x" * 2000


def memory(daemon: Daemon) -> int:
    """Bytes, of all workers."""
    return sum(psutil.Process(pid).memory_info().rss for pid in daemon.workers())


# ---------------------------------------------------------------- clients that do not read


@pytest.mark.parametrize("wire", ["streaming", "mobile"])
@pytest.mark.parametrize("messages", [1500, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_a_client_that_never_reads_is_cut_and_gets_the_rest_later(
    make_daemon: Callable[..., Daemon], wire: str, messages: int
) -> None:
    """What waits is more than an outbox holds: it waits in the store, and comes as the client reads."""
    daemon = make_daemon(workers=2, limits={"outbox_bytes": OUTBOX_BYTES}, timeouts={"stall_s": 2.0}).start()

    async def story() -> None:
        town = Town(daemon)
        alice, bob = await town.settle("alice", "streaming"), await town.newcomer("bob")
        await alice.arrive()
        reader: Peer = await deaf_client(town, bob, wire)
        before = memory(daemon)
        for number in range(messages):
            alice.post(bob, f"{number} {BODY}", f"fp{number}")
            if number % 50 == 49:
                await alice.told(f"fp{number}", 30)
        assert all(outcome.ok for outcome in alice.outcomes.values()), "the sender is not to suffer"
        (cut,) = await until(10, "cut for not reading", lambda: daemon.logged(Disconnect.SLOW_CONSUMER.text))
        assert cut["user"] == town.ids[bob]
        assert memory(daemon) - before < 40 * 1024 * 1024 + messages * 1000
        assert reader.transport is not None
        reader.transport.resume_reading()
        await reader.end()

        seen = await everything_waiting(town, bob, wire, messages)
        assert seen == list(range(seen[0], messages)), "in order, without holes"
        if wire == "mobile":
            assert seen[0] == 0, "nothing was acknowledged, so everything is given again"

    run(story(), 60 + messages / 50)


def test_a_client_that_stalls_is_cut_after_a_time(make_daemon: Callable[..., Daemon]) -> None:
    """Less waits for it than an outbox may hold, so only the clock ends it."""
    daemon = make_daemon(workers=1, timeouts={"stall_s": 1.5}).start()

    async def story() -> None:
        town = Town(daemon)
        alice, bob = await town.settle("alice", "streaming"), await town.newcomer("bob")
        await alice.arrive()
        reader = await deaf_client(town, bob, "streaming")
        for number in range(400):
            alice.post(bob, f"{number} {BODY}", f"fp{number}")
        await alice.told("fp399")
        (cut,) = await until(10, "cut for stalling", lambda: daemon.logged(Disconnect.SLOW_CONSUMER.text))
        assert cut["user"] == town.ids[bob]
        reader.abort()
        seen = await everything_waiting(town, bob, "streaming", 400)
        assert seen == list(range(seen[0], 400))

    run(story())


async def deaf_client(town: Town, name: str, wire: str) -> Peer:
    """Logged in, with small buffers, and never reading again."""
    if wire == "mobile":
        mobile = MobilePeer()
        await mobile.open(town.daemon.ports["mobileimsdk"], receive_buffer=4096)
        await mobile.log_in(name, town.secret)
        assert mobile.transport is not None
        mobile.transport.pause_reading()
        return mobile
    peer = NulPeer()
    await peer.open(town.daemon.ports["chatserver"], receive_buffer=4096)
    peer.put({"msgid": 1, "id": town.ids[name], "password": town.secret, "framing": "nul"})
    assert (await peer.take())["errno"] == 0
    assert peer.transport is not None
    peer.transport.pause_reading()
    return peer


async def everything_waiting(town: Town, name: str, wire: str, messages: int) -> list[int]:
    """Log in again, read all of it."""
    person = Person(town, name, "mobile" if wire == "mobile" else "streaming")
    await person.arrive()

    def last() -> bool:
        return bool(person.seen) and person.seen[-1].text.startswith(f"{messages - 1} ")

    await until(30 + messages / 200, "the last message", last)
    return [int(seen.text.split()[0]) for seen in person.seen]


# ---------------------------------------------------------------- garbage


@pytest.mark.parametrize("rounds", [400, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_mutated_frames_disturb_nobody_and_are_no_bugs(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    """Whatever arrives, no worker ends and no error is logged (the fixture looks)."""
    daemon = make_daemon(workers=2).start()

    async def fault(crowd: Crowd) -> None:
        workers = daemon.workers()
        name = await crowd.town.newcomer("fuzz")
        login = MobilePeer().login_packet(name, crowd.town.secret)
        good: list[Frame] = [
            {"msgid": 1, "name": name, "password": crowd.town.secret, "framing": "nul"},
            {"msgid": 4, "name": "x", "password": "y"},
            {"msgid": 6, "toname": name, "msg": "to me", "fp": "x"},
            {"msgid": 11, "groupid": 1, "msg": "x"},
            {"msgid": 8, "friendid": 1, "flag": True},
            login,
            {"type": 2, "to": name, "dataContent": "to me", "QoS": True, "fp": "x"},
            {"type": 4, "dataContent": "x"},
            {"type": 5, "dataContent": "x"},
        ]
        for _ in range(rounds):
            peer: Peer = random.choice([NulPeer, MobilePeer])()
            await peer.open(daemon.ports["chatserver" if isinstance(peer, NulPeer) else "mobileimsdk"])
            for _ in range(4):
                frame = peer.wrap(msgspec.json.encode(random.choice(good)))
                peer.write(mutated(frame) if random.random() < 0.7 else frame)
            await asyncio.sleep(0.002)  # the pace of the attack
            peer.abort()
        await more_talk(crowd, 50)
        assert daemon.workers() == workers
        assert crowd.logins() == len(crowd.people), "a session was disturbed"

    verdict = run(ordeal(daemon, fault, wires=EIGHT, groups=((0, 1, 2, 3),)), 100 + rounds / 50)
    verdict.counts["attacks"] = rounds
    acquit(verdict, record_property, at_least=50)


def mutated(frame: bytes) -> bytes:
    bytes_ = bytearray(frame)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(bytes_))
        match random.randrange(4):
            case 0:
                bytes_[at] = random.randrange(256)
            case 1:
                del bytes_[at : at + random.randrange(1, 8)]
            case 2:
                bytes_[at:at] = bytes_[: random.randrange(1, 20)]
            case _:
                bytes_[at:at] = random.choice([b"\0", b"[" * 20, b"\\u0000", b"\xff", b'"', b"}", b"1e999", b"-"])
        if not bytes_:
            break
    return bytes(bytes_)


def test_a_client_that_overflows_its_write_buffer_with_its_login_loses_nothing(
    make_daemon: Callable[..., Daemon],
) -> None:
    """The errors that it caused before leave no room for the login answer."""
    outbox_bytes = LEAST_OUTBOX_BYTES  # little enough to be filled by what may be asked before a login
    daemon = make_daemon(limits={"outbox_bytes": outbox_bytes}, listen={"chatserver": {"pace_ms": 50}}).start()

    async def story() -> None:
        town = Town(daemon)
        alice, bob = await town.settle("alice", "streaming"), await town.newcomer("bob")
        await alice.arrive()
        for text in ("one", "two"):
            await alice.say(bob, text)
        peer = await town.nul_peer()
        wrong = msgspec.json.encode({"msgid": 6, "msg": 5}) + b"\0"
        peer.write(wrong)
        size = len(msgspec.json.encode(await peer.take())) + 1
        login = msgspec.json.encode({"msgid": LOGIN, "id": town.ids[bob], "password": town.secret}) + b"\0"
        assert outbox_bytes // size < COMMANDS_BEFORE_LOGIN
        peer.write(wrong * (outbox_bytes // size) + login)
        await until(10, "disconnected", lambda: daemon.logged(Disconnect.SLOW_CONSUMER.text))
        peer.abort()
        reader = Person(town, bob, "streaming")
        await reader.arrive()
        await alice.say(bob, "three")
        await until(10, "bob has all", lambda: len(reader.seen) == 3)

    run(story())


# ---------------------------------------------------------------- clients that do not log in


@pytest.mark.parametrize("strangers", [2000, pytest.param(8000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_thousands_that_never_log_in_are_cut_and_disturb_nobody(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], strangers: int
) -> None:
    login_s = 4.0
    limits = {"connections_per_source": 0, "unauthenticated": 100_000}  # the clock alone ends them here
    daemon = make_daemon(workers=2, limits=limits, timeouts={"login_s": login_s}).start()

    async def fault(crowd: Crowd) -> None:
        before = memory(daemon)
        peers = [NulPeer() if number % 2 else MobilePeer() for number in range(strangers)]
        for peer in peers:
            await peer.open(daemon.ports["chatserver" if isinstance(peer, NulPeer) else "mobileimsdk"])
        all_there = time.monotonic()
        assert sum(peer.gone.is_set() for peer in peers) < strangers * 0.4, "ended before their time"
        held = memory(daemon) - before
        assert held < strangers * 50_000, f"{held} bytes for {strangers} strangers"
        while not all(peer.gone.is_set() for peer in peers):
            assert time.monotonic() - all_there < login_s + 20, "still there long after the deadline"
            for peer in peers[::3]:
                peer.write(b"{" if isinstance(peer, NulPeer) else b"\0")  # dripping does not help
            await asyncio.sleep(0.5)  # the pace of the drops
        await more_talk(crowd, 100)
        assert crowd.logins() == len(crowd.people), "a session was disturbed"

    verdict = run(ordeal(daemon, fault, wires=EIGHT, groups=((0, 1, 2, 3),), stale_s=5.0), 150)
    verdict.counts["strangers"] = strangers
    acquit(verdict, record_property, at_least=100)


# ---------------------------------------------------------------- too many clients


@pytest.mark.parametrize("limit", ["descriptors", "connections"])
def test_at_the_limit_it_says_busy_and_serves_who_is_there(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], limit: str
) -> None:
    room = 60
    daemon = make_daemon(workers=1, limits={"connections": room} if limit == "connections" else {})
    daemon.start(prefix=("prlimit", "--nofile=256:256") if limit == "descriptors" else ())

    async def fault(crowd: Crowd) -> None:
        kept: list[NulPeer] = []
        refused: NulPeer | None = None
        for _ in range(200):
            peer = NulPeer()
            await peer.open(daemon.ports["chatserver"])
            peer.put({"msgid": 4711})
            (answer,) = [await peer.take()]
            if answer["errno"] == ErrorCode.BUSY:
                refused = peer
                break
            assert answer["errno"] == ErrorCode.UNKNOWN_REQUEST
            kept.append(peer)
        assert refused is not None, "200 connections and no refusal"
        assert await refused.end() == [], "one refusal, then the end"
        assert len(kept) > 30
        mobile = MobilePeer()
        await mobile.open(daemon.ports["mobileimsdk"])
        (packet,) = await mobile.end()
        assert (packet["type"], content(packet)["errorCode"]) == (52, ErrorCode.BUSY)
        assert json.loads(content(packet)["errorMsg"])["temporary"] is True
        await more_talk(crowd, 50)
        assert crowd.logins() == len(crowd.people), "a session was disturbed"
        assert (await asyncio.to_thread(daemon.status))["workers"][0]["refused"] >= 2
        for peer in kept[:10]:
            peer.close()
            await peer.gone.wait()
        await until(10, "room again", lambda: daemon.answers("echo"))

    verdict = run(ordeal(daemon, fault, wires=EIGHT, groups=((0, 1, 2, 3),)), 100)
    acquit(verdict, record_property, at_least=50)
