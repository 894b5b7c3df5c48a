"""docs/connect.md works as it is written: its files are made, its commands are run, and what it shows must appear.

In a network namespace of its own, where its ports are free.
"""

from __future__ import annotations

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
        said.touch()  # a command in the background may open it later than we read it
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


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ('audience = ["chat"]', 'audiences = ["chat"]', "audiences"),
        ("messages:read,users:read", "messages:reads,users:read", "messages:reads"),
        ("the configuration is valid", "everything is fine", "everything"),
    ],
    ids=("an option that does not exist", "a scope that does not exist", "an answer that is not given"),
)
def test_a_mistake_in_the_page_is_found(right: str, wrong: str, told: str, home: Path, shell: Shell) -> None:
    assert PAGE.count(right) == 1
    with pytest.raises(AssertionError, match=told):
        follow(PAGE.replace(right, wrong), home, shell, {})


DJANGO = """
import json

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="of a test", ROOT_URLCONF="urls", ALLOWED_HOSTS=["testserver"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
)
django.setup()

from datetime import datetime, timezone

import jwt
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from views import chat, webhook

call_command("migrate", verbosity=0)
site = Client(enforce_csrf_checks=True)
assert site.get("/chat-token").status_code == 302
site.force_login(User.objects.create_user("alice"))
answer = site.get("/chat-token").json()
assert answer["name"] == "alice"
assert jwt.decode(answer["token"], chat.TOKEN_SECRET, algorithms=["HS256"], audience="chat")["sub"] == "alice"

told = json.dumps({"events": [{"type": "message.stored", "data": {"text": "hello"}}]})
now = datetime.now(timezone.utc)
headers = {
    "webhook-id": "1", "webhook-timestamp": str(int(now.timestamp())),
    "webhook-signature": webhook.sign("1", now, told),
}
backend = Client(enforce_csrf_checks=True)
send = lambda body: backend.post("/chat-events", body, content_type="application/json", headers=headers).status_code
assert send(told) == 204
assert send(told.replace("hello", "forged")) == 401
"""
URLS = """
from django.urls import path

import views

urlpatterns = [path("chat-token", views.chat_token), path("chat-events", views.chat_events)]
"""


def test_the_views_for_django_log_in_and_verify(tmp_path: Path) -> None:
    for block in blocks(PAGE):
        if block.file in ("chat.py", "views.py"):
            (tmp_path / block.file).write_text(block.text)
    (tmp_path / "urls.py").write_text(URLS)
    (tmp_path / "try.py").write_text(DJANGO)
    for secret, text in (("token", "0" * 64), ("webhook", "whsec_" + "A" * 43 + "=")):
        (tmp_path / f"{secret}.secret").write_text(text)
    (tmp_path / "chatd.key").write_text("a key")
    ran = subprocess.run(
        [sys.executable, "try.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "message.stored {'text': 'hello'}\n"
