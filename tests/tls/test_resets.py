"""A client with TLS resets its connection with messages unread: what it has not acknowledged is given to it again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd.net.receipts import SETTLE_S
from tests.faults.ordeal import acquit, resets_ordeal
from tests.harness import chatserver
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.mobileimsdk import ACK, DATA, MobilePeer
from tests.harness.peer import NulPeer
from tests.harness.person import Town
from tests.harness.websocket import WebPeer

Make = Callable[..., Daemon]
COUNT = 30


def make(make_daemon: Make, tmp_path: Path, bug: str = "", **options: object) -> Daemon:
    entry = ("-m", "tests.tls.planted", bug) if bug else ("-m", "chatd")
    return make_daemon(certificate=Certificate(tmp_path / "certificate"), entry=entry, **options).start()


async def enter(town: Town, listener: str, name: str) -> tuple[NulPeer | MobilePeer, list[str]]:
    """Log in with TLS, and the texts of the login answer."""
    daemon = town.daemon
    assert daemon.certificate is not None
    peer = {"chatserver-tls": NulPeer, "mobileimsdk-tls": MobilePeer, "mobileimsdk-wss": WebPeer}[listener]()
    peer.tls = daemon.certificate.client()
    await peer.open(daemon.ports[listener])
    if isinstance(peer, MobilePeer):
        await peer.log_in(name, town.secret)
        return peer, []
    more = {"framing": "nul", "acks": True}
    peer.put({"msgid": chatserver.LOGIN, "name": name, "password": town.secret, **more})
    answer = await peer.find(msgid=chatserver.LOGIN_ACK)
    assert answer["errno"] == 0, answer
    return peer, [json.loads(text)["msg"] for text in answer.get("offlinemsg", [])]


def texts(peer: NulPeer | MobilePeer) -> list[str]:
    key = "dataContent" if isinstance(peer, MobilePeer) else "msg"
    return [frame[key] for frame in peer.frames if frame.get("type") == DATA or "msg" in frame]


async def reset_unread(town: Town, listener: str) -> set[str]:
    """Send messages that the sender asks no acknowledgement for, to a client that reads nothing, and let it reset its
    connection when its kernel has had them for long. Returns the texts that its next session is given."""
    alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
    first, _ = await enter(town, listener, bob)
    sender = await town.on_mobile(alice)
    assert first.transport is not None
    first.transport.pause_reading()
    for number in range(COUNT):
        sender.say(alice, bob, f"message {number}", f"{bob}{number}", qos=False)
    sender.say(alice, bob, "the last", f"{bob} last")
    await sender.find(type=ACK, dataContent=f"{bob} last")
    await asyncio.sleep(SETTLE_S + 1.0)  # over TCP they would count as delivered by now
    first.abort()
    await until(10, "it has gone", first.gone.is_set)
    sender.say(alice, bob, "after it", f"{bob} after")
    await sender.find(type=ACK, dataContent=f"{bob} after")
    while True:  # on this wire the user may count as logged in for a moment
        try:
            again, given = await enter(town, listener, bob)
            break
        except AssertionError:
            await asyncio.sleep(0.05)
    await until(10, "the last is given", lambda: "after it" in [*given, *texts(again)])
    return {*given, *texts(again)}


@pytest.mark.parametrize("listener", ["chatserver-tls", "mobileimsdk-tls", "mobileimsdk-wss"])
def test_what_was_not_acknowledged_is_not_lost(make_daemon: Make, tmp_path: Path, listener: str) -> None:
    daemon = make(make_daemon, tmp_path)
    seen = run(reset_unread(Town(daemon), listener), 60)
    assert {f"message {number}" for number in range(COUNT)} | {"the last", "after it"} <= seen


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_many_clients_reset_their_connections_while_their_worker_is_stopped(
    make_daemon: Make, tmp_path: Path, record_property: Callable[[str, object], None], rounds: int
) -> None:
    daemon = make(make_daemon, tmp_path, workers=2)
    verdict = resets_ordeal(daemon, rounds, wires=("acking-tls", "mobile-tls", "web-tls") * 8)
    acquit(verdict, record_property, at_least=60 * rounds)


def test_the_planted_bug_is_found(make_daemon: Make, tmp_path: Path) -> None:
    """The same, with bytes counted as over TCP."""
    daemon = make(make_daemon, tmp_path, "bytes_count_over_tls")
    seen = run(reset_unread(Town(daemon), "mobileimsdk-tls"), 60)
    assert "message 0" not in seen, "the loss went unnoticed"
