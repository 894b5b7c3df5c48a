"""`chat` as a process: through pipes, and in a real pseudo-terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from .recorder import until

ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>()][A-Z0-9]?)")
COMMAND = (sys.executable, "-m", "chatd.client")


def squeeze(text: str) -> str:
    return "".join(text.split())


def environment(state: Path) -> dict[str, str]:
    return {**os.environ, "XDG_STATE_HOME": str(state), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}


async def run(state: Path, arguments: list[str], lines: str | bytes = b"", stdin: int = -1) -> tuple[int, list[str]]:
    """Feed `lines`, or the open file `stdin`; the exit code and what was printed."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        env=environment(state),
        stdin=asyncio.subprocess.PIPE if stdin < 0 else stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    data = lines.encode() if isinstance(lines, str) else lines
    output, _ = await asyncio.wait_for(process.communicate(data if stdin < 0 else None), 60)
    assert process.returncode is not None
    return process.returncode, output.decode().splitlines()


class Keyboard:
    """The person's side of a pseudo-terminal. `seen` is all that was written to it, without
    escape sequences and white space (a space may be painted by moving the cursor)."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.raw = ""
        self._master = master
        asyncio.get_running_loop().add_reader(master, self._read)

    @property
    def seen(self) -> str:
        return squeeze(ESCAPE.sub("", self.raw))

    def _read(self) -> None:
        try:
            self.raw += os.read(self._master, 65536).decode("utf-8", "replace")
        except OSError:  # the other side has gone
            asyncio.get_running_loop().remove_reader(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    async def sees(self, text: str, times: int = 1) -> None:
        await until(lambda: self.seen.count(squeeze(text)) >= times, lambda: f"{text!r} in {self.seen!r}")

    async def enter(self, line: str, then: str) -> None:
        """Type a line and wait for what it brings, counted anew."""
        times = self.seen.count(squeeze(then)) + 1
        self.type(line + "\r")
        await self.sees(then, times)

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 20)


@asynccontextmanager
async def terminal(state: Path, *arguments: str, command: Sequence[str] = COMMAND) -> AsyncIterator[Keyboard]:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, env=environment(state), stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    keyboard = Keyboard(master, process)
    try:
        yield keyboard
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
