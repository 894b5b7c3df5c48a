"""Edits, recalls and removals of messages that the person has seen, also those made while the client was away.

Owns: the number of the last change that is known of each conversation; asking for the changes after it; what a person
is told of a change.
Elsewhere: keeping the numbers on disk and asking (chatd_client), when there is somebody to ask (live).
Fails: ChatError where the server does not answer; what was not told is told after the next login.

The server numbers the changes of a conversation 1, 2, 3 … A notice with the next number is told at once. With a higher
one, notices were lost: then the server is asked, which gives the changes in their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from chatd.client.screen import Screen
from chatd_client import results
from chatd_client.conversations import Conversations
from chatd_client.events import MessageChanged
from chatd_client.model import GONE, User

PLACES_AT_ONCE = 20
"""Conversations whose changes one request asks for: a request is no longer than a message."""
PAGE = 200
MAX_TOLD = 100
"""Changes that are told after one login; of further ones only how many there are."""
EVERYWHERE = ""
"""A place in the memory: all conversations were asked for once, so one that it does not know is new, without changes
that are known."""
PAGES = 50
"""Maximum pages that are read of one list."""


class Remembers(Protocol):
    """Keeps numbers over restarts, for the user who is logged in: chatd_client.chatserver.Client."""

    def known_change(self, place: str) -> int | None: ...

    def learn_change(self, place: str, number: int) -> None: ...

    def newest_seen(self) -> dict[int, int]: ...


class Changes:
    """missed: there are changes that nobody has told the client of."""

    def __init__(
        self, conversations: Conversations, memory: Remembers, screen: Screen, where: Callable[[str], str]
    ) -> None:
        """where: what follows the number of a message of this conversation."""
        self.missed = False
        self._server = conversations
        self._memory = memory
        self._screen = screen
        self._where = where
        self._asking = asyncio.Lock()
        """Nothing is told twice."""
        self._me = ""
        """The person's name."""
        self._shown_before: Mapping[int, int] = {}
        """The newest message that was shown, by conversation, when asking began: later ones came as they are now."""
        self._conversations: dict[str, int] = {}
        """How the memory names the conversation with this place: minus a group's number, or a user's."""

    def begin(self, me: User, shown_before: Mapping[int, int]) -> None:
        """After each login. shown_before: when it was answered."""
        self._me = me.name
        self._shown_before = shown_before
        self.missed = True

    # ------------------------------------------------------------ notices

    def arrived(self, notice: MessageChanged) -> bool:
        """Whether it is to be told: it is the next change of its conversation, or the first one known."""
        known = self._known(notice.place)
        if not notice.change:  # an older server
            return True
        if known is None or notice.change == known + 1:
            self._memory.learn_change(notice.place, notice.change)
            return True
        if notice.change > known:
            self.missed = True
            self._shown_before = self._memory.newest_seen()
        return False

    def own(self, place: str, change: int) -> None:
        """The person has made this change."""
        if self._known(place) == change - 1:
            self._memory.learn_change(place, change)

    def _known(self, place: str) -> int | None:
        known = self._memory.known_change(place)
        return self._memory.known_change(EVERYWHERE) if known is None else known

    # ------------------------------------------------------------ asking

    async def ask(self) -> list[results.Head]:
        """Tell the person of changes since the last one known. All conversations of the person. Raises ChatError."""
        async with self._asking:
            return await self._ask()

    async def _ask(self) -> list[results.Head]:
        heads: list[results.Head] = []
        told: list[str] = []
        self.missed = False
        for _ in range(PAGES):
            after = heads[-1].id if heads else None
            page = await self._page(after, {})
            heads += page.conversations
            behind = [head for head in page.conversations if self._is_behind(head)]
            for at in range(0, len(behind), PLACES_AT_ONCE):
                told += await self._ask_some(after, behind[at : at + PLACES_AT_ONCE])
            if not page.more or not page.conversations:
                break
        self._memory.learn_change(EVERYWHERE, 0)
        for text in told[:MAX_TOLD]:
            self._screen.notice(text)
        if len(told) > MAX_TOLD:
            self._screen.notice(f"{len(told) - MAX_TOLD} more messages were changed: /history shows them")
        return heads

    async def _page(self, after: int | None, changes: Mapping[str, int]) -> results.Sync:
        """after: the id of the last conversation before the page; None = from the first one."""
        if after is None:
            return await self._server.sync(limit=PAGE, changes=changes)
        return await self._server.sync(after=after, limit=PAGE, changes=changes)

    def _is_behind(self, head: results.Head) -> bool:
        """There are changes to ask for. At the first login, and of a conversation that the server has begun again, only
        the number is taken."""
        self._conversations[head.place] = -int(head.place[1:]) if head.place[0] == "#" else head.user
        known = self._known(head.place)
        if head.changes is None or known == head.changes:
            return False
        if known is None or known > head.changes:
            self._memory.learn_change(head.place, head.changes)
            return False
        return True

    async def _ask_some(self, after: int | None, heads: Sequence[results.Head]) -> list[str]:
        """What the person is told of the changes of these conversations, which are on the page after `after`."""
        wanted = {head.place: head.changes or 0 for head in heads}
        told: list[str] = []
        for _ in range(PAGES):
            asked = {place: self._known(place) or 0 for place in wanted}
            page = await self._page(after, asked)
            told += self._take(page.changes)
            behind = {place: last for place, last in wanted.items() if (self._known(place) or 0) < last}
            if not behind or not page.changes:
                break
            wanted = behind
        return told

    def _take(self, changes: Iterable[results.PastChange]) -> list[str]:
        told = []
        for change in changes:
            self._memory.learn_change(change.place, change.change)
            if (text := self._text(change)) and self._was_shown(change):
                told.append(text)
        return told

    def _was_shown(self, change: results.PastChange) -> bool:
        """The person has seen the message, or has written it."""
        if change.sender == self._me:
            return True
        conversation = self._conversations.get(change.place, 0)
        return change.seq <= self._shown_before.get(conversation, 0)

    def _text(self, change: results.PastChange) -> str:
        """Nothing of what the person has done, or may not see."""
        seq, sender, where = change.seq, change.sender, self._where(change.place)
        if not seq or (sender == self._me and change.state != "removed"):
            return ""
        if change.state == "edited":
            return f"{sender} edited {seq}{where}: {change.text}"
        if change.state == "removed":
            return f"message {seq} of {sender}{where} was removed"
        if change.state == "erased":
            return f"the messages of {sender}{where} were erased"
        gone = change.state in GONE and change.state != "expired"  # which is told to nobody
        return f"{sender} {change.state} {seq}{where}" if gone else ""
