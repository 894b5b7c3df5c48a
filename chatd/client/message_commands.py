"""Commands about messages: writing, answering, changing, reading again.

Owns: these commands, and how a past message looks. Elsewhere: sending (session), which conversation (target).
Fails: Usage, ChatError.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from chatd.client.grammar import Usage
from chatd.client.screen import Screen
from chatd.client.session import ClientSession
from chatd.client.target import NEWEST, Target, number_of, place_of
from chatd_client import results
from chatd_client.model import Destination, is_number

HISTORY_LINES = 20
"""Shown if no number is given."""
MAX_HISTORY_LINES = 1000


class MessageCommands:
    def __init__(self, session: ClientSession, screen: Screen, target: Target) -> None:
        self._session = session
        self._screen = screen
        self._target = target
        self._ask = session.requests.ask

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
        group_id = self._session.contacts.group_id_of(words[0])
        if not group_id:
            raise Usage(f"no group {words[0]} known: /g ID TEXT with its number")
        self._write(Destination(group_id=group_id), words)

    def _write(self, to: Destination, words: Sequence[str]) -> None:
        self._session.require_login()
        self._target.select(to)
        if len(words) > 1:
            self._session.send(to, words[1])
        else:
            self._screen.notice(f"what you write now goes to {to}")
        self._screen.status()

    async def _say(self, words: Sequence[str]) -> None:
        self._session.require_login()
        self._session.send(self._target.needed(), words[0])

    async def _reply(self, words: Sequence[str]) -> None:
        self._session.require_login()
        self._session.send(self._target.needed(), words[1], reply=number_of(words[0]))

    # ------------------------------------------------------------ changing

    async def _edit(self, words: Sequence[str]) -> None:
        self._session.require_login()
        seq = number_of(words[0]) if words[0] else await self._target.last_own()
        await self._change("message.edit", place_of(self._target.needed()), seq, text=words[1])
        self._screen.notice(f"edited {seq}")

    async def _recall(self, words: Sequence[str]) -> None:
        self._session.require_login()
        seq = number_of(words[0]) if words else await self._target.last_own()
        await self._change("message.recall", place_of(self._target.needed()), seq)
        self._screen.notice(f"recalled {seq}")

    async def _delete(self, words: Sequence[str]) -> None:
        self._session.require_login()
        place = place_of(self._target.needed())
        if words[0] == "all":
            up_to = await self._target.last_seq(place)
            await self._ask("history.delete", results.Nothing, with_=place, up_to=up_to)
            self._screen.notice(f"deleted up to {up_to} from your history")
            return
        seq = number_of(words[0])
        await self._ask("history.delete", results.Nothing, with_=place, seqs=[seq])
        self._screen.notice(f"deleted {seq} from your history")

    async def _remove(self, words: Sequence[str]) -> None:
        self._session.require_login()
        group, seq = self._target.group(words[0]), number_of(words[1])
        await self._change("message.remove", f"#{group}", seq)
        self._screen.notice(f"removed {seq}")

    async def _change(self, op: str, place: str, seq: int, **arguments: str) -> None:
        made = await self._ask(op, results.ChangeMade, with_=place, seq=seq, **arguments)
        self._session.live.changes.own(place, made.change)

    # ------------------------------------------------------------ reading

    async def _history(self, words: Sequence[str]) -> None:
        """A single number is how many, unless nothing is selected."""
        self._session.require_login()
        word, count = (*words, "", "")[:2]
        if is_number(word) and not count and self._target.selected is not None:
            word, count = "", word
        if count and not is_number(count):
            raise Usage(f"{count} is not a number of messages")
        lines = min(int(count or HISTORY_LINES), MAX_HISTORY_LINES)
        place, before, shown = self._target.place(word), NEWEST, list[results.PastMessage]()
        while len(shown) < lines:
            page = await self._ask(
                "history", results.History, with_=place, before=before, limit=min(lines - len(shown), 200)
            )
            shown += page.messages
            if not page.messages or page.messages[-1].seq <= 1:
                break
            before = page.messages[-1].seq
        for message in reversed(shown):
            self._screen.notice(past(message))
        if not shown:
            self._screen.notice("no messages")

    async def _unread(self, words: Sequence[str]) -> None:
        self._session.require_login()
        found = await self._session.live.unread()
        for head in found:
            self._screen.notice(self._session.live.unread_line(head))
        if not found:
            self._screen.notice("nothing is unread")

    async def _read(self, words: Sequence[str]) -> None:
        self._session.require_login()
        place = self._target.place(words[0] if words else "")
        mark = await self._ask("read", results.ReadMark, with_=place, seq=await self._target.last_seq(place))
        self._screen.notice(f"read up to {mark.seq}")


def past(message: results.PastMessage) -> str:
    """A message as /history shows it."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(message.sm / 1000))
    if message.state not in ("sent", "edited"):
        return f"{message.seq} [{at}] {message.sender}: ({message.state})"
    notes = [f"answers {message.reply}"] if message.reply else []
    notes += ["edited"] if message.state == "edited" else []
    note = f" ({', '.join(notes)})" if notes else ""
    more = "…" if message.cut else ""
    return f"{message.seq} [{at}] {message.sender}{note}: {message.text}{more}"
