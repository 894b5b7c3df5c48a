"""Messages that were changed a short while ago, as they are now.

Owns: RecentChanges, this worker's memory of them. Every part that gives messages to clients looks here first, so that a
text that was read from the store, or that arrived over the bus, before the change is not given after it. A read of the
store may also be ahead of the bus: a change is not told to anybody once a later one was read.
Elsewhere: learning of changes (core.changes), giving messages (core.in_flight, core.sessions.login,
core.requests.history).
Fails: never. A change is forgotten after KEPT_S, or when MAX_KEPT newer ones have come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chatd.model import ConversationId, Message, Seq

KEPT_S = 120.0
"""Longer than a read of the store may take, and than a message is on its way over the bus."""
MAX_KEPT = 2000


class RecentChanges:
    """By conversation and seq, the latest last. known: changes that this worker was told. read_changed: changed
    messages as they were read from the store last, and when. Other modules may read both: while they are empty, nothing
    needs to be looked up."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: monotonic seconds."""
        self.known: dict[tuple[ConversationId, Seq], Message] = {}
        self._clock = clock
        self._noted_at: dict[tuple[ConversationId, Seq], float] = {}
        self.read_changed: dict[tuple[ConversationId, Seq], tuple[Message, float]] = {}

    def read(self, message: Message) -> None:
        """The store has the message like this, and a client is given it. Cheap for one that was never changed."""
        if not message.version:
            return
        key = message.conversation, message.seq
        before = self.read_changed.pop(key, None)
        latest = message if before is None or before[0].version < message.version else before[0]
        self.read_changed[key] = latest, self._clock()
        if len(self.read_changed) > MAX_KEPT:
            del self.read_changed[next(iter(self.read_changed))]

    def note(self, message: Message) -> bool:
        """The message is like this now, as a change says. False if this or a later change is known already."""
        key = message.conversation, message.seq
        known = self.known.pop(key, None)
        if known is not None and known.version >= message.version:
            self.known[key] = known
            return False
        self.known[key] = message
        self._noted_at.pop(key, None)
        self._noted_at[key] = self._clock()
        if len(self.known) > MAX_KEPT:
            self._forget(next(iter(self._noted_at)))
        return True

    def latest(self, message: Message) -> Message:
        """The message as it is now, as far as that is known here."""
        key = message.conversation, message.seq
        known, read = self.known.get(key), self.read_changed.get(key)
        if read is not None and (known is None or known.version < read[0].version):
            known = read[0]
        return message if known is None or known.version <= message.version else known

    def is_overtaken(self, message: Message) -> bool:
        """A later change of the message is known here."""
        return self.latest(message).version > message.version

    def all_latest(self, messages: Iterable[Message]) -> list[Message]:
        """The same for messages that were read from the store, to be given to a client."""
        found = [self.latest(message) for message in messages]
        for message in found:
            self.read(message)
        return found

    def sweep(self) -> None:
        """Once a second: forget what is old."""
        before = self._clock() - KEPT_S
        while self._noted_at and next(iter(self._noted_at.values())) < before:
            self._forget(next(iter(self._noted_at)))
        while self.read_changed and next(iter(self.read_changed.values()))[1] < before:
            del self.read_changed[next(iter(self.read_changed))]

    def _forget(self, key: tuple[ConversationId, Seq]) -> None:
        del self._noted_at[key]
        del self.known[key]
