"""Messages to users of other servers: they must have an account before a message to them can be stored.

Owns: Elsewhere, the interface of what knows these users; ElsewhereSending, which asks it before a message is sent.
Elsewhere: who they are (bridges.people), sending (core.messages).
Fails: Refused and Unavailable, as Elsewhere says.

Only where a bridge is configured. A message to anybody else costs one look-up in a dictionary.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from chatd.core.sessions.session import Session
from chatd.protocol import SendMessage

Send = Callable[[Session, SendMessage], Awaitable[None] | None]


class Elsewhere(Protocol):
    """Called from the worker's loop."""

    def concerns(self, command: SendMessage) -> bool:
        """Whether the message may be for a user of another server."""
        ...

    async def addressed(self, session: Session, command: SendMessage) -> SendMessage:
        """The same message, to an account that there is by now; or as it is. Raises: Refused UNKNOWN_RECIPIENT,
        TOO_LONG; Unavailable."""
        ...


class ElsewhereSending:
    def __init__(self, elsewhere: Elsewhere, send: Send) -> None:
        self._elsewhere = elsewhere
        self._send = send

    def send(self, session: Session, command: SendMessage) -> Awaitable[None] | None:
        if self._elsewhere.concerns(command):
            return self._send_there(session, command)
        return self._send(session, command)

    async def _send_there(self, session: Session, command: SendMessage) -> None:
        addressed = await self._elsewhere.addressed(session, command)
        if (work := self._send(session, addressed)) is not None:
            await work
