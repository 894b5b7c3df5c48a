"""One logged-in client, and the connection it speaks through.

Owns: Session (data only) and Peer, what core needs of a connection. Nothing here acts.
Elsewhere: how a session comes and goes (core.sessions.login), what it is given (core.delivery), sockets (net).

An idle session is small on purpose: its containers are made when first needed.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol as Contract

import msgspec

from chatd.errors import Disconnect
from chatd.model import ConversationId, GroupId, Message, Protocol, Seq, User, UserId
from chatd.protocol import Deliver, Event, LoginAccepted, ServerMessage, WireTraits


class Peer(Contract):
    """A connection as core sees it. Kept by net.connection."""

    session: Session | None
    protocol: Protocol
    """The wire, by which a user's sessions are told apart: at most one on each."""

    @property
    def traits(self) -> WireTraits:
        """How the clients of this wire behave."""
        ...

    remote: str
    """The peer's address, for logs."""
    closed: bool
    """Nothing more can be told to it."""

    lossy: bool
    """What is pushed may get lost on its way, unnoticed."""

    @property
    def out_bytes(self) -> int:
        """Bytes queued here because the peer's network has not taken them yet."""
        ...

    @property
    def text_bytes(self) -> int:
        """Room for the text and the fp of a ServerMessage, counted as JSON strings."""
        ...

    def push(self, event: Event) -> int:
        """Queue for the peer; returns the number of bytes queued so far on this connection, this event
        included. Never blocks; a peer whose outbox is full is cut with SLOW_CONSUMER."""
        ...

    def push_login(self, event: LoginAccepted) -> tuple[int, int]:
        """(how many of event.waiting went out with the answer, bytes queued so far)."""
        ...

    def acknowledged(self) -> int:
        """How many of the bytes queued the peer's kernel has acknowledged."""
        ...

    def close(self, reason: Disconnect) -> None:
        """End the connection after what is queued. The session ends at once (core.sessions.login.left)."""
        ...


class Cursor:
    """What one session has been given of one conversation: everything up to `pushed`, without a hole.

    unacked: seqs pushed and not yet acknowledged, ascending. held: messages that came too early.
    """

    __slots__ = ("held", "pushed", "unacked")

    def __init__(self, pushed: Seq) -> None:
        self.pushed = pushed
        self.unacked: dict[Seq, None] = {}
        self.held: dict[Seq, Message] | None = None


class InFlight(msgspec.Struct, gc=False, eq=False):
    """What waits for the recipient's own acknowledgement: a message of `cursor`, or a text of the server."""

    cursor: Cursor | None
    event: Deliver | ServerMessage
    next_at: float
    attempts: int = 0


class Receipt(msgspec.Struct, gc=False, eq=False):
    """Messages written up to byte `offset`, that wait for the kernel's acknowledgement."""

    offset: int
    cursor: Cursor
    conversation: ConversationId
    seq: Seq


class Session:
    """explicit: the client acknowledges messages itself (WireTraits.acknowledges).

    unacknowledged: messages given and not acknowledged. behind: there is more in the store than was given.
    fresh: its login named no first_login_time, it is the server's. began_at: monotonic.
    buffer: not None while the store is being read for this session; live messages wait in it.
    """

    __slots__ = (
        "began_at",
        "behind",
        "buffer",
        "closed",
        "cursors",
        "explicit",
        "first_login_time",
        "fresh",
        "groups",
        "in_flight",
        "peer",
        "protocol",
        "receipts",
        "since_ms",
        "unacknowledged",
        "user",
        "watching",
    )  # fmt: skip

    def __init__(self, user: User, peer: Peer, first_login_time: int, *, fresh: bool = False) -> None:
        self.user = user
        self.peer = peer
        self.protocol = peer.protocol
        self.explicit = peer.traits.acknowledges
        self.first_login_time = first_login_time
        self.fresh = fresh
        self.began_at = time.monotonic()
        self.since_ms = time.time_ns() // 1_000_000
        self.groups: set[GroupId] | None = None
        self.watching: set[UserId] | None = None
        self.cursors: dict[ConversationId, Cursor] | None = None
        self.in_flight: dict[str, InFlight] | None = None
        self.receipts: deque[Receipt] | None = None
        self.unacknowledged = 0
        self.behind = False
        self.buffer: list[Message] | None = None
        self.closed = False
