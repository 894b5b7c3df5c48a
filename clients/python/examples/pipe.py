"""A pipe: lines of standard input go to a user (or "#" and a group's number), and their lines to standard output.

usage: CHAT_PASSWORD=… pipe.py URL NAME TO [SECONDS]

At the end of the input it listens for SECONDS more (0). Exit code 1 if a line was refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from chatd_client import Client, Refused


async def write(chat: Client, to: str) -> int:
    """How many lines were refused."""
    refused = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            await chat.send(to, line.rstrip("\n"))
        except Refused as error:
            refused += 1
            print(f"{line.rstrip()}: {error}", file=sys.stderr)
    return refused


async def read(chat: Client, conversation: str) -> None:
    async for message in chat.messages():
        if message.conversation == conversation:
            print(message.text, flush=True)


async def main(url: str, name: str, to: str, wait_s: str = "0") -> int:
    async with Client(url, name, password=os.environ["CHAT_PASSWORD"]) as chat:
        reading = asyncio.create_task(read(chat, to))
        refused = await write(chat, to)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reading, float(wait_s))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
