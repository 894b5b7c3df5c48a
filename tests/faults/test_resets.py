"""Clients reset their connections while their worker is stopped, is killed or works, on every wire, also users who
are on both wires. Nothing that was acknowledged to its sender is lost (P1 P4)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections.abc import Callable
from typing import Any, Literal

import pytest

from tests.faults.ordeal import OLD_PACE, acquit, clients_of, kill, resets_ordeal
from tests.harness.chatserver import ACK, GROUP_CHAT, LOGIN, LOGIN_ACK, ONE_CHAT, received
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.link import ConnectionGone
from tests.harness.mobileimsdk import MobilePeer
from tests.harness.peer import NulPeer
from tests.harness.person import Town

Mode = Literal["compatible", "streaming", "acking"]


def port_of(peer: NulPeer | MobilePeer) -> int:
    assert peer.transport is not None
    return int(peer.transport.get_extra_info("sockname")[1])


def worker_of(daemon: Daemon, peer: NulPeer | MobilePeer) -> int:
    (found,) = [worker for worker in daemon.workers() if port_of(peer) in clients_of(worker)]
    return found


async def sender_elsewhere(town: Town, name: str, than: int) -> NulPeer:
    """A logged-in connection of this account that another worker serves."""
    idle = []
    for _ in range(50):
        peer = await town.errand(name)
        if worker_of(town.daemon, peer) != than:
            return peer
        await town.finish(peer)
        other = await town.nul_peer()  # makes the other worker the emptier one
        idle.append(other)
    raise AssertionError("every connection came to the same worker")


async def send(peer: NulPeer, to: str, texts: list[str]) -> None:
    """Returns when all are acknowledged."""
    for text in texts:
        peer.put({"msgid": ONE_CHAT, "toname": to, "msg": text, "fp": f"{to} {text}"})
    for _ in texts:
        await peer.find(msgid=ACK)


def login_frame(town: Town, name: str, mode: Mode) -> dict[str, Any]:
    framing = {} if mode == "compatible" else {"framing": "nul", "acks": mode == "acking"}
    return {"msgid": LOGIN, "id": town.ids[name], "password": town.secret, **framing}


async def enter(town: Town, name: str, mode: Mode, limit_s: float = 20.0) -> tuple[NulPeer, dict[str, Any]]:
    """Log in, again while the last connection counts as there. With the answer."""
    deadline = time.monotonic() + limit_s
    while True:
        peer = await town.nul_peer()
        peer.put(login_frame(town, name, mode))
        with contextlib.suppress(ConnectionGone):
            answer = await peer.find(msgid=LOGIN_ACK)
            if answer["errno"] == 0:
                return peer, answer
        peer.abort()
        assert time.monotonic() < deadline, f"{name} cannot log in"
        await asyncio.sleep(0.02)


def texts_in(answer: dict[str, Any]) -> list[str]:
    """The messages of a login answer."""
    waiting = [json.loads(text) for text in answer.get("offlinemsg", [])]
    return [one["msg"] for one in waiting if one["msgid"] in (ONE_CHAT, GROUP_CHAT)]


def take_texts(peer: NulPeer, mode: Mode) -> list[str]:
    frames = [frame for frame in peer.frames if frame["msgid"] in (ONE_CHAT, GROUP_CHAT)]
    peer.frames.clear()
    if mode == "acking" and frames:
        peer.put(received(frames[-1]))  # all are of one conversation
    return [frame["msg"] for frame in frames]


async def see(peer: NulPeer, answer: dict[str, Any], mode: Mode, last: str) -> list[str]:
    """Everything this connection is given, up to the text `last`."""
    seen = texts_in(answer)

    def has_last() -> bool:
        seen.extend(take_texts(peer, mode))
        return last in seen

    await until(30, f"{last!r} is given", has_last)
    return seen


@pytest.mark.parametrize(
    ("end", "beside"),
    [
        pytest.param("goes on", False, id="goes on, one wire"),
        pytest.param("is killed", True, id="is killed, both wires"),
        pytest.param("goes on", True, id="goes on, both wires", marks=pytest.mark.slow),
        pytest.param("is killed", False, id="is killed, one wire", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("mode", ["compatible", "streaming", "acking"])
def test_a_client_resets_its_connection_while_its_worker_is_stopped(
    make_daemon: Callable[..., Daemon], mode: Mode, end: str, beside: bool
) -> None:
    """beside: the user is also logged in on the other wire, at the same worker, and that connection is reset too."""
    daemon = make_daemon(workers=2, listen=OLD_PACE).start()
    daemon.expect_error("worker died")
    texts = [f"message {number}" for number in range(50)]

    async def story() -> None:
        town = Town(daemon)
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        victim, _ = await enter(town, bob, mode)
        worker = worker_of(daemon, victim)
        mobiles = [await mobile_at(town, bob, worker)] if beside else []
        sender = await sender_elsewhere(town, alice, worker)
        kill(worker, signal.SIGSTOP)
        for number in range(20):
            victim.put({"msgid": ONE_CHAT, "id": town.ids[bob], "toid": town.ids[alice], "msg": f"from bob {number}"})
        for peer in (victim, *mobiles):
            peer.abort()
        await send(sender, bob, texts)
        kill(worker, signal.SIGCONT if end == "goes on" else signal.SIGKILL)
        again, answer = await enter(town, bob, mode)
        await send(sender, bob, ["the last"])
        seen = await see(again, answer, mode, "the last")
        assert [text for text in texts if text not in seen] == []

    run(story())


async def mobile_at(town: Town, name: str, worker: int) -> MobilePeer:
    """The user's session on the mobileimsdk wire, at this worker."""
    for _ in range(50):
        peer = await town.on_mobile(name)
        if worker_of(town.daemon, peer) == worker:
            return peer
        peer.abort()
    raise AssertionError("no connection came to this worker")


@pytest.mark.parametrize(
    ("mode", "beside"),
    [
        pytest.param("compatible", False, id="compatible, one wire"),
        pytest.param("streaming", True, id="streaming, both wires"),
        pytest.param("acking", False, id="acking, one wire"),
        pytest.param("compatible", True, id="compatible, both wires", marks=pytest.mark.slow),
        pytest.param("streaming", False, id="streaming, one wire", marks=pytest.mark.slow),
        pytest.param("acking", True, id="acking, both wires", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("seconds", [5, pytest.param(120, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_a_client_reads_and_resets_over_and_over(
    make_daemon: Callable[..., Daemon],
    record_property: Callable[[str, object], None],
    mode: Mode,
    beside: bool,
    seconds: float,
) -> None:
    """Without any other fault. What was in its kernel when it reset the connection, the client has not read.
    beside: the user is also on the other wire, where the connection is reset over and over as well."""
    daemon = make_daemon(workers=2, listen={"chatserver": {"pace_ms": 1}}).start()

    async def story() -> None:
        town = Town(daemon)
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        sender = await town.errand(alice)
        seen: set[str] = set()
        ends = time.monotonic() + seconds
        clients = [asyncio.create_task(read_and_reset(town, bob, mode, seen, ends))]
        if beside:
            clients.append(asyncio.create_task(read_and_reset_mobile(town, bob, seen, ends)))
        sent: list[str] = []
        while time.monotonic() < ends:
            batch = [f"message {len(sent) + number}" for number in range(random.randrange(1, 12))]
            await send(sender, bob, batch)
            sent += batch
            await asyncio.sleep(random.uniform(0, 0.01))
        resets = sum(await asyncio.gather(*clients))
        last, answer = await enter(town, bob, mode)
        await send(sender, bob, ["the last"])
        seen.update(await see(last, answer, mode, "the last"))
        lost = [text for text in sent if text not in seen]
        record_property("verdict", f"{len(lost)} lost of {len(sent)} in {resets} resets")
        assert lost == []
        assert resets > seconds

    run(story(), seconds + 60)


async def read_and_reset(town: Town, name: str, mode: Mode, seen: set[str], ends: float) -> int:
    """Returns how many connections were reset."""
    count = 0
    while time.monotonic() < ends:
        peer, answer = await enter(town, name, mode)
        seen.update(texts_in(answer))
        until_at = time.monotonic() + random.choice([0.0, 0.01, 0.15, 0.5, 1.3])
        while time.monotonic() < until_at and not peer.gone.is_set():
            await asyncio.sleep(random.uniform(0, 0.02))
            seen.update(take_texts(peer, mode))
        assert peer.transport is not None
        peer.transport.pause_reading()  # what comes now, its process does not see
        if random.random() < 0.5:
            peer.put({"msgid": 3, "id": 0} if random.random() < 0.3 else {"msgid": 99})
            await asyncio.sleep(random.uniform(0, 0.3))
        peer.abort()
        count += 1
    return count


async def read_and_reset_mobile(town: Town, name: str, seen: set[str], ends: float) -> int:
    """Its client acknowledges what it has seen."""
    count = 0
    while time.monotonic() < ends:
        peer = await town.on_mobile(name)
        until_at = time.monotonic() + random.choice([0.01, 0.2, 0.6])
        while time.monotonic() < until_at and not peer.gone.is_set():
            await asyncio.sleep(random.uniform(0, 0.02))
            while peer.frames:
                packet = peer.frames.popleft()
                if packet["type"] == 2:
                    seen.add(packet["dataContent"])
                    peer.acknowledge(packet)
        peer.abort()
        count += 1
    return count


@pytest.mark.parametrize("rounds", [2, pytest.param(12, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_many_clients_reset_their_connections_while_their_worker_is_stopped(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], rounds: int
) -> None:
    daemon = make_daemon(workers=2, listen=OLD_PACE).start()
    verdict = resets_ordeal(daemon, rounds)
    acquit(verdict, record_property, at_least=60 * rounds)
