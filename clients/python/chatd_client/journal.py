"""The client's memory on disk, one file per server and user: which messages were shown, which are not yet acknowledged,
and which changes of messages are known.

Owns: the file. Every change is one line, written at once, so that `kill -9` of the client loses nothing; the file is
rewritten, without lines that no longer matter, when it is opened, closed, or grown by GROWTH_BYTES. A torn last line is
ignored. Only one client at a time has a file (a lock beside it).
Elsewhere: the meaning of the lines (seen, outbox).
Fails: OSError. The client then goes on without this memory and says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from chatd_client.model import PendingMessage
from chatd_client.seen import Shown

GROWTH_BYTES = 1024 * 1024


class Written(PendingMessage, frozen=True, array_like=True, tag="written"):
    """A message of ours was handed over for sending."""


class Settled(msgspec.Struct, frozen=True, array_like=True, tag="settled"):
    """It was acknowledged or refused."""

    fp: str


class KnownChange(msgspec.Struct, frozen=True, array_like=True, tag="change"):
    """The last change of messages of this conversation that the person was told of, by its number."""

    place: str
    number: int


class Owner(msgspec.Struct, frozen=True, array_like=True, tag="owner"):
    """The user whose memory this is."""

    name: str


class Remembered(NamedTuple):
    """What the file holds: messages shown, and messages written and not settled, both in order; the last known change
    of each conversation; whose it is, "" = not recorded."""

    shown: list[Shown]
    pending: list[PendingMessage]
    changes: dict[str, int]
    owner: str = ""


Record = Shown | Written | Settled | KnownChange | Owner

_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def written(message: PendingMessage) -> Written:
    return Written(**msgspec.structs.asdict(message))


class Journal:
    def __init__(self, path: Path) -> None:
        """Takes the lock. Raises OSError (BlockingIOError: another client has this file)."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._file = -1
        self._room = GROWTH_BYTES
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise

    def load(self) -> Remembered:
        shown: list[Shown] = []
        changes: dict[str, int] = {}
        pending: dict[str, PendingMessage] = {}
        owner = ""
        for record in self._records():
            match record:
                case Shown():
                    shown.append(record)
                case Written():
                    pending[record.fp] = PendingMessage(**msgspec.structs.asdict(record))
                case Settled(fp):
                    pending.pop(fp, None)
                case KnownChange(place, number):
                    changes[place] = number
                case Owner(name):
                    owner = name
        return Remembered(shown, list(pending.values()), changes, owner)

    def _records(self) -> Iterable[Record]:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError):
                yield _decoder.decode(line)

    def append(self, record: Record) -> bool:
        """True when the file has grown enough to be rewritten. Raises OSError."""
        line = msgspec.json.encode(record) + b"\n"
        os.write(self._file, line)
        self._room -= len(line)
        return self._room < 0

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace the file's content by `records`: all of it or none of it. Raises OSError."""
        fresh = self._path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(fresh, flags, 0o600)
        try:
            with os.fdopen(file, "wb", closefd=False) as out:
                out.writelines(msgspec.json.encode(record) + b"\n" for record in records)
            os.replace(fresh, self._path)
        except OSError:
            os.close(file)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file = file
        self._room = GROWTH_BYTES

    def close(self) -> None:
        for file in (self._file, self._lock):
            if file >= 0:
                os.close(file)
        self._file = self._lock = -1
