"""What other users do while a session moves reaches its client once: notices, joins, leaves, changes, presence."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from chatd.core.sessions.broadcast import Audience
from chatd.core.sessions.session import SessionState
from tests.harness.deadline import until
from tests.harness.mobileimsdk import DATA, MobilePeer
from tests.harness.peer import Frame
from tests.net.handover.pair import Pair, play
from tests.net.handover.test_streams import acknowledged, packet


async def ask(peer: MobilePeer, op: str, **fields: object) -> dict[str, Any]:
    """The result of a request."""
    peer.put(packet(json.dumps({"op": op, "ref": op, **fields}), f"{op} {list(fields.values())}"[:60], to="0"))
    while True:
        got = await peer.find(type=DATA)
        body = json.loads(got["dataContent"])
        if body.get("ref") == op:
            peer.acknowledge(got)
            assert body["ok"], body
            return dict(body["result"])


def notices(frames: list[Frame], event: str) -> list[dict[str, Any]]:
    """Those of this kind, copies by resending left out."""
    found = {}
    for frame in frames:
        if frame["type"] == DATA and frame["from"] == "0":
            body = json.loads(frame["dataContent"])
            if body.get("event") == event:
                found[frame["fp"]] = body
    return list(found.values())


@pytest.mark.parametrize("both_hear_s", [0.0, 0.05])
def test_every_notice_is_told_once(memory_path: Path, both_hear_s: float) -> None:
    """Somebody tells the user something all the time. both_hear_s: for at least this long, both workers hear it."""
    count = 150

    async def story(pair: Pair) -> None:
        departures = pair.old.core.departures
        settle = departures.settle

        async def slowly() -> None:
            await asyncio.sleep(both_hear_s)
            await settle()

        departures.settle = slowly  # type: ignore[method-assign]
        bob, alice = await pair.old.mobile("bob"), await pair.third.mobile("alice")
        session = pair.old.of("bob").session
        assert session is not None
        bob_id = session.user.id
        teller = pair.third.core.groups.notify._notices  # type: ignore[attr-defined]

        async def talk() -> None:
            for number in range(count):
                teller.tell_user(bob_id, json.dumps({"event": "test", "number": number}))
                await asyncio.sleep(0.001)

        talking = asyncio.create_task(talk())
        await asyncio.sleep(0)
        assert (await pair.hand_over()).moved == 1
        await talking
        alice.put(packet("the last"))
        await until(5, "it is there", lambda: any(frame.get("dataContent") == "the last" for frame in bob.frames))
        assert sorted(body["number"] for body in notices(list(bob.frames), "test")) == list(range(count))

    play(memory_path, story)


def test_a_group_that_is_joined_and_one_that_is_left_during_the_move(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        bob, alice = await pair.old.mobile("bob"), await pair.third.mobile("alice")
        joined = (await ask(alice, "group.create", name="joined", description="", join="open"))["group"]["id"]
        left = (await ask(alice, "group.create", name="left", description="", join="open"))["group"]["id"]
        await ask(bob, "group.join", group=left)
        session = pair.old.of("bob").session
        assert session is not None
        user_id = session.user.id
        moving = asyncio.create_task(pair.begin())
        await until(5, "it is offered", lambda: [one.state for one in pair.new.core.hub.of_user(user_id)], step_s=0)
        bob.put(packet(json.dumps({"op": "group.join", "ref": 1, "group": joined}), "join", to="0"))
        bob.put(packet(json.dumps({"op": "group.leave", "ref": 2, "group": left}), "leave", to="0"))
        await moving
        await acknowledged(bob, ["join", "leave"])
        bob.frames.clear()
        alice.put(packet("to the left one", to=f"#{left}"))
        alice.put(packet("to the joined one", to=f"#{joined}"))
        while (got := await bob.find(type=DATA))["from"] == "0":
            bob.acknowledge(got)
        assert got["dataContent"] == "to the joined one"
        moved = pair.new.of("bob").session
        assert moved is not None
        assert moved.state is SessionState.LIVE
        assert set(moved.groups or ()) == {joined}

    play(memory_path, story)


def test_who_watches_is_told_nothing_and_watches_on(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        bob, alice = await pair.old.mobile("bob"), await pair.third.mobile("alice")
        await ask(alice, "friend.request", user="bob")
        await ask(bob, "friend.accept", user="alice")
        assert await ask(alice, "presence.subscribe", users=["bob"])
        await ask(bob, "presence.subscribe", users=["alice"])
        await asyncio.sleep(0.1)
        bob.frames.clear()
        alice.frames.clear()
        assert (await pair.hand_over()).moved == 1
        await asyncio.sleep(1.0)  # several rounds, in which everybody is looked up
        assert not notices(list(alice.frames), "presence")
        assert not notices(list(bob.frames), "presence")
        alice.close()
        while json.loads((got := await bob.find(type=DATA, limit_s=15.0))["dataContent"])["event"] != "presence":
            bob.acknowledge(got)
        assert json.loads(got["dataContent"])["online"] is False

    play(memory_path, story)


def test_an_edited_message_is_told_and_sent_again_as_it_is_now(memory_path: Path) -> None:
    """It was given before the move and is not acknowledged; the change comes while the session is under way."""

    async def story(pair: Pair) -> None:
        bob, alice = await pair.old.mobile("bob"), await pair.third.mobile("alice")
        alice.put(packet("first"))
        await bob.find(type=DATA)
        session = pair.old.of("bob").session
        assert session is not None
        user_id = session.user.id
        moving = asyncio.create_task(pair.begin())
        await until(5, "it is offered", lambda: pair.new.core.hub.of_user(user_id), step_s=0)
        await ask(alice, "message.edit", **{"with": "bob", "seq": 1, "text": "second"})
        await moving
        await until(5, "the notice", lambda: notices(list(bob.frames), "message.changed"))
        (told,) = notices(list(bob.frames), "message.changed")
        assert told["text"] == "second"
        moved = pair.new.of("bob").session
        assert moved is not None
        for entry in (moved.in_flight or {}).values():
            entry.next_at = 0.0
        await bob.find(type=DATA, dataContent="second")

    play(memory_path, story)


def test_a_broadcast_is_told_once(memory_path: Path) -> None:
    """The old worker has not come to this session yet when it leaves."""

    async def story(pair: Pair) -> None:
        bob = await pair.old.mobile("bob")
        pair.old.ticking = False
        sending = asyncio.create_task(pair.third.core.broadcasts.send("attention", 1, Audience()))
        await until(5, "it has heard", lambda: pair.old.core.broadcasts._known)
        moving = asyncio.create_task(pair.begin())
        assert (await moving).moved == 1
        pair.old.ticking = True
        await sending
        await until(5, "it is told", lambda: notices(list(bob.frames), "broadcast"))
        await pair.new.core.store.settle()
        assert len(notices(list(bob.frames), "broadcast")) == 1

    play(memory_path, story)
