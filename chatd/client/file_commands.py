"""Commands about files: sending one, getting those of a message.

Owns: these commands. The next line is carried out when the file is there, so that messages stay in their order.
Elsewhere: the files of the server (chatd_client.files), which conversation (target).
Fails: Usage, ChatError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from chatd.client.app import App
from chatd.client.grammar import Usage
from chatd.client.screen import Screen
from chatd.client.target import Target, number_of
from chatd_client import results
from chatd_client.errors import ChatError, NotFound
from chatd_client.model import Destination


class FileCommands:
    def __init__(self, app: App, screen: Screen, target: Target) -> None:
        self._app = app
        self._client = app.client
        self._screen = screen
        self._target = target

    def verbs(self) -> dict[str, Callable[[Sequence[str]], Awaitable[None]]]:
        return {"send-file": self._send_file, "save": self._save}

    async def _send_file(self, words: Sequence[str]) -> None:
        self._client.require_login()
        to, path = self._target.needed(), path_of(words[0])
        try:
            file = await self._client.files.upload(path)
        except OSError as error:
            raise Usage(f"{path}: {error.strerror or error}") from None
        self._client.send(to, "", files=[file.id])
        self._screen.notice(f"sent to {to}: {file}")

    async def _save(self, words: Sequence[str]) -> None:
        self._client.require_login()
        seq, to = number_of(words[0]), self._target.needed()
        directory = path_of(words[1] if len(words) > 1 else ".")
        message = await self._message(to, seq)
        if not message.files:
            raise ChatError(f"message {seq} has no files")
        for file in message.files:
            try:
                saved = await self._client.files.download(to.place, seq, file, directory)
            except NotFound:
                raise ChatError(f"{file}: the file is no longer available") from None
            except OSError as error:
                raise Usage(f"{directory}: {error.strerror or error}") from None
            self._screen.notice(f"saved {saved}")

    async def _message(self, to: Destination, seq: int) -> results.PastMessage:
        async for message in self._client.conversations.history(to.place, after=seq - 1, limit=1):
            if message.seq == seq:
                return message
        raise ChatError(f"there is no message {seq}: /history shows messages with their numbers")


def path_of(word: str) -> Path:
    """With ~ for the person's home, as shells have it."""
    return Path(word).expanduser()
