"""The programs of the README and of examples/ do what they say, with TLS that is verified."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatd_client import Client
from tests.chatd_client.people import People
from tests.harness.deadline import run
from tests.harness.program import Program, started

HOME = Path(__file__).parents[2] / "clients" / "python"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (HOME / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@asynccontextmanager
async def running(people: People, *command: str, **env: str) -> AsyncIterator[Program]:
    certificate = people.daemon.certificate
    assert certificate is not None
    trusted = {"SSL_CERT_FILE": str(certificate.pem), "CHAT_PASSWORD": people.town.secret}
    env = {**os.environ, **trusted, **env}
    async with started(sys.executable, "-W", "error", *command, env=env) as program:
        yield program


async def block(people: People, number: int) -> tuple[str, str, str]:
    """A program of the README for this server: its text, the bot's name, alice's name."""
    bot, alice = await people.user("bot"), await people.user("alice")
    text = BLOCKS[number]
    for told, meant in (
        ('"tls://chat.example.org:8901"', f'"{people.url("tls")}"'),
        ('"bot"', f'"{bot}"'),
        ('"its password"', f'"{people.town.secret}"'),
        *([('"alice"', f'"{alice}"')] if number != 1 else []),
    ):
        assert told in text
        text = text.replace(told, meant)
    return text, bot, alice


def test_the_first_program(people: People) -> None:
    async def story() -> None:
        text, bot, alice = await block(people, 0)
        async with people.client(alice) as a, running(people, "-c", text) as program:
            assert (await a.receive(20)).text == "hello"
            await program.prints("stored as number 1 at ")
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


def test_the_program_that_sends(people: People) -> None:
    async def story() -> None:
        text, bot, _ = await block(people, 1)
        async with running(people, "-c", text) as program:
            assert await program.exit_code() == 0
            assert program.lines == ["there is no such user"]
        async with people.client(bot) as b:
            (team,) = await b.groups.list()
            assert [one.text async for one in b.conversations.history(f"#{team.id}")] == ["good morning"]

    run(story())


def test_the_program_that_reads_what_is_unread(people: People) -> None:
    async def story() -> None:
        text, bot, alice = await block(people, 2)
        async with people.client(alice) as a:
            await a.privacy.set(see="everybody")
            await a.send(bot, "one")
            await a.send(bot, "two")
        async with running(people, "-c", text) as program:
            await program.prints("live")
            async with people.client(alice):
                await program.prints(f"{alice} is online")
            await asyncio.to_thread(people.daemon.ctl_said, "broadcast", "tea is ready")
            assert await program.exit_code() == 0
            assert program.lines[:3] == [f"{alice}: 2 unread", f"  1 {alice}: one", f"  2 {alice}: two"]
            assert program.lines[-1] == "the operator says: tea is ready"

    run(story())


def test_the_bot_answers_and_a_killed_one_answers_later(people: People, tmp_path: Path) -> None:
    async def story() -> None:
        bot, alice = await people.user("bot"), await people.user("alice")
        command = (str(HOME / "examples" / "bot.py"), people.url("wss"), bot, str(tmp_path / "bot.journal"))
        async with people.client(alice) as a:
            async with running(people, *command) as program:
                await program.prints("is there")
                assert (await ask(a, bot, "!echo hello")) == "hello"
                program.process.kill()
                await program.process.wait()
            await a.send(bot, "!help")
            async with running(people, *command):
                assert (await a.receive(20)).text == "!echo TEXT, !time, !help"
                assert (await ask(a, bot, "!echo again")) == "again"

    async def ask(client: Client, bot: str, text: str) -> str:
        await client.send(bot, text)
        return (await client.receive(20)).text

    run(story())


def test_the_bridge_carries_each_message_once_although_it_is_killed(people: People, tmp_path: Path) -> None:
    async def story() -> None:
        bridge, alice, bob = [await people.user(name) for name in ("bridge", "alice", "bob")]
        gate = await people.user("bridge")  # on one server the two sides need two users
        async with people.client(alice) as a, people.client(bob) as b:
            here, there = (
                (await a.groups.create("here", join="open")).id,
                (await b.groups.create("there", join="open")).id,
            )
            for name, group in ((bridge, here), (gate, there)):
                async with people.client(name) as joining:
                    await joining.groups.join(group)
            program = bridge_program(tmp_path, {bridge: here, gate: there})
            command = (str(program), people.url("tls"), f"#{here}", people.url("ws"), f"#{there}")
            for number in range(3):
                async with running(people, *command, CHAT_STATE=str(tmp_path)) as bridging:
                    await bridging.prints("the bridge is open")
                    for at in range(5):
                        await a.send(f"#{here}", f"{number}.{at}")
                    await b.send(f"#{there}", f"back {number}")
                    assert (await a.receive(20)).text == f"{bob}: back {number}"
            async with running(people, *command, CHAT_STATE=str(tmp_path)):
                got = [(await b.receive(20)).text for _ in range(15)]
            assert got == [f"{alice}: {number}.{at}" for number in range(3) for at in range(5)]

    def bridge_program(folder: Path, users: dict[str, int]) -> Path:
        """The example with one user per group in place of one user of two servers."""
        text = (HOME / "examples" / "bridge.py").read_text()
        named = 'name = os.environ["CHAT_NAME"]'
        assert named in text
        by_group = {f"#{group}": name for name, group in users.items()}
        path = folder / "bridge.py"
        path.write_text(text.replace(named, f"name = {by_group!r}[group]"))
        return path

    run(story())


def test_the_pipe_carries_lines_both_ways(people: People) -> None:
    async def story() -> None:
        pipe, alice = await people.user("pipe"), await people.user("alice")
        command = (str(HOME / "examples" / "pipe.py"), people.url("tls"), pipe, alice, "1")
        async with people.client(alice) as a, running(people, *command) as program:
            program.type("one", "zwei ü")
            assert [(await a.receive(20)).text for _ in range(2)] == ["one", "zwei ü"]
            await a.send(pipe, "an answer")
            await program.prints("an answer")
            assert program.process.stdin is not None
            program.process.stdin.close()
            assert await program.exit_code() == 0
        async with running(people, *command[:3], "nobody-has-this-name") as program:
            program.type("x")
            assert program.process.stdin is not None
            program.process.stdin.close()
            assert await program.exit_code() == 1
            assert program.lines == ["x: no such user"]

    run(story())
