"""A host that drains, as clients see it: they are told, nobody new gets in, and later everybody is served again."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Person, Town


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    made = Daemon(Path(tmp_path_factory.mktemp("drain")), workers=2).start()
    yield made
    complaints = made.discard()
    assert not complaints


async def drained(daemon: Daemon) -> None:
    answer = await asyncio.to_thread(daemon.ctl, "drain")
    assert answer.returncode == 0, answer


async def undrained(daemon: Daemon) -> None:
    answer = await asyncio.to_thread(daemon.ctl, "undrain")
    assert answer.returncode == 0, answer


def test_clients_that_understand_are_told_and_others_are_not(daemon: Daemon) -> None:
    """chatserver in streaming mode and mobileimsdk get the notice; the deployed client sees its connection end."""

    async def story() -> None:
        town = Town(daemon)
        names = [await town.newcomer() for _ in range(4)]
        streaming = await town.errand(names[0])
        old = await town.errand(names[1], framing="")
        mobile, datagrams = await town.on_mobile(names[2]), await town.on_datagrams(names[3])
        before_ms = time.time() * 1000
        await drained(daemon)
        notice = await streaming.find(msgid=18, event="draining")
        bodies = [notice]
        for peer in (mobile, datagrams):
            bodies.append(json.loads((await peer.find(type=2))["dataContent"]))
        for body in bodies:
            assert body["event"] == "draining"
            assert 200 <= body["retry_after_ms"] <= 2000
            assert before_ms + body["retry_after_ms"] <= body["resume_before"] <= before_ms + 60_000
        assert await old.end() == []
        await undrained(daemon)
        again = await town.errand(names[0])
        await town.finish(again)

    run(story(), 60)


def refused(daemon: Daemon, listener: str) -> bool:
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex((daemon.address, daemon.ports[listener])) != 0


def unreachable(daemon: Daemon) -> bool:
    """What the kernel says about a datagram to the UDP listener."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect((daemon.address, daemon.ports["mobileimsdk-udp"]))
        client.settimeout(1)
        client.send(b"{}")
        try:
            client.recv(10)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
        return False


def test_a_balancer_sees_on_every_listener_that_the_host_is_drained(daemon: Daemon) -> None:
    async def story() -> None:
        await drained(daemon)
        streams = [name for name in daemon.ports if not name.endswith("udp")]
        assert [name for name in streams if not refused(daemon, name)] == []
        assert unreachable(daemon)
        await undrained(daemon)
        assert [name for name in streams if refused(daemon, name)] == []
        town = Town(daemon)
        name = await town.newcomer()
        await town.on_datagrams(name)

    run(story(), 60)


def test_messages_sent_before_a_drain_are_there_after_it(daemon: Daemon) -> None:
    async def story() -> None:
        town = Town(daemon)
        stamp = time.monotonic_ns() % 10**9
        alice, bob = [Person(town, f"{name}{stamp}", "streaming") for name in ("alice", "bob")]
        for person in (alice, bob):
            await town.register(person.name)
        await alice.arrive()
        outcome = await alice.say(bob.name, "hello")
        assert outcome is not None
        assert outcome.ok
        await drained(daemon)
        await until(10, "alice has noticed", alice.away.is_set)
        await undrained(daemon)
        await bob.arrive()
        await until(10, "bob has it", lambda: any(one.text == "hello" for one in bob.seen))
        await bob.leave()

    run(story(), 60)


def test_a_login_over_udp_is_refused_while_others_are_still_served(make_daemon: Callable[..., Daemon]) -> None:
    """The host drains, but somebody who has not closed keeps it: a login in a datagram is answered with "busy"."""
    daemon = make_daemon(workers=1, timeouts={"drain_s": 20.0, "drain_spread_s": 20.0}).start()

    async def story() -> None:
        town = Town(daemon)
        names = [await town.newcomer() for _ in range(41)]
        stay = [await town.errand(name) for name in names[:40]]
        peer = await town.datagram_peer()
        draining = asyncio.create_task(drained(daemon))
        await stay[0].find(msgid=18, event="draining")
        peer.put(peer.login_packet(names[40], town.secret))
        answer = await peer.find(type=50)
        assert json.loads(answer["dataContent"])["code"] == 1041
        await draining

    run(story(), 60)
