"""The commands of the client: a line is understood, and carried out.

Owns: Commands: which part carries out which command, and what its failures mean to the person.
Elsewhere: the form of a line (grammar), the commands themselves (account_commands, message_commands, file_commands,
people_commands, group_commands), where plain lines go (target), talking to the server (chatd_client).
Fails: never; what was not done is told to the person.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from chatd.client.account_commands import AccountCommands, AskPassword
from chatd.client.app import App
from chatd.client.file_commands import FileCommands
from chatd.client.grammar import COMMANDS, Command, Usage, understand, usage
from chatd.client.group_commands import GroupCommands
from chatd.client.message_commands import MessageCommands
from chatd.client.people_commands import PeopleCommands
from chatd.client.screen import Screen
from chatd.client.target import Target
from chatd_client.errors import ChatError, NotLoggedIn
from chatd_client.model import Destination

CarryOut = Callable[[Sequence[str]], Awaitable[None]]


class Commands:
    def __init__(self, app: App, screen: Screen, ask_password: AskPassword) -> None:
        self.login_failed = False
        """The last login was refused, or something was asked for that needs one."""
        self._screen = screen
        self._target = Target(app, screen)
        self._accounts = AccountCommands(app, screen, self._target, ask_password)
        self._verbs: dict[str, CarryOut] = {
            "help": self._help,
            **self._accounts.verbs(),
            **MessageCommands(app, screen, self._target).verbs(),
            **FileCommands(app, screen, self._target).verbs(),
            **PeopleCommands(app, screen).verbs(),
            **GroupCommands(app, screen, self._target).verbs(),
        }

    @property
    def selected(self) -> Destination | None:
        """Where plain lines go."""
        return self._target.selected

    async def run(self, line: str) -> bool:
        """Carry out the line; False if it says to leave."""
        if not line.strip():
            return True
        try:
            request = understand(line.rstrip("\r\n"))
            if request.verb == "quit":
                return False
            if request.verb in ("login", "takeover"):
                self.login_failed = True
            await self._verbs[request.verb](request.words)
            if request.verb in ("login", "takeover"):
                self.login_failed = False
        except NotLoggedIn:
            self.login_failed = True
            self._screen.notice("not logged in: /login NAME first")
        except (Usage, ChatError) as error:
            self._screen.notice(str(error))
        return True

    async def _help(self, words: Sequence[str]) -> None:
        if words:
            command = COMMANDS.get(words[0].removeprefix("/"))
            if command is None:
                raise Usage(f"unknown command /{words[0].removeprefix('/')}; /help lists all commands")
            self._screen.notice(f"{usage(command)}  {command.help}")
            return
        width = max(len(usage(command)) for command in COMMANDS.values() if not _is_long(command))
        for command in COMMANDS.values():
            self._screen.notice(f"{usage(command):{width}}  {command.help}")


def _is_long(command: Command) -> bool:
    """Its usage does not decide the width of the list."""
    return len(usage(command)) > 44
