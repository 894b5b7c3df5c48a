"""A screen that remembers, and waiting for what is to appear on it. One scenario is one coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from chatd.client.app import App
from chatd.client.commands import Commands
from chatd.client.memory import open_memory
from chatd.client.screen import origin
from chatd_client.address import ServerAddress
from chatd_client.chatserver import Chat
from chatd_client.timing import Timing

from .small_server import SmallServer

DEADLINE_S = 20.0
QUICK = Timing(connect_s=3, answer_s=3, backoff_first_s=0.01, backoff_most_s=0.1, settle_s=5, linger_s=2, taken_s=1)


async def until(
    condition: Callable[[], object], what: Callable[[], str] = lambda: "", limit_s: float = DEADLINE_S
) -> None:
    """Returns when condition holds; fails at the deadline."""
    give_up_at = asyncio.get_running_loop().time() + limit_s
    while not condition():
        assert asyncio.get_running_loop().time() < give_up_at, f"did not happen: {what()}"
        await asyncio.sleep(0.005)


class Recorder:
    is_interactive = False

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.notices: list[str] = []

    def message(self, chat: Chat, group_name: str) -> None:
        self.messages.append(f"{origin(chat, group_name)}: {chat.text}")

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def status(self) -> None:
        pass

    def noticed(self, text: str) -> bool:
        return any(text in notice for notice in self.notices)


class Client:
    """passwords: what is typed next where one is asked for; then "pw"."""

    def __init__(self, app: App, commands: Commands, screen: Recorder, passwords: list[str]) -> None:
        self.passwords = passwords
        self.app = app
        self.session = app.client
        """The library's client."""
        self.commands = commands
        self.screen = screen

    async def do(self, *lines: str) -> None:
        for line in lines:
            assert await self.commands.run(line)

    def drop(self) -> None:
        """The connection breaks."""
        self.session.drop()

    async def shows(self, *messages: str) -> None:
        """Exactly these, in this order, from the first on."""
        await until(lambda: len(self.screen.messages) >= len(messages), lambda: f"{messages} in {self.screen.messages}")
        assert self.screen.messages == list(messages)

    async def notices(self, text: str) -> None:
        await until(lambda: self.screen.noticed(text), lambda: f"{text!r} in {self.screen.notices}")


@asynccontextmanager
async def client(port: int, state_dir: Path, timing: Timing = QUICK, ca: str = "") -> AsyncIterator[Client]:
    """A running session, over TLS if there is a ca. It is not left politely (a killed client), unless the scenario
    does."""
    screen = Recorder()
    address = ServerAddress("127.0.0.1", port, tls=bool(ca), authorities=ca)

    passwords: list[str] = []

    async def password(prompt: str, new: bool) -> str:
        return passwords.pop(0) if passwords else "pw"

    app = App(address, screen, lambda user: open_memory(state_dir, address, user, screen.notice), timing)
    keeper = asyncio.create_task(app.client.keep())
    try:
        yield Client(app, Commands(app, screen, password), screen, passwords)
    finally:
        keeper.cancel()
        await asyncio.wait([keeper])
        app.client.abandon()  # as the kernel does for a killed process: locks go, nothing is written
        if not keeper.cancelled():
            keeper.result()


@asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[SmallServer]:
    server = SmallServer()
    server.port = port
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
