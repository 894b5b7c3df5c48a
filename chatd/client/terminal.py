"""The screen of an interactive terminal: a line to type on, with everything else above it.

Owns: the use of prompt_toolkit: history, completion, colours, passwords without echo.
Elsewhere: the form of a line (screen), what a line does (commands), what completion offers (completion).
Fails: never; a history file that cannot be used is reported once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout

from chatd.client.completion import NameCompleter
from chatd.client.grammar import COMMANDS, Usage, quoted, understand
from chatd.client.screen import clean, origin, text_of
from chatd_client.chatserver import Chat

if TYPE_CHECKING:
    from chatd.client.app import App
    from chatd.client.commands import Commands

WELCOME = (
    "Type /register NAME to make an account, or /login NAME if you have one.",
    "Then /chat NAME TEXT writes to somebody; /help lists the rest, Tab completes, /quit leaves.",
)
SECRET = tuple(f"/{command.verb} " for command in COMMANDS.values() if command.secrets or command.verb == "register")
REFRESH_S = 0.5
"""How often the status line is painted again, so that somebody who types no more disappears from it."""


def without_password(line: str) -> str:
    """The line as it may be kept: `/login NAME PASSWORD` loses its password."""
    if not line.startswith(SECRET):
        return line
    verb = line.split(maxsplit=1)[0]
    try:
        return f"{verb} {quoted(understand(line).words[0])}"
    except Usage:
        return verb


class CarefulHistory(FileHistory):
    """The lines typed earlier, without passwords, in a file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        super().__init__(path)

    def store_string(self, string: str) -> None:
        super().store_string(without_password(string))


class Terminal:
    """Screen and input in one. Call `bind` before the first line: app and commands need a screen to be built."""

    is_interactive = True

    def __init__(self, history_path: Path | None) -> None:
        self._history = self._open_history(history_path)
        self._prompt: PromptSession[str] = PromptSession(history=self._history, complete_while_typing=False)
        self._secret: PromptSession[str] = PromptSession(is_password=True)
        self._app: App | None = None
        self._commands: Commands | None = None

    def _open_history(self, path: Path | None) -> History:
        if path is None:
            return InMemoryHistory()
        try:
            return CarefulHistory(path)
        except OSError as error:
            self.notice(f"lines are not kept: {error.strerror}")
            return InMemoryHistory()

    def bind(self, app: App, commands: Commands) -> None:
        self._app = app
        self._commands = commands
        self._prompt.completer = NameCompleter(app, commands)
        self._prompt.default_buffer.on_text_changed += lambda buffer: self._typing(buffer.text)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Raw also between two prompts: what is typed ahead is neither echoed (it may be a password) nor taken by the
        terminal driver (Ctrl-D, Ctrl-C), but waits for the next prompt."""
        with self._prompt.app.input.raw_mode(), patch_stdout():
            for line in WELCOME:
                self.notice(line)
            yield

    # ------------------------------------------------------------ input

    async def line(self) -> str | None:
        """None: the person leaves. Ctrl-C only empties the line."""
        while True:
            try:
                return await self._prompt.prompt_async(
                    self._prompt_text, rprompt=self._typists, refresh_interval=REFRESH_S
                )
            except KeyboardInterrupt:
                self.notice("Ctrl-D or /quit leaves")
            except EOFError:
                return None

    async def password(self, prompt: str, new: bool) -> str | None:
        """Read without echo. A new password is asked for twice."""
        try:
            password = await self._secret.prompt_async(prompt)
            if new and await self._secret.prompt_async("repeat password: ") != password:
                self.notice("the passwords differ")
                return None
        except (KeyboardInterrupt, EOFError):
            return None
        return password or None

    def _prompt_text(self) -> str:
        app, commands = self._app, self._commands
        if app is None or app.client.user is None or commands is None:
            return "chat> "
        to = f" → {commands.selected}" if commands.selected else ""
        away = "" if app.client.online else " (not connected)"
        return clean(f"{app.client.user.name}{to}{away}> ")

    def _typists(self) -> str:
        """At the right edge of the line: the user who is typing a message to the person."""
        if self._app is None:
            return ""
        names = self._app.live.typists()
        return (
            clean(f"{', '.join(names)} is typing" if len(names) == 1 else f"{', '.join(names)} are typing")
            if names
            else ""
        )

    def _typing(self, text: str) -> None:
        """The person has changed the line."""
        if self._app is None or self._commands is None or not text or text.startswith("/"):
            return
        if self._app.client.online and self._commands.selected is not None:
            self._app.live.types(self._commands.selected.place)

    # ------------------------------------------------------------ output

    def message(self, chat: Chat, group_name: str) -> None:
        who = origin(chat, group_name)
        number = f"{chat.seq} " if chat.seq else ""
        time = ("ansibrightblack", f"{number}[{clean(chat.time)}] ")
        notes = [("ansibrightblack", f" (answers {chat.reply})")] if chat.reply else []
        user = self._app.client.user if self._app is not None else None
        if user is not None and chat.is_about(user.id):
            notes.append(("ansiyellow", " (mentions you)"))
        print_formatted_text(FormattedText([time, ("bold", who), *notes, ("", f": {clean(text_of(chat))}")]))

    def notice(self, text: str) -> None:
        print_formatted_text(FormattedText([("ansicyan", f"# {clean(text)}")]))

    def status(self) -> None:
        if self._prompt.app.is_running:
            self._prompt.app.invalidate()
