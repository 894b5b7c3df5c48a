"""Changes of messages that overtake each other: reads of the store are ahead of the bus, or behind it.

Two workers over one store, as in test_changes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from chatd.core import bus_messages
from chatd.core.bus_messages import MessageChanged
from chatd.core.sessions.session import Session
from chatd.protocol import ServerMessage
from tests.core.stage import Peer, Stage, play
from tests.core.test_changes import ask, notices, pair


def told(peer: Peer) -> list[str]:
    """The texts of the notices."""
    return [one["text"] for one in notices(peer)]


async def given(stage: Stage) -> tuple[Peer, Peer]:
    """Alice and bob, on two workers; bob has her message "a"."""
    alice, bob = await pair(stage)
    alice.send("bob", "a", "f")
    await stage.until("bob has it", lambda: bob.bodies)
    return alice, bob


async def edited_behind_the_bus(stage: Stage, alice: Peer, place: str = "bob") -> None:
    """The worker of bob will hear of both changes later."""
    stage.exchange.hold(0, 1)
    for text in "bc":
        await ask(alice, "message.edit", place, seq=1, text=text)


def test_what_was_read_from_the_store_is_not_followed_by_an_earlier_change(tmp_path: Path) -> None:
    """The store is ahead of the bus: a session that has caught up is not told of a change that came before."""

    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        stage.exchange.hold(0, 1)
        alice.send("bob", "a", "f")
        await edited_behind_the_bus(stage, alice)
        stage.exchange.gap(1)
        await stage.until("bob has it as it is", lambda: bob.bodies == ["c"])
        stage.exchange.let_go()
        await stage.until("bob is told", lambda: notices(bob))
        await stage.pass_time(30)
        assert told(bob) == ["c"]
        assert set(bob.bodies) == {"c"}

    play(tmp_path, story)


def test_what_was_asked_for_is_not_followed_by_an_earlier_change(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await given(stage)
        await edited_behind_the_bus(stage, alice)
        assert '"c"' in json.dumps(await ask(bob, "history", "alice"))
        stage.exchange.let_go()
        await stage.until("bob is told", lambda: notices(bob))
        await stage.settled()
        assert told(bob) == ["c"]

    play(tmp_path, story)


def test_what_sync_tells_is_not_followed_by_an_earlier_change(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await given(stage)
        await edited_behind_the_bus(stage, alice)
        answer = await ask(bob, "sync", "alice", cursors={"alice": 1}, changes={"alice": 0})
        assert '"c"' in json.dumps(answer)
        stage.exchange.let_go()
        await stage.until("bob is told", lambda: notices(bob))
        await stage.settled()
        assert told(bob) == ["c"]

    play(tmp_path, story)


def test_members_are_not_told_of_what_is_overtaken_while_the_store_is_asked_for_them(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        group = await alice.make_group()
        await bob.join(group)
        alice.send(group, "a", "f")
        await stage.until("bob has it", lambda: bob.bodies)
        await edited_behind_the_bus(stage, alice, f"#{group}")
        core, asked = stage.workers[1].core, asyncio.Event()
        memberships, hub_group = core.memberships, core.hub.group(group)
        assert hub_group is not None
        read = memberships._read_members

        async def slow(*wanted: Any) -> Any:
            await asked.wait()
            return await read(*wanted)

        memberships._read_members = slow  # type: ignore[method-assign]
        memberships.wait(group, hub_group, 0, lambda: None)
        changes = [
            data for _, data in stage.exchange._ways[0, 1] if isinstance(bus_messages.decode(data), MessageChanged)
        ]
        core.on_bus_message(0, changes[0])
        assert '"c"' in json.dumps(await ask(bob, "history", f"#{group}"))
        asked.set()
        await stage.settled()
        stage.exchange.let_go()
        await stage.until("bob is told", lambda: notices(bob))
        await stage.settled()
        assert told(bob) == ["c"]

    play(tmp_path, story)


def test_a_read_that_began_before_a_recall_does_not_bring_the_text_back(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await given(stage)
        await ask(alice, "message.edit", "bob", seq=1, text="secret")
        await stage.until("bob is told", lambda: notices(bob))
        bob.read_all()
        catch_up, was_read, goes_on = stage.workers[1].core.delivery.catch_up, asyncio.Event(), asyncio.Event()
        read = catch_up._read

        async def slow(session: Session, everything: bool) -> Any:
            found = await read(session, everything)
            was_read.set()
            await goes_on.wait()
            return found

        catch_up._read = slow  # type: ignore[method-assign]
        stage.exchange.gap(1)
        await stage.until("the store was read", was_read.is_set)
        assert (await ask(alice, "message.recall", "bob", seq=1))["ok"]
        await stage.settled()
        before = len(bob.given)
        goes_on.set()
        await stage.settled()
        await stage.pass_time(30)
        assert {one.message.body for one in bob.given[before:]} == {""}

    play(tmp_path, story)


def test_the_notice_of_an_edit_is_not_sent_again_after_a_recall(tmp_path: Path) -> None:
    """Its client has not acknowledged it."""

    async def story(stage: Stage) -> None:
        alice, bob = await given(stage)
        bob.acknowledge("f")
        await ask(alice, "message.edit", "bob", seq=1, text="secret")
        await stage.until("bob is told", lambda: notices(bob))
        await stage.pass_time(30)
        assert len([one for one in bob.told(ServerMessage) if "secret" in one.body]) == 2
        assert (await ask(alice, "message.recall", "bob", seq=1))["ok"]
        before = len(bob.events)
        await stage.pass_time(60)
        again = [one.body for one in bob.events[before:] if isinstance(one, ServerMessage)]
        assert again
        assert "secret" not in "".join(again)

    play(tmp_path, story)
