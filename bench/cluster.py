"""Measure chatd as a cluster: what the Redis hop costs, and two hosts with Redis and MariaDB.

Owns: the scenarios, their targets, and what they become in docs/benchmarks.md. usage: cluster.py [--rounds N]
[--seconds S] [--no-write]. Exit 70 when a message was lost, given twice or out of order, as bench/run.py.

Redis and MariaDB are real ones, started for it on free loopback ports; MariaDB's data are on the disk, and every
commit is flushed (innodb_flush_log_at_trx_commit=1).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from load import Group, run
from report import CLUSTER, Row
from run import Runs, keep, options_of, running, show, wrong
from servers import BUILD, LOCAL_BUS, Chatd, Hosts, build, cpu_s

from tests.harness.mariadb import MariaDB
from tests.harness.redis import RedisServer

IDLE_S = 3.0
INNODB = ("--innodb-buffer-pool-size=512M", "--innodb-log-file-size=256M")


def main() -> int:
    options = options_of(__doc__)
    busy = os.getloadavg()[0]
    build()
    runs: Runs = defaultdict(list)
    errors = 0
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", flush=True)
        errors += hop(runs, options.seconds)
        errors += two_hosts(runs, options.seconds)
    show(table(runs, errors), options, busy, CLUSTER)
    return 70 if wrong(runs) or errors else 0


class Host(Chatd):
    """A chatd with servers beside it: their CPU, and Redis's publishes, are its readings."""

    def __init__(self, workers: int, redis: RedisServer | None) -> None:
        self._redis = redis
        super().__init__(workers, bus=redis.url if redis else LOCAL_BUS)

    def readings(self) -> dict[str, float]:
        return {"redis": spent_by(self._redis)} if self._redis else {}


class Pair(Hosts):
    """Two hosts of one worker each."""

    def __init__(self, redis: RedisServer, mariadb: MariaDB) -> None:
        self._redis, self._mariadb = redis, mariadb
        store = mariadb.url(mariadb.database())
        super().__init__([Chatd(1, store, redis.url) for _ in range(2)])

    def readings(self) -> dict[str, float]:
        return {
            "redis": spent_by(self._redis),
            "mariadbd": cpu_s(self._mariadb.pid),
            "publishes": float(self._publishes()),
        }

    def _publishes(self) -> int:
        calls = self._redis.info("commandstats").get("cmdstat_publish")
        return int(calls["calls"]) if calls else 0


def spent_by(redis: RedisServer) -> float:
    assert redis.process is not None
    return cpu_s(redis.process.pid)


@contextmanager
def redis_running() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="redis-", dir=BUILD) as directory, RedisServer(Path(directory)) as redis:
        yield redis


def hop(runs: Runs, seconds: float) -> int:
    """One host, two workers, SQLite, every pair on both workers: the same over the local bus and over Redis."""
    last = ("--seconds", str(seconds))
    errors = 0
    with redis_running() as redis:
        for name, beside in (("local", None), ("redis", redis)):
            with running(partial(Host, 2, beside)) as host:
                for load in (("--window", "4"), ("--rate", "5000")):
                    keep(runs, f"{name}, {load[0][2:]}", run(host, *load, *last, cross=True))
                errors += host.errors_logged()
    return errors


def two_hosts(runs: Runs, seconds: float) -> int:
    """Every pair on both hosts; then a group with half of its members on each."""
    last = ("--seconds", str(seconds))
    with ExitStack() as stack:
        redis = stack.enter_context(redis_running())
        mariadb = MariaDB(options=INNODB, memory=False)
        stack.callback(mariadb.discard)
        pair = stack.enter_context(running(partial(Pair, redis, mariadb.start())))
        before = pair.readings()["publishes"]
        time.sleep(IDLE_S)
        canaries_per_s = (pair.readings()["publishes"] - before) / IDLE_S
        for load in (("--window", "1"), ("--window", "4"), ("--rate", "1000"), ("--rate", "6000")):
            keep(runs, f"hosts, {' '.join(load)}", run(pair, *load, *last))
        group = Group(pair)
        keep(runs, "hosts, group", group.run("--rate", "20", *last))
        runs["hosts, group"][-1].beside["publishes"] -= canaries_per_s * seconds
        return pair.errors_logged()


def table(runs: Runs, errors: int) -> list[Row]:
    def mid(name: str, figure: str) -> float:
        return median(getattr(one, figure) for one in runs[name])

    def beside(name: str, reading: str) -> float:
        """CPU of another server, per message, µs."""
        return median(one.beside[reading] * 1e6 / max(1, one.delivered) for one in runs[name])

    rows = []
    for load, words in (("window", "window 4"), ("rate", "5,000 messages/s")):
        hops = [
            (with_redis.cpu_us - local.cpu_us, with_redis.beside["redis"] * 1e6 / max(1, with_redis.delivered))
            for with_redis, local in zip(runs[f"redis, {load}"], runs[f"local, {load}"], strict=True)
        ]
        what = f"one host, 2 workers, {words}"
        rows += [
            Row(f"{what}, local bus: messages/s", mid(f"local, {load}", "per_s"), "", digits=0),
            Row(f"{what}, Redis: messages/s", mid(f"redis, {load}", "per_s"), "", digits=0),
            Row(f"{what}, local bus: CPU per message, µs", mid(f"local, {load}", "cpu_us"), "", digits=1),
            Row(f"{what}, Redis: CPU per message, µs", mid(f"redis, {load}", "cpu_us"), "", digits=1),
            Row(f"{what}: added by the Redis hop, µs", median(more for more, _ in hops), "<= 25", digits=1),
            Row(f"{what}: redis-server's own CPU per message, µs", median(own for _, own in hops), "", digits=1),
            Row(f"{what}, Redis: p99 latency, ms", mid(f"redis, {load}", "p99_us") / 1000, "", digits=1),
        ]
    for load, words, least, slowest in (
        ("--window 1", "window 1", "", ""),
        ("--window 4", "window 4", ">= 6000", ""),
        ("--rate 1000", "1,000 messages/s", "", "< 50"),
        ("--rate 6000", "6,000 messages/s", ">= 5940", ""),
    ):
        name, what = f"hosts, {load}", f"two hosts, pairs across, {words}"
        rows += [
            Row(f"{what}: messages/s", mid(name, "per_s"), least, digits=0),
            Row(f"{what}: p50 latency, ms", mid(name, "p50_us") / 1000, "", digits=1),
            Row(f"{what}: p99 latency, ms", mid(name, "p99_us") / 1000, slowest, digits=1),
            Row(f"{what}: chatd's CPU per message, µs", mid(name, "cpu_us"), "", digits=1),
            Row(f"{what}: mariadbd's CPU per message, µs", beside(name, "mariadbd"), "", digits=1),
            Row(f"{what}: redis-server's CPU per message, µs", beside(name, "redis"), "", digits=1),
        ]
    publishes = median(one.beside["publishes"] / max(1, one.delivered / 999) for one in runs["hosts, group"])
    what = "two hosts, 1,000-member group, 20 messages/s"
    rows += [
        Row(f"{what}: publishes per message", publishes, "<= 2"),
        Row(f"{what}: deliveries/s", mid("hosts, group", "per_s"), "", digits=0),
        Row(f"{what}: p99 latency of a delivery, ms", mid("hosts, group", "p99_us") / 1000, "", digits=0),
        Row(f"{what}: chatd's CPU per delivery, µs", mid("hosts, group", "cpu_us"), "", digits=1),
    ]
    sent = sum(one.sent for of in runs.values() for one in of)
    rows.append(Row(f"lost, doubled, reordered or refused, of {sent:,} messages", wrong(runs), "<= 0", digits=0))
    rows.append(Row("errors logged", errors, "<= 0", digits=0))
    return rows


if __name__ == "__main__":
    sys.exit(main())
