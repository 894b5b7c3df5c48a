"""What the owner and the admins of a group have decided holds on another host, whether the bus works or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from chatd.errors import ErrorCode
from tests.consent.attacks import Places
from tests.conversations.asking import Client, new_group
from tests.groups.attacks import ATTACKS, Attack, made
from tests.harness import chatserver
from tests.harness.cluster import Cluster
from tests.harness.deadline import run, until
from tests.harness.mariadb import MariaDB
from tests.harness.person import Person, Town

HANG_S = 1.0
"""Shorter than it takes to be noticed: nothing makes anybody look for what was missed."""


@pytest.fixture(scope="module")
def cluster(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("groups_apart"), database=mariadb, listen={"chatserver": {"pace_ms": 1}})
    try:
        yield made.start()
    finally:
        complaints = made.discard()
    assert not complaints, complaints


@pytest.fixture
def places(cluster: Cluster) -> Places:
    here = Town(cluster.daemons[0])
    return Places(here, Town(cluster.daemons[1], here.ids, here.secret, here.suffixes))


@contextlib.asynccontextmanager
async def hanging(cluster: Cluster) -> AsyncIterator[None]:
    cluster.redis.pause()
    try:
        yield
        await asyncio.sleep(HANG_S)  # the fault itself
    finally:
        cluster.redis.go_on()
    for daemon in cluster.daemons:
        await until(15, "the bus is whole", lambda daemon=daemon: daemon.status()["bus_ok"], 0.1)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_attack_fails_from_another_host(places: Places, attack: Attack) -> None:
    run(attack(places))


def test_what_is_decided_while_redis_hangs_holds_at_once(cluster: Cluster, places: Places) -> None:
    """Muted, banned, and gone with the group: the other host refuses messages before it hears of any of it."""

    async def story() -> None:
        owner = await places.victim("owner")
        group, ended = await new_group(owner), await new_group(owner)
        people = []
        for name in ("muted", "banned", "reader"):
            member = await Client(places.there, await places.here.newcomer(name)).arrive()
            await member.ask("group.join", group=group)
            await member.ask("group.join", group=ended)
            await member.says(f"#{group}", "before")
            people.append(member)
        muted, banned, reader = people
        async with hanging(cluster):
            await owner.ask("group.mute", group=group, user=muted.name)
            await owner.ask("group.ban", group=group, user=banned.name)
            await owner.ask("group.dissolve", group=ended)
            for member, place, code in (
                (muted, group, ErrorCode.MUTED),
                (banned, group, ErrorCode.NOT_A_MEMBER),
                (reader, ended, ErrorCode.UNKNOWN_GROUP),
            ):
                member.say(f"#{place}", "while Redis hangs")
                await until(10, "it is refused", lambda member=member: member.errors)
                assert member.errors[-1]["errorCode"] == code
            assert await banned.refused("group.join", group=group) is ErrorCode.BANNED
        await owner.says(f"#{group}", "afterwards")
        await reader.sees(owner.name, f"#{group}", "afterwards")
        await muted.hears("group.muted", group=group)
        await muted.sees(owner.name, f"#{group}", "afterwards")
        await banned.is_up_to_date()
        assert [text for _, to, text in banned.messages if (to, text) == (f"#{group}", "afterwards")] == []
        assert [text for _, _, text in owner.messages if text == "while Redis hangs"] == []

    run(story(), 60)


def test_who_is_let_in_while_redis_hangs_is_given_everything_since(cluster: Cluster, places: Places) -> None:
    """By an approval, an addition and an invitation; the old client's sessions are on the other host."""

    async def story() -> None:
        owner = await places.victim("owner")
        group = await made(owner, join="approval")
        await owner.says(f"#{group}", "secret")
        asker = Person(places.there, await places.here.newcomer("asker"), "streaming")
        await asker.arrive()
        old = Person(places.there, await places.here.newcomer("old"), "old")
        await old.arrive()
        assert asker.link is not None
        asker.link.put({"msgid": chatserver.JOIN_GROUP, "id": places.there.ids[asker.name], "groupid": group})
        await owner.hears("group.requested", group=group)
        async with hanging(cluster):
            await owner.ask("group.approve", group=group, user=asker.name)
            assert (await owner.ask("group.invite", group=group, user=old.name))["joined"] is False
            assert old.link is not None
            old.link.put({"msgid": chatserver.JOIN_GROUP, "id": places.there.ids[old.name], "groupid": group})
            async with asyncio.timeout(10):
                while (await owner.ask("group.get", group=group))["members"] < 3:
                    pass
            await owner.says(f"#{group}", "welcome")
        for number in range(3):
            await owner.says(f"#{group}", f"and {number}")
        for person in (asker, old):
            await until(
                10, f"{person.name} has all", lambda person=person: person.seen and person.seen[-1].text == "and 2"
            )
            assert [one.text for one in person.seen] == ["welcome", "and 0", "and 1", "and 2"]
            person.check()

    run(story(), 60)
