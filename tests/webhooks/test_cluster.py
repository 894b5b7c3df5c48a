"""Two hosts with one store and one bus tell a receiver: hosts, the receiver and the database are killed, a worker is
paused for longer than its lease."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.switches import switched_off, with_switches
from tests.webhooks.judge import Stored, Told, judge, stored_by
from tests.webhooks.receiver import Receiver
from tests.webhooks.storm import Storm
from tests.webhooks.test_daemon import MANY, Note, figures, restart

LEASE_S = 2.0


class House:
    """A cluster of two hosts with one worker each, and the receiver that it tells. seen: requests that it had got when
    the present test began."""

    def __init__(self, cluster: Cluster, receiver: Receiver) -> None:
        self.cluster, self.receiver = cluster, receiver
        self.storm = Storm(cluster.daemons)
        self._before: Stored = set()
        self.seen = 0
        self.arrived = Told(receiver)

    def begin(self) -> None:
        """A test begins: what is judged at its end is what it does."""
        self._before, self.seen = stored_by(self.cluster.daemons[0]), len(self.receiver.requests())
        self.arrived = Told(self.receiver, self.seen)

    async def gathered(self) -> Storm:
        return self.storm if self.storm.senders else await self.storm.gather()

    def stored(self) -> Stored:
        return stored_by(self.cluster.daemons[0]) - self._before

    async def told(self) -> None:
        await self.arrived.all(self.stored())

    def judge(self) -> None:
        judge(self.receiver.requests()[self.seen :], self.stored())

    def state(self) -> dict[str, Any]:
        code, out, err = self.cluster.daemons[0].ctl_said("webhook", "list", "--json")
        assert code == 0, err
        (found,) = json.loads(out)["webhooks"]
        return found  # type: ignore[no-any-return]

    def holder(self) -> Daemon | None:
        """The host whose worker said last that it delivers."""
        said = [(one["time"], number) for number, daemon in enumerate(self.cluster.daemons)
                for one in daemon.logged("this worker delivers")]  # fmt: skip
        return self.cluster.daemons[max(said)[1]] if said and self.state()["holder"] else None


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("webhooks")
    receiver = Receiver(root / "receiver").start()
    cluster = Cluster(
        root / "cluster",
        entry=("-m", "tests.webhooks.planted", "switches"),
        timeouts={"store_s": 0.5, "hang_s": 120},
    )
    for daemon in cluster.daemons:
        daemon.config["bus"] = {"lease_s": LEASE_S}
        daemon.config["webhook"] = [receiver.options(batch=50)]
        with_switches(daemon)
    try:
        yield House(cluster.start(), receiver)
    finally:
        receiver.kill()
        cluster.expect_error("commit failed", "commit takes too long", "worker died")
        complaints = cluster.discard()
    assert complaints == []


@pytest.mark.parametrize(
    ("messages", "faults"), [(3000, 2), pytest.param(MANY, 20, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_nothing_is_lost_when_hosts_and_the_receiver_are_killed(
    house: House, record_property: Note, messages: int, faults: int
) -> None:
    house.begin()

    async def kill_a_host(number: int) -> None:
        daemon = house.cluster.daemons[number]
        house.storm.open.discard(number)
        daemon.kill_all()
        await asyncio.to_thread(daemon.start)
        house.storm.open.add(number)

    async def story() -> None:
        storm = await house.gathered()
        hit = [partial(kill_a_host, 0), partial(restart, house.receiver), partial(kill_a_host, 1)]
        async with storm.staying():
            await storm.hurt(messages, house.arrived, (hit * faults)[:faults])
        await house.told()

    run(story(), 1100)
    assert len(house.stored()) == messages, "each was stored once"
    house.judge()
    record_property("verdict", figures(house.receiver))


def test_nothing_is_lost_when_the_database_is_killed(house: House) -> None:
    """While a batch is on its way: its answer cannot be recorded, so it comes again, as the same request."""
    house.begin()

    async def story() -> None:
        storm = await house.gathered()
        async with storm.staying():
            house.receiver.behave(delay_s=0.2)
            storm.begin(1600)
            seen = len(house.receiver.requests())
            await until(30, "a batch came", lambda: len(house.receiver.requests()) > seen)
            await asyncio.to_thread(house.cluster.database.kill)
            house.receiver.behave()
            await asyncio.sleep(0.5)  # of being away: whatever was on its way is answered by then
            await asyncio.to_thread(house.cluster.database.start)
            await storm.done(60)
        await house.told()

    run(story(), 150)
    house.judge()
    ids = [one["id"] for one in house.receiver.requests()[house.seen :]]
    assert len(ids) > len(set(ids)), "no batch came again"


@pytest.mark.parametrize("bug", ["", pytest.param("has_no_fence", marks=pytest.mark.slow)])
def test_a_paused_holder_of_the_lease_does_no_harm_unless_the_fence_is_missing(house: House, bug: str) -> None:
    """It is stopped with a batch on its way, another host takes over, and it goes on."""
    house.begin()

    async def story() -> None:
        storm = await house.gathered()
        async with storm.staying():
            storm.begin(80)
            await storm.done(30)
            await house.told()
            paused = await until(20, "somebody delivers", house.holder)
            assert paused is not None
            (other,) = (one for one in house.cluster.daemons if one is not paused)
            house.receiver.behave(delay_s=0.2)
            storm.begin(200)
            seen = len(house.receiver.requests())
            await until(20, "batches are on their way", lambda: len(house.receiver.requests()) > seen)
            (pid,) = paused.workers()
            os.kill(pid, signal.SIGSTOP)
            try:
                house.receiver.behave()
                storm.open = {house.cluster.daemons.index(other)}
                for one in storm.senders:
                    one.leave()
                await storm.trickle(lambda: house.holder() is other)
                seen = len(house.receiver.requests())
                await storm.trickle(lambda: len(house.receiver.requests()) > seen + 3)
            finally:
                os.kill(pid, signal.SIGCONT)
            seen = len(house.receiver.requests())
            await storm.trickle(lambda: len(house.receiver.requests()) > seen + 40)
            storm.open = {0, 1}
            await storm.done(60)
            await house.told()

    with switched_off(bug or "none", *house.cluster.daemons):
        run(story(), 120)
    if not bug:
        house.judge()
        return
    with pytest.raises(AssertionError, match="came under two webhook-ids"):
        house.judge()
