"""The faults of this directory in a random order, upon one crowd: what each alone does not break, two may."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.cluster.cast import ALL_SEE, OLD_PACE, Note, Trial, slow, try_cluster
from tests.cluster.record import inspect
from tests.faults.ordeal import everybody_in, kill, more_talk
from tests.harness.cluster import Cluster
from tests.harness.mariadb import MariaDB
from tests.harness.mobileimsdk import StockLink

Step = Callable[[Trial], Awaitable[None]]


async def redis_dies(trial: Trial) -> None:
    trial.cluster.redis.kill()
    await asyncio.sleep(random.uniform(0, 3))  # the fault itself
    trial.cluster.redis.start()


async def redis_hangs(trial: Trial) -> None:
    trial.cluster.redis.pause()
    await asyncio.sleep(random.uniform(0, 6))  # the fault itself
    trial.cluster.redis.go_on()


async def redis_cuts(trial: Trial) -> None:
    for _ in range(random.randrange(1, 10)):
        trial.cluster.redis.call("CLIENT", "KILL", "TYPE", random.choice(("pubsub", "normal")))
        await asyncio.sleep(random.uniform(0, 0.3))  # the fault itself


async def redis_forgets(trial: Trial) -> None:
    trial.cluster.redis.call("FLUSHALL")


async def database_dies(trial: Trial) -> None:
    await asyncio.to_thread(trial.cluster.database.restart)


async def database_hangs(trial: Trial) -> None:
    trial.cluster.database.pause()
    await asyncio.sleep(random.uniform(0, 4))  # the fault itself
    trial.cluster.database.resume()


async def database_cuts(trial: Trial) -> None:
    """Every connection of the daemons."""
    server = trial.cluster.database
    for (number,) in server.execute(
        "SELECT id FROM information_schema.processlist WHERE db = %s", trial.cluster.schema
    ):
        server.execute(f"KILL SOFT CONNECTION {number}")


async def worker_dies(trial: Trial) -> None:
    workers = random.choice(trial.daemons).workers()
    if workers:
        kill(random.choice(workers))


async def worker_stops(trial: Trial) -> None:
    """Shorter than a hang, sometimes longer than a lease."""
    workers = random.choice(trial.daemons).workers()
    if workers:
        kill(workers[0], signal.SIGSTOP)
        await asyncio.sleep(random.uniform(0, 7))  # the fault itself
        kill(workers[0], signal.SIGCONT)


async def host_dies(trial: Trial) -> None:
    daemon = random.choice(trial.daemons)
    await asyncio.to_thread(daemon.kill_all)
    await asyncio.sleep(random.uniform(0, 2))  # the fault itself
    await asyncio.to_thread(daemon.launch)


async def host_restarts(trial: Trial) -> None:
    daemon = random.choice(trial.daemons)
    await asyncio.to_thread(daemon.stop)
    await asyncio.to_thread(daemon.launch)


async def reload(trial: Trial) -> None:
    kill(random.choice(trial.daemons).pid, signal.SIGHUP)


async def clients_vanish(trial: Trial) -> None:
    for talker in trial.throng.people.values():
        if isinstance(talker.link, StockLink) and random.random() < 0.3:
            talker.link.abort()


STEPS: list[Step] = [
    redis_dies, redis_hangs, redis_cuts, redis_forgets, database_dies, database_hangs, database_cuts, worker_dies,
    worker_stops, host_dies, host_restarts, reload, clients_vanish,
]  # fmt: skip


@pytest.mark.parametrize("seconds", [slow(120.0, limit_s=900), slow(600.0, limit_s=1500)])
@pytest.mark.parametrize("half_silent", [False, True], ids=["all talk", "half listen"])
def test_chaos(
    make_cluster: Callable[..., Cluster],
    own_mariadb: MariaDB,
    record_property: Note,
    seconds: float,
    half_silent: bool,
) -> None:
    cluster = make_cluster(
        database=own_mariadb, workers=2, people=ALL_SEE, listen=OLD_PACE,
        timeouts={"drain_s": 4.0, "drain_spread_s": 1.0, "hang_s": 10.0},
    ).start()  # fmt: skip
    cluster.expect_error(
        "commit failed", "commit takes too long", "worker died", "the master is gone", "takes no orders", "cannot start"
    )
    done: list[str] = []

    async def fault(trial: Trial) -> None:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            step = random.choice(STEPS)
            done.append(step.__name__)
            await step(trial)
            if random.random() < 0.5:  # else the next fault meets the last one's consequences
                await asyncio.to_thread(cluster.wait_ready)
                await everybody_in(trial.throng, 60)
                await more_talk(trial.throng, 50, 60)
        await asyncio.to_thread(cluster.wait_ready)
        await everybody_in(trial.throng, 60)
        await more_talk(trial.throng, 50, 60)

    try:
        try_cluster(
            cluster, fault, record_property, at_least=200, limit_s=seconds + 250, settle_s=60, watched=False,
            half_silent=half_silent,
        )  # fmt: skip
    finally:
        record_property("verdict", f"chaos: {' '.join(done)}")
    inspect(own_mariadb, cluster.schema)
