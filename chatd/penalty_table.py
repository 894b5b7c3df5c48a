"""The penalty table: what every worker of a host remembers about sources and accounts that failed to log in.

Owns: the memory, which all processes share; finding, adding and replacing records in it; taking turns between workers.
Elsewhere: which failures count and what a penalty forbids (core.penalties), other hosts (core.penalty_exchange),
showing the table to operators (master.questions.penalties).
Fails: PenaltyTable() raises OSError when the memory cannot be mapped. Afterwards nothing fails, whatever other
processes do: see Concurrency.

The table has a fixed size. It consists of sets of WAYS records; a key belongs to one set, chosen by a hash with a
random seed, so nobody can aim at the set of another source. When a set is full, its least harmful record is replaced:
the one whose penalty ends first or has ended, and of those without a penalty the one with the fewest recent offences.
The tags of all sets come first, then the records: looking for a key that has no record, as nearly every login does,
touches tags alone. Pages that nobody has touched take no memory, and reading one counts.

Concurrency: one memfd, mapped before the first fork and never moved. A change takes a record lock (fcntl) on the set,
which the kernel releases when its process dies. A process that is stopped keeps it, so a change waits for at most
_LOCK_TRIES and then goes on without it; all that can be lost then is one of two offences counted at the same moment.
Reading takes no lock. A record's tag is written last and cleared first, so a process that dies at any instant leaves no
record of one key with the values of another.

Times are milliseconds of CLOCK_MONOTONIC, which all processes of a host share.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import mmap
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import NamedTuple

import msgspec

FORMAT = 2
"""Raised when the records, the sets or the hash of keys change: a table of another format cannot be read."""
WAYS = 32
"""Records of one set."""
SETS = 8192
"""262,144 records in all. Of 100,000 keys at random, on average less than one finds its set full."""
SUBJECT_BYTES = 42
"""Longest part of a key's name that is kept, to be shown."""

_TAG_BYTES = 8
_TAGS_BYTES = WAYS * _TAG_BYTES
_RECORD = struct.Struct(f"qqqIBB{SUBJECT_BYTES}s")
"""offended_ms, until_ms, since_ms, offences in thousandths, kind, length of the subject, subject. Aligned, so that
each of the times is stored at once."""
_VALUES = struct.Struct("qqqI")
"""The part of a record that changes."""
_RECORDS_BYTES = WAYS * _RECORD.size
_SET_BYTES = _TAGS_BYTES + _RECORDS_BYTES
TABLE_BYTES = SETS * _SET_BYTES
"""Size of the whole table."""
_MILLI = 1000
_FADED_MS = 600_000
"""When records are compared, one offence less counts for every such time since."""
_LOCK_TRIES = 50
_LOCK_PAUSE_S = 0.00002
_NO_TAG = bytes(_TAG_BYTES)
"""In the place of a record that is not used."""
_EMPTY_TAGS = bytes(_TAGS_BYTES)
_CUT = "…".encode()


class Kind(enum.IntEnum):
    """What a record is about. Over UDP a source can be forged, so failures over UDP count separately. Numbers are part
    of bus messages and never change."""

    SOURCE = 1
    SITE = 2
    ACCOUNT = 3
    UDP_SOURCE = 4
    UDP_SITE = 5
    UDP_ACCOUNT = 6
    ACCOUNT_AT_SOURCE = 7
    REGISTRATION = 8
    REGISTRATION_SITE = 9


class Key(NamedTuple):
    """subject: the source network; an account's id in digits, or its canonical name where there is no such account;
    "ACCOUNT SOURCE" for both."""

    kind: Kind
    subject: str


class Record(NamedTuple):
    """offences: counted and not forgiven, as of offended_ms. since_ms: when the penalty or, before there was one, the
    first of these offences began. until_ms: end of the penalty; 0 = there was none."""

    offences: float
    offended_ms: int
    since_ms: int
    until_ms: int


NEVER = Record(0.0, 0, 0, 0)
"""The record of a key that the table does not have."""


class Listed(NamedTuple):
    """One record, to be shown. subject: cut off after SUBJECT_BYTES."""

    kind: Kind
    subject: str
    record: Record


def now_ms() -> int:
    """The clock of all records."""
    return time.monotonic_ns() // 1_000_000


class PenaltyTableState(msgspec.Struct, frozen=True, kw_only=True):
    """All that another program needs to use the same table. descriptor: of the memory. format: FORMAT of the program
    that made it."""

    descriptor: int
    format: int
    sets: int
    seed: bytes


class PenaltyTable:
    """Made once by the master; every worker inherits it. All methods may be called from one thread per process."""

    def __init__(self, sets: int = SETS, before: PenaltyTableState | None = None) -> None:
        """before: the table of an earlier program, of this FORMAT; None = a new one. Raises OSError."""
        if before is None:
            before = _new_memory(sets)
        self.state = before
        """To be given to a later program."""
        self._sets, self._seed, self._file = before.sets, before.seed, before.descriptor
        self._memory = mmap.mmap(self._file, self._sets * _SET_BYTES)
        self.replaced = 0
        """Records that this process has given up for others while they still counted."""

    def close(self) -> None:
        """For tests: a server keeps its table until it ends."""
        self._memory.close()
        os.close(self._file)

    # ---------------------------------------------------------------- one record

    def read(self, key: Key) -> Record:
        """The record, or NEVER. Costs a few microseconds; never waits."""
        tag, number = self._place(key)
        at = self._find(tag, number)
        if at < 0:
            return NEVER
        record = self._values(number, at)
        if self._memory[_tag_slice(number, at)] != tag:
            return NEVER  # replaced while it was read
        return record

    def update(self, key: Key, change: Callable[[Record], Record], at_ms: int) -> tuple[Record, Record]:
        """Replace the record by what `change` makes of it; (before, after). Exact between processes. at_ms: now, to
        choose what is replaced when the set is full."""
        tag, number = self._place(key)
        with self._locked(number):
            at = self._find(tag, number)
            before = NEVER if at < 0 else self._values(number, at)
            after = change(before)
            if at >= 0:
                _VALUES.pack_into(self._memory, self._record_at(number, at), *_packed(after))
            elif after != NEVER:
                self._insert(key, tag, number, after, at_ms)
        return before, after

    def remove(self, key: Key) -> bool:
        """Whether there was such a record."""
        tag, number = self._place(key)
        with self._locked(number):
            at = self._find(tag, number)
            if at >= 0:
                self._memory[_tag_slice(number, at)] = _NO_TAG
        return at >= 0

    # ---------------------------------------------------------------- all records

    def all(self) -> Iterator[Listed]:
        """Every record, in no order. Costs about 2 ms, and 2 microseconds a record."""
        for number in range(self._sets):
            for at in _used(self._memory[_tags_slice(number)]):
                yield self._listed(number, at)

    def clear(self) -> int:
        """Remove every record; how many there were."""
        removed = 0
        for number in range(self._sets):
            if used := _used(self._memory[_tags_slice(number)]):
                removed += len(used)
                self._memory[_tags_slice(number)] = _EMPTY_TAGS
        return removed

    # ---------------------------------------------------------------- the memory

    def _place(self, key: Key) -> tuple[bytes, int]:
        """(tag, number of the set)."""
        text = f"{key.kind:d} {key.subject}".encode("utf-8", "surrogatepass")
        digest = blake2b(text, digest_size=16, key=self._seed).digest()
        tag = digest[:_TAG_BYTES]
        if tag == _NO_TAG:
            tag = b"\1" * _TAG_BYTES
        return tag, int.from_bytes(digest[_TAG_BYTES:]) % self._sets

    def _find(self, tag: bytes, number: int) -> int:
        """Where the record is in its set, or -1."""
        start = number * _TAGS_BYTES
        end = start + _TAGS_BYTES
        at = self._memory.find(tag, start, end)
        while at >= 0 and (at - start) % _TAG_BYTES:
            at = self._memory.find(tag, at + 1, end)
        return -1 if at < 0 else (at - start) // _TAG_BYTES

    def _record_at(self, number: int, at: int) -> int:
        return self._sets * _TAGS_BYTES + number * _RECORDS_BYTES + at * _RECORD.size

    def _values(self, number: int, at: int) -> Record:
        offended_ms, until_ms, since_ms, milli = _VALUES.unpack_from(self._memory, self._record_at(number, at))
        return Record(milli / _MILLI, offended_ms, since_ms, until_ms)

    def _insert(self, key: Key, tag: bytes, number: int, record: Record, at_ms: int) -> None:
        at = self._find(_NO_TAG, number)
        if at < 0:
            at = min(range(WAYS), key=lambda one: _harm(self._values(number, one), at_ms))
            self.replaced += _harm(self._values(number, at), at_ms) > (0, 0.0)
            self._memory[_tag_slice(number, at)] = _NO_TAG
        subject = _cut(key.subject)
        values = *_packed(record), key.kind, len(subject), subject
        _RECORD.pack_into(self._memory, self._record_at(number, at), *values)
        self._memory[_tag_slice(number, at)] = tag

    def _listed(self, number: int, at: int) -> Listed:
        values = _RECORD.unpack_from(self._memory, self._record_at(number, at))
        offended_ms, until_ms, since_ms, milli, kind, length, subject = values
        text = subject[:length].decode("utf-8", "replace")
        return Listed(Kind(kind), text, Record(milli / _MILLI, offended_ms, since_ms, until_ms))

    @contextlib.contextmanager
    def _locked(self, number: int) -> Iterator[None]:
        """The lock of one set, if it can be had soon."""
        held = False
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except (BlockingIOError, PermissionError):
                time.sleep(_LOCK_PAUSE_S)
            else:
                held = True
                break
        try:
            yield
        finally:
            if held:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)


def _new_memory(sets: int) -> PenaltyTableState:
    descriptor = os.memfd_create("penalties", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, sets * _SET_BYTES)
    return PenaltyTableState(descriptor=descriptor, format=FORMAT, sets=sets, seed=secrets.token_bytes(16))


def _tags_slice(number: int) -> slice:
    """Of one set."""
    return slice(number * _TAGS_BYTES, (number + 1) * _TAGS_BYTES)


def _tag_slice(number: int, at: int) -> slice:
    start = number * _TAGS_BYTES + at * _TAG_BYTES
    return slice(start, start + _TAG_BYTES)


def _used(tags: bytes) -> list[int]:
    """Which records of a set there are."""
    if tags == _EMPTY_TAGS:
        return []
    return [at for at in range(WAYS) if tags[at * _TAG_BYTES : (at + 1) * _TAG_BYTES] != _NO_TAG]


def _packed(record: Record) -> tuple[int, int, int, int]:
    milli = min(int(record.offences * _MILLI), (1 << 32) - 1)
    return record.offended_ms, record.until_ms, record.since_ms, milli


def _harm(record: Record, at_ms: int) -> tuple[int, float]:
    """The record with the lowest is replaced first."""
    idle_ms = at_ms - max(record.offended_ms, record.until_ms)
    return max(0, record.until_ms - at_ms), record.offences - idle_ms / _FADED_MS


def _cut(subject: str) -> bytes:
    """At most SUBJECT_BYTES, with no part of a character at the end."""
    data = subject.encode("utf-8", "replace")
    if len(data) <= SUBJECT_BYTES:
        return data
    return data[: SUBJECT_BYTES - len(_CUT)].decode("utf-8", "ignore").encode() + _CUT
