"""The names of groups that a listener shows: known when a session enters a group, and new ones at once."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec

from chatd.config.schema import ListenerOptions
from tests.core.asking import ask, notices
from tests.core.stage import Peer, Stage, play

MARKED = ListenerOptions(protocol="mobileimsdk", address="tcp://127.0.0.1:0", group_prefix="[{group}] ")
_numbers = itertools.count()
PLAIN = ListenerOptions(protocol="mobileimsdk", address="tcp://127.0.0.1:0", group_prefix="[{number}] ")


def listen(stage: Stage, options: ListenerOptions) -> None:
    groups = msgspec.structs.replace(stage.config.groups, mobileimsdk_join="open")
    stage.config = msgspec.structs.replace(stage.config, listen=(options,), groups=groups)


async def last_name(stage: Stage, sender: Peer, reader: Peer, group: int) -> str:
    """The name that comes with the next message."""
    before = len(reader.given)
    sender.send(group, "x", f"f{next(_numbers)}")
    await stage.until("given", lambda: len(reader.given) > before)
    return reader.given[-1].group_name


def test_names_come_with_the_messages_of_groups(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        listen(stage, MARKED)
        here, there = await stage.worker(), await stage.worker()
        alice, bob = await here.mobile("alice"), await there.mobile("bob")
        group = (await ask(alice, "group.create", name="old"))["group"]["id"]
        await ask(bob, "group.join", group=group)
        assert await last_name(stage, alice, bob, group) == "old"
        await ask(alice, "group.rename", group=group, name="new")
        await stage.until("bob is told", lambda: notices(bob, "group.renamed"))
        await stage.settled()
        assert await last_name(stage, alice, bob, group) == "new"
        assert await last_name(stage, bob, alice, group) == "new"
        carol = await there.mobile("carol")
        await ask(carol, "group.join", group=group)
        assert await last_name(stage, alice, carol, group) == "new"
        carol.leave()
        alice.send(group, "while away", "away")
        carol = await (await stage.worker()).mobile("carol")
        await stage.until("given", lambda: carol.given)
        assert carol.given[-1].group_name == "new"
        alice.send("bob", "private", "p")
        await stage.until("given", lambda: "private" in bob.bodies)
        assert bob.given[-1].group_name == ""

    play(tmp_path, story)


def test_a_rename_that_was_missed_is_found_after_a_gap(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        listen(stage, MARKED)
        here, there = await stage.worker(), await stage.worker()
        alice, bob = await here.mobile("alice"), await there.mobile("bob")
        group = (await ask(alice, "group.create", name="old"))["group"]["id"]
        await ask(bob, "group.join", group=group)
        here.tables.begin()
        here.tables.groups.rename(alice.session.user.id, group, "new", None, 0)  # type: ignore[union-attr]
        here.tables.commit()
        assert await last_name(stage, alice, bob, group) == "old"
        there.core.memberships.gap()
        await stage.settled()
        for _ in range(20):
            name = await last_name(stage, alice, bob, group)
            if name == "new":
                break
        assert name == "new"

    play(tmp_path, story)


def test_nothing_is_read_where_no_listener_shows_names(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        listen(stage, PLAIN)
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        group = (await ask(alice, "group.create", name="team"))["group"]["id"]
        await ask(bob, "group.join", group=group)
        assert await last_name(stage, alice, bob, group) == ""

    play(tmp_path, story)
