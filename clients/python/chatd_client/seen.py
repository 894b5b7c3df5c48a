"""Which messages were shown, so that none is shown twice.

Owns: the memory of (conversation, seq). A server sends a message again unless it knows it to be delivered. It sends a
conversation in order, so remembering the newest WINDOW numbers of each, and that everything below them is old, is
enough (a server has far fewer messages in flight to one client).

A server that lost its data starts its numbers again. Such a message must not be taken for an old one, so
a digest is kept with each number: the same number with other content, or a number below the window with a
later time than all seen, means that the conversation was started again.
Elsewhere: keeping it on disk (journal).
Fails: never.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import msgspec

WINDOW = 1024
"""Numbers kept for one conversation."""
TOTAL = 32_768
"""Numbers kept in all; over it, the conversation that was silent longest is forgotten."""


class Shown(msgspec.Struct, frozen=True, array_like=True, tag="shown"):
    """One message that was shown; `time` as the server wrote it, which sorts as text."""

    conversation: int
    seq: int
    digest: int
    time: str


class _SeenConversation:
    __slots__ = ("floor", "known", "newest")

    def __init__(self) -> None:
        self.known: dict[int, Shown] = {}
        """The newest messages shown, by seq."""
        self.floor = 0
        """Every seq up to here counts as shown."""
        self.newest = ""
        """The latest time of all messages shown."""

    def add(self, message: Shown) -> None:
        self.known[message.seq] = message
        self.newest = max(self.newest, message.time)
        if len(self.known) > WINDOW:
            lowest = min(self.known)
            del self.known[lowest]
            self.floor = max(self.floor, lowest)


class Seen:
    def __init__(self) -> None:
        self._conversations: OrderedDict[int, _SeenConversation] = OrderedDict()
        """The conversation that was silent longest comes first."""
        self._total = 0
        """Numbers kept in all conversations together."""

    def has(self, message: Shown) -> bool:
        """False also for every message without numbers: those cannot be told apart."""
        conversation = self._conversations.get(message.conversation)
        if not message.seq or conversation is None:
            return False
        known = conversation.known.get(message.seq)
        if known is not None:
            return known.digest == message.digest
        return message.seq <= conversation.floor and message.time <= conversation.newest

    def add(self, message: Shown) -> None:
        """O(WINDOW) once a conversation's window is full, else O(1)."""
        if not message.seq or self.has(message):
            return
        conversation = self._conversations.get(message.conversation)
        if conversation is not None and (message.seq <= conversation.floor or message.seq in conversation.known):
            self._forget(message.conversation)
            conversation = None
        if conversation is None:
            conversation = self._conversations[message.conversation] = _SeenConversation()
        before = len(conversation.known)
        conversation.add(message)
        self._total += len(conversation.known) - before
        self._conversations.move_to_end(message.conversation)
        while self._total > TOTAL:
            self._forget(next(iter(self._conversations)))

    def __iter__(self) -> Iterator[Shown]:
        """In an order in which `add` makes the same memory again (but for the floors, which are then lower)."""
        for conversation in self._conversations.values():
            yield from (conversation.known[seq] for seq in sorted(conversation.known))

    def _forget(self, conversation: int) -> None:
        self._total -= len(self._conversations.pop(conversation).known)
