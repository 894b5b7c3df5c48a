"""How long messages take from the store to their recipients, measured on a few of them.

Owns: choosing which messages are measured, and counting how long each took.
Elsewhere: the steps of a message, told by core.tracing; when anything is measured at all (core.figures).
Fails: never.

A message is measured that is stored by this worker, or comes over the bus, and is given to a session at once: messages
that waited in the store for their recipient to log in say nothing about the server. It counts when it was written to
the recipient's socket, at the end of the same turn of the event loop; if the client does not read, it is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chatd import wall_clock
from chatd.scoreboard import Row
from chatd.tallies import DELIVERY_DELAY

if TYPE_CHECKING:
    from chatd.core.sessions.session import Peer, Session
    from chatd.model import Message

TRIES = 8
"""Messages that are followed until one is given to a session of this worker, each time that measuring is allowed."""


class DeliveryDelay:
    """call_soon: that of the event loop."""

    def __init__(self, call_soon: Callable[..., object], row: Row) -> None:
        self._call_soon = call_soon
        self._row = row
        self._tries = 0
        self._followed: Message | None = None

    @property
    def wants(self) -> bool:
        """Whether it is to be told of the next messages."""
        return self._tries > 0 or self._followed is not None

    def allow(self) -> None:
        """Measure one more message."""
        self._tries = TRIES
        self._followed = None

    def began(self, message: Message) -> None:
        """The message is stored, or has come over the bus, and is given to sessions in the same turn."""
        self._followed = message if self._tries > 0 else None
        self._tries -= 1

    def given(self, session: Session, message: Message) -> None:
        """Its bytes are queued now, and written at the end of this turn, which may begin a flush of its own."""
        if message is self._followed:
            self._followed = None
            self._tries = 0
            self._call_soon(self._call_soon, self._written, session.peer, message.sent_at_ms)

    def _written(self, peer: Peer, sent_at_ms: int) -> None:
        if not peer.closed and not peer.out_bytes:
            self._row.observe(DELIVERY_DELAY, [max(0, wall_clock.now_ms() - sent_at_ms) * 1000])
