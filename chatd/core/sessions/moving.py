"""What a worker tells its successor of a session that it hands over.

Owns: the structs, in which nothing refers to a connection or to a clock: times are ages or distances in seconds.
Elsewhere: making them (core.sessions.departures), going on from them (core.sessions.arrivals), the connection itself
and the socket between the two workers (net.handover).
Fails: never.
"""

from __future__ import annotations

import msgspec

from chatd.model import ConversationId, GroupId, Message, Protocol, Seq, User, UserId
from chatd.protocol import ServerMessage, WireTraits


class OfferedPeer(msgspec.Struct, frozen=True, kw_only=True):
    """The connection of an offered session, as far as core must know it: see core.sessions.session.Peer."""

    remote: str
    traits: WireTraits
    text_bytes: int
    lossy: bool
    has_receipts: bool
    is_private: bool


class OfferedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that is about to move: see core.sessions.session.Session. age_s: since its login. features: the number
    of protocol.Feature."""

    user: User
    protocol: Protocol
    first_login_time: int
    fresh: bool
    by_seq: bool
    takes_over: bool
    features: int
    credentials: int
    since_ms: int
    age_s: float
    peer: OfferedPeer


class MovedCursor(msgspec.Struct, frozen=True, array_like=True):
    """See core.sessions.session.Cursor. unacked: (seq, the byte at which it ends)."""

    conversation: ConversationId
    pushed: Seq
    unacked: tuple[tuple[Seq, int], ...] = ()
    tells: UserId = 0


class MovedInFlight(msgspec.Struct, frozen=True, kw_only=True):
    """See core.sessions.session.InFlight. One of message and text is given. in_s: when it is sent again, from now."""

    fp: str
    message: Message | None = None
    group_name: str = ""
    text: ServerMessage | None = None
    in_s: float
    attempts: int
    about: tuple[ConversationId, Seq] | None = None


class MovedReceipt(msgspec.Struct, frozen=True, array_like=True):
    """See core.sessions.session.Receipt."""

    offset: int
    conversation: ConversationId
    seq: Seq


class MovedWatch(msgspec.Struct, frozen=True, array_like=True):
    """See core.presence.Watched."""

    user: User
    online: bool
    version: int


class MovedAllowance(msgspec.Struct, frozen=True, array_like=True):
    """See core.allowance.Allowance."""

    commands: float
    recipients: float
    changes: float


class MovedSession(msgspec.Struct, frozen=True, kw_only=True):
    """What may have changed of a session since it was offered, and everything it was given.

    has_lock: the successor was given the session lock. groups: the memberships that its cursors are of. entered:
    conversations of groups that it has entered, whose cursors are still to be made. told: by text_of(), what its client
    was told since the session was offered; the successor may have heard the same. failures: failed attempts of the
    connection to prove a password. broadcasts: numbers of those that it was told, or that are not for it.
    ends_at_ms: see core.sessions.expiry.
    """

    has_lock: bool
    features: int
    credentials: int
    ends_at_ms: int = 0
    groups: dict[GroupId, int] = {}
    entered: tuple[ConversationId, ...] = ()
    cursors: tuple[MovedCursor, ...] = ()
    in_flight: tuple[MovedInFlight, ...] = ()
    receipts: tuple[MovedReceipt, ...] = ()
    watching: tuple[MovedWatch, ...] = ()
    allowance: MovedAllowance
    told: tuple[str, ...] = ()
    failures: int = 0
    broadcasts: tuple[int, ...] = ()


def text_of(event: object) -> str:
    """The same for equal events, on every worker: the fp that a worker has made for a text does not count."""
    return event.body if isinstance(event, ServerMessage) else repr(event)
