"""Penalties of two hosts over one Redis: guesses at one host count at the other, and a Redis that is away keeps nobody
from logging in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from chatd.errors import ErrorCode
from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.mariadb import MariaDB
from tests.penalties.attacks import ELSEWHERE, LOOKED_AT, OPTIONS, OWNER, PASSWORD, many_addresses, records, tried
from tests.trail.visitors import register

SPREAD, KEPT, CUT_OFF, HANGING = "127.0.1.2", "127.0.1.3", "127.0.1.4", "127.0.1.5"
"""Attackers, one for each thing that they try."""
FREE = int(OPTIONS["failures"]) + 1
"""The guess that begins a penalty is looked at too."""
BOB = "2"
"""The second account, as the penalty table calls it."""
SHARED_S = 10.0
"""A penalty is known to the other host in a fraction of a second; after an outage, when the bus is back."""
SAME_S = 1.0
"""Ends of a penalty that two hosts tell differ by less."""
WIRE = "chatserver"
MakeCluster = Callable[..., Cluster]


async def soon(what: str, state: Callable[[], Awaitable[bool]]) -> None:
    ends = time.monotonic() + SHARED_S
    while not await state():
        assert time.monotonic() < ends, f"not within {SHARED_S} s: {what}"
        await asyncio.sleep(0.02)


async def is_refused(daemon: Daemon, source: str, name: str = "alice") -> bool:
    """Whether the right password is refused because of a penalty."""
    return await tried(daemon, WIRE, name, PASSWORD, source) == ErrorCode.TOO_MANY_ATTEMPTS


async def gets_in(daemon: Daemon, source: str, name: str = "alice") -> None:
    """No penalty forbids it. The session that the user had on the other host a moment ago may have to end first."""

    async def is_in() -> bool:
        code = await tried(daemon, WIRE, name, PASSWORD, source)
        assert code != ErrorCode.TOO_MANY_ATTEMPTS, f"{name} from {source}"
        return code == 0

    await soon(f"{name} gets in from {source}", is_in)


async def guesses(daemon: Daemon, source: str, times: int) -> int:
    """How many of so many guesses, one after the other, were looked at."""
    codes = [await tried(daemon, WIRE, "alice", f"wrong-{number}", source) for number in range(times)]
    return sum(code in LOOKED_AT for code in codes)


async def record(daemon: Daemon, subject: str) -> tuple[int, float]:
    """Failures, and when the penalty ends, on this machine's clock. A part of a failure may be forgiven already."""
    row = (await records(daemon)).get(subject)
    return (round(row.offences), time.monotonic() + row.remaining_s) if row else (0, 0.0)


async def same_record(cluster: Cluster, subject: str) -> int:
    """Failures of the subject; both hosts tell the same of it."""
    (one, one_ends), (other, other_ends) = [await record(daemon, subject) for daemon in cluster.daemons]
    assert (one, one_ends) == (other, pytest.approx(other_ends, abs=SAME_S))
    return one


async def clear(daemon: Daemon, subject: str) -> None:
    cleared = await asyncio.to_thread(daemon.ctl, "penalties", "clear", subject)
    assert (cleared.returncode, cleared.stdout) == (0, "records removed: 1\n")


async def guesses_are_spread(cluster: Cluster) -> None:
    """Two hosts do not give twice as many guesses."""
    first, second = cluster.daemons
    looked_at = await guesses(first, SPREAD, FREE // 2)

    async def is_told() -> bool:
        return (await record(second, SPREAD))[0] >= FREE // 2

    await soon("the other host knows of the guesses that bring no penalty", is_told)
    looked_at += await guesses(second, SPREAD, FREE)
    await soon("the first host refuses the source", lambda: is_refused(first, SPREAD))
    looked_at += await guesses(first, SPREAD, FREE)
    assert looked_at == FREE
    assert await same_record(cluster, SPREAD) == FREE


async def one_account_is_attacked(cluster: Cluster) -> None:
    first, second = cluster.daemons
    failures = int(OPTIONS["account_failures"]) + 1
    assert await many_addresses(first, WIRE, failures, "bob") == failures

    async def is_told() -> bool:  # not by a login: where bob has logged in from, his account's penalty is not asked
        return (await record(second, BOB))[0] >= failures

    await soon("the other host knows of it", is_told)
    assert await is_refused(second, ELSEWHERE, "bob")
    await gets_in(second, OWNER, "bob")  # from there its user has logged in
    await gets_in(second, OWNER, "alice")


async def an_operator_clears(cluster: Cluster) -> None:
    first, second = cluster.daemons
    for subject, source, name in ((SPREAD, SPREAD, "alice"), ("bob", ELSEWHERE, "bob")):
        await clear(second, subject)
        await gets_in(second, source, name)

        async def is_let_in(source: str = source, name: str = name) -> bool:
            return await tried(first, WIRE, name, PASSWORD, source) == 0

        await soon("it is cleared on the other host too", is_let_in)


async def redis_is_away(cluster: Cluster, attacker: str, attacked: int, give_back: Callable[[], object]) -> None:
    """It has just gone, by some fault. attacked: number of the host that `attacker` guesses at."""
    host, other = cluster.daemons[attacked], cluster.daemons[1 - attacked]
    before = await same_record(cluster, KEPT)
    for daemon in cluster.daemons:
        await gets_in(daemon, OWNER)
        assert await is_refused(daemon, KEPT), "what was shared before goes on"
    assert await guesses(host, attacker, FREE + 3) == FREE
    assert await is_refused(host, attacker)
    await gets_in(other, attacker)  # nobody could tell this host
    await asyncio.to_thread(give_back)
    await soon("it is shared when Redis is back", lambda: is_refused(other, attacker))
    assert await same_record(cluster, attacker) == FREE
    assert await same_record(cluster, KEPT) == before, "told again, and the same as before"


def test_guesses_count_on_both_hosts_and_penalties_do_without_redis(
    make_cluster: MakeCluster, mariadb: MariaDB
) -> None:
    cluster = make_cluster(database=mariadb, penalties={**OPTIONS, "first_s": 600}).start()
    first, second = cluster.daemons

    async def story() -> None:
        for name in ("alice", "bob"):
            assert await register(first, name, PASSWORD) == 0
            assert await tried(first, WIRE, name, PASSWORD, OWNER) == 0
        await guesses_are_spread(cluster)
        await one_account_is_attacked(cluster)
        await an_operator_clears(cluster)

        assert await guesses(second, KEPT, FREE) == FREE
        await soon("the other host refuses it", lambda: is_refused(first, KEPT))
        cluster.redis.kill()
        await redis_is_away(cluster, CUT_OFF, 0, cluster.redis.start)
        cluster.redis.pause()
        await redis_is_away(cluster, HANGING, 1, cluster.redis.go_on)

    run(story(), 120)
