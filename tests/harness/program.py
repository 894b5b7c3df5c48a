"""A program of an example, run as its reader would: what it prints, what is typed, how it ends.

Owns: Program, and started().
Elsewhere: interactive terminals (tests.client.process), daemons (tests.harness.daemon).
Fails: TimeoutError of deadline, with what was printed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.harness.deadline import until, within

LIMIT_S = 20


class Program:
    """lines: what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))

    async def prints(self, text: str) -> None:
        await until(LIMIT_S, f"{text!r}, and not {self.lines}", lambda: any(text in line for line in self.lines))

    def type(self, *lines: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())

    async def exit_code(self) -> int:
        code = await within(LIMIT_S, f"its end, after {self.lines}", self.process.wait())
        await self.reading
        return code


@asynccontextmanager
async def started(*command: str, **options: Any) -> AsyncIterator[Program]:
    """It is killed at the end, if it has not ended. options: of asyncio.create_subprocess_exec."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        **options,
    )
    program = Program(process)
    try:
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await program.reading
