"""Conversations: what was written, what is unread, and changing messages.

Owns: one method per operation; lists are read in pages, as far as the caller goes.
Elsewhere: asking (requests), the results (results), sending and receiving (client).
Fails: each method raises Refused, NoAnswer, Overloaded and SessionEnded, as Requests.ask.

A conversation is named as in send(): a user's name, or "#" and the number of a group.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import msgspec

from chatd_client import results
from chatd_client.requests import Requests

NEWEST = 1 << 61
"""Above every number of a message."""
PAGE = 100
"""Messages or conversations that one request asks for."""


class Conversations:
    def __init__(self, requests: Requests) -> None:
        self._ask = requests.ask

    async def list(self) -> AsyncIterator[results.Head]:
        """The user's conversations, with the last number, the read mark and unread counts of each."""
        after = -NEWEST
        while True:
            page = await self.sync(after=after)
            for head in page.conversations:
                yield head
            if not page.more or not page.conversations:
                return
            after = page.conversations[-1].id

    async def sync(
        self, *, after: int = -NEWEST, limit: int = PAGE, changes: Mapping[str, int] | None = None
    ) -> results.Sync:
        """One page of list(): the conversations after the one with this Head.id; and of those that `changes` names,
        which must be on the page, the changes after the known one, as far as they fit. None: none are asked for."""
        known = None if changes is None else dict(changes)
        return await self._ask("sync", results.Sync, after=after, limit=limit, changes=known)

    async def unread(self) -> Sequence[results.Head]:
        """Those with unread messages."""
        return [head async for head in self.list() if head.unread]

    async def history(
        self, conversation: str, *, after: int | None = None, before: int | None = None, limit: int | None = None
    ) -> AsyncIterator[results.PastMessage]:
        """Messages with numbers above `after`, the oldest first; or below `before`, the newest first; with neither,
        from the newest on. limit: maximum messages, None = all of them."""
        left = NEWEST if limit is None else limit
        seq = after if after is not None else before or NEWEST
        while left > 0:
            bounds = {"after": seq} if after is not None else {"before": seq}
            asked = min(left, PAGE)
            page = await self._ask("history", results.History, with_=conversation, limit=asked, **bounds)
            for message in page.messages:
                yield await self._whole(conversation, message)
            if not page.messages:
                return
            seq = page.messages[-1].seq
            left -= len(page.messages)
            if after is None and seq <= 1:
                return

    async def _whole(self, conversation: str, message: results.PastMessage) -> results.PastMessage:
        """A text that did not fit into a packet is read to its end."""
        text, cut = message.text, message.cut
        while cut:
            page = await self._ask(
                "history", results.History, with_=conversation, after=message.seq - 1, limit=1, start=cut
            )
            if not page.messages or page.messages[0].seq != message.seq:
                break
            text, cut = text + page.messages[0].text, page.messages[0].cut
        return msgspec.structs.replace(message, text=text, cut=cut) if message.cut else message

    async def changes(self, known: Mapping[str, int]) -> Sequence[results.PastChange]:
        """Messages that were changed since, as they are now, in the order of their last change. known: the number of
        the last known change of each conversation that is asked for; a conversation's last one is Head.changes."""
        known, found = dict(known), list[results.PastChange]()
        while page := (await self._ask("sync", results.Sync, limit=PAGE, changes=known)).changes:
            known.update({one.place: one.change for one in page})
            found += page
        return found

    async def mark_read(self, conversation: str, seq: int) -> int:
        """Up to this number. The read mark as it is now."""
        return (await self._ask("read", results.ReadMark, with_=conversation, seq=seq)).seq

    async def delete(self, conversation: str, *, up_to: int | None = None, seqs: Iterable[int] | None = None) -> None:
        """Delete messages from the user's own history: up to a number, or single ones (at most 100)."""
        numbers = None if seqs is None else list(seqs)
        await self._ask("history.delete", results.Nothing, with_=conversation, up_to=up_to, seqs=numbers)

    # ------------------------------------------------------------ changing messages

    async def edit(self, conversation: str, seq: int, text: str) -> results.ChangeMade:
        """Replace the text of a message of one's own."""
        return await self._ask("message.edit", results.ChangeMade, with_=conversation, seq=seq, text=text)

    async def recall(self, conversation: str, seq: int) -> results.ChangeMade:
        """Delete the text of a message of one's own, for everybody."""
        return await self._ask("message.recall", results.ChangeMade, with_=conversation, seq=seq)

    async def remove(self, group: int, seq: int) -> results.ChangeMade:
        """Delete the text of a message of a group, for everybody (owner and admins)."""
        return await self._ask("message.remove", results.ChangeMade, with_=f"#{group}", seq=seq)

    async def typing(self, conversation: str) -> None:
        """Tell the other side that the user is writing; it is passed on at most once in 2 seconds."""
        await self._ask("typing", results.Nothing, with_=conversation)
