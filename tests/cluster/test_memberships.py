"""Joins, leaves and kicks while Redis hangs, dies or is slow. Exactly the members at its commit are given a
message, on whatever host they are, and whatever the bus has told that host (P4, P5)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from tests.cluster.cast import OLD_PACE, Note, slow
from tests.cluster.movers import Movers
from tests.conversations.asking import Client
from tests.faults.ordeal import acquit, more_talk
from tests.harness import chatserver
from tests.harness.cluster import Cluster, Throng
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.judge import Verdict
from tests.harness.mariadb import MariaDB
from tests.harness.peer import NulPeer
from tests.harness.person import Town, Wire
from tests.harness.redis import RedisServer

MakeCluster = Callable[..., Cluster]
HANG_S = 2.0
"""Shorter than it takes to be noticed: nothing makes anybody look for what was missed."""
WRITERS: tuple[Wire, ...] = ("streaming", "streaming", "mobile", "web")
MOVERS: tuple[Wire, ...] = ("streaming",) * 8


def bus_is(daemons: list[Daemon], good: bool) -> bool:
    return all(bool(daemon.status()["bus_ok"]) is good for daemon in daemons)


async def all_see(cluster: Cluster, good: bool, limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not await asyncio.to_thread(bus_is, cluster.daemons, good):  # noqa: ASYNC110 - it can only be asked
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def hanging(redis: RedisServer) -> AsyncIterator[None]:
    redis.pause()
    try:
        yield
    finally:
        redis.go_on()


def in_group(peer: NulPeer, group: int) -> list[str]:
    """The texts shown in the group on this connection."""
    return [
        frame["msg"] for frame in peer.frames if frame["msgid"] == chatserver.GROUP_CHAT and frame["groupid"] == group
    ]


async def late_leave(cluster: Cluster) -> list[str]:
    """L2: somebody leaves on the first host and joins again on the second while Redis hangs. What the second host's
    session is given of the five messages "0" to "4" afterwards."""
    here = Town(cluster.daemons[0])
    there = Town(cluster.daemons[1], here.ids, here.secret, here.suffixes)
    owner = await Client(here, await here.newcomer("owner")).arrive()
    name = await here.newcomer("bob")
    group = int((await owner.ask("group.create", name="team", join="open"))["group"]["id"])
    mobile = await Client(here, name).arrive()
    await mobile.ask("group.join", group=group)
    desk = await there.errand(name)
    await owner.says(f"#{group}", "before")
    await until(10, "the second host has it", lambda: in_group(desk, group) == ["before"])
    async with hanging(cluster.redis):
        await mobile.ask("group.leave", group=group)
        desk.put({"msgid": chatserver.JOIN_GROUP, "id": here.ids[name], "groupid": group})
        await desk.find(msgid=chatserver.GROUP_ACK, groupid=group)
        await asyncio.sleep(HANG_S)  # the fault itself
    await owner.says(f"#{group}", "0")
    with contextlib.suppress(TimeoutError):
        await until(5, "the first one is there", lambda: "0" in in_group(desk, group))
    for text in ("1", "2", "3", "4"):
        await owner.says(f"#{group}", text)
    with contextlib.suppress(TimeoutError):
        await until(5, "all are there", lambda: len(in_group(desk, group)) == 5)
    seen = in_group(desk, group)
    for peer in (mobile, owner):
        peer.leave()
    desk.close()
    return seen


def test_who_leaves_and_joins_again_while_redis_hangs_is_given_everything(
    make_cluster: MakeCluster, mariadb: MariaDB
) -> None:
    cluster = make_cluster(database=mariadb).start()
    assert run(late_leave(cluster), 60) == ["0", "1", "2", "3", "4"]


def test_who_is_kicked_while_redis_is_dead_is_given_nothing_more(make_cluster: MakeCluster, mariadb: MariaDB) -> None:
    """L3: kicked on the first host; the member's sessions, on every wire, are on the second, and so is who writes."""
    cluster = make_cluster(database=mariadb).start()

    async def story() -> None:
        here = Town(cluster.daemons[0])
        there = Town(cluster.daemons[1], here.ids, here.secret, here.suffixes)
        owner = await Client(here, await here.newcomer("owner")).arrive()
        writer, witness, bob = [
            await Client(there, await here.newcomer(name)).arrive() for name in ("writer", "witness", "bob")
        ]
        desk = await there.errand(bob.name)
        group = int((await owner.ask("group.create", name="team", join="open"))["group"]["id"])
        conv = f"#{group}"
        for client in (writer, witness, bob):
            await client.ask("group.join", group=group)
        await writer.says(conv, "before")
        await until(10, "bob has it", lambda: bob.messages and in_group(desk, group))
        cluster.redis.kill()
        await all_see(cluster, False)
        await owner.ask("group.kick", group=group, user=bob.name)
        for number in range(50):
            await writer.says(conv, str(number))
        await until(10, "the witness has all", lambda: len(witness.messages) == 51)
        cluster.redis.start()
        await all_see(cluster, True)
        await writer.says(conv, "after")
        await until(10, "the witness has that too", lambda: len(witness.messages) == 52)
        assert [text for _, _, text in bob.messages] == ["before"]
        assert in_group(desk, group) == ["before"]

    run(story(), 90)


async def redis_hangs(cluster: Cluster) -> None:
    async with hanging(cluster.redis):
        await asyncio.sleep(HANG_S)  # the fault itself


async def redis_dies(cluster: Cluster) -> None:
    cluster.redis.kill()
    await asyncio.sleep(HANG_S)  # the fault itself
    await asyncio.to_thread(cluster.redis.start)


async def redis_is_slow(cluster: Cluster) -> None:
    """It works a sixth of the time."""
    for _ in range(40):
        async with hanging(cluster.redis):
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.02)


FAULTS = {"hangs": redis_hangs, "dies": redis_dies, "is slow": redis_is_slow}


async def race(
    cluster: Cluster, faults: list[Callable[[Cluster], object]], settle_s: float, silent_host: int | None = None
) -> tuple[Verdict, Movers]:
    """Movers move and writers write while the faults happen; at the end everybody is a member, and the judge speaks.
    silent_host: where nobody writes. Then no number is missing on the other one, which would be a reason to look."""
    throng = Throng(cluster)
    await throng.gather((*WRITERS, *MOVERS))
    everybody = list(throng.people.values())
    for talker in everybody:
        talker.peers.clear()
    movers = Movers(throng, everybody[len(WRITERS) :])
    await movers.open(everybody[: len(WRITERS)], silent_host)
    async with throng.talking(4, 0.03):
        await until(20, "talk has begun", lambda: throng.acknowledged() >= 20)
        async with movers.moving():
            for fault in faults:
                await fault(cluster)  # type: ignore[misc]
                await all_see(cluster, True)
                await more_talk(throng, 50)
        await more_talk(throng, 50)
    await movers.settle(settle_s)
    movers.close()
    return await throng.verdict(settle_s), movers


@pytest.mark.parametrize("rounds", [1, slow(6, limit_s=600)])
@pytest.mark.parametrize(
    ("fault", "silent_host"),
    [
        pytest.param("hangs", None, marks=pytest.mark.slow),
        ("dies", None),
        ("dies", 0),
        pytest.param("is slow", None, marks=pytest.mark.slow),
    ],
)
def test_members_come_and_go_while_redis(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note, fault: str, silent_host: int | None, rounds: int
) -> None:
    cluster = make_cluster(database=mariadb, listen=OLD_PACE).start()
    verdict, movers = run(race(cluster, [FAULTS[fault]] * rounds, 30, silent_host), 100 * rounds + 60)
    record_property("verdict", f"{movers.changes} changes of membership")
    acquit(verdict, record_property, at_least=100 * rounds)
    assert movers.changes > 20 * rounds
