"""A daemon tells a receiver: everything, in order, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Town
from tests.webhooks.judge import judge, stored_in
from tests.webhooks.receiver import Receiver

BUS = {"lease_s": 2}


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path / "receiver").start()
    yield made
    made.kill()


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    made: list[Daemon] = []

    def make(*webhooks: dict[str, Any], **options: Any) -> Daemon:
        daemon = Daemon(tmp_path / "daemon", bus=BUS, **options)
        daemon.config["webhook"] = list(webhooks)
        daemon.write_config()
        made.append(daemon)
        return daemon

    yield make
    assert [line for daemon in made for line in daemon.discard()] == []


def listed(daemon: Daemon, name: str = "crm") -> dict[str, Any]:
    """What chatctl says of the webhook."""
    code, out, err = daemon.ctl_here("webhook", "list", "--json")
    assert code == 0, err
    (found,) = [one for one in json.loads(out)["webhooks"] if one["name"] == name]
    return found  # type: ignore[no-any-return]


async def all_taken(daemon: Daemon, receiver: Receiver, limit_s: float = 30.0) -> None:
    path = daemon.root / "state" / "chatd.db"

    def complete() -> bool:
        told = {(e["data"]["conversation"], e["data"]["seq"]) for e in receiver.events("message.stored")}
        return stored_in(path) <= told

    await until(limit_s, "every stored message came", complete, step_s=0.1)


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_nothing_is_lost_when_workers_and_the_receiver_are_killed(
    make_daemon: Callable[..., Daemon], receiver: Receiver, rounds: int
) -> None:
    daemon = make_daemon(receiver.options(batch=20), workers=2).start()
    daemon.expect_error("worker died")

    async def story() -> None:
        crowd = Crowd(Town(daemon), daemon.root / "journal.jsonl")
        await crowd.gather(["mobile", "mobile", "acking", "acking"], groups=[[0, 1, 2]])
        async with crowd.talking(window=20, think_s=0.002):
            for _ in range(rounds):
                await asyncio.sleep(0.5)
                receiver.kill()
                await asyncio.sleep(0.2)
                os.kill(random.choice(daemon.workers()), signal.SIGKILL)
                await asyncio.to_thread(receiver.start)
                await until(20, "both workers", lambda: len(daemon.workers()) == 2)
                await until(20, "ready", daemon.all_ready)
        for talker in crowd.staying:
            talker.cancel()
        await all_taken(daemon, receiver)

    run(story(), 60 + 30 * rounds)
    stored = stored_in(daemon.root / "state" / "chatd.db")
    assert len(stored) > 100 * rounds
    judge(receiver.requests(), stored)
