"""The connection breaks in the middle of every kind of request: each has one effect, and the person is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.proxy import LosesAnswer, Proxy

from .recorder import Client, client, until


class Trial:
    """ann is behind a connection that breaks at her next request; bob is not."""

    def __init__(self, ann: Client, bob: Client, loses: LosesAnswer, *, reached: bool) -> None:
        self.ann, self.bob = ann, bob
        self._loses = loses
        self._reached = reached

    async def breaks(self, op: str, line: str, *told: str) -> None:
        """The line is carried out although the connection breaks at its request."""
        before = len(self.ann.screen.notices)
        self._loses.marker = f'"op":"{op}"'.encode()
        self._loses.arm(reached=self._reached)
        await self.ann.do(line)
        assert self._loses.struck.is_set(), f"{line}: no {op} was sent"
        for text in told:
            await until(
                lambda text=text: any(text in one for one in self.ann.screen.notices[before:]),  # type: ignore[misc]
                lambda: f"{line}: {told} in {self.ann.screen.notices[before:]}",
            )
        await until(lambda: self.ann.session.online)


@pytest.mark.parametrize("reached", [True, False], ids=["before-the-answer", "before-the-request"])
def test_every_kind_of_request(server: Daemon, tmp_path: Path, names: Iterator[str], reached: bool) -> None:
    loses = LosesAnswer(b"")

    async def story(proxy: Proxy) -> None:
        me, other = next(names), next(names)
        async with (
            client(proxy.port, tmp_path / "a") as ann,
            client(server.ports["chatserver"], tmp_path / "b") as bob,
        ):
            await ann.do(f'/register "{me}"', f'/register "{other}"', f'/login "{me}"')
            await bob.do(f'/login "{other}"')
            trial = Trial(ann, bob, loses, reached=reached)
            await people(trial, me, other)
            await messages(trial, other)
            await group(trial, other)

    with Proxy(server.ports["chatserver"], hook=loses) as proxy:
        asyncio.run(story(proxy))


async def people(trial: Trial, me: str, other: str) -> None:
    await trial.breaks("friend.request", f'/addfriend "{other}"', f"asked {other}")
    await trial.bob.notices("asks to be your friend")
    await trial.bob.do(f'/accept "{me}"')
    await trial.breaks("presence.get", f'/whois "{other}"', "online")
    await trial.breaks("profile.set", "/profile status busy", "status: busy")
    await trial.breaks("block", f'/block "{other}"', f"blocked {other}")
    await trial.breaks("block.list", "/blocks", other)
    await trial.breaks("unblock", f'/unblock "{other}"', "not blocked any more")
    await trial.breaks("privacy.set", "/privacy see friends", "may see your profile and presence: friends")
    await trial.breaks("session.list", "/sessions", "this one")
    assert counted(trial.bob, "asks to be your friend") == 1


async def messages(trial: Trial, other: str) -> None:
    await trial.ann.do(f'/chat "{other}" one', "two")
    assert await trial.ann.session.settle()
    await trial.breaks("message.edit", "/edit two!", "edited 2")
    await trial.breaks("message.recall", "/recall 1", "recalled 1")
    await trial.breaks("history", "/history", "(recalled)", "two!")
    await trial.breaks("read", "/read", "read up to 2")
    await trial.breaks("sync", "/unread", "nothing is unread")
    await trial.breaks("history.delete", "/delete 1", "deleted 1")
    await trial.bob.notices("recalled 1")
    assert counted(trial.bob, "edited 2: two!") == counted(trial.bob, "recalled 1") == 1


async def group(trial: Trial, other: str) -> None:
    ann = trial.ann
    await ann.do("/creategroup team")
    number = ann.app.contacts.group_id_of("team")
    await ann.do(f"/g {number}")
    await trial.breaks("group.set", "/groupset join invite", "is now: invite")
    await trial.breaks("group.rename", "/groupset name crew", "name of")
    await trial.breaks("group.invite", f'/invite "{other}"', f"invited {other}")
    await trial.bob.notices("invites you to")
    await trial.bob.do(f"/joingroup {number}")
    await trial.breaks("group.role", f'/role "{other}" admin', "is now admin")
    await trial.breaks("group.members", "/groups", f"{other}(")
    await trial.breaks("group.kick", f'/kick "{other}"', "removed")
    await trial.breaks("group.bans", "/bans", other)
    await trial.breaks("group.unban", f'/unban "{other}"', "again")
    await trial.breaks("group.dissolve", f"/dissolve #{number}", "dissolved")
    assert counted(trial.bob, "invites you to") == counted(trial.bob, "you were removed from") == 1


def counted(who: Client, text: str) -> int:
    return sum(text in one for one in who.screen.notices)


def test_no_answer_in_time_is_told_as_not_known(server: Daemon, tmp_path: Path, names: Iterator[str]) -> None:
    """The connection stays, and nothing of the answer comes: whether the request was served is not known."""

    def swallow(link: object, from_client: bool, data: bytes) -> bytes | None:
        return data if from_client or b'"msgid":17' not in data else b""

    async def story(proxy: Proxy) -> None:
        name = next(names)
        async with client(proxy.port, tmp_path) as ann:
            await ann.do(f'/register "{name}"', f'/login "{name}"', "/profile status busy")
            await ann.notices("no answer from the server: whether this was done is not known")

    hook: Callable[[object, bool, bytes], bytes | None] = swallow
    with Proxy(server.ports["chatserver"], hook=hook) as proxy:
        asyncio.run(story(proxy))
