"""What clients of each wire are sent of messages that change, over sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conversations.asking import Client, StreamingClient, clients, new_group
from tests.harness.chatserver import OldClient
from tests.harness.daemon import Daemon
from tests.harness.datagrams import DatagramPeer
from tests.harness.deadline import run, until
from tests.harness.peer import Frame
from tests.harness.person import Town

PACE_MS = 150
RECALLED = "(message recalled)"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    daemon = Daemon(
        tmp_path_factory.mktemp("wires"),
        workers=2,
        listen={"chatserver": {"pace_ms": PACE_MS}},
        timeouts={"resend_s": 1.0},
    ).start()
    yield Town(daemon)
    assert daemon.discard() == []


async def old_client(town: Town, name: str) -> OldClient:
    client = OldClient()
    await client.open(town.port("old"), town.daemon.address)
    client.put({"msgid": 1, "id": town.ids[name], "password": town.secret})
    assert (await client.answer())["errno"] == 0
    return client


def shown(client: OldClient) -> list[str]:
    client.check()
    return [frame["msg"] for frame in client.shown]


def test_what_waits_for_its_turn_to_an_old_client_is_replaced(town: Town) -> None:
    """Frames to it are sent one by one. A recalled text is among those that were not sent yet."""

    async def story() -> None:
        (alice,) = await clients(town, "alice")
        bob = await town.newcomer("bob")
        old = await old_client(town, bob)
        for number in range(6):
            await alice.says(bob, f"secret {number}")
        await alice.ask("message.recall", with_=bob, seq=6)
        await alice.ask("message.edit", with_=bob, seq=5, text="told")
        await until(20, "all are shown", lambda: len(shown(old)) == 8)
        first = ["secret 0", "secret 1", "secret 2", "secret 3", "told", RECALLED]
        assert shown(old)[:6] == first
        assert shown(old)[6].startswith("(recalled the message sent ")
        assert shown(old)[7].startswith("(edited, sent ")
        old.close()
        await old.gone.wait()
        again = await old_client(town, bob)  # all of them count as delivered: the cursor is where it should be
        await alice.says(bob, "the end")
        await until(10, "only the last one is shown", lambda: shown(again) == ["the end"])
        again.close()

    run(story(), 60)


def test_changes_of_a_group_for_old_and_plain_streaming_clients(town: Town) -> None:
    """A text within 1,023 bytes, from whoever made the change; in streaming mode without conv, seq and fp. The user's
    own changes are not shown to the user's old client."""

    async def story() -> None:
        owner, bob = await clients(town, "owner", "bob")
        carol = await town.newcomer("carol")
        number = await new_group(owner, bob)
        place = f"#{number}"
        await town.join_group(carol, number)
        old = await old_client(town, bob.name)
        plain = await town.errand(carol)
        await bob.says(place, "rude")
        await plain.find(msgid=11, msg="rude")
        await bob.ask("message.edit", with_=place, seq=1, text="x" * 2000)
        edited = await plain.find(msgid=11)
        assert edited["msg"].startswith("(edited, sent 20")
        assert edited["msg"].endswith("x" * 2000)
        assert not edited.keys() & {"conv", "seq", "fp"}
        await owner.ask("message.remove", with_=place, seq=1)
        removed = await plain.find(msgid=11)
        assert (removed["name"], removed["groupid"]) == (owner.name, number)
        assert removed["msg"].startswith(f"(removed the message that {bob.name} sent 20")
        await until(10, "bob's old client is shown the removal", lambda: shown(old))
        assert [text.partition(" that")[0] for text in shown(old)] == ["(removed the message"]
        old.close()
        await town.finish(plain)

    run(story(), 60)


def test_a_change_to_an_old_client_is_cut_to_its_frame(town: Town) -> None:
    async def story() -> None:
        (alice,) = await clients(town, "alice")
        bob = await town.newcomer("bob")
        old = await old_client(town, bob)
        await alice.says(bob, "short")
        await until(10, "it is shown", lambda: shown(old) == ["short"])
        await alice.ask("message.edit", with_=bob, seq=1, text="x" * 2000)
        await until(10, "the change is shown", lambda: len(shown(old)) == 2)
        assert shown(old)[1].endswith("…")
        old.close()

    run(story(), 60)


@pytest.mark.parametrize("transport", ["mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws"])
def test_what_waits_is_given_as_it_is(town: Town, transport: Any) -> None:
    async def story() -> None:
        alice, bob = await clients(town, "alice", "bob", transport=transport)
        bob.leave()
        if isinstance(bob.peer, DatagramPeer):
            bob.peer.put({"type": 3, "from": bob.name, "to": "0", "dataContent": ""})
        for text in ("one", "two", "three"):
            await alice.says(bob.name, text)
        await alice.ask("message.recall", with_=bob.name, seq=1)
        await alice.ask("message.edit", with_=bob.name, seq=2, text="second")
        await bob.arrive()
        await bob.sees(alice.name, bob.name, "three")
        assert [text for *_, text in bob.messages] == [RECALLED, "second", "three"]
        await bob.is_up_to_date()
        assert not [one for one in bob.notices if one["event"] == "message.changed"]

    run(story(), 60)


def test_clients_that_asked_for_numbers_are_given_the_state(town: Town) -> None:
    async def story() -> None:
        (alice,) = await clients(town, "alice")
        name = await town.newcomer("bob")
        await alice.says(name, "one")
        await alice.says(name, "two")
        await alice.ask("message.recall", with_=name, seq=1)
        await alice.ask("message.edit", with_=name, seq=2, text="second")
        peer = await town.mobile_peer()
        peer.extra = json.dumps({"chatd": {"features": ["seq"]}})
        await peer.log_in(name, town.secret)
        found: list[Frame] = []
        for _ in range(2):
            found.append(await peer.find(type=2))
        assert [(one["seq"], one["version"], one["state"]) for one in found] == [(1, 1, "recalled"), (2, 1, "edited")]
        assert [one["dataContent"] for one in found] == ["", "second"]
        peer.close()

    run(story(), 60)


def test_a_client_of_the_old_wire_with_requests_gets_the_notice_and_no_text(town: Town) -> None:
    async def story() -> None:
        (alice,) = await clients(town, "alice")
        bob = await StreamingClient(town, await town.newcomer("bob")).arrive()
        await alice.says(bob.name, "one")
        await bob.sees(alice.name, bob.name, "one")
        await alice.ask("message.recall", with_=bob.name, seq=1)
        await bob.hears("message.changed", seq=1, state="recalled")
        await alice.says(bob.name, "two")
        await bob.sees(alice.name, bob.name, "two")
        assert [text for *_, text in bob.messages] == ["one", "two"]

    run(story(), 60)


def test_other_sessions_of_the_user_learn_what_was_deleted(town: Town) -> None:
    async def story() -> None:
        alice, bob = await clients(town, "alice", "bob")
        desk: Client = await StreamingClient(town, bob.name).arrive()
        for text in ("one", "two", "three"):
            await alice.says(bob.name, text)
        await bob.sees(alice.name, bob.name, "three")
        assert (await bob.ask("history.delete", with_=alice.name, up_to=1, seqs=[3]))["up_to"] == 1
        about = {"with": alice.name, "up_to": 1, "seqs": [3]}
        await desk.hears("history.deleted", **about)
        past = (await desk.ask("history", with_=alice.name))["messages"]
        assert [one["seq"] for one in past] == [2]
        assert len((await alice.ask("history", with_=bob.name))["messages"]) == 3

    run(story(), 60)
