"""A bot that answers commands: !echo TEXT, !time, !help. In a group it also answers whoever mentions it.

usage: CHAT_PASSWORD=… bot.py URL NAME [JOURNAL]

A message counts as taken when the loop asks for the next one. So a bot that is killed while it answers is given that
message again at its next start; the fp of the answer is made from it, so that the answer is not stored twice.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import sys

from chatd_client import Client, Message, Options, Refused


def answer(client: Client, message: Message) -> str:
    """ "" = none."""
    command, _, rest = message.text.partition(" ")
    match command:
        case "!echo":
            return rest
        case "!time":
            return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        case "!help":
            return "!echo TEXT, !time, !help"
    return "you called?" if message.group and message.names(client.me) else ""


async def main(url: str, name: str, journal: str | None = None) -> None:
    async with Client(url, name, password=os.environ["CHAT_PASSWORD"], options=Options(journal=journal)) as chat:
        print(f"{chat.me.name} is there", flush=True)
        async for message in chat.messages():
            text = answer(chat, message)
            if text:
                try:
                    await chat.reply(message, text, fp=f"bot-{message.conversation_id}-{message.sent_at_ms}")
                except Refused as refused:
                    print(f"{message.sender} cannot be answered: {refused}", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
