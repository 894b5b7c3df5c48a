"""What the client remembers of one user on one server, over reconnects and restarts.

Owns: seen (the messages shown), the last known change of each conversation, and journal (the same on disk, and the
messages not yet acknowledged), kept together.
Elsewhere: the form of the file (journal).
Fails: JournalUnusable from open_journal. A file that can no longer be written is reported once; then the memory lasts
as long as the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from chatd_client.errors import JournalUnusable
from chatd_client.journal import Journal, KnownChange, Owner, Record, Settled, written
from chatd_client.model import PendingMessage
from chatd_client.seen import Seen, Shown

FP_KEPT_MS = 6 * 24 * 3600 * 1000
"""A server knows a message again by its fp for a week (promise P2). An older one could be stored twice."""

CHANGES_KEPT = 20_000
"""Conversations whose last change is remembered. Of one that is forgotten, changes made meanwhile are not told."""

Notice = Callable[[str], None]


def _unnoticed(text: str) -> None:
    pass


class Memory:
    """changes: the number of the last known change, by conversation as requests name it; read by others. owner: the
    user whose memory it is, "" = not recorded."""

    def __init__(self, journal: Journal | None, notice: Notice = _unnoticed) -> None:
        self._journal = journal
        self._notice = notice
        self._seen = Seen()
        self.changes: dict[str, int] = {}
        self.owner = ""
        self._unsettled: list[PendingMessage] = []
        if journal is not None:
            self._try(self._load)

    def _load(self, journal: Journal) -> None:
        remembered = journal.load()
        self._unsettled, self.changes, self.owner = remembered.pending, remembered.changes, remembered.owner
        for record in remembered.shown:
            self._seen.add(record)
        journal.rewrite(self._records(self._unsettled))

    def belong_to(self, owner: str) -> None:
        """Record whose memory it is."""
        self.owner = owner
        self._append(Owner(owner), self._unsettled)

    def unsettled(self, now_ms: int) -> list[PendingMessage]:
        """Messages of an earlier run that no server has answered, in order."""
        for message in self._unsettled:
            if now_ms - message.written_at_ms > FP_KEPT_MS:
                self._notice(f"never acknowledged, and too old to send again to {message.to}: {message.text}")
        return [message for message in self._unsettled if now_ms - message.written_at_ms <= FP_KEPT_MS]

    def has(self, message: Shown) -> bool:
        """Whether it was shown."""
        return self._seen.has(message)

    def showed(self, message: Shown, pending: Iterable[PendingMessage]) -> None:
        if message.seq:
            self._seen.add(message)
            self._append(message, pending)

    def newest_shown(self) -> dict[int, int]:
        """The highest number that was shown of each conversation, by the number that Shown has."""
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
        if self.owner:
            yield Owner(self.owner)
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


def open_journal(path: Path, owner: str, notice: Notice) -> Memory:
    """The memory in this file, which belongs to one user. Raises JournalUnusable."""
    try:
        memory = Memory(Journal(path), notice)
    except BlockingIOError:
        raise JournalUnusable(f"{path}: another client uses this journal; each needs its own") from None
    except OSError as error:
        raise JournalUnusable(f"{path}: {error.strerror or error}") from None
    if memory.owner not in ("", owner):
        memory.abandon()
        raise JournalUnusable(f"{path}: this is the journal of {memory.owner}, not of {owner}")
    if not memory.owner:
        memory.belong_to(owner)
    return memory
