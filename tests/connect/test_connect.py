"""docs/connect.md works as it is written: its files are made, its commands are run, and what it shows must appear.

In a network namespace of its own, where its ports are free.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import sync_playwright

from tests.harness.browser import CHROMIUM, FLAGS
from tests.harness.deadline import wait_until

pytestmark = pytest.mark.xdist_group("connect")
TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "connect.md").read_text()
LIMIT_S = 30
ANYTHING = "…"


class Block(NamedTuple):
    """kind: of the code. file: that it is, "" = none; a file with " +" is added to."""

    kind: str
    file: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w+) ?(.*)\n((?:.*\n)*?)```$", page, re.MULTILINE)]


class Shell:
    """One bash in a directory, in which commands are run one after the other; they see each other's jobs."""

    def __init__(self, home: Path, inside: tuple[str, ...]) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "PYTHONPATH": f"{TOP}:{TOP / 'clients' / 'python'}", "PYTHONUNBUFFERED": "1"}
        self._home = home
        self._count = 0
        self._bash = subprocess.Popen(
            [*inside, "bash"], cwd=home, env=env, stdin=subprocess.PIPE, text=True, start_new_session=True,
            stdout=(home / "bash.log").open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        if os.geteuid() == 0:  # a reader is not root
            self.run('chatd() { command chatd --allow-root "$@"; }')

    def run(self, command: str) -> str:
        """What it prints, of both kinds. A command in the background prints into a file."""
        self._count += 1
        said, done = self._home / f"said.{self._count}", self._home / f"done.{self._count}"
        assert self._bash.stdin is not None
        if command.endswith("&"):
            self._bash.stdin.write(f"{command.removesuffix('&')} > {said} 2>&1 &\necho > {done}\n")
        else:
            self._bash.stdin.write(f"{{ {command}\n}} > {said} 2>&1\necho > {done}\n")
        self._bash.stdin.flush()
        wait_until(LIMIT_S, f"the end of {command}", done.exists)
        if "uvicorn" in command:
            wait_until(LIMIT_S, "the backend listens", lambda: "running on" in said.read_text())
        return said.read_text()

    def close(self) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        self._bash.wait(LIMIT_S)


def pattern_of(shown: list[str]) -> str:
    return "\n".join(".*".join(map(re.escape, line.split(ANYTHING))) for line in shown)


def follow(page: str, home: Path, shell: Shell, before: Mapping[str, Callable[[], None]]) -> None:
    """before: what else is done, before a command that begins so. Raises AssertionError where something else happens
    than the page says."""
    for block in blocks(page):
        if block.kind != "console":
            name, _, more = block.file.partition(" ")
            assert name, f"a block without a file: {block.text}"
            file = home / name
            file.parent.mkdir(exist_ok=True)
            with file.open("a" if more == "+" else "w") as out:
                out.write("\n\n" + block.text if more == "+" else block.text)
            continue
        for asked in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, *shown = asked.rstrip("\n").split("\n")
            for beginning, work in before.items():
                if command.startswith(beginning):
                    work()
            said = shell.run(command).strip()
            if command.endswith("&"):
                continue
            wanted = pattern_of(shown)
            assert re.fullmatch(wanted, said, re.DOTALL), f"$ {command}\n{said}\nis not\n{wanted}"


@pytest.fixture
def inside() -> Iterator[tuple[str, ...]]:
    name = f"chatd-connect-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=LIMIT_S)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True, timeout=LIMIT_S)
        yield ("ip", "netns", "exec", name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True, timeout=LIMIT_S)


@pytest.fixture
def home() -> Iterator[Path]:
    """With a short name: paths of Unix sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="chatd-") as name:
        (Path(name) / "static").mkdir()
        shutil.copy(TOP / "clients" / "js" / "chatd.js", Path(name) / "static")
        yield Path(name)


def browse(home: Path, inside: tuple[str, ...], shell: Shell) -> None:
    """Step 6 in a browser in which alice is logged in to the application."""
    program = home / "browser"
    program.write_text(f'#!/bin/sh\nexec {" ".join(inside)} {CHROMIUM} "$@"\n')
    program.chmod(0o700)
    session = re.search(r"\tsession\t(\S+)", (home / "alice.cookies").read_text())
    assert session is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        context = browser.new_context()
        context.add_cookies([{"name": "session", "value": session[1], "url": "http://127.0.0.1:8000"}])
        page = context.new_page()
        page.goto("http://127.0.0.1:8000/static/")
        page.get_by_text("0: Your order 4711 is on its way.", exact=True).wait_for()
        page.fill("#to", "bob")
        page.fill("#text", "<b>from a page</b>")
        page.click("button")
        page.get_by_text("to bob: <b>from a page</b>", exact=True).wait_for()
        shell.run("curl -s -b alice.cookies http://127.0.0.1:8000/orders --json '{\"number\": 1}'")
        page.get_by_text("0: Your order 1 is on its way.", exact=True).wait_for()
        browser.close()
    assert "from a page" in shell.run("curl -s -b alice.cookies http://127.0.0.1:8000/history/bob")


def pids(inside: tuple[str, ...]) -> list[str]:
    """Of the processes in the namespace."""
    command = ["ip", "netns", "pids", inside[-1]]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S).stdout.split()


@pytest.fixture
def shell(home: Path, inside: tuple[str, ...]) -> Iterator[Shell]:
    shell = Shell(home, inside)
    try:
        yield shell
    finally:
        shell.close()
        for pid in pids(inside):
            subprocess.run(["kill", "-9", pid], check=False, timeout=LIMIT_S)


def test_the_page_works_as_it_is_written(home: Path, inside: tuple[str, ...], shell: Shell) -> None:
    seen = []

    def in_a_browser() -> None:
        browse(home, inside, shell)
        seen.append("messages")

    follow(PAGE, home, shell, {"curl -s -b alice.cookies -X DELETE": in_a_browser})
    assert seen == ["messages"]
    wait_until(LIMIT_S, "only the shell is left", lambda: len(pids(inside)) == 1)


def test_a_mistake_in_the_page_is_found(home: Path, inside: tuple[str, ...], shell: Shell) -> None:
    """A key with too few scopes, an option that does not exist."""
    wrong = PAGE.replace('audience = ["chat"]', 'audiences = ["chat"]')
    with pytest.raises(AssertionError, match="audiences"):
        follow(wrong, home, shell, {})


def test_the_code_for_django_is_correct() -> None:
    """Django is not installed for this: what is checked is what can be without it."""
    (view,) = [block for block in blocks(PAGE) if block.file == "views.py"]
    tree = ast.parse(view.text)
    defined = {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
    assert defined == {"chat_token", "chat_events"}
