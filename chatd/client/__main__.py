"""`chat HOST:PORT`: arguments, then a person at a terminal or a script through pipes.

Owns: options, exit codes (0 ok, 1 could not connect or log in, 2 usage, 3 a message was refused or is not
acknowledged), where files are, and putting the parts together.
Elsewhere: the parts (all other modules of chatd.client).
Fails: by exit code, with one line on standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from chatd import __version__, completion
from chatd.client.account_commands import AskPassword
from chatd.client.app import App
from chatd.client.commands import Commands
from chatd.client.grammar import quoted
from chatd.client.memory import open_memory
from chatd.client.screen import PipedInput, PlainScreen, Screen, ScreenGone
from chatd_client.address import ServerAddress, make_context, parse_address
from chatd_client.chatserver import Client
from chatd_client.errors import Unreachable
from chatd_client.memory import Memory

OK, NO_LOGIN, USAGE, NOT_DELIVERED = 0, 1, 2, 3


class Options(msgspec.Struct, frozen=True):
    address: ServerAddress
    name: str
    password: str | None
    wait_s: float
    history: bool
    takeover: bool
    state_dir: Path


class Input(Protocol):
    async def line(self) -> str | None: ...

    async def password(self, prompt: str, new: bool) -> str | None: ...


def main() -> None:
    """Converse until the user leaves, and end the process with the exit code."""
    try:
        code = asyncio.run(_converse(_options(sys.argv[1:])))
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def parser() -> argparse.ArgumentParser:
    """The whole command line; also the source of the manual page and the completions."""
    made = argparse.ArgumentParser(prog="chat", description="A terminal client for a chatd server.")
    listener = "the server's chatserver listener; tls://HOST:PORT is the same as --tls"
    made.add_argument("address", metavar="HOST:PORT", type=_address, help=listener)
    made.add_argument("--tls", action="store_true", help="encrypt, and verify the server's certificate")
    trusted = "PEM file of the certificates that may have signed the server's (default: this system's)"
    file = made.add_argument("--ca", metavar="FILE", default="", help=trusted)
    file.complete = completion.FILE  # type: ignore[attr-defined]
    made.add_argument("--name", default="", metavar="NAME|ID", help="log in as this user at once")
    made.add_argument("--takeover", action="store_true", help="with --name: end your session at another terminal")
    file = made.add_argument("--password-file", metavar="FILE", help="take passwords from the first line of FILE")
    file.complete = completion.FILE  # type: ignore[attr-defined]
    stay = "keep running this long after the end of the input, to receive messages"
    made.add_argument("--wait", type=_seconds, default=0.0, metavar="SECONDS", help=stay)
    made.add_argument("--no-history", action="store_true", help="do not save the lines you type")
    made.add_argument("--version", action="version", version=f"chat {__version__}")
    completion.add_option(made)
    return made


def _options(argv: Sequence[str]) -> Options:
    arguments = parser()
    given = arguments.parse_args(argv)
    try:
        password = _first_line(given.password_file) if given.password_file else None
    except OSError as error:
        arguments.error(f"{given.password_file}: {error.strerror}")
    address = msgspec.structs.replace(given.address, tls=given.address.tls or given.tls, authorities=given.ca)
    if given.takeover and not given.name:
        arguments.error("--takeover is for --name")
    if address.authorities and not address.tls:
        arguments.error("--ca is for --tls")
    try:
        make_context(address)
    except OSError as error:
        arguments.error(f"--ca: {error.strerror or error}")
    return Options(
        address=address,
        name=given.name,
        password=password,
        wait_s=given.wait,
        history=not given.no_history,
        takeover=given.takeover,
        state_dir=_state_dir(),
    )


def _address(text: str) -> ServerAddress:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _first_line(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\r\n")


def _state_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "chatd"


async def _converse(options: Options) -> int:
    if sys.stdin.isatty() and sys.stdout.isatty():
        return await _at_terminal(options)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    source = PipedInput(sys.stdin.fileno())
    source.start()
    screen = PlainScreen(sys.stdout)
    app, commands = _build(options, screen, source.password)
    try:
        return await _run(options, app, commands, source, screen)
    except* ScreenGone:
        pass
    return NO_LOGIN


async def _at_terminal(options: Options) -> int:
    # Only here: scripts start without loading prompt_toolkit.
    from chatd.client.terminal import Terminal

    terminal = Terminal(options.state_dir / "history" if options.history else None)
    app, commands = _build(options, terminal, terminal.password)
    terminal.bind(app, commands)
    with terminal.active():
        return await _run(options, app, commands, terminal, terminal)


def _build(options: Options, screen: Screen, ask: AskPassword) -> tuple[App, Commands]:
    async def password(prompt: str, new: bool) -> str | None:
        return await ask(prompt, new) if options.password is None else options.password

    def remember(user_id: int) -> Memory:
        return open_memory(options.state_dir / "chat", options.address, user_id, screen.notice)

    app = App(options.address, screen, remember)
    return app, Commands(app, screen, password)


async def _run(options: Options, app: App, commands: Commands, source: Input, screen: Screen) -> int:
    async with asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(app.client.keep())
        try:
            return await _talk(options, app.client, commands, source, screen)
        finally:
            keeper.cancel()


async def _talk(options: Options, client: Client, commands: Commands, source: Input, screen: Screen) -> int:
    try:
        await client.connect()
    except Unreachable as error:
        screen.notice(str(error))
        return NO_LOGIN
    verb = "takeover" if options.takeover else "login"
    stay = not options.name or await commands.run(f"/{verb} {quoted(options.name)}")
    if commands.login_failed and not sys.stdin.isatty():
        return NO_LOGIN
    left = await _read_lines(client, commands, source) if stay else True
    if not left and client.user is not None:
        await asyncio.sleep(options.wait_s)
    return await _leave(client, commands, screen)


async def _read_lines(client: Client, commands: Commands, source: Input) -> bool:
    """True when a line said to leave, False at the end of the input."""
    while (line := await source.line()) is not None:
        await client.room()
        if not await commands.run(line):
            return True
    return False


async def _leave(client: Client, commands: Commands, screen: Screen) -> int:
    if client.user is not None:
        await client.settle()
    settled = not client.unacknowledged
    if not settled:
        screen.notice(f"not acknowledged: {client.unacknowledged}; sent again at the next login")
    await client.leave()
    if commands.login_failed:
        return NO_LOGIN
    return OK if settled and not client.refused else NOT_DELIVERED


if __name__ == "__main__":
    main()
