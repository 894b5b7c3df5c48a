"""The interfaces under the SQL shared by both twins: a database that runs statements, and the twin around it.

Owns: Database and Rows, the part of sqlite3.Connection that the shared SQL uses, and store.mysql.connection offers too;
Backend, everything else that the shared SQL needs from its twin.
Elsewhere: transactions, which each twin runs in its own way (store.sqlite.tables, store.mysql.tables).
Fails: as the twin does.

The shared SQL uses only what both dialects accept: `?` for a value, REPLACE INTO, `key` and `cursor` between
backquotes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from chatd.model import ConversationId, GroupId, Seq, UserId
from chatd.store.event_contract import EventKind


class Rows(Protocol):
    """The result of one statement. lastrowid: the id that the store gave to the row it inserted."""

    @property
    def lastrowid(self) -> int | None: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Rows: ...


class Backend(Protocol):
    """One twin's row locks, counters and caches. Called within a transaction, except last_seq()."""

    def lock_users(self, *user_ids: UserId) -> None:
        """Until the commit, no other transaction changes these accounts, their friends or the groups they are in."""

    def lock_names(self) -> None:
        """Until the commit, no other transaction creates an account."""

    def lock_invite(self, column: str, value: int | str) -> None:
        """Until the commit, no other transaction changes the invite with this value (of id or code_hash)."""

    def lock_group(self, group_id: GroupId) -> None:
        """Until the commit, no other transaction changes this group or appends messages to it."""

    def lock_conversation(self, conversation: ConversationId) -> None:
        """Until the commit, no other transaction appends messages to it or changes them."""

    def message_id(self, conversation: ConversationId, seq: Seq) -> int | None:
        """message.id of this message."""
        ...

    def open_group(self, group_id: GroupId) -> None:
        """A group was created: add the rows that this twin keeps for its conversation."""

    def last_seq(self, conversation: ConversationId) -> Seq:
        """0 for a conversation without messages."""
        ...

    def created(self, table: str, number: int) -> None:
        """This transaction inserted the row with this id (in `request`: this send_key)."""

    def record(self, kind: EventKind, details: Mapping[str, object], message_id: int = 0) -> None:
        """As store.event_contract.EventTables.record()."""

    def membership_changed(self, group_id: GroupId, user_id: UserId) -> None:
        """The user joined or left, was muted or has another role: cached answers about the two are out of date."""

    def group_changed(self, group_id: GroupId) -> None:
        """The rules of the group changed, or it ended: cached answers about all its members are out of date."""
