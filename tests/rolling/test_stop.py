"""A stop takes as long as the clients need: everybody is told, nobody waits for those who have left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Person, Town, Wire

SLACK_S = 2.0
"""For a machine that is busy with other tests; the promise is kept without it on one that is not."""


async def people(town: Town, wires: list[Wire]) -> list[Person]:
    made = [await town.settle(f"p{number}_{time.monotonic_ns() % 10**9}", wire) for number, wire in enumerate(wires)]
    for person in made:
        await person.arrive()
    return made


async def stopped(daemon: Daemon, limit_s: float) -> float:
    """How long it took until the whole server had ended."""
    began = time.monotonic()
    assert daemon.process is not None
    daemon.process.terminate()
    assert await asyncio.to_thread(daemon.wait_gone, limit_s) == 0
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("wires", "limit_s"),
    [
        ([], 1.0),
        (["mobile"], 1.0),
        (["streaming"], 1.0),
        (["old"], 1.0),
        (["udp"], 1.0),
        (["web"], 1.0),
        (["mobile", "streaming", "web", "udp", "acking"] * 10, 3.0),
    ],
    ids=["nobody", "mobile", "streaming", "old", "udp", "web", "fifty"],
)
def test_a_stop_ends_when_nobody_is_left(
    make_daemon: Callable[..., Daemon],
    record_property: Callable[[str, object], None],
    wires: list[Wire],
    limit_s: float,
) -> None:
    daemon = make_daemon(workers=2).start()

    async def story() -> None:
        town = Town(daemon)
        there = await people(town, wires)
        took_s = await stopped(daemon, 30)
        record_property("verdict", f"{took_s:.2f} s")
        assert took_s < limit_s + SLACK_S
        await until(5, "everybody has noticed", lambda: all(one.away.is_set() for one in there if one.wire != "udp"))

    run(story(), 60)


def test_a_client_that_never_closes_delays_a_stop_by_a_moment(make_daemon: Callable[..., Daemon]) -> None:
    """Its kernel has everything, so it can lose nothing; what it sends later is answered by a reset."""
    daemon = make_daemon(workers=1).start()

    async def story() -> None:
        town = Town(daemon)
        name = await town.newcomer()
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.ports["chatserver"])
        login = f'{{"msgid":1,"id":{town.ids[name]},"password":"{town.secret}","framing":"nul"}}\0'
        writer.write(login.encode())
        assert b'"errno":0' in await reader.readuntil(b"\0")
        assert await stopped(daemon, 30) < 1.0 + SLACK_S
        told = await reader.read()
        assert b'"event":"draining"' in told
        writer.close()

    run(story(), 60)


def test_what_a_slow_reader_has_been_sent_is_not_lost(make_daemon: Callable[..., Daemon]) -> None:
    """It reads nothing for a second after the stop began, and then finds everything up to the notice and the end."""
    daemon = make_daemon(workers=1).start()

    async def story() -> None:
        town = Town(daemon)
        sender = await town.settle("sender", "streaming")
        await sender.arrive()
        name = await town.newcomer("slow")
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.ports["chatserver"])
        writer.write(
            f'{{"msgid":1,"id":{town.ids[name]},"password":"{town.secret}","framing":"nul","acks":true}}\0'.encode()
        )
        assert b'"errno":0' in await reader.readuntil(b"\0")
        writer.transport.pause_reading()
        for number in range(40):
            sender.post(name, f"{number} {'x' * 500}", f"fp{number}")
        await until(10, "acknowledged", lambda: len(sender.outcomes) == 40)
        ending = asyncio.create_task(stopped(daemon, 30))
        await asyncio.sleep(1.0)  # the slowness itself
        writer.transport.resume_reading()
        told = await reader.read()
        await ending
        assert told.count(b'"msgid":6') == 40
        assert told.count(b'"event":"draining"') == 1
        writer.close()

    run(story(), 60)
