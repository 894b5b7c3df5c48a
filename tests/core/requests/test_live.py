"""Typing, mentions and cut messages at the core: limits that need time to pass, groups of many members, plug-ins, and
what is told once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from chatd.config.schema import PluginOptions
from chatd.core.plugins.contract import OutgoingMessage, Rewrite
from chatd.errors import ErrorCode
from chatd.model import ALL_MEMBERS, Protocol, User
from chatd.protocol import Accepted, Extras, Feature, LoginAccepted, SendMessage, ServerMessage
from tests.core.asking import ask, notices, refused
from tests.core.stage import Peer, Stage, Worker, play

BOTH = Feature.SEQ | Feature.TYPING


def user(peer: Peer) -> User:
    return peer.told(LoginAccepted)[-1].user


async def mobile(worker: Worker, name: str) -> Peer:
    return await worker.peer(Protocol.MOBILEIMSDK).login(name, features=BOTH)


def settings(stage: Stage, **groups: Any) -> None:
    changed = msgspec.structs.replace(stage.config.groups, **groups)
    stage.config = msgspec.structs.replace(stage.config, groups=changed)


async def heard(stage: Stage, peer: Peer, event: str, count: int) -> list[dict[str, Any]]:
    """Notices without an fp are not told apart by it, so they are counted as they came."""

    def found() -> list[dict[str, Any]]:
        texts = [msgspec.json.decode(one.body) for one in peer.told(ServerMessage)]
        return [text for text in texts if text.get("event") == event]

    await stage.settled()
    if count:
        await stage.until(f"{count} times {event}", lambda: len(found()) >= count)
    assert len(found()) == count
    return found()


def test_typing_is_told_again_after_two_seconds_and_never_repeated(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        here, there = await stage.worker(), await stage.worker()
        alice, bob, carol = await mobile(here, "alice"), await mobile(there, "bob"), await mobile(here, "carol")
        for _ in range(3):
            await ask(alice, "typing", with_="bob")
        await ask(alice, "typing", with_="carol")
        await heard(stage, carol, "typing", 1)
        (first,) = await heard(stage, bob, "typing", 1)
        assert first == {"event": "typing", "with": "alice", "by": {"id": user(alice).id, "name": "alice"}}
        await stage.pass_time(2.5)
        here.core.round()
        await ask(alice, "typing", with_="bob")
        await heard(stage, bob, "typing", 2)
        await stage.pass_time(120)  # nothing is sent again
        await heard(stage, bob, "typing", 2)
        assert not bob.session.in_flight  # type: ignore[union-attr]

    play(tmp_path, story)


def test_more_than_five_requests_in_a_second_are_refused_until_the_next_one(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, _ = await mobile(worker, "alice"), await mobile(worker, "bob")
        for _ in range(5):
            await ask(alice, "typing", with_="bob")
        assert await refused(alice, "typing", with_="bob") is ErrorCode.TOO_FAST
        worker.core.round()
        await ask(alice, "typing", with_="bob")

    play(tmp_path, story)


def test_in_a_group_over_the_limit_nobody_is_told(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        settings(stage, typing_members=2, mobileimsdk_join="open")
        worker = await stage.worker()
        alice, bob, carol = [await mobile(worker, name) for name in ("alice", "bob", "carol")]
        group = (await ask(alice, "group.create", name="team"))["group"]["id"]
        await ask(bob, "group.join", group=group)
        await ask(alice, "typing", with_=f"#{group}")
        await heard(stage, bob, "typing", 1)
        await ask(carol, "group.join", group=group)
        await stage.pass_time(3)
        await ask(alice, "typing", with_=f"#{group}")
        await heard(stage, bob, "typing", 1)
        await heard(stage, carol, "typing", 0)

    play(tmp_path, story)


def test_the_limit_of_mentions_is_the_operator_s_and_all_is_one(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        settings(stage, mentions=1, mobileimsdk_join="open")
        worker = await stage.worker()
        alice, bob = await mobile(worker, "alice"), await mobile(worker, "bob")
        group = (await ask(alice, "group.create", name="team"))["group"]["id"]
        await ask(bob, "group.join", group=group)

        def mention(*named: str | int) -> None:
            worker.core.handle(alice, SendMessage("", 0, group, "x", extras=Extras(mentions=named)))

        for named in (("bob", "alice"), ("bob",), ALL_MEMBERS):
            mention(*named)
        await stage.until("stored", lambda: len(bob.bodies) == 2)
        assert alice.failures == [ErrorCode.LIMIT_REACHED]
        assert [message.mentions for message in bob.messages] == [(user(bob).id,), ALL_MEMBERS]

    play(tmp_path, story)


class Shouting:
    """A plug-in that changes every text."""

    async def before_message(self, message: OutgoingMessage) -> Rewrite:
        return Rewrite(body=message.body.upper())


def test_a_plug_in_that_changes_the_text_keeps_reply_and_mentions(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        settings(stage, mobileimsdk_join="open")
        worker = await stage.worker(plugins=[(PluginOptions(name="shout", fail="open"), Shouting())])
        alice, bob = await mobile(worker, "alice"), await mobile(worker, "bob")
        desk = await worker.desk("carol")
        group = (await ask(alice, "group.create", name="team"))["group"]["id"]
        for one in (bob, desk):
            if one is bob:
                await ask(one, "group.join", group=group)
            else:
                await one.join(group)
        await alice.do(SendMessage("", 0, group, "first"))
        await alice.do(SendMessage("", 0, group, "second", extras=Extras(reply_to=1, mentions=("bob",))))
        await desk.do(SendMessage("", 0, group, "third", extras=Extras(reply_to=2)))
        await stage.until("all are given", lambda: len(bob.bodies) == 3)
        assert bob.bodies == ["FIRST", "SECOND", "THIRD"]
        assert [(one.reply_to, one.mentions) for one in bob.messages] == [(0, ()), (1, (user(bob).id,)), (2, ())]

    play(tmp_path, story)


def test_a_cut_is_told_once_however_often_the_message_is_given(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        here, there = await stage.worker(), await stage.worker()
        alice = await mobile(here, "alice")
        bob = there.peer(Protocol.MOBILEIMSDK)
        bob.cuts = True
        await bob.login("bob", features=BOTH)
        alice.send("bob", "long", "f1")
        await stage.until("stored", lambda: alice.told(Accepted))
        await stage.until("told", lambda: notices(alice, "message.cut"))
        alice.acknowledge(alice.told(ServerMessage)[-1].fp)
        for _ in range(2):
            await stage.pass_time(30)  # sent again, because it is not acknowledged
            bob.leave()
            bob = there.peer(Protocol.MOBILEIMSDK)
            bob.cuts = True
            await bob.login("bob", features=BOTH)
            assert bob.bodies == ["long"]
        await stage.settled()
        (notice,) = await heard(stage, alice, "message.cut", 1)
        assert (notice["with"], notice["seq"], notice["user"]["name"]) == ("bob", 1, "bob")

    play(tmp_path, story)


def test_in_a_group_only_so_many_recipients_of_a_cut_message_are_named(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        settings(stage, mobileimsdk_join="open")
        worker = await stage.worker()
        alice = await mobile(worker, "alice")
        group = (await ask(alice, "group.create", name="team"))["group"]["id"]
        for number in range(14):
            member = worker.peer(Protocol.MOBILEIMSDK)
            member.cuts = True
            await member.login(f"user{number}", features=BOTH)
            await ask(member, "group.join", group=group)
        alice.send(group, "long", "f1")
        await stage.until("all are given", lambda: member.bodies)
        await heard(stage, alice, "message.cut", 10)

    play(tmp_path, story)
