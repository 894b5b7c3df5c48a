"""Everything is killed: workers, whole hosts, the receiver. Long forms of tests.webhooks.test_daemon."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd.config.urls import parse_mysql
from chatd.store.mysql.connection import MysqlConnection
from tests.harness.cluster import Cluster, Throng
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Town
from tests.harness.switches import switched_off, with_switches
from tests.webhooks.judge import Stored, judge, stored_in
from tests.webhooks.receiver import Receiver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path / "receiver").start()
    yield made
    made.kill()


def stored_in_mysql(url: str) -> Stored:
    connection = MysqlConnection(parse_mysql(url), 20.0)
    try:
        return set(connection.execute("SELECT conversation, seq FROM message").fetchall())
    finally:
        connection.discard()


async def talk(crowd: Crowd, wires: list[Any], seconds: float, fault: Callable[[], Any], count: int) -> None:
    """A crowd talks while `fault` is done again and again."""
    await crowd.gather(wires, groups=[[0, 1, 2]])
    async with crowd.talking(window=50, think_s=0.001):
        for _ in range(count):
            await asyncio.sleep(seconds)
            await fault()
    for talker in crowd.staying:
        talker.cancel()


def test_hosts_of_a_cluster_are_killed(tmp_path: Path, receiver: Receiver) -> None:
    """Two hosts share a store and a bus; each is killed with all its processes, by turns, and the receiver too."""
    cluster = Cluster(tmp_path / "cluster", timeouts={"store_s": 1})
    for daemon in cluster.daemons:
        daemon.config["bus"] = {"lease_s": 2}
        daemon.config["webhook"] = [receiver.options(batch=50)]
    try:
        cluster.start()
        url = cluster.daemons[0].config["store"]["url"]

        async def story() -> None:
            crowd = Throng(cluster)
            turn = 0

            async def fault() -> None:
                nonlocal turn
                daemon = cluster.daemons[turn % 2]
                crowd.region.open.discard(turn % 2)
                daemon.kill_all()
                receiver.kill()
                await asyncio.sleep(1)
                await asyncio.to_thread(receiver.start)
                await asyncio.to_thread(daemon.launch)
                await asyncio.to_thread(daemon.wait_ready, 60)
                crowd.region.open.add(turn % 2)
                turn += 1

            await talk(crowd, ["mobile"] * 4 + ["acking"] * 2, 2.0, fault, 4)

            def complete() -> bool:
                told = {(e["data"]["conversation"], e["data"]["seq"]) for e in receiver.events("message.stored")}
                return stored_in_mysql(url) <= told

            await until(60, "every stored message came", complete, step_s=0.5)

        run(story(), 400)
        stored = stored_in_mysql(url)
        assert len(stored) > 1000
        judge(receiver.requests(), stored)
    finally:
        cluster.discard()


def test_a_worker_that_was_paused_does_no_harm(tmp_path: Path, receiver: Receiver) -> None:
    """It is stopped for longer than its lease, and goes on: what it still sends has the ids that others used."""
    daemon = Daemon(tmp_path / "daemon", workers=2, bus={"lease_s": 2}, timeouts={"hang_s": 60})
    daemon.config["webhook"] = [receiver.options(batch=20)]
    daemon.write_config()
    try:
        daemon.start()
        path = daemon.root / "state" / "chatd.db"

        async def story() -> None:
            async def fault() -> None:
                pid = random.choice(daemon.workers())
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(4)
                os.kill(pid, signal.SIGCONT)

            await talk(Crowd(Town(daemon), daemon.root / "journal.jsonl"), ["mobile"] * 4, 1.0, fault, 6)

            def complete() -> bool:
                told = {(e["data"]["conversation"], e["data"]["seq"]) for e in receiver.events("message.stored")}
                return stored_in(path) <= told

            await until(60, "every stored message came", complete, step_s=0.5)

        run(story(), 200)
        judge(receiver.requests(), stored_in(path))
    finally:
        daemon.discard()


@pytest.mark.parametrize("bug", ["moves_before_the_answer", "breaks_the_order", "cuts_other_batches"])
def test_a_planted_bug_is_found(tmp_path: Path, receiver: Receiver, bug: str) -> None:
    """One by one the guards are switched off, while the receiver fails now and then and workers are killed."""
    daemon = Daemon(
        tmp_path / "daemon", workers=2, bus={"lease_s": 2}, entry=("-m", "tests.webhooks.planted", "switches")
    )
    daemon.config["webhook"] = [receiver.options(batch=20)]
    daemon.write_config()
    try:
        with_switches(daemon).start()
        path = daemon.root / "state" / "chatd.db"

        async def story() -> None:
            async def fault() -> None:
                receiver.behave(status=500)
                await asyncio.sleep(0.7)
                for pid in daemon.workers():
                    os.kill(pid, signal.SIGKILL)
                receiver.behave()
                await until(30, "ready", daemon.all_ready)

            await talk(Crowd(Town(daemon), daemon.root / "journal.jsonl"), ["mobile"] * 4, 1.0, fault, 3)
            await asyncio.sleep(8)

        with switched_off(bug, daemon):
            run(story(), 200)
        with pytest.raises(AssertionError):
            judge(receiver.requests(), stored_in(path))
    finally:
        daemon.discard()


def test_a_hundred_thousand_messages(tmp_path: Path, receiver: Receiver) -> None:
    daemon = Daemon(tmp_path / "daemon", workers=2, bus={"lease_s": 2})
    daemon.config["webhook"] = [receiver.options()]
    daemon.write_config()
    try:
        daemon.start()
        path = daemon.root / "state" / "chatd.db"

        async def story() -> None:
            crowd = Crowd(Town(daemon), daemon.root / "journal.jsonl")
            await crowd.gather(["mobile"] * 8)
            async with crowd.talking(window=500, think_s=0):
                rounds = 0
                while len(stored_in(path)) < 100_000:
                    await asyncio.sleep(3)
                    rounds += 1
                    if rounds % 4 == 0:
                        os.kill(random.choice(daemon.workers()), signal.SIGKILL)
                    if rounds % 5 == 0:
                        receiver.kill()
                        await asyncio.to_thread(receiver.start)
            for talker in crowd.staying:
                talker.cancel()

            def complete() -> bool:
                told = {(e["data"]["conversation"], e["data"]["seq"]) for e in receiver.events("message.stored")}
                return stored_in(path) <= told

            await until(120, "every stored message came", complete, step_s=1.0)

        run(story(), 800)
        judge(receiver.requests(), stored_in(path))
    finally:
        daemon.discard()
