"""After a gap every session's memberships are read again; notifications that arrive while they are read are newer. And
what is remembered of ended memberships is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from chatd.core.sessions import hub
from tests.core.asking import ask, new_group
from tests.core.stage import Peer, Stage, play


def groups(peer: Peer) -> set[int]:
    assert peer.session is not None
    return set(peer.session.groups or ())


def test_what_was_missed_is_found(tmp_path: Path) -> None:
    """By many sessions at once, on a worker that was cut off."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        owner = await one.mobile("owner")
        names = [f"user {number}" for number in range(120)]
        kept, left, joined = [await new_group(owner, name=name) for name in ("kept", "left", "joined")]
        peers = [await two.mobile(name) for name in names]
        for peer in peers:
            await ask(peer, "group.join", group=kept)
            await ask(peer, "group.join", group=left)
        stage.exchange.cut(1)
        for name in names:
            await ask(owner, "group.kick", group=left, user=name)
            desk = await one.desk(name)
            await desk.join(joined)
            desk.leave()
        assert all(groups(peer) == {kept, left} for peer in peers)
        stage.exchange.mend(1)
        await stage.until("all know", lambda: all(groups(peer) == {kept, joined} for peer in peers))
        owner.send(joined, "welcome")
        await stage.until("all have it", lambda: all("welcome" in peer.bodies for peer in peers))

    play(tmp_path, story)


@pytest.mark.parametrize("joins", [False, True])
def test_an_answer_older_than_a_notification_changes_nothing(tmp_path: Path, *, joins: bool) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        owner, bob = await one.mobile("owner"), await two.mobile("bob")
        number = await new_group(owner, *([] if joins else [bob]))
        store = two.core.store
        read: Callable[[Any], Awaitable[Any]] = store.read
        asked, told = asyncio.Event(), asyncio.Event()

        async def late(work: Any) -> Any:
            found = await read(work)
            asked.set()
            await told.wait()
            return found

        store.read = late  # type: ignore[method-assign]
        stage.exchange.gap(1)
        await asked.wait()
        if joins:
            desk = await one.desk("bob")
            await desk.join(number)
        else:
            await ask(owner, "group.kick", group=number, user="bob")
        wanted = {number} if joins else set()
        await stage.until("the notification has come", lambda: groups(bob) == wanted)
        told.set()
        await stage.settled()
        await stage.settled()
        assert groups(bob) == wanted

    play(tmp_path, story)


def test_many_ended_memberships_are_not_remembered_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "GROUPS_LEFT_KEPT", 5)

    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        bob = await worker.mobile("bob")
        for number in range(20):
            group = await new_group(bob, name=f"group {number}")
            await ask(bob, "group.leave", group=group)
        assert bob.session is not None
        assert len(bob.session.groups_left or ()) == 5

    play(tmp_path, story)
