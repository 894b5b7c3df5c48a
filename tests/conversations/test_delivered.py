"""The feature `delivered`: senders who asked for it learn how far the other user has received a conversation; on every
transport and store, with one and two workers."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.conversations.asking import Transport, clients
from tests.conversations.featured import FeaturedClient, live
from tests.conversations.stages import on_every_stage
from tests.harness.deadline import run, until
from tests.harness.person import Town

pytestmark = on_every_stage
transports = pytest.mark.parametrize("transport", [one for one in get_args(Transport) if one != "chatserver"])
FEATURES = ("seq", "delivered")


async def curious(town: Town, name: str, transport: Transport = "mobileimsdk") -> FeaturedClient:
    """Somebody who is told."""
    one = FeaturedClient(town, await town.newcomer(name), transport, FEATURES)
    await one.arrive()
    return one


def seqs(client: FeaturedClient) -> list[int]:
    return [one["seq"] for one in client.notices if one["event"] == "delivered"]


@transports
def test_the_sender_is_told_when_the_other_client_has_it(town: Town, transport: Transport) -> None:
    async def story() -> None:
        alice = await curious(town, "alice", transport)
        (bob,) = await clients(town, "bob")
        await bob.ask("privacy.set", see="everybody")
        await alice.sends(bob.name, "one")
        by = {"id": town.ids[bob.name], "name": bob.name}
        assert await alice.hears("delivered") == {"event": "delivered", "with": bob.name, "by": by, "seq": 1}
        (head,) = (await alice.ask("sync"))["conversations"]
        assert (head["delivered"], head["other_read"]) == (1, 0)
        await bob.ask("read", with_=alice.name, seq=1)
        await alice.hears("read")
        (head,) = (await alice.ask("sync"))["conversations"]
        assert (head["delivered"], head["other_read"]) == (1, 1)

    run(story())


def test_who_comes_later_is_told_about_and_runs_are_joined(town: Town) -> None:
    async def story() -> None:
        alice = await curious(town, "alice")
        (bob,) = await clients(town, "bob")
        await bob.ask("privacy.set", see="everybody")
        bob.leave()
        for number in range(20):
            await alice.sends(bob.name, str(number))
        (head,) = (await alice.ask("sync"))["conversations"]
        assert (head["delivered"], seqs(alice)) == (0, [])
        await bob.arrive()
        await until(10, "everything is told", lambda: seqs(alice)[-1:] == [20])
        assert len(seqs(alice)) < 10

    run(story())


def test_nobody_else_is_told(town: Town) -> None:
    """Not who has not asked, not the recipient, and not of a group."""

    async def story() -> None:
        alice = await curious(town, "alice")
        silent, bob = await live(town, "silent", "bob")
        await bob.ask("privacy.set", see="everybody")
        await silent.sends(bob.name, "nobody asked")
        await alice.sends(bob.name, "asked")
        assert (await alice.hears("delivered"))["with"] == bob.name
        assert not [one for one in (*silent.notices, *bob.notices) if one["event"] == "delivered"]
        assert "delivered" not in (await silent.ask("sync"))["conversations"][0]
        assert seqs(alice) == []

    run(story())


def test_who_may_not_see_the_other_is_not_told(town: Town) -> None:
    async def story() -> None:
        alice = await curious(town, "alice")
        (bob,) = await live(town, "bob")
        (carol,) = await live(town, "carol")
        await carol.ask("privacy.set", see="everybody")
        await alice.sends(bob.name, "hidden")  # the two are no contacts
        await bob.is_given("hidden")
        await alice.sends(carol.name, "seen")
        assert (await alice.hears("delivered"))["with"] == carol.name
        assert seqs(alice) == []
        heads = {one["with"]: one.get("delivered") for one in (await alice.ask("sync"))["conversations"]}
        assert heads == {bob.name: None, carol.name: 1}

    run(story())
