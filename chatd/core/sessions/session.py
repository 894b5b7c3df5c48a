"""A session: one logged-in client, the states of its life, and the connection it speaks through.

Owns: Session (data and its state), and Peer, the contract of a connection as core sees it.
Elsewhere: moving a session from state to state (core.sessions.login), what it is given (core.delivery), sockets (net).
Fails: ValueError for a transition that is not declared, which is a bug.

An idle session is small on purpose, because an idle server consists of them: containers are made when first needed.
"""

from __future__ import annotations

import enum
import time
from collections import deque
from typing import Protocol as Contract

import msgspec

from chatd import wall_clock
from chatd.core.allowance import UNLIMITED_ALLOWANCE
from chatd.errors import Disconnect
from chatd.model import ConversationId, GroupId, Message, Protocol, Seq, User, UserId
from chatd.protocol import Deliver, Event, Feature, LoginAccepted, ServerMessage, WireTraits


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

    @property
    def gone(self) -> bool:
        """The client does not wait for an answer any more: it is closed, or has closed its side. Costs a system
        call."""
        ...

    heard: float
    """When it was heard last, by the loop's clock."""

    @property
    def carrier(self) -> str:
        """What carries the wire: tcp, tls, ws, wss, udp or unix."""
        ...

    lossy: bool
    """Pushed data may get lost on its way, unnoticed (a datagram)."""

    @property
    def has_receipts(self) -> bool:
        """Whether received() can tell anything. Otherwise only the client's own acknowledgements count."""
        ...

    @property
    def is_private(self) -> bool:
        """Nobody on the network can read what is sent: TLS, a client on this host, or one behind a load balancer that
        listen.proxy_from names."""
        ...

    @property
    def out_bytes(self) -> int:
        """Bytes queued here because the peer's network has not taken them yet."""
        ...

    @property
    def text_bytes(self) -> int:
        """Room for the text and the fp of a ServerMessage, counted as JSON strings."""
        ...

    def is_cut(self, event: Deliver) -> bool:
        """Whether the message, which was pushed, went out without the end of its text."""
        ...

    def push(self, event: Event) -> int:
        """Queue for the peer; returns the number of bytes queued so far on this connection, this event
        included. Never blocks; a peer whose outbox is full is cut with SLOW_CONSUMER."""
        ...

    def replace(self, end: int, event: Event) -> list[tuple[int, int]]:
        """Put `event` in the place of what push() has queued up to byte `end`, unless that has been written, and of
        equal copies of it. Returns of each replaced one the byte where it ended, and by how many bytes it has grown."""
        ...

    def push_login(self, event: LoginAccepted) -> tuple[int, int]:
        """(how many of event.waiting went out with the answer, bytes queued so far)."""
        ...

    def received(self) -> int:
        """How many of the bytes queued the client has received, as far as that is proven. Never less than before."""
        ...

    def settle(self, session: Session) -> None:
        """The session has ended, but not yet the connection: call Core.check_receipts for it when that ends."""
        ...

    def close(self, reason: Disconnect) -> None:
        """End the connection after what is queued. The session ends at once (core.sessions.login.left)."""
        ...


class Step(enum.Enum):
    """What becomes of a message of one conversation in one session."""

    GIVE = enum.auto()
    """It is the next one."""

    HOLD = enum.auto()
    """Earlier ones are missing, and may be on their way: it is kept until they have come."""

    SKIP = enum.auto()
    """The session has been given it, or is its sender."""

    GAP = enum.auto()
    """Earlier messages are missing, and must be read from the store."""


GIVE, HOLD, SKIP, GAP = Step.GIVE, Step.HOLD, Step.SKIP, Step.GAP
"""Read per message: an attribute of an enum costs several times a global."""


class Cursor:
    """How far one session is in one conversation.

    pushed: everything up to this seq was given to the session or sent by its user, without a gap.
    unacked: seqs given and not yet acknowledged, ascending, each with the byte of the connection at which what was sent
    last of it ends; 0 = it was part of the login answer.
    held: messages that came before an earlier one; None while there are none.
    tells: the user who is told of what is acknowledged (core.requests.delivered_notices); 0 = nobody.
    """

    __slots__ = ("held", "pushed", "tells", "unacked")

    def __init__(self, pushed: Seq) -> None:
        self.pushed = pushed
        self.unacked: dict[Seq, int] = {}
        self.held: dict[Seq, Message] | None = None
        self.tells: UserId = 0

    def accept(self, seq: Seq, may_hold: int) -> Step:
        """What is to be done with this message; changes nothing. may_hold: maximum messages held back at once, 0 if the
        missing ones will not come by themselves."""
        ahead = seq - self.pushed
        if ahead == 1:
            return GIVE
        if ahead <= 0:
            return SKIP
        return HOLD if len(self.held or ()) < may_hold else GAP


class InFlight(msgspec.Struct, gc=False, eq=False):
    """Something that is sent again until the client acknowledges its fp.

    cursor: of the conversation, for a message; None for a text of the server. next_at: when it is sent again, on the
    loop's clock. attempts: how often it was. about: the message whose text is in a notice.
    """

    cursor: Cursor | None
    event: Deliver | ServerMessage
    next_at: float
    attempts: int = 0
    about: tuple[ConversationId, Seq] | None = None


class Receipt(msgspec.Struct, gc=False, eq=False):
    """A message that counts as acknowledged when `offset` bytes of its connection have been received."""

    offset: int
    cursor: Cursor
    conversation: ConversationId
    seq: Seq


class SessionState(enum.IntEnum):
    """In the order of a session's life; a state is never entered twice."""

    LOGGING_IN = 0
    """The user is authenticated. The session lock is being taken and the store is being read; nothing was given yet."""

    ARRIVING = 1
    """The session lives in the worker that this one succeeds, which is about to hand it over. What is told to it here
    meanwhile waits; messages wait in its buffer."""

    LIVE = 2
    """The login answer is queued. The session is its peer's session, and is given messages."""

    CLOSING = 3
    """Nothing more is given. Its cursors are being stored, and then its session lock is released."""

    CLOSED = 4
    """Its session lock is released: the user's next login elsewhere finds everything this session acknowledged."""

    HANDED_OVER = 5
    """It lives on in the worker that succeeds this one, with its lock. Here nothing of it is left."""


TRANSITIONS: dict[SessionState, frozenset[SessionState]] = {
    SessionState.LOGGING_IN: frozenset({SessionState.ARRIVING, SessionState.LIVE, SessionState.CLOSING}),
    SessionState.ARRIVING: frozenset({SessionState.LIVE, SessionState.CLOSING}),
    SessionState.LIVE: frozenset({SessionState.CLOSING, SessionState.HANDED_OVER}),
    SessionState.CLOSING: frozenset({SessionState.CLOSED}),
    SessionState.CLOSED: frozenset(),
    SessionState.HANDED_OVER: frozenset(),
}
"""From a state to those that may follow it."""


_CLOSING = SessionState.CLOSING
"""Read per message: an attribute of an enum costs several times a global."""


_DELIVERED = int(Feature.DELIVERED)
OWN_CHANGE = 1 << 62
"""No version of credentials is as high."""


class Session:
    """One logged-in client of one user on one wire.

    state: changed only by enter().
    explicit: the client acknowledges each message by its fp (WireTraits.acknowledges).
    by_seq: the client says how far it is in a conversation (Login.acks).
    takes_over: its login asked for the place of the user's other session on this wire (Login.takeover).
    first_login_time: milliseconds since the epoch, the client's; the server's where the login named none (fresh).
    features: what the client has asked for in its login (protocol.Feature), as a plain number, which is asked quickly.
    allowance: what the user may still do; shared by the user's sessions on this worker (core.allowances).
    credentials: the version of the account's credentials (store.account_contract.Account) with which it logged in. It
    ends when they have a later one. OWN_CHANGE while the session itself changes the password.
    began_at: time.monotonic() of the login. since_ms: the same moment, milliseconds since the epoch, for people.
    groups: the groups whose messages the session is given, with the since_version of the membership.
    groups_left: of groups it was in, the members_version by which the membership had ended, the latest
    last; bounded. Only core.sessions.hub changes the two.
    watching: users whose presence the session is told about. Only core.presence changes it.
    The rest is that of core.delivery, core.catch_up and core.in_flight alone:
    cursors: how far the session is, by conversation. in_flight: what waits for an Acknowledge, by fp.
    receipts: what counts as acknowledged when it has been received, in the order it was sent.
    unacknowledged: messages given and not acknowledged. behind: there is more in the store than was given.
    buffer: not None while the store is being read for this session; live messages wait in it.
    """

    __slots__ = (
        "allowance",
        "began_at",
        "behind",
        "buffer",
        "by_seq",
        "credentials",
        "cursors",
        "explicit",
        "features",
        "first_login_time",
        "fresh",
        "groups",
        "groups_left",
        "in_flight",
        "peer",
        "receipts",
        "since_ms",
        "state",
        "takes_over",
        "unacknowledged",
        "user",
        "watching",
    )  # fmt: skip

    def __init__(
        self, user: User, peer: Peer, first_login_time: int, *, fresh: bool = False, by_seq: bool = False
    ) -> None:
        self.user = user
        self.peer = peer
        self.state = SessionState.LOGGING_IN
        self.explicit = peer.traits.acknowledges
        self.by_seq = by_seq
        self.takes_over = False
        self.first_login_time = first_login_time
        self.fresh = fresh
        self.features = 0
        self.allowance = UNLIMITED_ALLOWANCE
        self.credentials = 0
        self.began_at = time.monotonic()
        self.since_ms = first_login_time if fresh else wall_clock.now_ms()  # the same moment, kept once
        self.groups: dict[GroupId, int] | None = None
        self.groups_left: dict[GroupId, int] | None = None
        self.watching: set[UserId] | None = None
        self.cursors: dict[ConversationId, Cursor] | None = None
        self.in_flight: dict[str, InFlight] | None = None
        self.receipts: deque[Receipt] | None = None
        self.unacknowledged = 0
        self.behind = False
        self.buffer: list[Message] | None = None

    @property
    def hears_delivered(self) -> bool:
        """Whether its client has asked for Feature.DELIVERED. Asked for every message."""
        return self.features & _DELIVERED != 0

    @property
    def protocol(self) -> Protocol:
        """The wire."""
        return self.peer.protocol

    @property
    def is_over(self) -> bool:
        """CLOSING, CLOSED or HANDED_OVER: work begun here for the session need not be finished."""
        return self.state >= _CLOSING

    @property
    def has_client(self) -> bool:
        """LIVE or ARRIVING: its client was told that it is logged in, and can be told more."""
        return self.state is SessionState.LIVE or self.state is SessionState.ARRIVING

    def enter(self, state: SessionState) -> None:
        """Raises: ValueError for a transition that is not in TRANSITIONS; the state is then unchanged."""
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"a session that is {self.state.name} cannot become {state.name}")
        self.state = state
