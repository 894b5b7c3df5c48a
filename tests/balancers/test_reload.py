"""The balancer is reloaded under load: people keep talking through its old processes, new connections come to the new
ones, and when the old processes end, their remaining clients reconnect and have lost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.balancers.balancer import Balancer, Front
from tests.balancers.conftest import MakeBalancer
from tests.balancers.test_serving import PROXIED
from tests.faults.ordeal import acquit, everybody_in, more_talk
from tests.harness.crowd import Crowd, Talker
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Wire

TCP: tuple[Wire, ...] = (
    "mobile",
    "streaming",
    "web",
    "old",
    "streaming",
    "web",
    "mobile",
    "streaming",
    "web",
    "mobile",
)
UDP: tuple[Wire, ...] = ("udp", "mobile", "udp", "streaming")
GROUPS = ((0, 1, 2, 5, 7), (4, 6, 8, 9))
LISTEN = {**PROXIED, "chatserver": {**PROXIED["chatserver"], "pace_ms": 100}}
"""The pace is ample, because here an old client shares a busy process with all the others."""
AGAIN_S = 20.0


def connections(people: list[Talker]) -> dict[str, int]:
    return {one.name: one.conn for one in people}


async def reload(crowd: Crowd, balancer: Balancer) -> None:
    """While all talk."""
    await asyncio.to_thread(balancer.reload)
    await more_talk(crowd, 150)


async def come_anew(crowd: Crowd, people: list[Talker]) -> None:
    before = connections(people)
    for one in people:
        assert one.link is not None
        one.link.abort()
    await until(AGAIN_S, "they came again", lambda: all(one.conn > before[one.name] for one in people))
    await everybody_in(crowd)


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_a_reload_under_load(
    make_daemon: Callable[..., Daemon],
    make_balancer: MakeBalancer,
    record_property: Callable[[str, object], None],
    rounds: int,
) -> None:
    """The first generation gives its clients half a day, as shipped; the second one a second. So clients of the first
    stay all the time, and clients of the second are disconnected when a third begins."""
    daemon = make_daemon(workers=2, listen=LISTEN).start()
    balancer = make_balancer([daemon, daemon]).start()
    wires = (*TCP, *UDP) if "mobileimsdk-udp" in balancer.wires else TCP

    async def story() -> None:
        crowd = Crowd(Front(balancer), daemon.root / "journal.jsonl")
        await crowd.gather(wires, GROUPS)
        on_tcp = [one for one in crowd.people.values() if one.wire != "udp"]
        stay, leave = on_tcp[::2], on_tcp[1::2]
        async with crowd.talking(window=4, think_s=0.02):
            await more_talk(crowd, 150)
            before = connections(on_tcp)
            for _ in range(rounds):
                await reload(crowd, balancer)
            assert connections(on_tcp) == before, "a reload ended connections"

            balancer.give_up_after("1s")
            await reload(crowd, balancer)
            assert connections(on_tcp) == before
            await come_anew(crowd, leave)
            second, before = balancer.generation(), connections(on_tcp)
            await reload(crowd, balancer)
            await until(
                AGAIN_S, "the second gave up", lambda: second.isdisjoint(one.pid for one in balancer.processes())
            )
            await until(AGAIN_S, "they came again", lambda: all(one.conn > before[one.name] for one in leave))
            await everybody_in(crowd)
            await more_talk(crowd, 100)
            assert connections(stay) == {one.name: before[one.name] for one in stay}, "the first should have stayed"
        acquit(await crowd.verdict(), record_property, at_least=600)

    run(story(), 100 + 10 * rounds)


def test_old_processes_leave_with_their_last_client(
    make_daemon: Callable[..., Daemon], make_balancer: MakeBalancer
) -> None:
    daemon = make_daemon(listen=LISTEN).start()
    balancer = make_balancer([daemon, daemon]).start()

    async def story() -> None:
        town = Front(balancer)
        alice, bob = [await town.settle(name, "streaming") for name in ("alice", "bob")]
        await alice.arrive()
        first = balancer.generation()
        await asyncio.to_thread(balancer.reload)
        await bob.arrive()
        assert (await bob.say("alice", "still there?")).ok  # type: ignore[union-attr]
        assert first & {one.pid for one in balancer.processes()}
        await alice.leave()
        await until(AGAIN_S, "it left", lambda: first.isdisjoint(one.pid for one in balancer.processes()))
        assert (await bob.say("bob", "I am")).ok  # type: ignore[union-attr]

    run(story())
