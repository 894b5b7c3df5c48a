"""The form of the output, and the plain screen for pipes and scripts.

Owns: the form of a line (`[time] name(id): text`, `[time] group#id name(id): text`, `# notice`), and making a message
harmless to a terminal. Every line is flushed at once.
Elsewhere: the screen of a terminal (terminal).
Fails: ScreenGone when the reader of the output has gone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import unicodedata
from typing import Protocol, TextIO

from chatd_client.chatserver import Chat

HIDDEN = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
"""Characters that reorder or break the text around them."""
LINES_AHEAD = 1000
"""Maximum lines of input read before they are used."""
LINE_BYTES = 1024 * 1024
"""Of a longer line the rest is dropped; no message may be that long, so it is refused."""


class Screen(Protocol):
    """Where things are shown. Must not raise OSError. is_interactive: a person looks at it, now."""

    @property
    def is_interactive(self) -> bool: ...

    def message(self, chat: Chat, group_name: str) -> None: ...

    def notice(self, text: str) -> None: ...

    def status(self) -> None:
        """The login or the connection has changed."""
        ...


class ScreenGone(Exception):
    """The other end of standard output was closed."""


def clean(text: str) -> str:
    """One line, without anything a terminal would obey."""
    return "".join(map(_visible, text))


def _visible(char: str) -> str:
    if char == "\n":
        return "⏎"
    if char == "\t":
        return " "
    return "\ufffd" if char in HIDDEN or unicodedata.category(char) in ("Cc", "Cs") else char


def text_of(chat: Chat) -> str:
    """With its files, each as [NAME, SIZE]. To get them, the person names the message by its number."""
    files = " ".join(map(str, chat.files)) + (" …" if chat.files_cut else "")
    number = f" (/save {chat.seq})" if files else ""
    return " ".join(one for one in (chat.text, files) if one) + number


def origin(chat: Chat, group_name: str) -> str:
    who = f"{clean(chat.sender_name)}({chat.sender_id})"
    return f"{clean(group_name)}#{chat.group_id} {who}" if chat.group_id else who


class PlainScreen:
    is_interactive = False

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def message(self, chat: Chat, group_name: str) -> None:
        self._print(f"[{clean(chat.time)}] {origin(chat, group_name)}: {clean(text_of(chat))}")

    def notice(self, text: str) -> None:
        self._print(f"# {clean(text)}")

    def status(self) -> None:
        """A plain screen shows no status."""

    def _print(self, line: str) -> None:
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except BrokenPipeError:
            # The buffered output must not be tried again when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
            raise ScreenGone from None


class PipedInput:
    """Lines of a file descriptor that may be a file, a pipe or a device: read by a thread, as a loop cannot wait for
    files. The thread dies with the process; it holds at most LINES_AHEAD lines and one unfinished."""

    def __init__(self, file: int) -> None:
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()  # bounded by _room
        self._room = threading.Semaphore(LINES_AHEAD)
        self._file = file
        self._ended = False

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), name="input", daemon=True).start()

    async def line(self) -> str | None:
        """None at the end of the input, and on every later call."""
        if self._ended:
            return None
        line = await self._lines.get()
        self._room.release()
        self._ended = line is None
        return line

    async def password(self, prompt: str, new: bool) -> str | None:
        return await self.line()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        rest = b""
        while data := self._read_some():
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[:LINE_BYTES]
            for line in lines:
                self._put(loop, line)
        if rest:
            self._put(loop, rest)
        self._put(loop, None)

    def _read_some(self) -> bytes:
        try:
            return os.read(self._file, 65536)
        except OSError as error:
            sys.stderr.write(f"chat: standard input: {error.strerror}\n")
            return b""

    def _put(self, loop: asyncio.AbstractEventLoop, line: bytes | None) -> None:
        text = None if line is None else line.decode("utf-8", "replace").rstrip("\r")
        self._room.acquire()
        try:
            loop.call_soon_threadsafe(self._lines.put_nowait, text)
        except RuntimeError:
            raise SystemExit from None  # the loop has ended, and with it the need for lines
