"""Edits and recalls made while a terminal was away, or of which it was not told: against a real chatd, and what the
client makes of numbers that are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatd.client import changes
from chatd.client.changes import Changes
from chatd_client.chatserver import outgoing
from chatd_client.chatserver.frames import Chat, shown
from chatd_client.conversations import Conversations
from chatd_client.events import MessageChanged
from chatd_client.journal import Journal
from chatd_client.memory import Memory
from chatd_client.model import Answer, User
from chatd_client.requests import Requests
from tests.harness.daemon import Daemon

from .recorder import Client, Recorder, client, until

two_workers = pytest.mark.parametrize("server", [2], indirect=True, ids=["2-workers"])


async def told(person: Client) -> list[str]:
    """What the person was told of changes until now, also of those that nobody has told the client of."""
    await person.do("/unread")
    words = (" edited ", " recalled ", " removed")
    return [one for one in person.screen.notices if any(word in one for word in words)]


@two_workers
def test_what_was_changed_while_the_terminal_was_away_is_told_when_it_is_back(
    server: Daemon, tmp_path: Path, names: Iterator[str]
) -> None:
    """Each message once, as it is now, also over a restart; a message that comes with the login comes as it is."""

    async def story() -> None:
        port, (alice, bob) = server.ports["chatserver"], (next(names), next(names))
        async with client(port, tmp_path / "a") as ann:
            await ann.do(f'/register "{alice}"', f'/register "{bob}"', f'/login "{alice}"', f'/chat "{bob}" one')
            await ann.do("two", "three")
            async with client(port, tmp_path / "b") as there:
                await there.do(f'/login "{bob}"')
                await until(lambda: len(there.screen.messages) == 3)
                await ann.do("/edit 1 one, better")
                await there.notices(f"{alice} edited 1: one, better")
                await there.do(f'/chat "{alice}" mine', "/edit mine, too")
            await ann.do("/edit 2 two, better", "/recall 3", "/edit 2 two, best", "five", "/edit 5 five, better")
            for times in range(2):
                async with client(port, tmp_path / "b") as back:
                    await back.do(f'/login "{bob}"')
                    changed = [f"{alice} recalled 3", f"{alice} edited 2: two, best"]
                    assert await told(back) == ([] if times else changed)
                    texts = [one.rpartition(": ")[2] for one in back.screen.messages]
                    assert texts == ([] if times else ["five, better"])

    asyncio.run(story())


@two_workers
def test_a_removal_in_a_group_is_told_and_a_reconnect_repeats_nothing(
    server: Daemon, tmp_path: Path, names: Iterator[str]
) -> None:
    async def story() -> None:
        port, (alice, bob) = server.ports["chatserver"], (next(names), next(names))
        async with client(port, tmp_path / "a") as ann, client(port, tmp_path / "b") as there:
            await ann.do(f'/register "{alice}"', f'/register "{bob}"', f'/login "{alice}"', "/creategroup lunch")
            number = max(ann.app.contacts.groups)
            await ann.do("/groupset #lunch join open")
            await there.do(f'/login "{bob}"', f"/joingroup {number}", f"/g {number} spam", f"/g {number} more")
            await until(lambda: len(ann.screen.messages) == 2)
            await there.do("/logout")
            await ann.do("/remove #lunch 1")
            await there.do(f'/login "{bob}"')
            expected = [f"message 1 of {bob} in lunch#{number} was removed"]
            assert await told(there) == expected
            there.drop()
            await there.notices("connected again")
            assert await told(there) == expected

    asyncio.run(story())


@two_workers
def test_what_waits_for_an_answer_is_told_at_login_and_not_at_a_reconnect(
    server: Daemon, tmp_path: Path, names: Iterator[str]
) -> None:
    async def story() -> None:
        port, (alice, bob, cyril) = server.ports["chatserver"], (next(names), next(names), next(names))
        async with client(port, tmp_path / "a") as ann, client(port, tmp_path / "c") as cy:
            await ann.do(f'/register "{alice}"', f'/register "{bob}"', f'/register "{cyril}"')
            await ann.do(f'/login "{alice}"', "/creategroup club", "/groupset #club join approval")
            number = max(ann.app.contacts.groups)
            await ann.do(f'/invite #club "{bob}"', "/logout")
            await cy.do(f'/login "{cyril}"', f"/joingroup {number}")
            for who, waits in ((alice, "asks to join club"), (bob, "invites you to club")):
                async with client(port, tmp_path / "x") as back:
                    await back.do(f'/login "{who}"')
                    await back.notices(waits)
                    back.drop()
                    await back.notices("connected again")
                    await told(back)  # asked and answered: what was sent at the login has come
                    assert sum(waits in one for one in back.screen.notices) == 1

    asyncio.run(story())


# ---------------------------------------------------------------- numbers


class Server:
    """Answers each `sync` with the next of these results."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.requests = Requests(5.0, outgoing.request)
        self.requests.start(self._hear)

    def _hear(self, frame: bytes) -> None:
        asked = msgspec.json.decode(frame)
        self.asked.append(asked)
        result = msgspec.Raw(msgspec.json.encode(self.answers.pop(0)))
        asyncio.get_running_loop().call_soon(self.requests.answered, Answer(asked["ref"], True, result, 0, ""))


class Numbers:
    """Remembers in a Memory, as the library's client does."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def known_change(self, place: str) -> int | None:
        return self.memory.changes.get(place)

    def learn_change(self, place: str, number: int) -> None:
        self.memory.knows_change(place, number, ())

    def newest_seen(self) -> dict[int, int]:
        return self.memory.newest_shown()


def head(number: int, place: str, user: int, last: int) -> dict[str, Any]:
    return {"id": number, "with": place, "user": user, "last": 9, "read": 9, "unread": 0, "changes": last}


def change(place: str, number: int, seq: int, state: str = "recalled") -> dict[str, Any]:
    return {"with": place, "change": number, "seq": seq, "from": "bob", "text": "", "state": state}


def made(server: Server, memory: Memory | None = None, shown: int = 9) -> tuple[Changes, Recorder]:
    screen = Recorder()
    numbers = Numbers(memory or Memory(None))
    found = Changes(Conversations(server.requests), numbers, screen, lambda place: "")
    found.begin(User(1, "ann"), {2: shown})
    return found, screen


def noticed(seq: int, number: int) -> MessageChanged:
    return MessageChanged("bob", seq, "recalled", by=User(2, "bob"), change=number)


def test_a_missing_number_is_asked_for() -> None:
    async def story() -> None:
        found, screen = made(Server({"conversations": [head(1, "bob", 2, 1)]}))
        await found.ask()
        assert (screen.notices, found.missed) == ([], False), "what was before the first login is not told"
        assert not found.arrived(noticed(4, 4))
        assert found.missed

    asyncio.run(story())


def test_the_rest_is_asked_for_and_told_in_order() -> None:
    async def story() -> None:
        server = Server(
            {"conversations": [head(1, "bob", 2, 4)]},
            {"conversations": [head(1, "bob", 2, 4)], "changes": [change("bob", 2, 5)], "more": True},
            {"conversations": [head(1, "bob", 2, 4)], "changes": [change("bob", 3, 6), change("bob", 4, 77)]},
        )
        memory = Memory(None)
        memory.knows_change("bob", 1, ())
        found, screen = made(server, memory)
        await found.ask()
        assert screen.notices == ["bob recalled 5", "bob recalled 6"], "77 was not shown before"
        assert [one["changes"] for one in server.asked] == [{}, {"bob": 1}, {"bob": 2}]
        assert memory.changes["bob"] == 4
        assert found.arrived(noticed(4, 5))
        found.own("bob", 6)
        assert found.arrived(noticed(4, 7)), "the person's own change is no gap"
        assert not found.arrived(noticed(4, 7)), "a copy is not told again"
        assert not found.missed

    asyncio.run(story())


def test_a_server_that_has_lost_its_data_begins_again() -> None:
    async def story() -> None:
        memory = Memory(None)
        memory.knows_change("bob", 50, ())
        found, screen = made(Server({"conversations": [head(1, "bob", 2, 3)]}), memory)
        await found.ask()
        assert (memory.changes["bob"], screen.notices) == (3, [])

    asyncio.run(story())


def test_very_many_changes_are_counted() -> None:
    async def story() -> None:
        memory = Memory(None)
        memory.knows_change("bob", 1, ())
        many = [change("bob", number, number) for number in range(2, changes.MAX_TOLD + 12)]
        last = many[-1]["change"]
        server = Server(
            {"conversations": [head(1, "bob", 2, last)]},
            {"conversations": [head(1, "bob", 2, last)], "changes": many},
        )
        found, screen = made(server, memory, shown=10_000)
        await found.ask()
        assert len(screen.notices) == changes.MAX_TOLD + 1
        assert screen.notices[-1] == "10 more messages were changed: /history shows them"

    asyncio.run(story())


def test_an_older_server_numbers_nothing() -> None:
    async def story() -> None:
        old = {key: value for key, value in head(1, "bob", 2, 0).items() if key not in ("changes", "user")}
        found, screen = made(Server({"conversations": [old]}))
        await found.ask()
        assert found.arrived(noticed(4, 0))
        assert (screen.notices, found.missed) == ([], False)

    asyncio.run(story())


def test_known_changes_and_shown_numbers_are_kept_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "1.journal"
    memory = Memory(Journal(path))
    for seq in (3, 5, 4):
        memory.showed(shown(Chat(2, "bob", 1, 0, "x", f"t{seq}", seq), 1), ())
    memory.knows_change("bob", 7, ())
    memory.knows_change("bob", 8, ())
    memory.abandon()
    for _ in range(2):
        memory = Memory(Journal(path))
        assert (memory.changes, memory.newest_shown()) == ({"bob": 8}, {2: 5})
        memory.close(())
