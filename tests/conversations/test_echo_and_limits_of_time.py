"""The echo protocol, and everything that ends by the clock: silence, login deadline, resending."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.harness.daemon import Daemon
from tests.harness.deadline import run, within
from tests.harness.mobileimsdk import MobilePeer
from tests.harness.person import Town

SILENCE_S = 7.0
"""What keep_alive_s = 3 allows."""
LOGIN_S = 2.0
RESEND_S = 0.5
LATE_S = 20.0
"""A busy machine may tell that much later what has come to its end."""
STEP_S = 0.05
"""The clocks of two processes may differ by that."""


@pytest.fixture
def brisk(make_daemon: Callable[..., Daemon]) -> Town:
    """Short times, as far as they are settings."""
    return Town(
        make_daemon(
            listen={"mobileimsdk": {"keep_alive_s": 3}}, timeouts={"login_s": LOGIN_S, "resend_s": RESEND_S}
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
    name = await town.newcomer("silent")
    began = time.monotonic()
    peer = await town.on_mobile(name)
    await peer.end(SILENCE_S + LATE_S)
    assert time.monotonic() - began >= SILENCE_S - STEP_S


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
    began = time.monotonic()
    one.say(alice, bob, "again and again", "fp-1")
    packets = []
    for times in (0, 1, 1 + 2, 1 + 2 + 4):
        packets.append(await other.take(LATE_S))
        assert time.monotonic() - began >= times * RESEND_S - STEP_S, "twice as long each time"
    assert all(packet == packets[0] for packet in packets)
    other.acknowledge(packets[0])
    other.put({"type": 1})
    assert (await other.take())["type"] == 51
    one.say(alice, bob, "next", "fp-2")
    assert (await other.take())["fp"] == "fp-2"
    assert (await other.take(LATE_S))["fp"] == "fp-2", "what was acknowledged is not given again"


STRANGERS = ["mute", "dripping", "echoing", "wrong passwords"]


async def stranger(town: Town, kind: str) -> None:
    """The login deadline is absolute: nothing short of a login stretches it."""
    began = time.monotonic()
    peer = MobilePeer() if kind == "echoing" else await town.nul_peer()
    if isinstance(peer, MobilePeer):
        await peer.open(town.daemon.ports["mobileimsdk"])
    while not peer.gone.is_set():
        if kind == "dripping":
            peer.write(b"{")
        elif kind == "echoing":
            peer.put({"type": 5, "dataContent": "x"})
        elif kind == "wrong passwords":
            peer.put({"msgid": 1, "name": "nobody at all", "password": "x"})
        await asyncio.wait([asyncio.ensure_future(peer.gone.wait())], timeout=0.2)
        assert time.monotonic() - began < LOGIN_S + LATE_S, f"{kind}: no login for so long, the limit is {LOGIN_S} s"
    assert time.monotonic() - began >= LOGIN_S - STEP_S
