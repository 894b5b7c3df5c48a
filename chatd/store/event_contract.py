"""The contract of a store: events for applications, and how far each webhook has come. A part of store.contract, which
has the rest.

Owns: EventTables and WebhookTables, and what they take and give; the names of events.
Elsewhere: the SQL (store.sql.event_log, store.sql.events, store.sql.webhooks), sending events (webhooks).
Fails: as store.contract says.

Messages are in the store already, so the event that one was stored is its row. Every other event is a row of `event`,
inserted in the transaction of the change it tells of, and only while a webhook wants events of its kind. A webhook has
read everything up to a Position, and reads on from there; nothing is kept in memory.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from chatd.model import Message, User


class EventKind(enum.StrEnum):
    """What applications can be told. A name is never given another meaning."""

    MESSAGE_STORED = "message.stored"
    MESSAGE_EDITED = "message.edited"
    MESSAGE_RECALLED = "message.recalled"
    MESSAGE_REMOVED = "message.removed"
    USER_REGISTERED = "user.registered"
    USER_LOGIN = "user.login"
    USER_LOGOUT = "user.logout"
    USER_DELETED = "user.deleted"
    USER_ERASED = "user.erased"
    USER_OFFLINE_MESSAGE = "user.offline_message"
    GROUP_CREATED = "group.created"
    GROUP_JOINED = "group.joined"
    GROUP_LEFT = "group.left"
    GROUP_KICKED = "group.kicked"
    GROUP_ROLE = "group.role"
    GROUP_RENAMED = "group.renamed"
    GROUP_DISSOLVED = "group.dissolved"


class Position(NamedTuple):
    """Everything up to and including these ids has been read. The order of both kinds of rows is that of EventTables:
    of two positions that read() gave, the later one is nowhere lower."""

    message: int = 0
    """message.id"""
    event: int = 0
    """event.id"""


class StoredEvent(NamedTuple):
    """An event as it is read. id: "m" and message.id, or "e" and event.id; the same whenever it is read.

    message: of an event about one; as it is now, and None if it is no longer in the store. users: the name of each user
    whose id is in `details`, by that id, as it is now. details: what else there is to tell, as plain values."""

    id: str
    kind: EventKind
    at_ms: int
    message: Message | None
    details: Mapping[str, object]
    users: Mapping[int, User]


class Stretch(NamedTuple):
    """What read() gives. upto: the position after it; all events between the two positions that were asked for are in
    `events`, in order. more: there are more up to the position that was asked for."""

    events: list[StoredEvent]
    upto: Position
    more: bool


class ReadLimits(NamedTuple):
    """Of one read. events, chars: maximum of events, and of characters in their messages; one event is always given."""

    events: int
    chars: int = 1 << 62


class EventTables(Protocol):
    """Events, in order: those of one conversation, of one user and of one group in the order in which they happened.

    On a store where several transactions commit at the same time, a row with a lower id may become visible after one
    with a higher id. So what marks() gives may be read only once every transaction that had begun by then has ended:
    when each of slots() has been in some free() asked for after it. docs/decisions/0044-webhooks-read-settled-rows.md
    has the proof."""

    def record(self, kind: EventKind, details: Mapping[str, object], message: tuple[int, int] | None = None) -> None:
        """Within the transaction of the change. Does nothing unless a webhook wants the kind. details: plain values;
        users by their ids, under "user", "by" or "users". message: conversation and seq of the one that it is about.
        Cost: one row read; if wanted, three statements."""

    def marks(self) -> Position:
        """The highest ids that are visible now."""
        ...

    def slots(self) -> frozenset[int]:
        """Empty on a store whose transactions never overlap."""
        ...

    def free(self) -> frozenset[int]:
        """Those of slots() that no transaction uses at this moment. Waits for nobody."""
        ...

    def read(self, after: Position, upto: Position, kinds: Collection[EventKind], limits: ReadLimits) -> Stretch:
        """The first events of these kinds. upto: has settled."""
        ...

    def count(self, after: Position, upto: Position, kinds: Collection[EventKind]) -> int:
        """How many there are at most: gaps in the numbers of messages are counted. Cost: a scan of the
        events between."""
        ...

    def trim(self, before_ms: int, most: int, limit: int) -> int:
        """In a transaction: delete at most `limit` events that every webhook has read; and those recorded before
        before_ms, or beyond the last `most`, whether they were read or not: WebhookState.dropped counts them. Gives how
        many were deleted."""
        ...


class WebhookState(NamedTuple):
    """A webhook as the store knows it. Times in milliseconds since the epoch, by the store's clock; 0 = never.

    fence: rises whenever somebody takes the lease. position: everything up to here was answered by the receiver.
    claimed: the events between the two are being sent, as one batch; equal to position: none are. delivered: events
    answered, total. failures: attempts that failed since the last success. replays: calls of replay(), total. dropped:
    events that were deleted unread, total."""

    name: str
    kinds: tuple[str, ...]
    holder: str
    fence: int
    lease_until_ms: int
    position: Position
    claimed: Position
    created_at_ms: int
    seen_at_ms: int
    delivered: int
    delivered_at_ms: int
    failures: int
    failed_at_ms: int
    error: str
    disabled_at_ms: int
    replays: int
    dropped: int


class Progress(NamedTuple):
    """A batch was answered, or the next one begins. delivered: events answered since the last call."""

    position: Position
    claimed: Position
    delivered: int


class WebhookTables(Protocol):
    """The webhooks, each with its lease. All but all() within a transaction.

    A lease belongs to the holder who got `fence`. Whoever has lost it can change nothing any more: the methods with
    `fence` then return False."""

    def all(self) -> list[WebhookState]: ...

    def find(self, name: str) -> WebhookState | None: ...

    def register(self, name: str, kinds: Collection[str]) -> None:
        """Somebody has it configured, and wants these kinds from now on. A new one begins at the present end. From the
        commit on, events of these kinds are recorded."""

    def forget(self, name: str) -> bool:
        """Delete it. Whether there was one."""
        ...

    def forget_unseen(self, before_ms: int) -> list[str]:
        """Delete those that nobody has registered or held since; their names."""
        ...

    def take(self, name: str, holder: str, lease_ms: int) -> WebhookState | None:
        """Take the lease, with a new fence. None: another holder has it, the webhook is disabled, or unknown."""
        ...

    def renew(self, name: str, fence: int, lease_ms: int) -> bool: ...

    def release(self, name: str, fence: int) -> bool:
        """Anybody may take the lease at once."""
        ...

    def move(self, name: str, fence: int, progress: Progress, lease_ms: int) -> bool:
        """Also renews the lease. A position never moves back."""
        ...

    def failed(self, name: str, fence: int, error: str, lease_ms: int) -> bool:
        """An attempt failed. Also renews the lease."""
        ...

    def recovered(self, name: str, fence: int, lease_ms: int) -> bool:
        """What had failed is well again, although nothing was delivered yet. Also renews the lease."""
        ...

    def disable(self, name: str, fence: int, error: str) -> bool:
        """Nobody can take the lease until enable(). Releases it."""
        ...

    def enable(self, name: str) -> bool:
        """Also ends the wait before the next attempt: whoever holds the lease loses it. Whether there is such a
        webhook."""
        ...

    def replay(self, name: str, position: Position) -> bool:
        """Continue from here, forward or back; whoever holds the lease loses it. Whether there is such a webhook."""
        ...

    def position_at(self, at_ms: int) -> Position:
        """The position before the first message and the first event of this time or later. Cost: messages have no
        index by time; some dozens of reads."""
        ...


ALL_KINDS: Sequence[EventKind] = tuple(EventKind)
