"""Commands about messages: writing, answering, changing, reading again.

Owns: these commands, and how a past message looks. Elsewhere: sending (app, chatd_client), which conversation (target).
Fails: Usage, ChatError.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from chatd.client.app import App
from chatd.client.grammar import Usage
from chatd.client.screen import Screen
from chatd.client.target import Target, number_of
from chatd_client import results
from chatd_client.model import GONE, Destination, is_number

HISTORY_LINES = 20
"""Shown if no number is given."""
MAX_HISTORY_LINES = 1000


class MessageCommands:
    def __init__(self, app: App, screen: Screen, target: Target) -> None:
        self._app = app
        self._client = app.client
        self._screen = screen
        self._target = target

    def verbs(self) -> dict[str, Callable[[Sequence[str]], Awaitable[None]]]:
        return {
            "chat": self._chat,
            "g": self._group_chat,
            "say": self._say,
            "reply": self._reply,
            "edit": self._edit,
            "recall": self._recall,
            "delete": self._delete,
            "remove": self._remove,
            "history": self._history,
            "unread": self._unread,
            "read": self._read,
        }

    # ------------------------------------------------------------ writing

    async def _chat(self, words: Sequence[str]) -> None:
        to = Destination(user_id=int(words[0])) if is_number(words[0]) else Destination(user_name=words[0])
        self._write(to, words)

    async def _group_chat(self, words: Sequence[str]) -> None:
        group_id = self._app.contacts.group_id_of(words[0])
        if not group_id:
            raise Usage(f"no group {words[0]} known: /g ID TEXT with its number")
        self._write(Destination(group_id=group_id), words)

    def _write(self, to: Destination, words: Sequence[str]) -> None:
        self._client.require_login()
        self._target.select(to)
        if len(words) > 1:
            self._app.send(to, words[1])
        else:
            self._screen.notice(f"what you write now goes to {to}")
        self._screen.status()

    async def _say(self, words: Sequence[str]) -> None:
        self._client.require_login()
        self._app.send(self._target.needed(), words[0])

    async def _reply(self, words: Sequence[str]) -> None:
        self._client.require_login()
        self._app.send(self._target.needed(), words[1], reply=number_of(words[0]))

    # ------------------------------------------------------------ changing

    async def _edit(self, words: Sequence[str]) -> None:
        self._client.require_login()
        seq = number_of(words[0]) if words[0] else await self._target.last_own()
        place = self._target.needed().place
        self._made(place, await self._client.conversations.edit(place, seq, words[1]))
        self._screen.notice(f"edited {seq}")

    async def _recall(self, words: Sequence[str]) -> None:
        self._client.require_login()
        seq = number_of(words[0]) if words else await self._target.last_own()
        place = self._target.needed().place
        self._made(place, await self._client.conversations.recall(place, seq))
        self._screen.notice(f"recalled {seq}")

    async def _delete(self, words: Sequence[str]) -> None:
        self._client.require_login()
        place = self._target.needed().place
        if words[0] == "all":
            up_to = await self._target.last_seq(place)
            await self._client.conversations.delete(place, up_to=up_to)
            self._screen.notice(f"deleted up to {up_to} from your history")
            return
        seq = number_of(words[0])
        await self._client.conversations.delete(place, seqs=[seq])
        self._screen.notice(f"deleted {seq} from your history")

    async def _remove(self, words: Sequence[str]) -> None:
        self._client.require_login()
        group, seq = self._target.group(words[0]), number_of(words[1])
        self._made(f"#{group}", await self._client.conversations.remove(group, seq))
        self._screen.notice(f"removed {seq}")

    def _made(self, place: str, change: results.ChangeMade) -> None:
        """The person's own change is no news."""
        self._app.live.changes.own(place, change.change)

    # ------------------------------------------------------------ reading

    async def _history(self, words: Sequence[str]) -> None:
        """A single number is how many, unless nothing is selected."""
        self._client.require_login()
        word, count = (*words, "", "")[:2]
        if is_number(word) and not count and self._target.selected is not None:
            word, count = "", word
        if count and not is_number(count):
            raise Usage(f"{count} is not a number of messages")
        lines = min(int(count or HISTORY_LINES), MAX_HISTORY_LINES)
        shown = [one async for one in self._client.conversations.history(self._target.place(word), limit=lines)]
        for message in reversed(shown):
            self._screen.notice(past(message))
        if not shown:
            self._screen.notice("no messages")

    async def _unread(self, words: Sequence[str]) -> None:
        self._client.require_login()
        found = await self._app.live.unread()
        for head in found:
            self._screen.notice(self._app.live.unread_line(head))
        if not found:
            self._screen.notice("nothing is unread")

    async def _read(self, words: Sequence[str]) -> None:
        self._client.require_login()
        place = self._target.place(words[0] if words else "")
        mark = await self._client.conversations.mark_read(place, await self._target.last_seq(place))
        self._screen.notice(f"read up to {mark}")


def past(message: results.PastMessage) -> str:
    """A message as /history shows it."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(message.sm / 1000))
    if message.state in GONE:
        return f"{message.seq} [{at}] {message.sender}: ({message.state})"
    notes = [f"answers {message.reply}"] if message.reply else []
    notes += ["edited"] if message.state == "edited" else []
    note = f" ({', '.join(notes)})" if notes else ""
    text = " ".join(one for one in (message.text, *map(str, message.files)) if one)
    return f"{message.seq} [{at}] {message.sender}{note}: {text}"
