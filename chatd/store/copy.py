"""Copying a whole store into an empty one, of the same twin or the other.

Owns: StoreDump, a store as rows of each table in a canonical form; the order of the tables, resuming, and comparing
the two stores at the end.
Elsewhere: how a twin reads and writes such rows (store.sqlite.dump, store.mysql.dump), when a copy is allowed
(chatd.chatctl.stores).
Fails: DestinationInUse, StoreChanged; what the twins raise passes through. A copy that was interrupted at any moment
continues where it was: rows and the position after them are written in one transaction.

Derived data (indexes, the last number of a conversation, the keys of (sender, fp), the hashes of what names look like)
is not copied: each twin makes its own.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

import msgspec

from chatd.errors import ChatdError
from chatd.store.sql import address_bans, event_log
from chatd.store.sql.send_keys import SendKeys
from chatd.store.versions import FILLING

Value = int | str | None
Row = tuple[Value, ...]

_POSITION = "filled"
"""Key in `meta`: the Position of an unfinished copy."""
ROWS_AT_ONCE = 5000
_CHARS = 4 * 1024 * 1024
"""The size of a batch, in rows and characters; it ends at either, which bounds the memory."""
_KEYS = 500
"""Maximum send keys looked up in one statement."""


class Table(NamedTuple):
    """keys: how many of the first columns make the primary key; rows are ordered by it."""

    name: str
    keys: int
    columns: tuple[str, ...]


_PUSH_COLUMNS = (
    *("id", "user_id", "place", "gateway", "endpoint", "p256dh", "auth", "credentials", "created_at_ms"),
    *("worked_at_ms", "due_at_ms", "conversation", "seq", "waiting", "failures"),
)
TABLES = (
    Table(
        "user",
        1,
        (
            "id",
            "name",
            "name_key",
            "password",
            "created_at_ms",
            "seen_at_ms",
            "profile",
            "credentials",
            "locked_at_ms",
            "lock_reason",
            "may_write",
            "may_ask",
            "may_see",
            "may_add",
        ),
    ),
    Table("known_source", 2, ("user_id", "hidden", "seen_day")),
    Table(
        "invite",
        1,
        ("id", "code_hash", "uses", "used", "created_at_ms", "expires_at_ms", "revoked_at_ms", "note"),
    ),
    Table(
        "api_key",
        1,
        (
            "id",
            "name",
            "secret_hash",
            "scopes",
            "created_by",
            "created_at_ms",
            "expires_at_ms",
            "revoked_at_ms",
            "used_at_ms",
        ),
    ),
    Table(
        "administrator",
        1,
        ("user_id", "role", "totp_secret", "last_step", "created_by", "created_at_ms", "used_at_ms"),
    ),
    Table(
        "admin_session",
        1,
        ("token_hash", "user_id", "credentials", "began_at_ms", "seen_at_ms", "ends_at_ms", "address"),
    ),
    Table("bridged", 1, ("user_id", "bridge", "remote", "heard_at_ms")),
    Table("push_subscription", 1, _PUSH_COLUMNS),
    Table("friend", 2, ("user_id", "friend_id", "accepted", "at_ms")),
    Table("refusal", 2, ("user_id", "friend_id", "at_ms", "withdrawn")),
    Table("correspondent", 2, ("user_id", "other_id")),
    Table("block", 2, ("user_id", "blocked_id", "at_ms")),
    Table(
        "team",
        1,
        (
            "id",
            "name",
            "description",
            "created_at_ms",
            "members_version",
            "join_policy",
            "whole_history",
            "announcements",
            "member_count",
        ),
    ),
    Table(
        "member",
        2,
        ("team_id", "user_id", "role", "joined_at_ms", "since_version", "muted_until_ms", "first_seq"),
    ),
    Table("ban", 2, ("team_id", "user_id", "by_id", "at_ms")),
    Table("admission", 2, ("team_id", "user_id", "state", "by_id", "at_ms", "muted_until_ms")),
    Table("pair", 1, ("id", "low", "high")),
    Table(
        "message",
        1,
        (
            "id",
            "conversation",
            "seq",
            "sender_id",
            "fp",
            "sent_at_ms",
            "qos",
            "typeu",
            "body",
            "body_hash",
            "state",
            "version",
            "meta",
        ),
    ),
    Table("revision", 2, ("conversation", "number", "seq", "by_id", "at_ms")),
    Table("hidden", 3, ("user_id", "conversation", "seq")),
    Table("mention", 3, ("user_id", "conversation", "seq")),
    Table(
        "file",
        1,
        (
            "id",
            "owner",
            "name",
            "size",
            "media_type",
            "sha256",
            "blob",
            "width",
            "height",
            "state",
            "created_at_ms",
            "conversation",
            "seq",
        ),
    ),
    Table("doomed_blob", 1, ("name", "due_ms")),
    Table("cursor", 2, ("user_id", "conversation", "delivered", "seen", "cleared")),
    Table("erasure", 1, ("user_id", "position", "asked_at_ms")),
    Table("dissolved", 1, ("team_id", "at_ms")),
    Table("event", 1, ("id", "after_message", "at_ms", "kind", "message_id", "details")),
    Table(
        "webhook",
        1,
        (
            "name",
            "kinds",
            "holder",
            "fence",
            "lease_until_ms",
            "message",
            "event",
            "claimed_message",
            "claimed_event",
            "created_at_ms",
            "seen_at_ms",
            "delivered",
            "delivered_at_ms",
            "failures",
            "failed_at_ms",
            "error",
            "disabled_at_ms",
            "replays",
            "dropped",
        ),
    ),
    Table("request", 2, ("sender_id", "fp", "answer", "at_ms", "body_hash")),
)
BY_NAME = {table.name: table for table in TABLES}
NOTES = (
    *("credentials", "stand_in_key", "consent", "retained_private", "retained_groups", "retention_clock"),
    "deleted_at_ms",
    address_bans.VERSION,
    event_log.WANTED,
)
"""Keys in `meta` that belong to the data. The address bans, which have a key each, come on top."""
IMPORTED = "imported"
"""Key in `meta`: what an import has left (importer.traces). Not copied."""
COUNTED = ("user", "team", "invite", "event", "push_subscription")
"""Tables whose ids are never used again, even when the row with the highest id was deleted."""


class DestinationInUse(ChatdError):
    """The destination is neither empty nor an unfinished copy of this source. Nothing was written."""


class StoreChanged(ChatdError):
    """Another program had one of the stores open: its changes may be missing. The destination stays unfinished."""


class StoreDump(Protocol):
    """A store that no server uses, as chatctl reads and fills it. For one thread."""

    name: str
    """The name that the operator knows, without a password."""

    def snapshot(self) -> None:
        """From now on, rows() and count() show one consistent state: that of this moment."""

    def rows(self, table: Table, after: Row) -> Iterator[Row]:
        """In canonical form, by key, those beyond `after` (() = all). Memory does not depend on their number."""
        ...

    def count(self, table: Table) -> int: ...

    def counters(self) -> dict[str, int]:
        """For each table of COUNTED the highest id that was ever used."""
        ...

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def clear(self) -> None:
        """Delete every row of TABLES, what is derived from them, and the note of an import."""

    def load(self, table: Table, rows: list[Row]) -> None:
        """Insert, in a transaction. Rows come in the order of their keys, and messages after their pairs."""

    def raise_counters(self, counters: dict[str, int]) -> None:
        """Outside a transaction. Counters are never lowered; repeating it changes nothing."""

    def read_note(self, key: str) -> str:
        """The value of this key in `meta`, or ""."""
        ...

    def notes(self, prefix: str) -> dict[str, str]:
        """Every key in `meta` that begins so, with its value. prefix: without characters that LIKE takes for others."""
        ...

    def write_note(self, key: str, value: str) -> None:
        """Into `meta`, in a transaction. "" deletes it."""

    def other_users(self) -> str:
        """The other users that have this store open, as far as that can be known; "" = none."""
        ...

    def blind_spot(self) -> str:
        """Why other_users() may miss some, "" = it does not."""
        ...

    def close(self) -> None: ...


class Position(msgspec.Struct):
    """How far a copy has come: the tables (or stages) before `table`, and the rows of `table` up to and including
    `after`."""

    table: str
    after: list[Value]


class Comparison(NamedTuple):
    """One table, as read from both stores."""

    table: str
    source: Digest
    target: Digest

    @property
    def same(self) -> bool:
        return self.source == self.target


class Digest(NamedTuple):
    """Equal if the rows are equal, in whatever order they were read. total: the sum of their hashes."""

    rows: int
    total: int

    def __str__(self) -> str:
        return f"{self.total:032x}"


OnProgress = Callable[[str, int, int], None]
"""(what is being done, rows done since the last call, rows in all); the first call for each has 0 rows done."""


def copy(source: StoreDump, target: StoreDump, watch: OnProgress) -> list[Comparison]:
    """Copy everything, or what an interrupted copy has left, and compare. Only if every table is the same is the target
    marked as complete (FILLING is deleted), so that servers accept it. Raises: DestinationInUse, StoreChanged."""
    source.snapshot()
    position = start_filling(target, f"chatctl copy-store from {source.name}", Position(TABLES[0].name, []))
    for table in TABLES[[one.name for one in TABLES].index(position.table) :]:
        after = tuple(position.after) if table.name == position.table else ()
        total, done = source.count(table), target.count(table) if after else 0
        watch(table.name, 0, total)
        watch(table.name, done, total)
        for batch in batches(source.rows(table, after)):
            with transaction(target):
                target.load(table, batch)
                save_position(target, Position(table.name, list(batch[-1][: table.keys])))
            watch(table.name, len(batch), total)
    target.raise_counters(source.counters())
    _copy_notes(source, target)
    target.snapshot()
    compared = [compare(table, source, target, watch) for table in TABLES]
    if others := source.other_users() or target.other_users():
        raise StoreChanged(f"used meanwhile by {others}: their changes may be missing; stop them and copy again")
    if all(one.same for one in compared):
        finish_filling(target)
    return compared


def _copy_notes(source: StoreDump, target: StoreDump) -> None:
    with transaction(target):
        for key in NOTES:
            if value := source.read_note(key):
                target.write_note(key, value)
        for key, value in source.notes(address_bans.PREFIX).items():
            target.write_note(key, value)


def start_filling(target: StoreDump, label: str, start: Position) -> Position:
    """Mark an empty target as being filled by `label`. Returns `start`, or where an interrupted run of the same label
    is to continue. Raises: DestinationInUse."""
    filling = target.read_note(FILLING)
    if filling and filling != label:
        raise DestinationInUse(f"{target.name} is being filled by something else: {filling}")
    if filling:
        return msgspec.json.decode(target.read_note(_POSITION), type=Position)
    check_empty(target)
    with transaction(target):
        target.write_note(FILLING, label)
        save_position(target, start)
    return start


def save_position(target: StoreDump, position: Position) -> None:
    """In the transaction that reached it."""
    target.write_note(_POSITION, msgspec.json.encode(position).decode())


def check_empty(target: StoreDump) -> None:
    """Raises: DestinationInUse."""
    target.snapshot()
    for table in TABLES:
        if next(target.rows(table, ()), None) is not None:
            raise DestinationInUse(f"{target.name} is not empty: it has rows in the table {table.name}")


def finish_filling(target: StoreDump) -> None:
    """The target is complete: servers may use it."""
    with transaction(target):
        target.write_note(FILLING, "")
        target.write_note(_POSITION, "")


@contextlib.contextmanager
def transaction(target: StoreDump) -> Iterator[None]:
    target.begin()
    try:
        yield
    except BaseException:
        target.rollback()
        raise
    target.commit()


def compare(table: Table, source: StoreDump, target: StoreDump, watch: OnProgress) -> Comparison:
    """Cost: both tables are read whole."""
    total = source.count(table) + target.count(table)
    watch(f"compare {table.name}", 0, total)

    def on_rows(count: int) -> None:
        watch(f"compare {table.name}", count, total)

    return Comparison(table.name, digest(source.rows(table, ()), on_rows), digest(target.rows(table, ()), on_rows))


def digest(rows: Iterable[Row], on_rows: Callable[[int], None]) -> Digest:
    encode, total, count = msgspec.msgpack.Encoder().encode, 0, 0
    for batch in batches(rows):
        for row in batch:
            total += int.from_bytes(blake2b(encode(row), digest_size=16).digest())
        count += len(batch)
        on_rows(len(batch))
    return Digest(count, total % (1 << 128))


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """At most ROWS_AT_ONCE rows and about _CHARS characters each."""
    rows, sizes = iter(rows), 250
    while batch := list(itertools.islice(rows, sizes)):
        chars = sum(len(value) for row in batch for value in row if isinstance(value, str))
        sizes = max(1, min(ROWS_AT_ONCE, len(batch) * _CHARS // (chars + 1)))
        yield batch


def free_keys(wanted: Sequence[Value], in_use: Callable[[list[int]], set[int]]) -> list[Value]:
    """For each send key the next one that is free, in the table and among themselves; nearly always the key itself.
    in_use: which of some keys the table has."""
    keys: list[Value] = []
    given: set[int] = set()
    asked = [int(key) for key in wanted if key is not None]
    for at in range(0, len(asked), _KEYS):
        given |= in_use(asked[at : at + _KEYS])
    for key in wanted:
        if key is None:
            keys.append(None)
            continue
        free = int(key)
        if free in given:
            while free in given or in_use([free]):
                free = SendKeys.after(free)
        given.add(free)
        keys.append(free)
    return keys
