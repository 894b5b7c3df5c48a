"""The echo protocol, and everything that ends by the clock: silence, login deadline, resending."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

import pytest

from tests.harness.daemon import Daemon
from tests.harness.deadline import run, within
from tests.harness.mobileimsdk import MobilePeer
from tests.harness.person import Town

SILENCE_S = 7.0
"""What keep_alive_s = 3 allows."""


@pytest.fixture
def brisk(make_daemon: Callable[..., Daemon]) -> Town:
    """Short times, as far as they are settings."""
    return Town(
        make_daemon(
            listen={"mobileimsdk": {"keep_alive_s": 3}}, timeouts={"login_s": 1.0, "resend_s": 0.5}
        ).start()
    )  # fmt: skip


def test_echo_answers_what_it_receives(town: Town) -> None:
    async def story() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", town.daemon.ports["echo"])
        for line in (b"hello", b"\x00\xff binary", b"x" * 1000):
            writer.write(line)
            answer = await within(5, "the echo", reader.readexactly(len(line) + len(b" server[echo]")))
            assert answer == line + b" server[echo]"
        writer.close()

    run(story())


def test_everything_that_ends_by_the_clock(brisk: Town) -> None:
    """Together, because each takes seconds: silence, a session kept alive, strangers, and resending."""

    async def story() -> None:
        await asyncio.gather(
            silent_session(brisk), kept_alive(brisk), resent(brisk), *(stranger(brisk, kind) for kind in STRANGERS)
        )

    run(story(), 60)


async def silent_session(town: Town) -> None:
    peer = await town.on_mobile(await town.newcomer("silent"))
    began = time.monotonic()
    await peer.end(SILENCE_S + 8)
    assert SILENCE_S - 0.5 <= time.monotonic() - began <= SILENCE_S + 4


async def kept_alive(town: Town) -> None:
    """Each packet restarts the clock, whatever it is."""
    peer = await town.on_mobile(await town.newcomer("alive"))
    for _ in range(4):
        await asyncio.sleep(3)
        peer.put({"type": 1})
        assert (await peer.take())["type"] == 51
    assert not peer.gone.is_set()


async def resent(town: Town) -> None:
    """Until acknowledged, each time after a longer wait, then no more."""
    alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
    one, other = await town.on_mobile(alice), await town.on_mobile(bob)
    one.say(alice, bob, "again and again", "fp-1")
    at, packets = [], []
    for _ in range(4):
        packets.append(await other.take(8))
        at.append(time.monotonic())
    assert all(packet == packets[0] for packet in packets)
    waits = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert waits[0] >= 0.3
    assert waits[2] > waits[0]
    other.acknowledge(packets[0])
    other.put({"type": 1})
    assert (await other.take())["type"] == 51
    one.say(alice, bob, "next", "fp-2")
    assert (await other.take())["fp"] == "fp-2"
    assert (await other.take(5))["fp"] == "fp-2", "what was acknowledged is not given again"


STRANGERS = ["mute", "dripping", "echoing", "wrong passwords"]


async def stranger(town: Town, kind: str) -> None:
    """The login deadline is absolute: nothing short of a login stretches it."""
    peer = MobilePeer() if kind == "echoing" else await town.nul_peer()
    if isinstance(peer, MobilePeer):
        await peer.open(town.daemon.ports["mobileimsdk"])
    began = time.monotonic()
    while not peer.gone.is_set():
        if kind == "dripping":
            peer.write(b"{")
        elif kind == "echoing":
            peer.put({"type": 5, "dataContent": "x"})
        elif kind == "wrong passwords":
            peer.put({"msgid": 1, "name": "nobody at all", "password": "x"})
        await asyncio.wait([asyncio.ensure_future(peer.gone.wait())], timeout=0.2)
        assert time.monotonic() - began < 6, f"{kind}: no login for 6 s, the limit is 1 s"
    assert time.monotonic() - began >= 0.8
