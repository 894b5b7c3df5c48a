"""The programs of the README do what they say: those for Node.js there, the page in a browser."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.chatd_client.people import People
from tests.chatd_client_js import places
from tests.chatd_client_js.conftest import server
from tests.chatd_client_js.places import HOME, TOOLS, Browser
from tests.harness.deadline import run
from tests.harness.program import Program, started

BLOCKS = re.findall(r"^```js\n(.*?)^```$", (HOME / "README.md").read_text(), re.MULTILINE | re.DOTALL)
FIRST, PAGE, SENDS, READS = range(4)


@asynccontextmanager
async def running(people: People, folder: Path, number: int, **names: str) -> AsyncIterator[Program]:
    """A program of the README for this server. names: whom its users are here."""
    modules = folder / "node_modules"
    if not modules.exists():
        modules.mkdir()
        (modules / "chatd-client").symlink_to(HOME)
        (modules / "ws").symlink_to(TOOLS / "ws")
    text = BLOCKS[number]
    told = {"wss://chat.example.org/websocket": people.url("ws"), "its password": people.town.secret, **names}
    for name, meant in told.items():
        assert json.dumps(name) in text
        text = text.replace(json.dumps(name), json.dumps(meant))
    program = folder / f"{number}.mjs"
    program.write_text(text)
    flags = ("--no-warnings", *(() if number == SENDS else ("--experimental-websocket",)))
    async with started("node", *flags, str(program), cwd=folder) as made:
        yield made


def test_the_first_program(people: People, tmp_path: Path) -> None:
    async def story() -> None:
        bot, alice = await people.user("bot"), await people.user("alice")
        async with people.client(alice) as a, running(people, tmp_path, FIRST, bot=bot, alice=alice) as program:
            assert (await a.receive(20)).text == "hello"
            await program.prints("stored as number 1")
            for said in ("well", "bye"):
                sent = await a.send(bot, said)
                answer = await a.receive(20)
                assert (answer.text, answer.reply) == ("thank you", sent.seq)
            assert await program.exit_code() == 0
            assert program.lines[1:] == [f"{alice} in {alice}: well", f"{alice} in {alice}: bye"]
        async with people.client(bot) as b:
            with pytest.raises(TimeoutError):
                await b.receive(0.3)  # the message at which the program left counts as taken

    run(story())


def test_the_program_that_sends(people: People, tmp_path: Path) -> None:
    async def story() -> None:
        bot = await people.user("bot")
        async with running(people, tmp_path, SENDS, bot=bot) as program:
            assert await program.exit_code() == 0, program.lines
            assert program.lines == ["there is no such user"]
        async with people.client(bot) as b:
            (team,) = await b.groups.list()
            assert [one.text async for one in b.conversations.history(f"#{team.id}")] == ["good morning"]

    run(story())


def test_the_program_that_reads_what_is_unread(people: People, tmp_path: Path) -> None:
    async def story() -> None:
        bot, alice = await people.user("bot"), await people.user("alice")
        async with people.client(alice) as a:
            await a.privacy.set(see="everybody")
            await a.send(bot, "one")
            await a.send(bot, "two")
        async with running(people, tmp_path, READS, bot=bot, alice=alice) as program:
            await program.prints(f"{alice} is offline")
            async with people.client(alice):
                await program.prints(f"{alice} is online")
            await asyncio.to_thread(people.daemon.ctl_said, "broadcast", "tea is ready")
            assert await program.exit_code() == 0
            assert program.lines[:3] == [f"{alice}: 2 unread", f"  1 {alice}: one", f"  2 {alice}: two"]
            assert program.lines[-1] == "the operator says: tea is ready"

    run(story())


def test_the_page(people: People, browser: Browser) -> None:
    """It says what happens, is told of a second tab, and goes on where it was used last."""
    source = BLOCKS[PAGE].replace('import { Client, IndexedDbJournal, JournalUnusable, Kicked } from "/chatd.js";', "")
    source = source.replace("export function start", "function start").replace("    token,\n", "    password: token,\n")
    assert "export" not in source
    begin = (
        source
        + """
        globalThis.shown = [];
        globalThis.chat = start(server.url, name, server.secret, (text) => shown.push(text), takeOver);
        globalThis.shows = (text) => until(`${text} in ${JSON.stringify(shown)}`, () => shown.includes(text));
        """
    )

    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        where = {"server": server(people), "name": ann}
        async with places.profile(browser) as made, people.client(bob) as b:
            first, second = await made.tab(), await made.tab()
            await b.send(ann, "hello")
            await first.run(begin + "await shows(`${other}: hello`);", **where, takeOver=False, other=bob)
            await first.run("await chat.send(other, 'yes'); await shows(`yes to ${other}: stored`);", other=bob)
            await second.run(begin + 'await shows("This chat is open in another tab.");', **where, takeOver=False)
            await second.run(begin + 'await shows("live ");', **where, takeOver=True)
            await first.run('await shows("You have logged in elsewhere.");')
            await b.conversations.mark_read(ann, 2)
            await second.run("await shows(`${other} has read ${other} up to 2`); equal(violations, []);", other=bob)

    run(story())
