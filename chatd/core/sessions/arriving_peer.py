"""The place of a connection that is still in the worker that this one succeeds.

Owns: ArrivingPeer, which keeps what core tells the client meanwhile.
Elsewhere: telling it when the connection has come (core.sessions.arrivals).
Fails: never.
"""

from __future__ import annotations

import math

from chatd.core.sessions.moving import OfferedPeer
from chatd.core.sessions.session import Session
from chatd.errors import Disconnect
from chatd.model import Protocol
from chatd.protocol import Deliver, Event, LoginAccepted, WireTraits

_MAX_EVENTS = 10_000
"""A session arrives within moments; what is told to it beyond this is dropped."""


class ArrivingPeer:
    """core.sessions.session.Peer. events: what the client is to be told. reason: why its session was ended; None = it
    was not. heard: not silent for any time. carrier: not known yet."""

    out_bytes = 0
    heard = math.inf
    carrier = ""
    gone = False

    def __init__(self, offered: OfferedPeer, protocol: Protocol) -> None:
        self._offered = offered
        self.protocol = protocol
        self.remote = offered.remote
        self.lossy = offered.lossy
        self.session: Session | None = None
        self.events: list[Event] = []
        self.reason: Disconnect | None = None

    @property
    def closed(self) -> bool:
        return self.reason is not None

    @closed.setter
    def closed(self, value: bool) -> None:
        raise AttributeError("only close() closes")

    @property
    def traits(self) -> WireTraits:
        return self._offered.traits

    @property
    def has_receipts(self) -> bool:
        return self._offered.has_receipts

    @property
    def is_private(self) -> bool:
        return self._offered.is_private

    @property
    def text_bytes(self) -> int:
        return self._offered.text_bytes

    def is_cut(self, event: Deliver) -> bool:
        return False

    def push(self, event: Event) -> int:
        if len(self.events) < _MAX_EVENTS:
            self.events.append(event)
        return 0

    def replace(self, end: int, event: Event) -> list[tuple[int, int]]:
        return []

    def push_login(self, event: LoginAccepted) -> tuple[int, int]:
        raise AssertionError("its client is logged in")

    def received(self) -> int:
        return 0

    def settle(self, session: Session) -> None:
        """Nothing was sent that could be received."""

    def close(self, reason: Disconnect) -> None:
        """The connection is closed when it has come."""
        if self.reason is None:
            self.reason = reason
