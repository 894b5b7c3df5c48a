"""Completion and help at a real terminal, with a real server and names that have spaces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.client.grammar import COMMANDS, usage
from tests.harness.daemon import Daemon

from .process import Keyboard, run, terminal

CLEAR = "\x03"
"""Ctrl-C empties the line, and says what leaves."""


async def completes(person: Keyboard, typed: str, to: str) -> None:
    """Counted anew: the line may have looked so before."""
    person.raw = ""
    person.type(f"{typed}\t")
    await person.sees(to)
    person.type(CLEAR)
    await person.sees("Ctrl-D or /quit leaves")


one_worker = pytest.mark.parametrize("server", [1], indirect=True, ids=["1-worker"])


@one_worker
def test_completion_knows_what_each_word_is(server: Daemon, tmp_path: Path, names: Iterator[str]) -> None:
    me, friend, member = (f"{kind} {next(names)}" for kind in ("anna", "fred", "mary"))
    address = f"127.0.0.1:{server.ports['chatserver']}"
    (tmp_path / "password").write_text("pw\n")

    def log_in(name: str) -> list[str]:
        return ["--name", name, "--password-file", str(tmp_path / "password"), address]

    async def story() -> None:
        await run(tmp_path, [address], "".join(f'/register "{name}"\npw\n' for name in (me, friend, member)))
        _, printed = await run(tmp_path, log_in(me), f'/creategroup "team {me}"\n/addfriend "{friend}"\n')
        number = printed[1].rpartition(" ")[2]
        await run(tmp_path, log_in(friend), f'/accept "{me}"\n')
        await run(tmp_path, log_in(member), f'/joingroup {number}\n/addfriend "{me}"\n')
        async with terminal(tmp_path, "--no-history", *log_in(me)) as person:
            await person.sees(f"{me}> ")
            await person.sees("asks to be your friend")
            await completes(person, "/groupi", "/groupinfo")
            await completes(person, "/chat fr", f'/chat "{friend}"')
            await completes(person, '/chat "fr', f'/chat "{friend}"')
            await completes(person, "/unfriend f", f'/unfriend "{friend}"')
            await completes(person, "/refuse ma", f'/refuse "{member}"')
            await completes(person, "/g te", f'/g "team {me}"')
            await completes(person, "/kick #te", f'/kick "#team {me}"')
            await completes(person, f"/kick #{number} ma", f'/kick #{number} "{member}"')
            await completes(person, f'/role "#team {me}" "ma', f'"{member}"')
            await completes(person, f'/role #{number} "{member}" ad', "admin")
            await completes(person, "/history #te", f'/history "#team {me}"')
            await completes(person, "/privacy wr", "/privacy write")
            await completes(person, "/privacy write nob", "/privacy write nobody")
            await completes(person, "/groupset announ", "/groupset announcements")
            await completes(person, "/help unb", "/help unb")
            await person.enter(f"/g {number}", f"→ group {number}>")
            await completes(person, "/kick ma", f'/kick "{member}"')
            await completes(person, "hello @mar", f"hello @{member}")
            await person.enter("/help kick", "/kick [#GROUP] NAME  remove a member from a group")
            await person.enter("/help fly", "unknown command /fly; /help lists all commands")
            person.raw = ""
            person.type("/help\r")
            for command in COMMANDS.values():
                await person.sees(f"# {usage(command)}"[:60])

    asyncio.run(story())


def test_who_types_is_shown_at_the_edge_of_the_line(server: Daemon, tmp_path: Path, names: Iterator[str]) -> None:
    me, other = next(names), next(names)
    address = f"127.0.0.1:{server.ports['chatserver']}"
    (tmp_path / "password").write_text("pw\n")

    def log_in(name: str) -> list[str]:
        return ["--name", name, "--password-file", str(tmp_path / "password"), address]

    async def story() -> None:
        await run(tmp_path, [address], "".join(f'/register "{name}"\npw\n' for name in (me, other)))
        async with (
            terminal(tmp_path / "1", *log_in(me)) as ann,
            terminal(tmp_path / "2", *log_in(other)) as bob,
        ):
            await ann.sees(f"{me}> ")
            await bob.sees(f"{other}> ")
            await bob.enter(f'/chat "{me}" hello', f"→ {me}>")
            await ann.sees("hello")
            bob.type("I am")
            await ann.sees(f"{other} is typing")
            ann.raw = ""
            bob.type(" here\r")
            await ann.sees("I am here")

    asyncio.run(story())
