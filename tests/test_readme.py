"""The README's first chat works as it is written: its commands are run, and what it shows must appear.

In a network namespace of its own, where the default ports are free.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.client.process import Keyboard, terminal
from tests.client.recorder import until

ROOT = Path(__file__).parent.parent
SECTION = re.search(r"^## Try it in two minutes\n(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)
TIME = re.compile(r"^\[[\d :-]+\] ")
PASSWORD = "seven purple owls"


def blocks() -> list[list[str]]:
    """The indented blocks of the section, as lines."""
    assert SECTION is not None
    found = re.findall(r"(?:^    .*\n)+", SECTION[1], re.MULTILINE)
    return [[line.strip() for line in block.splitlines()] for block in found]


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"chatd-readme-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=30)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True, timeout=30)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True, timeout=30)


@pytest.fixture
def inside(namespace: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", namespace)


@pytest.fixture
def server(inside: tuple[str, ...], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`make run`, stopped with Ctrl-C. Its data directory has a short name: paths of Unix sockets are limited."""
    (command,) = blocks()[0]
    with (tmp_path / "run.log").open("w") as log, tempfile.TemporaryDirectory(prefix="chatd-") as var:
        process = subprocess.Popen(
            [*inside, *command.split(), f"VAR={var}"],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(30) in (0, 2, -signal.SIGINT)
            print((tmp_path / "run.log").read_text())


class Reader:
    """Somebody who follows the README: types what stands behind a prompt, and looks for every other line."""

    def __init__(self, stack: AsyncExitStack, inside: tuple[str, ...], home: Path) -> None:
        self._stack = stack
        self._inside = inside
        self._home = home
        self._terminals: list[Keyboard] = []
        self._names: dict[str, Keyboard] = {}

    async def follow(self, block: list[str]) -> None:
        if block[0].startswith("$ "):
            await self._open(block.pop(0)[2:])
            keyboard = self._terminals[-1]
        else:
            prompts = [line.partition(">")[0].split()[0] for line in block if ">" in line and line[0] not in "#["]
            keyboard = self._names[prompts[0]]
        for line in block:
            await self._line(keyboard, line)

    async def exit_code(self, name: str) -> int:
        return await self._names[name].exit_code()

    async def _open(self, command: str) -> None:
        home = self._home / str(len(self._terminals))
        whole = (*self._inside, *command.split())
        self._terminals.append(await self._stack.enter_async_context(terminal(home, command=whole)))
        await self._terminals[-1].sees("chat>")

    async def _line(self, keyboard: Keyboard, line: str) -> None:
        prompt, arrow, typed = line.partition("> ")
        if line.startswith("# "):
            await keyboard.sees(line)
            if line.startswith("# logged in as "):
                self._names[line.removeprefix("# logged in as ").partition("(")[0]] = keyboard
        elif TIME.match(line):
            await keyboard.sees(TIME.sub("", line))
        elif line.endswith(": ******"):
            await keyboard.sees(line.removesuffix("******"))
            keyboard.type(PASSWORD + "\r")
        else:
            assert arrow, f"a line of the README that is no prompt, no password and no output: {line}"
            await keyboard.sees(prompt + ">")
            keyboard.type(typed + "\r")


async def read(inside: tuple[str, ...], home: Path) -> None:
    async with AsyncExitStack() as stack:
        reader = Reader(stack, inside, home)
        for block in blocks()[1:]:
            await reader.follow(block)
        assert await reader.exit_code("bob") == 0


def is_listening(inside: tuple[str, ...]) -> bool:
    probe = "import socket; socket.create_connection(('127.0.0.1', 6000), 1)"
    return (
        subprocess.run([*inside, "python3", "-c", probe], capture_output=True, check=False, timeout=10).returncode == 0
    )


def page_of(inside: tuple[str, ...]) -> str:
    """What is behind the link."""
    assert SECTION is not None
    link = re.search(r"<(http:[^>]*)>", SECTION[1])
    assert link is not None
    fetch = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
    return subprocess.run(
        [*inside, "python3", "-c", fetch, link[1]], capture_output=True, text=True, timeout=20, check=True
    ).stdout


def test_the_first_chat_works_as_written(
    server: subprocess.Popen[str], inside: tuple[str, ...], tmp_path: Path
) -> None:
    async def story() -> None:
        await until(lambda: is_listening(inside))
        assert 'id="app"' in page_of(inside)
        await read(inside, tmp_path)

    asyncio.run(story())
    assert server.poll() is None


def test_the_section_shows_both_sides() -> None:
    told = blocks()
    assert told[0] == ["make run"]
    assert sum(block[0].startswith("$ ") for block in told) == 2
    assert len(told) >= 5
