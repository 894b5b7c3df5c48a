"""Messages are edited and recalled on two hosts: while all is well, and while Redis is dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from chatd.errors import ErrorCode
from tests.changes.ordeal import GROUPS, WIRES
from tests.changes.test_ordeals import check
from tests.cluster.cast import Note
from tests.conversations.asking import Client, StreamingClient, new_group
from tests.faults.ordeal import more_talk, ordeal
from tests.harness.chatserver import OldClient
from tests.harness.cluster import Cluster, Throng
from tests.harness.crowd import Crowd
from tests.harness.deadline import run, until
from tests.harness.mariadb import MariaDB
from tests.harness.person import Town

MakeCluster = Callable[..., Cluster]


class ChangingThrong(Throng):
    change_every = 4


def towns(cluster: Cluster) -> tuple[Town, Town]:
    """Both hosts, with the same accounts."""
    here = Town(cluster.daemons[0])
    return here, Town(cluster.daemons[1], here.ids, here.secret, here.suffixes)


@pytest.fixture(scope="module")
def cluster(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("changes"), database=mariadb, timeouts={"resend_s": 1.0}).start()
    yield cluster
    assert cluster.discard() == []


def test_changes_reach_the_other_host_on_every_wire(cluster: Cluster) -> None:
    async def story() -> None:
        here, there = towns(cluster)
        alice = await Client(here, await here.newcomer("alice")).arrive()
        bob = await Client(there, await here.newcomer("bob")).arrive()
        carol = await StreamingClient(there, await here.newcomer("carol")).arrive()
        number = await new_group(alice, bob, carol)
        place = f"#{number}"
        old = OldClient()
        await old.open(there.port("old"), there.daemon.address)
        old.put({"msgid": 1, "id": here.ids[bob.name], "password": here.secret})
        await old.answer()
        await alice.says(place, "hallo")
        for one in (bob, carol):
            await one.sees(alice.name, place, "hallo")
        edited = await alice.ask("message.edit", with_=place, seq=1, text="hello")
        assert (edited["version"], edited["change"]) == (1, 1)
        for one in (bob, carol):
            about = {"with": place, "seq": 1, "version": 1, "state": "edited", "text": "hello", "change": 1}
            assert (await one.hears("message.changed", **about))["by"]["name"] == alice.name
        assert await bob.refused("message.edit", with_=place, seq=1, text="mine") is ErrorCode.NOT_ALLOWED
        await alice.ask("message.recall", with_=place, seq=1)
        for one in (bob, carol):
            await one.hears("message.changed", **{"with": place, "seq": 1, "version": 2, "state": "recalled"})
        await until(10, "the old client is shown it", lambda: len(old.shown) == 3)
        shown = [frame["msg"] for frame in old.shown]
        assert shown[0] == "hallo"
        assert shown[1].startswith("(edited, sent 20")
        assert shown[1].endswith(") hello")
        assert shown[2].startswith("(recalled the message sent 20")
        old.check()
        old.close()

    run(story(), 60)


def test_what_was_changed_while_redis_was_dead_is_learned_from_sync(cluster: Cluster) -> None:
    async def story() -> None:
        here, there = towns(cluster)
        alice = await Client(here, await here.newcomer("alice")).arrive()
        bob = await Client(there, await here.newcomer("bob")).arrive()
        for text in ("one", "two"):
            await alice.says(bob.name, text)
            await bob.sees(alice.name, bob.name, text)
        known = (await bob.ask("sync", changes={}, cursors={alice.name: 2}))["conversations"][0]["changes"]
        assert known == 0
        cluster.redis.kill()
        await asyncio.gather(
            alice.ask("message.edit", with_=bob.name, seq=1, text="first"),
            alice.ask("message.recall", with_=bob.name, seq=2),
        )
        await alice.says(bob.name, "three")
        cluster.redis.start()
        await bob.sees(alice.name, bob.name, "three")
        found = await bob.ask("sync", changes={alice.name: known}, cursors={alice.name: 3})
        changes = {one["seq"]: (one["state"], one["text"]) for one in found["changes"]}
        assert changes == {1: ("edited", "first"), 2: ("recalled", "")}
        assert {one["change"] for one in found["changes"]} == {1, 2}

    run(story(), 60)


def test_people_change_what_they_say_while_redis_is_killed(
    make_cluster: MakeCluster, mariadb: MariaDB, record_property: Note
) -> None:
    cluster = make_cluster(database=mariadb).start()
    throng = ChangingThrong(cluster)

    async def fault(crowd: Crowd) -> None:
        await more_talk(crowd, 80)
        cluster.redis.kill()
        await more_talk(crowd, 60)
        cluster.redis.start()
        await more_talk(crowd, 80, 60)

    story = ordeal(cluster.daemons[0], fault, crowd=throng, wires=WIRES, groups=GROUPS, think_s=0.1, settle_s=40)
    check(run(story, 150), record_property, 150)
