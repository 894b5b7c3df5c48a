"""What the client remembers of one user on one server, over reconnects and restarts.

Owns: seen (the messages shown), the last known change of each conversation, and journal (the same on disk, and the
messages not yet acknowledged), kept together.
Elsewhere: the form of the file (journal).
Fails: never. A file that cannot be used is reported once; then the memory lasts as long as the process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from chatd.client.connection import ServerAddress
from chatd.client.frames import Chat, PendingMessage
from chatd.client.journal import Journal, KnownChange, Record, Settled, written
from chatd.client.seen import Seen, shown

FP_KEPT_MS = 6 * 24 * 3600 * 1000
"""A server knows a message again by its fp for a week (promise P2). An older one could be stored twice."""

CHANGES_KEPT = 20_000
"""Conversations whose last change is remembered. Of one that is forgotten, changes made meanwhile are not told."""

Notice = Callable[[str], None]


class Memory:
    """changes: the number of the last known change, by conversation as requests name it; read by others."""

    def __init__(self, user_id: int, journal: Journal | None, notice: Notice) -> None:
        self._user_id = user_id
        self._journal = journal
        self._notice = notice
        self._seen = Seen()
        self.changes: dict[str, int] = {}
        self._unsettled: list[PendingMessage] = []
        if journal is not None:
            self._try(self._load)

    def _load(self, journal: Journal) -> None:
        records, self._unsettled, self.changes = journal.load()
        for record in records:
            self._seen.add(record)
        journal.rewrite(self._records(self._unsettled))

    def unsettled(self, now_ms: int) -> list[PendingMessage]:
        """Messages of an earlier run that no server has answered, in order."""
        for message in self._unsettled:
            if now_ms - message.written_at_ms > FP_KEPT_MS:
                self._notice(f"never acknowledged, and too old to send again to {message.to}: {message.text}")
        return [message for message in self._unsettled if now_ms - message.written_at_ms <= FP_KEPT_MS]

    def has_shown(self, chat: Chat) -> bool:
        return self._seen.has(shown(chat, self._user_id))

    def showed(self, chat: Chat, pending: Iterable[PendingMessage]) -> None:
        record = shown(chat, self._user_id)
        if record.seq:
            self._seen.add(record)
            self._append(record, pending)

    def newest_shown(self) -> dict[int, int]:
        """The highest number that was shown of each conversation: minus a group's number, or a user's."""
        newest: dict[int, int] = {}
        for message in self._seen:
            newest[message.conversation] = max(newest.get(message.conversation, 0), message.seq)
        return newest

    def knows_change(self, place: str, number: int, pending: Iterable[PendingMessage]) -> None:
        self.changes.pop(place, None)
        self.changes[place] = number
        if len(self.changes) > CHANGES_KEPT:
            del self.changes[next(iter(self.changes))]
        self._append(KnownChange(place, number), pending)

    def wrote(self, message: PendingMessage, pending: Iterable[PendingMessage]) -> None:
        self._append(written(message), pending)

    def settled(self, fp: str, pending: Iterable[PendingMessage]) -> None:
        self._append(Settled(fp), pending)

    def close(self, pending: Iterable[PendingMessage]) -> None:
        """Leave on disk what the next run needs, and no text that was acknowledged."""
        self._try(lambda journal: journal.rewrite(self._records(pending)))
        self.abandon()

    def abandon(self) -> None:
        """Release the file as it is: what a killed process leaves behind."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _append(self, record: Record, pending: Iterable[PendingMessage]) -> None:
        def write(journal: Journal) -> None:
            if journal.append(record):
                journal.rewrite(self._records(pending))

        self._try(write)

    def _records(self, pending: Iterable[PendingMessage]) -> Iterator[Record]:
        yield from self._seen
        yield from (KnownChange(*known) for known in self.changes.items())
        yield from map(written, pending)

    def _try(self, use: Callable[[Journal], None]) -> None:
        if self._journal is None:
            return
        try:
            use(self._journal)
        except OSError as error:
            self._journal.close()
            self._journal = None
            self._notice(f"what was shown and sent is remembered only until you leave ({error.strerror or error})")


def open_memory(state_dir: Path, address: ServerAddress, user_id: int, notice: Notice) -> Memory:
    """The memory of user_id on the server at address; only of this process when its file cannot be used."""
    server = re.sub(r"[^A-Za-z0-9._-]", "_", str(address))
    try:
        return Memory(user_id, Journal(state_dir / server / f"{user_id}.journal"), notice)
    except BlockingIOError:
        notice("another chat of this user runs here: what was shown is remembered only until you leave")
    except OSError as error:
        notice(f"what was shown and sent is remembered only until you leave ({error.strerror or error})")
    return Memory(user_id, None, notice)
