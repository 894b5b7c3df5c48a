"""A bridge between two groups, also on different servers: what is written in one appears in the other, once.

usage: CHAT_NAME=… CHAT_PASSWORD=… bridge.py URL #GROUP URL #GROUP

Each message is taken from one side only after the other side has stored it, under an fp that is made from it. If the
bridge dies in between, it is given the message again, sends it again, and the server knows it by its fp.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from chatd_client import Client, Options, Refused


def client(url: str, group: str) -> Client:
    folder = Path(os.environ.get("CHAT_STATE", "."))
    name = os.environ["CHAT_NAME"]
    journal = folder / f"bridge-{url.partition('://')[2].translate(str.maketrans(':/', '__'))}-{group[1:]}.journal"
    return Client(url, name, password=os.environ["CHAT_PASSWORD"], options=Options(journal=journal))


async def carry(source: Client, group: str, target: Client, to: str) -> None:
    async for message in source.messages():
        if message.conversation != group or not message.text:
            continue
        fp = f"bridge-{group[1:]}-{message.seq}-{message.sent_at_ms}"
        try:
            await target.send(to, f"{message.sender}: {message.text}", fp=fp, timeout_s=3600)
        except Refused as refused:
            print(f"{to} does not take {message.seq} of {group}: {refused}", file=sys.stderr)


async def main(one: str, group: str, other: str, to: str) -> None:
    async with client(one, group) as a, client(other, to) as b, asyncio.TaskGroup() as tasks:
        print("the bridge is open", flush=True)
        tasks.create_task(carry(a, group, b, to))
        tasks.create_task(carry(b, to, a, group))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
