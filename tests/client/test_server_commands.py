"""Every command of `chat` against a real chatd on one and on two workers, with names that have spaces."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from chatd.client.grammar import COMMANDS
from tests.harness.daemon import Daemon

from .recorder import Client, client, until

ELSEWHERE = {"help", "quit", "logout", "say", "chat", "register", "login", "takeover", "send-file", "save"}
"""Tried in test_commands, test_process, test_daemon, test_takeover and test_files."""
TRIED: set[str] = set()


class Person:
    """A client with a name. `number` is the user's."""

    def __init__(self, name: str, used: Client) -> None:
        self.name = name
        self.client = used
        self.number = 0

    async def enter(self) -> None:
        await self.client.do(f'/register "{self.name}"', f'/login "{self.name}"')
        assert self.client.session.user is not None, self.client.screen.notices
        self.number = self.client.session.user.id

    @property
    def shown(self) -> str:
        return f"{self.name}({self.number})"

    async def does(self, line: str, *told: str) -> None:
        """The line is carried out, and this is told, from the next notice on."""
        TRIED.add(line[1:].partition(" ")[0])
        before = len(self.client.screen.notices)
        await self.client.do(line)
        for text in told:
            await until(
                lambda text=text: any(text in one for one in self.client.screen.notices[before:]),  # type: ignore[misc]
                lambda text=text: f"{line!r}: {text!r} in {self.client.screen.notices[before:]}",  # type: ignore[misc]
            )

    async def hears(self, text: str) -> None:
        await self.client.notices(text)

    async def reads(self, text: str) -> None:
        messages = self.client.screen.messages
        await until(lambda: any(one.endswith(f": {text}") for one in messages), lambda: f"{text!r} in {messages}")


@asynccontextmanager
async def people(server: Daemon, root: Path, names: Iterator[str], count: int = 3) -> AsyncIterator[list[Person]]:
    async with AsyncExitStack() as stack:
        made = []
        for number in range(count):
            used = await stack.enter_async_context(client(server.ports["chatserver"], root / str(number)))
            made.append(Person(next(names), used))
        for person in made:
            await person.enter()
        yield made


def test_people(server: Daemon, tmp_path: Path, names: Iterator[str]) -> None:
    async def story() -> None:
        async with people(server, tmp_path, names) as (ann, bob, cy):
            await ann.does(f'/addfriend "{bob.name}"', f"asked {bob.name}")
            await bob.hears(f"{ann.name} ({ann.number}) asks to be your friend")
            await bob.does("/friends", f"{ann.shown} asks to be your friend")
            await bob.does(f'/accept "{ann.name}"', f"you and {ann.name} are friends now")
            await ann.hears(f"{bob.name} ({bob.number}) has accepted your friend request")
            await ann.does("/friends", f"{bob.shown} online")
            await bob.client.session.logout()  # seen at once, not at the next login
            await until(lambda: not ann.client.app.contacts.friends[bob.number].online)
            await ann.does("/friends", f"{bob.shown} offline")
            await ann.does(f'/whois "{bob.name}"', bob.shown, "offline, last seen ")
            await bob.client.do(f'/login "{bob.name}"')
            await until(lambda: ann.client.app.contacts.friends[bob.number].online)
            await cy.does(f'/addfriend "{ann.name}"', "asked")
            await ann.hears(f"{cy.name} ({cy.number}) asks")
            await ann.does(f'/refuse "{cy.name}"', f"refused {cy.name}")
            await ann.does("/profile nickname The An", "nickname: The An")
            await ann.does("/profile", "nickname: The An")
            await bob.does(f'/whois "{ann.name}"', ann.shown, "nickname: The An", "online")
            await ann.does("/profile nickname", "no profile")
            await ann.does("/profile shoe 9", "/profile nickname|avatar|status|about TEXT")
            await ann.does("/privacy", "may write to you: default (everybody)")
            await ann.does("/privacy write friends", "may write to you: friends")
            await cy.does(f'/chat "{ann.name}" let me in', "this user does not accept this from you")
            await ann.does("/privacy write default", "may write to you: default")
            await ann.does("/privacy write me", "/privacy write|ask|see|add")
            await ann.does(f'/block "{cy.name}"', f"blocked {cy.name}")
            await ann.does("/blocks", cy.shown)
            await ann.does(f'/unblock "{cy.name}"', f"{cy.name} is not blocked any more")
            await ann.does("/blocks", "you block nobody")
            await ann.does(f'/unfriend "{bob.name}"', f"{bob.name} is not your friend any more")
            await ann.does("/friends", "no friends yet")
            await ann.does("/sessions", "chatserver from", ", this one")

    asyncio.run(story())


def test_messages(server: Daemon, tmp_path: Path, names: Iterator[str]) -> None:
    async def story() -> None:
        async with people(server, tmp_path, names, 2) as (ann, bob):
            await ann.does(f'/chat "{bob.name}" one')
            await ann.does("two")
            await bob.reads("two")
            await ann.does("/edit two, better", "edited 2")
            await bob.hears(f"{ann.name} edited 2: two, better")
            await ann.does("/edit 1 one, better", "edited 1")
            await ann.does("three")
            await ann.does("/recall", "recalled 3")
            await bob.hears(f"{ann.name} recalled 3")
            await ann.does("/recall 1", "recalled 1")
            await bob.does(f'/chat "{ann.name}"')
            await bob.does("/edit mine", "there is no such message")
            await bob.does("/reply 2 better than what?")
            await ann.reads("better than what?")
            await ann.does("/history", f"{ann.name}: (recalled)", f"{ann.name} (edited): two, better",
                           f"{bob.name} (answers 2): better than what?")  # fmt: skip
            await bob.does(f'/history "{ann.name}" 1', "better than what?")
            assert sum("[20" in line for line in bob.client.screen.notices) == 1
            await bob.does("/edit 2 not mine", "not allowed")
            await bob.does("/recall 99", "no such message")
            await ann.does("/unread", f"{bob.name} 1")
            await ann.does(f'/read "{bob.name}"', "read up to 4")
            await ann.does("/unread", "nothing is unread")
            await ann.does("/delete 4", "deleted 4 from your history")
            before = len(ann.client.screen.notices)
            await ann.does("/history 10", "two, better")
            assert not any("better than what?" in line for line in ann.client.screen.notices[before:])
            await ann.does("/delete all", "deleted up to")
            await ann.does("/history", "no messages")
            await bob.does(f'/history "{ann.name}"', "two, better")

    asyncio.run(story())


def test_groups(server: Daemon, tmp_path: Path, names: Iterator[str]) -> None:
    async def story() -> None:
        async with people(server, tmp_path, names) as (ann, bob, cy):
            team = f"The team {ann.number}"
            await ann.does(f'/creategroup "{team}" what we do', "its number is ")
            number = ann.client.app.contacts.group_id_of(team)
            named = f'"#{team}"'
            await bob.does(f"/joingroup {number}", f"joined the group {team}#{number}")
            await ann.hears(f"{bob.shown} has joined {team}#{number}")
            await ann.does(f'/g "{team}" welcome')
            await bob.reads("welcome")
            await ann.does(
                "/groups", f"{team}#{number}: what we do", f"{ann.shown} online, owner", f"{bob.shown} online"
            )
            await ann.does(f'/role "{bob.name}" admin', f"{bob.shown} is now admin of {team}#{number}")
            await bob.hears(f"{bob.shown} is now admin of {team}#{number}")
            await bob.does(f"/groupset {named} about what we did", "about of")
            await ann.hears(f"{team}#{number} is now {team}#{number}: what we did")
            await ann.does("/groups", f"{team}#{number}: what we did", f"{bob.shown} online, admin")
            await ann.does("/groupset join approval", f"join of {team}#{number} is now: approval")
            await bob.hears("has changed the rules of")
            await cy.does(f"/joingroup {number}", "its owner or an admin decides")
            await bob.hears(f"{cy.shown} asks to join {team}#{number}")
            await bob.does(f"/requests {named}", f"{cy.shown} asks to join")
            await bob.does(f'/approve {named} "{cy.name}"', f"{cy.shown} is now a member")
            await cy.hears(f"you are now a member of {team}#{number}")
            await ann.hears(f"{cy.shown} has joined {team}#{number}")  # she can mention only members she knows
            await ann.does(f'/g "{team}" @{cy.name} look')
            await cy.reads(f"@{cy.name} look")
            await cy.does("/unread", "you are mentioned in 2")
            await ann.does(f'/mute "{cy.name}" 5', f"{cy.shown} cannot write in {team}#{number} for 5 minutes")
            await cy.hears(f"you cannot write in {team}#{number} until")
            await cy.does(f'/g "{team}" but I', "you may not write in this group at the moment")
            await ann.does(f'/unmute "{cy.name}"', f"{cy.shown} can write in")
            await cy.does(f'/g "{team}" rude words')
            await ann.reads("rude words")
            await ann.does("/remove 3", "removed 3")
            await cy.hears(f"{ann.name} removed 3 in {team}#{number}")
            await ann.does(f'/kick "{cy.name}"', f"removed {cy.shown} from {team}#{number}")
            await cy.hears(f"you were removed from {team}#{number}")
            await cy.does("/groups", "no groups yet")
            await ann.does(f'/unban "{cy.name}"', f"{cy.shown} can join {team}#{number} again")
            await cy.does(f"/joingroup {number}", "decides")
            await bob.does(f'/reject {named} "{cy.name}"', f"refused {cy.shown}")
            await cy.hears(f"your request to join {team}#{number} was refused")
            await ann.does(f'/invite "{cy.name}"', f"invited {cy.shown} to {team}#{number}")
            await cy.hears(f"invites you to {team}#{number}")
            await ann.does(f'/add "{cy.name}"', f"{cy.shown} cannot be added by you, and is invited instead")
            await cy.does("/invitations", f"invites you to {team}#{number}")
            await cy.does(f"/decline #{number}", f"group {number}: invitation declined")
            await ann.hears(f"{cy.shown} has declined your invitation")
            await ann.does(f'/ban {named} "{cy.name}"', f"banned {cy.shown}")
            await ann.does("/bans", cy.shown)
            await ann.does("/groupinfo", "joined by: approval", "you are owner")
            await bob.does(f"/leave {named}", f"left {team}#{number}")
            await ann.hears(f"{bob.shown} has left {team}#{number}")
            await ann.does(f"/dissolve {named}", f"dissolved {team}#{number}")
            await ann.does("/groups", "no groups yet")

    asyncio.run(story())


def test_the_password_is_changed_and_the_next_connection_knows_it(
    server: Daemon, tmp_path: Path, names: Iterator[str]
) -> None:
    async def story() -> None:
        async with people(server, tmp_path, names, 1) as (ann,):
            ann.client.passwords += ["pw", "another one"]
            await ann.does("/passwd", "password changed")
            ann.client.drop()
            await ann.hears("connected again")
            ann.client.passwords += ["wrong", "third"]
            await ann.does("/passwd", "wrong password")

    asyncio.run(story())


@pytest.mark.parametrize("verb", sorted(set(COMMANDS) - ELSEWHERE))
def test_every_command_was_tried(verb: str) -> None:
    """In this file, in whatever process it is run: the lines are looked up in its text."""
    text = Path(__file__).read_text()
    assert verb in TRIED or re.search(rf"does\(\s*f?['\"]/{verb}\b", text), verb
