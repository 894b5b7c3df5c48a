"""The whole program, as a script and as a person use it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from .process import COMMAND, environment, run, terminal
from .recorder import serving, until
from .small_server import TIME, SmallServer

Scenario = Callable[[SmallServer, str], Awaitable[None]]


def play(scenario: Scenario) -> None:
    async def begin() -> None:
        async with serving() as server:
            await scenario(server, f"127.0.0.1:{server.port}")

    asyncio.run(begin())


# ---------------------------------------------------------------- scripts


def test_a_script_registers_writes_and_leaves_when_all_is_acknowledged(tmp_path: Path) -> None:
    async def scenario(server: SmallServer, address: str) -> None:
        server.account("bob")
        server.lose_acks = 2
        login = "/register alice\nsecret word\n/login alice\nsecret word\n"
        script = login + "/chat bob one\r\n\ntwo\nlast without newline ü"
        code, printed = await run(tmp_path, [address], script)
        assert code == 0
        assert server.texts() == ["one", "two", "last without newline ü"]
        assert printed[:2] == ["# registered alice, your number is 2; now: /login alice", "# logged in as alice(2)"]
        assert not any("secret" in line for line in printed)
        assert all(account.peer is None for account in server.accounts.values())
        assert server.received[-1]["msgid"] == 3

    play(scenario)


def test_a_file_as_input_and_a_password_in_the_line(tmp_path: Path) -> None:
    async def scenario(server: SmallServer, address: str) -> None:
        server.account("alice")
        server.account("bob")
        lines = "".join(f"line {number}\n" for number in range(3000))
        (tmp_path / "script").write_text("/login alice pw\n/chat 2\n" + lines + "/quit\nnot this\n")
        file = os.open(tmp_path / "script", os.O_RDONLY)
        try:
            code, _ = await run(tmp_path, [address], stdin=file)
        finally:
            os.close(file)
        assert code == 0
        assert server.texts() == lines.splitlines()

    play(scenario)


def test_waiting_to_receive_prints_each_line_at_once(tmp_path: Path) -> None:
    async def scenario(server: SmallServer, address: str) -> None:
        alice, bob = server.account("alice"), server.account("bob")
        team = server.group("team", bob, alice)
        (tmp_path / "password").write_text("pw\n")
        options = ["--name", "alice", "--password-file", str(tmp_path / "password"), "--wait", "3600", address]
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *options,
            env=environment(tmp_path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            assert await process.stdout.readline() == b"# logged in as alice(1)\n"
            server.message(bob, alice, "hi\nthere \x1b[31m")
            assert await process.stdout.readline() == f"[{TIME}] bob(2): hi⏎there \ufffd[31m\n".encode()
            server.store(bob, {"msgid": 11, "groupid": team.id, "msg": "all"}, [alice])
            assert await process.stdout.readline() == f"[{TIME}] team#1 bob(2): all\n".encode()
            server.cut()
            assert (await process.stdout.readline()).startswith(b"# connection lost (")
            assert await process.stdout.readline() == b"# connected again as alice(1)\n"
        finally:
            process.kill()
            await process.wait()

    play(scenario)


def test_what_a_killed_client_has_shown_its_successor_does_not(tmp_path: Path) -> None:
    async def scenario(server: SmallServer, address: str) -> None:
        alice, bob = server.account("alice"), server.account("bob")
        server.message(bob, alice, "one")
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            address,
            env=environment(tmp_path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"/login alice pw\n")
        while b"one" not in await process.stdout.readline():
            pass
        journal = tmp_path / "chatd" / "chat" / address.replace(":", "_") / "1.journal"
        await until(lambda: '["shown",2,1,' in journal.read_text())
        process.kill()
        await process.wait()
        await until(lambda: alice.peer is None)
        server.forget_deliveries(alice)
        server.message(bob, alice, "two")
        code, printed = await run(tmp_path, [address], "/login alice pw\n")
        assert code == 0
        assert printed == ["# logged in as alice(1)", f"[{TIME}] bob(2): two"]

    play(scenario)


def test_a_line_that_is_far_too_long_is_refused_and_the_next_goes_on(tmp_path: Path) -> None:
    async def scenario(server: SmallServer, address: str) -> None:
        server.account("alice")
        server.account("bob")
        lines = ["/login alice pw", "/chat bob one", "x" * 3_000_000, "two", ""]
        code, printed = await run(tmp_path, [address], "\n".join(lines))
        assert code == 3
        assert printed[1] == f"# not sent, too long: {'x' * 40}…"
        assert server.texts() == ["one", "two"]

    play(scenario)


@pytest.mark.parametrize(
    ("lines", "code", "told"),
    [
        ("/login alice wrong\n/chat bob x\n", 1, "# cannot log in as alice: unknown user or wrong password"),
        ("/login alice\n", 1, "# no password given"),
        ("/chat bob x\n", 1, "# not logged in: /login NAME first"),
        ("/login alice wrong\n/login alice pw\n", 0, "# logged in as alice(1)"),
        ("/login alice pw\n/chat nobody x\n", 3, "# not sent to nobody: no such user: x"),
        ("/login alice pw\nhello\n", 0, "# nobody is selected: /chat NAME TEXT first, or /help"),
        ("/login alice pw\n/fly\n", 0, "# unknown command /fly; /help lists all commands"),
        ("help\n", 0, "# /quit                                   log out and leave chat"),
        ("", 0, ""),
    ],
)
def test_exit_codes_of_scripts(tmp_path: Path, lines: str, code: int, told: str) -> None:
    async def scenario(server: SmallServer, address: str) -> None:
        server.account("alice")
        result, printed = await run(tmp_path, [address], lines)
        assert told in printed or not told
        assert result == code

    play(scenario)


def test_nobody_there_is_exit_code_1(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        code, printed = asyncio.run(run(tmp_path, [f"127.0.0.1:{unused.getsockname()[1]}"], "/login alice pw\n"))
    assert code == 1
    assert len(printed) == 1
    assert printed[0].startswith("# cannot connect to 127.0.0.1:")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["localhost"],
        ["localhost:x"],
        ["--wait", "-1", "localhost:1"],
        ["--password-file", "/no/file", "localhost:1"],
    ],
)
def test_usage_is_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    code, printed = asyncio.run(run(tmp_path, arguments))
    assert code == 2
    assert printed[0].startswith("usage: chat")


def test_a_reader_that_goes_ends_it_quietly(tmp_path: Path) -> None:
    async def scenario(server: SmallServer, address: str) -> None:
        alice, bob = server.account("alice"), server.account("bob")
        read, write = os.pipe()
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("--name", "alice", "--wait", "3600", address),
            env=environment(tmp_path),
            stdin=asyncio.subprocess.PIPE,
            stdout=write,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(write)
        assert process.stdin is not None
        process.stdin.write(b"pw\n")
        await until(lambda: alice.peer is not None)
        os.close(read)
        server.message(bob, alice, "into nothing")
        _, errors = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        assert errors == b""

    play(scenario)


# ---------------------------------------------------------------- a person


def test_a_person_at_a_terminal(tmp_path: Path) -> None:
    async def scenario(server: SmallServer, address: str) -> None:
        bob = server.account("bob")
        async with terminal(tmp_path, address) as person:
            await person.sees("Type /register NAME to make an account")
            await person.sees("chat> ")
            await person.enter("/register alice", "password of alice: ")
            await person.enter("s3cret", "repeat password: ")
            await person.enter("s3cret", "your number is 2")
            await person.enter("/login alice", "password of alice: ")
            await person.enter("s3cret", "logged in as alice(2)")
            assert "s3cret" not in person.seen
            alice = server.accounts[2]

            person.type("/chat bob hel")
            await person.sees("/chat bob hel")
            server.message(bob, alice, "while you type")
            await person.sees(f"[{TIME}] bob(1): while you type")
            await person.enter("lo", "alice → bob> ")
            await until(lambda: server.texts() == ["while you type", "hello"])

            server.cut()
            await person.sees("connection lost")
            await person.sees("connected again as alice(2)")
            await person.enter("still there", "alice → bob> ")
            await until(lambda: server.texts()[-1] == "still there")
            assert person.seen.count("whileyoutype") == 1

            person.type("/lo\t")
            await person.sees("/logout")
            person.type("\x03")
            await person.sees("Ctrl-D or /quit leaves")
            person.type("\x04")
            assert await person.exit_code() == 0
        history = (tmp_path / "chatd" / "history").read_text()
        assert "+/chat bob hello\n" in history
        assert "s3cret" not in history
        assert alice.peer is None

    play(scenario)


def test_a_password_typed_into_the_line_is_not_kept(tmp_path: Path) -> None:
    async def scenario(server: SmallServer, address: str) -> None:
        server.account("alice", "s3cret")
        async with terminal(tmp_path, address) as person:
            await person.sees("chat> ")
            await person.enter("/login alice s3cret", "logged in as alice(1)")
            await person.enter("/friends", "no friends yet")
            person.type("/quit\r")
            assert await person.exit_code() == 0
        history = (tmp_path / "chatd" / "history").read_text()
        assert "+/login alice\n" in history
        assert "s3cret" not in history
        assert (tmp_path / "chatd" / "history").stat().st_mode & 0o777 == 0o600

    play(scenario)


def test_what_is_typed_ahead_is_not_echoed_and_not_lost(tmp_path: Path) -> None:
    async def scenario(server: SmallServer, address: str) -> None:
        server.account("alice", "s3cret")
        server.deaf = True
        async with terminal(tmp_path, address) as person:
            await person.sees("chat>")
            person.type("/register x\rpw\rpw\r")
            await until(lambda: server.unheard == 1)
            person.type("/login alice\rs3cret\r/chat alice to myself\r\x04")
            server.deaf = False
            server.cut()
            await person.sees("the connection was lost before the answer")
            assert await person.exit_code() == 0
            assert "s3cret" not in person.seen
        assert server.texts() == ["to myself"]

    play(scenario)


def test_completion_offers_names(tmp_path: Path) -> None:
    async def scenario(server: SmallServer, address: str) -> None:
        alice, zoe = server.account("alice"), server.account("zoe-with-a-long-name")
        server.befriend(alice, zoe)
        (tmp_path / "password").write_text("pw")
        async with terminal(
            tmp_path, "--no-history", "--name", "alice", "--password-file", str(tmp_path / "password"), address
        ) as person:
            await person.sees("alice> ")
            person.type("/cha\t")
            await person.sees("alice> /chat")
            person.type(" zo\t")
            await person.sees("alice> /chat zoe-with-a-long-name")
            person.type(" hi\r")
            await until(lambda: server.texts() == ["hi"])
            person.type("/quit\r")
            assert await person.exit_code() == 0
        assert zoe.waiting[0]["msg"] == "hi"
        assert not (tmp_path / "chatd" / "history").exists()

    play(scenario)
