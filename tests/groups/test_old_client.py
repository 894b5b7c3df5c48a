"""The deployed client of the C++ server in groups: all that it does goes on as ever, and a group with rules of its own
does not break it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.conversations.asking import Client
from tests.harness import chatserver
from tests.harness.chatserver import OldLink
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.link import Seen
from tests.harness.person import Person, Town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    daemon = Daemon(tmp_path_factory.mktemp("old"), workers=2, listen={"chatserver": {"pace_ms": 1}})
    try:
        yield Town(daemon.start())
    finally:
        complaints = daemon.discard()
    assert complaints == []


async def old_client(town: Town, name: str) -> tuple[Person, OldLink]:
    person = Person(town, await town.newcomer(name), "old")
    await person.arrive()
    assert isinstance(person.link, OldLink)
    return person, person.link


def test_it_makes_a_group_and_others_join_by_its_number(town: Town) -> None:
    async def story() -> None:
        maker, its_link = await old_client(town, "maker")
        joiner, other_link = await old_client(town, "joiner")
        its_link.put(
            {"msgid": chatserver.CREATE_GROUP, "id": its_link.id, "groupname": "old friends", "groupdesc": "as ever"}
        )
        watcher = await Client(town, maker.name).arrive()
        async with asyncio.timeout(10):
            while not (groups := (await watcher.ask("group.list"))["groups"]):
                pass
        group = groups[0]["id"]
        seen = await watcher.ask("group.get", group=group)
        assert (seen["join"], seen["history"], seen["announcements"]) == ("open", "joining", False)
        maker.post(f"#{group}", "before")
        async with asyncio.timeout(10):
            while not (await watcher.ask("history", with_=f"#{group}"))["messages"]:
                pass
        other_link.put({"msgid": chatserver.JOIN_GROUP, "id": other_link.id, "groupid": group})
        await watcher.hears("group.joined", group=group)
        maker.post(f"#{group}", "hello")
        await joiner.sees(Seen(maker.name, "hello", group))
        joiner.post(f"#{group}", "hello too")
        await maker.sees(Seen(joiner.name, "hello too", group))
        await joiner.leave()
        maker.post(f"#{group}", "waits")
        await watcher.is_up_to_date()
        await joiner.arrive()
        await joiner.sees(Seen(maker.name, "waits", group))
        assert [entry["groupname"] for entry in joiner.link.groups] == ["old friends"]  # type: ignore[union-attr]
        assert [one.text for one in joiner.seen] == ["hello", "waits"]

    run(story(), 60)


def test_a_group_that_decides_who_comes_in_does_not_break_it(town: Town) -> None:
    """It asks without knowing it, goes on talking, and is simply in once somebody has agreed."""

    async def story() -> None:
        owner = await Client(town, await town.newcomer("owner")).arrive()
        group = int((await owner.ask("group.create", name="by approval", join="approval"))["group"]["id"])
        person, link = await old_client(town, "asker")
        link.put({"msgid": chatserver.JOIN_GROUP, "id": link.id, "groupid": group})
        await owner.hears("group.requested", group=group)
        person.post(owner.name, "still alive")
        await owner.sees(person.name, owner.name, "still alive")
        await owner.says(f"#{group}", "not yet")
        await owner.ask("group.approve", group=group, user=person.name)
        await owner.says(f"#{group}", "welcome")
        await person.sees(Seen(owner.name, "welcome", group))
        await owner.ask("group.mute", group=group, user=person.name)
        person.post(f"#{group}", "while muted")
        await owner.ask("group.unmute", group=group, user=person.name)
        person.post(f"#{group}", "thank you")
        await owner.sees(person.name, f"#{group}", "thank you")
        await owner.ask("group.dissolve", group=group)
        person.post(f"#{group}", "is anybody there?")
        person.post(owner.name, "alive to the end")
        await owner.sees(person.name, owner.name, "alive to the end")
        person.check()
        assert [one.text for one in person.seen] == ["welcome"]

    run(story(), 60)
