"""Everything that is in a store, row by row, on its way from one twin to another.

Owns: the canonical form of each table's rows, the order they travel in, resuming, and the comparison at the end.
Elsewhere: how a twin reads and writes such rows (store.sqlite.dump, store.mysql.dump), who may ask for it
(chatd.chatctl.stores).
Fails: NotACopy where the destination holds something else, Disturbed; what the twins raise passes through. Ended
at any moment, a copy is taken up where it was: rows and the note of how far it is are one transaction.

Derived things (indexes, a conversation's last number, keys for (sender, fp)) do not travel: a side makes its own.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

import msgspec

from chatd.errors import ChatdError
from chatd.store.sql.send_keys import SendKeys
from chatd.store.versions import FILLING

Value = int | str | None
Row = tuple[Value, ...]

_FAR = "filled"
"""Key of `meta`: how far."""
_ROWS = 5000
_CHARS = 4 * 1024 * 1024
"""A batch ends at either: this bounds the memory."""
_KEYS = 500


class Table(NamedTuple):
    """keys: so many of the first columns are unique together and give the order."""

    name: str
    keys: int
    columns: tuple[str, ...]


TABLES = (
    Table("user", 1, ("id", "name", "name_key", "password", "created_at_ms", "seen_at_ms", "profile")),
    Table("friend", 2, ("user_id", "friend_id", "accepted", "at_ms")),
    Table("team", 1, ("id", "name", "description", "created_at_ms", "members_version")),
    Table("member", 2, ("team_id", "user_id", "role", "joined_at_ms", "since_version")),
    Table("pair", 1, ("id", "low", "high")),
    Table(
        "message",
        1,
        ("id", "conversation", "seq", "sender_id", "fp", "sent_at_ms", "qos", "typeu", "body", "body_hash"),
    ),
    Table("cursor", 2, ("user_id", "conversation", "delivered", "seen")),
    Table("request", 2, ("sender_id", "fp", "answer", "at_ms", "body_hash")),
)
BY_NAME = {table.name: table for table in TABLES}
COUNTED = ("user", "team")
"""Tables whose numbers are never given twice, even when the row with the highest is gone."""


class NotACopy(ChatdError):
    """The destination is neither empty nor an unfinished copy of this source. Nothing was written."""


class Disturbed(ChatdError):
    """Somebody had one of the stores open: what they changed may be missing. The destination stays unfinished."""


class Side(Protocol):
    """A store that nobody else uses, as chatctl reads and fills it. One thread."""

    name: str
    """For people; without a password."""

    def view(self) -> None:
        """What rows() and count() tell from now on is one consistent state: that of this moment."""

    def rows(self, table: Table, after: Row) -> Iterator[Row]:
        """By key, those beyond `after` (() = all), in canonical form. Memory does not depend on how many they are."""
        ...

    def count(self, table: Table) -> int: ...

    def counters(self) -> dict[str, int]:
        """Of each table of COUNTED: no number up to this one is given (again)."""
        ...

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def load(self, table: Table, rows: list[Row]) -> None:
        """In a transaction. The rows' order is that of their keys; messages come after their pairs."""

    def raise_counters(self, counters: dict[str, int]) -> None:
        """Outside a transaction; never lowered. Repeating it changes nothing."""

    def noted(self, key: str) -> str:
        """A note of `meta`, or ""."""
        ...

    def note(self, key: str, value: str) -> None:
        """In a transaction. "" takes it away."""

    def others(self) -> str:
        """Who else has this store open, as far as that can be known; "" = nobody."""
        ...

    def doubt(self) -> str:
        """Why others() may not know of everybody, "" = it does."""
        ...

    def close(self) -> None: ...


class Far(msgspec.Struct):
    """How far it is: everything of the tables (or stages) before `table`, and of it up to and including `after`."""

    table: str
    after: list[Value]


class Compared(NamedTuple):
    """One table as both sides tell it, each read for itself."""

    table: str
    source: Digest
    target: Digest

    @property
    def same(self) -> bool:
        return self.source == self.target


class Digest(NamedTuple):
    """Equal when the rows are equal, in whatever order they came."""

    rows: int
    total: int

    def __str__(self) -> str:
        return f"{self.total:032x}"


Watch = Callable[[str, int, int], None]
"""(what is done, rows done now, rows in all); the first call of each has 0 done."""


def copy(source: Side, target: Side, watch: Watch) -> list[Compared]:
    """Bring everything from source to target, or what is still missing there, and compare. The target is given free
    (it has no FILLING any more) only when every table is the same."""
    source.view()
    far = claim(target, f"chatctl copy-store from {source.name}", Far(TABLES[0].name, []))
    for table in TABLES[[one.name for one in TABLES].index(far.table) :]:
        after = tuple(far.after) if table.name == far.table else ()
        total, done = source.count(table), target.count(table) if after else 0
        watch(table.name, 0, total)
        watch(table.name, done, total)
        for batch in batches(source.rows(table, after)):
            with transaction(target):
                target.load(table, batch)
                note_far(target, Far(table.name, list(batch[-1][: table.keys])))
            watch(table.name, len(batch), total)
    target.raise_counters(source.counters())
    target.view()
    compared = [compare(table, source, target, watch) for table in TABLES]
    if others := source.others() or target.others():
        raise Disturbed(f"used meanwhile by {others}: what they changed may be missing; stop them and copy again")
    if all(one.same for one in compared):
        release(target)
    return compared


def claim(target: Side, label: str, start: Far) -> Far:
    """Mark an empty target as being filled by `label`, or learn how far that has come. Raises NotACopy."""
    filling = target.noted(FILLING)
    if filling and filling != label:
        raise NotACopy(f"{target.name} is being filled by something else: {filling}")
    if filling:
        return msgspec.json.decode(target.noted(_FAR), type=Far)
    check_empty(target)
    with transaction(target):
        target.note(FILLING, label)
        note_far(target, start)
    return start


def note_far(target: Side, far: Far) -> None:
    """In the transaction that has brought it so far."""
    target.note(_FAR, msgspec.json.encode(far).decode())


def check_empty(target: Side) -> None:
    """Raises NotACopy."""
    target.view()
    for table in TABLES:
        if next(target.rows(table, ()), None) is not None:
            raise NotACopy(f"{target.name} is not empty: it has rows in the table {table.name}")


def release(target: Side) -> None:
    """The target is complete: servers may have it."""
    with transaction(target):
        target.note(FILLING, "")
        target.note(_FAR, "")


@contextlib.contextmanager
def transaction(side: Side) -> Iterator[None]:
    side.begin()
    try:
        yield
    except BaseException:
        side.rollback()
        raise
    side.commit()


def compare(table: Table, source: Side, target: Side, watch: Watch) -> Compared:
    """Cost: both tables are read whole."""
    total = source.count(table) + target.count(table)
    watch(f"compare {table.name}", 0, total)

    def told(count: int) -> None:
        watch(f"compare {table.name}", count, total)

    return Compared(table.name, digest(source.rows(table, ()), told), digest(target.rows(table, ()), told))


def digest(rows: Iterable[Row], told: Callable[[int], None]) -> Digest:
    encode, total, count = msgspec.msgpack.Encoder().encode, 0, 0
    for batch in batches(rows):
        for row in batch:
            total += int.from_bytes(blake2b(encode(row), digest_size=16).digest())
        count += len(batch)
        told(len(batch))
    return Digest(count, total % (1 << 128))


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Of at most _ROWS rows and about _CHARS characters each."""
    rows, sizes = iter(rows), 250
    while batch := list(itertools.islice(rows, sizes)):
        chars = sum(len(value) for row in batch for value in row if isinstance(value, str))
        sizes = max(1, min(_ROWS, len(batch) * _CHARS // (chars + 1)))
        yield batch


def free_keys(wanted: Sequence[Value], taken: Callable[[list[int]], set[int]]) -> list[Value]:
    """For each send key the next one that is free in the table and among themselves; nearly always itself. taken: those
    of some keys that the table has."""
    keys: list[Value] = []
    given: set[int] = set()
    asked = [int(key) for key in wanted if key is not None]
    for at in range(0, len(asked), _KEYS):
        given |= taken(asked[at : at + _KEYS])
    for key in wanted:
        if key is None:
            keys.append(None)
            continue
        free = int(key)
        if free in given:
            while free in given or taken([free]):
                free = SendKeys.after(free)
        given.add(free)
        keys.append(free)
    return keys
