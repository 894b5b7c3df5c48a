"""Two hosts with one store and one bus: a user is told once, whoever of the hosts is killed, and wherever they are
online."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.push.house import LEASE_S, House, noted, options_of, subscribe
from tests.push.receiver import Browser, PushService

pytestmark = pytest.mark.xdist_group("push cluster")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, House]]:
    """The same service, on two hosts with one worker each."""
    root = tmp_path_factory.mktemp("push")
    public, table = options_of(root)
    service = PushService(public)
    cluster = Cluster(root / "cluster", timeouts={"store_s": 0.5}, push=table)
    for daemon in cluster.daemons:
        daemon.config["bus"] = {"lease_s": LEASE_S}
    cluster.start()
    houses = [House(daemon) for daemon in cluster.daemons]
    for house in houses:
        house.service = service
    try:
        yield houses[0], houses[1]
    finally:
        cluster.expect_error("worker died")
        complaints = cluster.discard()
        service.close()
    assert complaints == []
    assert service.complaints == []


def holder(*daemons: Daemon) -> str:
    code, out, said = daemons[0].ctl_said("push", "show", "--json")
    assert code == 0, said
    found: dict[str, Any] = json.loads(out)
    return str(found["holder"])


def test_one_host_tells_what_comes_in_on_the_other(hosts: tuple[House, House]) -> None:
    here, there = hosts
    browsers = [Browser(here.service) for _ in range(4)]

    async def story() -> None:
        users = [await here.user("ann") for _ in browsers]
        for user, browser in zip(users, browsers, strict=True):
            async with here.client(user) as client:
                await subscribe(client, browser)
        async with here.client(await here.user("bob")) as bob, there.client(await here.user("carol")) as carol:
            for user in users:
                await bob.send(user, "from here")
            for browser in browsers:
                await noted(browser, limit_s=20)  # the first time, readers of MySQL wait until transactions settle
            for user in users:
                await carol.send(user, "from there")
            for browser in browsers:
                assert [note["text"] for note in await noted(browser, 2)] == ["from here", "from there"]
            await asyncio.sleep(1.5)  # another host would have told them by now
        for browser in browsers:
            assert len(browser.notes()) == 2

    run(story(), 60)


def test_who_is_online_on_the_other_host_is_not_told(hosts: tuple[House, House]) -> None:
    here, there = hosts
    browser, other = Browser(here.service), Browser(here.service)

    async def story() -> None:
        dave = await here.user("dave")
        async with here.client(dave) as client:
            await subscribe(client, other)
        for house in hosts:
            async with house.client(await here.user("ann")) as ann, there.client(await here.user("bob")) as bob:
                await subscribe(ann, browser)
                before = len(other.notes())
                await bob.send(ann.me.name, "hello")
                await bob.send(dave, "hello")
                await noted(other, before + 1, limit_s=20)
            assert browser.notes() == []
            browser.__init__(here.service)  # type: ignore[misc]  another subscription

    run(story(), 60)


@pytest.mark.slow
def test_another_host_goes_on_for_one_that_is_killed(hosts: tuple[House, House]) -> None:
    here, there = hosts
    browsers = [Browser(here.service) for _ in range(6)]

    async def story() -> None:
        users = [await here.user("ann") for _ in browsers]
        for user, browser in zip(users, browsers, strict=True):
            async with here.client(user) as client:
                await subscribe(client, browser)
        name = await until(20, "somebody notifies", lambda: holder(here.daemon))
        assert name is not None
        killed, left = (here, there) if _delivers_last(here.daemon, there.daemon) is here.daemon else (there, here)
        here.service.delay_s, here.service.status = 0.3, 503
        bob = await left.user("bob")
        async with left.client(bob) as client:
            for user in users:
                await client.send(user, "hello")
            await until(10, "some are on their way", lambda: here.service.came(browsers[0].path), 0.01)
            killed.daemon.kill_all()
            here.service.delay_s, here.service.status = 0.0, 201
            for browser in browsers:
                await noted(browser, limit_s=30)
        assert holder(left.daemon) not in ("", name)
        await asyncio.to_thread(killed.daemon.start)

    run(story(), 90)


def _delivers_last(*daemons: Daemon) -> Daemon:
    """The host whose worker said last that it delivers."""
    said = [(one["time"], number) for number, daemon in enumerate(daemons) for one in daemon.logged("this worker")
            if "delivers" in one["event"]]  # fmt: skip
    return daemons[max(said)[1]]
