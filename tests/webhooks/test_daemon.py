"""A daemon tells a receiver: everything, in order, whatever is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.faults.test_disk_full import fill, make_room, small_disk
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.switches import switched_off, with_switches
from tests.webhooks.judge import Told, judge, stored_by, stored_in
from tests.webhooks.receiver import Receiver
from tests.webhooks.storm import Fault, Storm

BUS = {"lease_s": 2}
MANY = 100_000
Note = Callable[[str, object], None]


async def restart(receiver: Receiver) -> None:
    receiver.kill()
    await asyncio.sleep(0.1)
    await asyncio.to_thread(receiver.start)


@pytest.mark.parametrize(
    ("messages", "faults"), [(4000, 3), pytest.param(MANY, 24, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_nothing_is_lost_when_workers_the_daemon_and_the_receiver_are_killed(
    tmp_path: Path, receiver: Receiver, record_property: Note, messages: int, faults: int
) -> None:
    daemon = Daemon(tmp_path / "daemon", workers=2, bus=BUS)
    daemon.config["webhook"] = [receiver.options(batch=100)]
    daemon.write_config()
    daemon.start()
    daemon.expect_error("worker died")

    async def kill_a_worker() -> None:
        os.kill(random.choice(daemon.workers()), signal.SIGKILL)
        await until(20, "both workers", daemon.all_ready)

    async def kill_the_daemon() -> None:
        daemon.kill_all()
        await asyncio.to_thread(daemon.start)

    async def story() -> None:
        storm, told = await Storm([daemon]).gather(), Told(receiver)
        hit: list[Fault] = [kill_a_worker, partial(restart, receiver), kill_the_daemon]
        async with storm.staying():
            await storm.hurt(messages, told, (hit * faults)[:faults])
        await told.all(stored_by(daemon))

    try:
        run(story(), 800)
        stored = stored_by(daemon)
        assert len(stored) == messages, "each was stored once"
        judge(receiver.requests(), stored)
        record_property("verdict", figures(receiver))
    finally:
        complaints = daemon.discard()
    assert complaints == []


def test_nothing_is_lost_when_the_disk_is_full(tmp_path: Path, receiver: Receiver) -> None:
    """While batches are on their way: that they were answered cannot be stored, so they come again, as the same
    requests."""
    with small_disk(tmp_path / "disk", 8) as disk:
        daemon = Daemon(tmp_path / "daemon", bus=BUS, server={"state_dir": str(disk / "state")})
        daemon.config["webhook"] = [receiver.options(batch=50)]
        daemon.write_config()
        for text in ("commit failed", "commit takes too long"):
            daemon.expect_error(text)

        async def story() -> None:
            storm, told = await Storm([daemon]).gather(), Told(receiver)
            async with storm.staying():
                storm.begin(1000)
                await until(30, "some are told", lambda: len(told.places) > 100)
                receiver.behave(delay_s=0.2)
                begun = receiver.begun
                storm.begin(1000)
                await until(30, "a batch is on its way", lambda: receiver.begun > begun)
                await asyncio.to_thread(fill, disk)
                await storm.trickle(lambda: any(one.put_off for one in storm.senders), each=80)
                receiver.behave()
                await until(30, "the lease cannot be kept", lambda: daemon.logged("events wait"), 0.2)
                make_room(disk)
                await storm.done(60)
            await told.all(stored_in(disk / "state" / "chatd.db"))

        try:
            daemon.start()
            run(story(), 100)
            judge(receiver.requests(), stored_in(disk / "state" / "chatd.db"))
        finally:
            complaints = daemon.discard()
        assert complaints == []


def figures(receiver: Receiver) -> str:
    """What came, in numbers."""
    taken = [one for one in receiver.requests() if one["events"]]
    told, ids = sum(len(one["events"]) for one in taken), {one["id"] for one in taken}
    return f"{told} events in {len(taken)} requests, {len(taken) - len(ids)} of them repeated"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", ["", "moves_before_the_answer", "breaks_the_order", "cuts_other_batches"])
def test_a_planted_bug_is_found(tmp_path: Path, receiver: Receiver, bug: str) -> None:
    """Guards are switched off, while the receiver fails now and then and workers are killed. "": with all of them, the
    same ordeal is passed."""
    daemon = Daemon(tmp_path / "daemon", workers=2, bus=BUS, entry=("-m", "tests.webhooks.planted", "switches"))
    daemon.config["webhook"] = [receiver.options(batch=20)]
    daemon.write_config()

    async def story() -> None:
        storm = await Storm([daemon]).gather()
        async with storm.staying():
            for _ in range(3):
                receiver.behave(status=500)
                storm.begin(800)
                seen = len(receiver.requests())
                await until(30, "an attempt", lambda seen=seen: len(receiver.requests()) > seen)  # type: ignore[misc]
                for pid in daemon.workers():
                    os.kill(pid, signal.SIGKILL)
                receiver.behave()
                await until(30, "ready", daemon.all_ready)
                await storm.done(60)
                await until(30, "nothing waits", lambda: is_up_to_date(daemon), 0.2)

    try:
        with_switches(daemon).start()
        with switched_off(bug or "none", daemon):
            run(story(), 200)
        if not bug:
            judge(receiver.requests(), stored_by(daemon))
            return
        with pytest.raises(AssertionError):
            judge(receiver.requests(), stored_by(daemon))
    finally:
        daemon.discard()


def is_up_to_date(daemon: Daemon) -> bool:
    """Whether the cursor is at the end of the store."""
    code, out, err = daemon.ctl_said("webhook", "list")
    assert code == 0, err
    row = out.splitlines()[1].split()
    return row[0] == "crm" and row[2] == "0"
