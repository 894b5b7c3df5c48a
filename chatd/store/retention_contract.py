"""The contract of a store: deleting old messages and those of erased users. A part of store.contract.

Owns: RetentionTables and ErasureTables, and what they take and give.
Elsewhere: the SQL (store.sql.retention, store.sql.erasure, and the twins' own parts); when a slice is due
(core.retention).
Fails: as store.contract says.

Every method that changes something is one slice of a long task: short, in a transaction, and complete in itself. How
far the task has come is stored in the same transaction, so that any process can go on with it after any crash, and
several processes may work on it in turns.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol

from chatd.model import UserId


class Kind(enum.Enum):
    """Of a conversation."""

    PRIVATE = "private"
    GROUPS = "groups"


class Slice(NamedTuple):
    """What a slice has done. looked_at: rows read. deleted: messages that are gone. blanked: messages that lost their
    text and keep their number. more: there is more to do at once."""

    looked_at: int = 0
    deleted: int = 0
    blanked: int = 0
    more: bool = False


class Erasure(NamedTuple):
    """The messages of an erased account that are being blanked. position: the highest message.id that was looked at;
    end: the highest there is."""

    user_id: UserId
    position: int
    end: int
    asked_at_ms: int


class Space(NamedTuple):
    """Bytes of the store, and how many of them hold nothing (SQLite: they are given back by reclaim(), if `reclaims`).
    oldest_ms: when the oldest message with a text was sent, milliseconds since the epoch; 0 = there is none."""

    total: int
    free: int
    reclaims: bool
    oldest_ms: int


class RetentionTables(Protocol):
    """Old messages, and the space that deleted ones leave.

    A message is deleted with its edits' revisions, mentions and marks of removal. The last message of a conversation
    stays without its text, so that numbers go on. The stored cursors of its users move beyond what is deleted."""

    def expire(self, kind: Kind, before_ms: int, now_ms: int, limit: int) -> Slice:
        """Delete messages sent before `before_ms`, the oldest first, at most about `limit`. A message sent after now_ms
        (by a wrong clock) does not hold up those behind it. Cost: `limit` rows, a few statements."""
        ...

    def expire_dissolved(self, before_ms: int, now_ms: int, limit: int) -> Slice:
        """Delete messages of groups that were dissolved before `before_ms`, their last ones too: a group's id is never
        used again. The time counts from the first call that finds the group."""
        ...

    def clock(self) -> int:
        """The latest time, milliseconds since the epoch, at which retention was known to work with a right clock; 0 =
        it never has."""
        ...

    def set_clock(self, now_ms: int) -> None:
        """Never moved back."""

    def reclaim(self, pages: int) -> int:
        """Give at most so many unused pages back to the file system; returns how many were given. A few megabytes are
        kept for new messages. MySQL reuses its space by itself: 0."""
        ...

    def space(self) -> Space:
        """Cost: a few rows."""
        ...


class ErasureTables(Protocol):
    """The messages of erased accounts."""

    def pending(self) -> list[Erasure]:
        """Those that are not finished, by user."""
        ...

    def blank(self, user_id: UserId, limit: int, now_ms: int) -> Slice:
        """Blank at most `limit` further messages of this user. `more` is False when none is left for now; the erasure
        ends, and is forgotten, only when SETTLE_MS have passed since it was asked for. An empty Slice for a user
        without a pending erasure."""
        ...


SETTLE_MS = 60_000
"""Sessions of an erased account end within a second; until then they may still send. So the end of the store is looked
at again when this has passed since the account was erased."""
SCANNED = 4000
"""Maximum rows that one slice of an erasure looks at for messages of the user."""
