"""An fp that was used before is the same message again, or is refused; on every wire, on one worker and on two."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from chatd.errors import MEANINGS, ErrorCode
from tests.conversations.asking import Client, clients, new_group
from tests.conversations.reuse import use_one_fp_twice
from tests.harness.chatserver import ERROR, ONE_CHAT, chat
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.mobileimsdk import ERROR as MOBILE_ERROR
from tests.harness.mobileimsdk import content
from tests.harness.person import Person, Town, Wire

TEXT = MEANINGS[ErrorCode.FP_REUSED].text


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    daemon = Daemon(tmp_path_factory.mktemp("reuse"), workers=request.param)
    try:
        yield Town(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints, complaints


def test_a_streaming_client_is_told_in_its_own_terms(town: Town) -> None:
    async def story() -> None:
        alice, bob, carol = [await town.newcomer(name) for name in ("alice", "bob", "carol")]
        peer = await town.errand(alice)
        frame = {**chat(town.ids[alice], alice, bob, town.ids[bob], "hello"), "fp": "my-1"}
        peer.put(frame)
        first = await peer.take()
        assert (first["msgid"], first["fp"], first["seq"]) == (13, "my-1", 1)
        for other in ({**frame, "msg": "hello?"}, {**frame, "toid": town.ids[carol]}):
            peer.put(other)
            assert await peer.take() == {
                "msgid": ERROR, "errno": 1044, "errmsg": TEXT, "ref": ONE_CHAT, "fp": "my-1",
            }  # fmt: skip
        peer.put(frame)
        assert await peer.take() == first

    run(story())


def test_a_mobile_client_is_told_in_its_own_terms_and_the_session_stays(town: Town) -> None:
    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        peer = await town.on_mobile(alice)
        for text, kind in (("hello", 4), ("hello?", MOBILE_ERROR), ("hello", 4), ("", MOBILE_ERROR)):
            peer.say(alice, bob, text, "my-1")
            packet = await peer.take()
            assert packet["type"] == kind
            if kind == MOBILE_ERROR:
                told = content(packet)
                assert told["errorCode"] == 1044
                assert json.loads(told["errorMsg"]) == {"fp": "my-1", "text": TEXT, "temporary": False}

    run(story())


def test_another_request_under_a_used_fp_is_refused_with_an_fp_of_its_own(town: Town) -> None:
    """So that a client that drops what it has seen shows both."""

    async def story() -> None:
        client = await Client(town, await town.newcomer("alice")).arrive()
        client.put("group.create", "same", "first", name="team")
        first = await client.answer("first")
        assert first["ok"] is True
        client.put("group.create", "same", "second", name="other team")
        second = await client.answer("second")
        assert (second["ok"], second["error"]["code"], second["error"]["text"]) == (False, 1044, TEXT)
        assert [group["name"] for group in (await client.ask("group.list"))["groups"]] == ["team"]
        client.leave()

    run(story())


@pytest.mark.parametrize("wires", [("streaming", "mobile"), ("udp", "streaming"), ("streaming", "web")], ids="-".join)
def test_one_fp_for_two_messages_from_two_wires_at_once(town: Town, wires: tuple[Wire, Wire]) -> None:
    async def story() -> None:
        alice = await town.newcomer("alice")
        one, other = (Person(town, alice, wire) for wire in wires)
        bob, carol = [Person(town, await town.newcomer(name), "streaming") for name in ("bob", "carol")]
        recipients = bob, carol
        for person in (one, other, *recipients):
            await person.arrive()
        await use_one_fp_twice(one, other, recipients, 20)
        for person in (one, other, *recipients):
            await person.leave()

    run(story())


def test_nobody_hides_a_message_or_notice_by_sending_its_fp_first(town: Town) -> None:
    """The server makes fps for what has none, which a stranger can foresee. Clients drop what has an fp they have seen,
    whoever it came from."""

    async def story() -> None:
        victim, bob, carol, mallory = await clients(town, "victim", "bob", "carol", "mallory")
        group = await new_group(bob, victim, mallory)
        old = Person(town, await town.newcomer("old"), "old")
        await town.join_group(old.name, group)
        foreseen = [f"-{group}.{seq}" for seq in range(1, 4)]
        await carol.ask("group.join", group=group)
        (notice,) = [fp for fp in mallory.seen if fp.startswith("s")][-1:]
        prefix, number = notice.split(".")
        foreseen += [f"{prefix}.{int(number, 16) + ahead:x}" for ahead in range(1, 40)]
        foreseen.append(f"cut:-{group}.1.{town.ids[victim.name]}")
        for fp in foreseen:
            mallory.peer.say(mallory.name, victim.name, fp, fp)
        await victim.sees(mallory.name, victim.name, foreseen[-1])
        await old.arrive()
        old.post(f"#{group}", "important")
        await victim.sees(old.name, f"#{group}", "important")
        await bob.ask("group.kick", group=group, user=victim.name)
        await victim.hears("group.kicked", group=group)
        await old.leave()
        for one in (victim, bob, carol, mallory):
            one.leave()

    run(story())
