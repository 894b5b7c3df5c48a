"""Commands of this wire that are answered by a frame of their own: one at a time, and what may be lost.

Owns: the command that waits for its answer, and the last one that this wire does not answer.
Elsewhere: connections and logins (session), operations with numbers (chatd_client.requests).
Fails: Unreachable, Broken among them.
"""

from __future__ import annotations

import asyncio
import time

from chatd_client.chatserver.frames import Event, Msg
from chatd_client.connector import Connector
from chatd_client.errors import Broken, Unreachable
from chatd_client.link import Link
from chatd_client.timing import Timing


class Calls:
    def __init__(self, connector: Connector, timing: Timing) -> None:
        self._connector = connector
        self._timing = timing
        self._waiting: tuple[tuple[Msg, ...], asyncio.Future[Event]] | None = None
        """Message numbers that may answer the command, and its answer."""
        self._unanswered = (0.0, "")
        """When the last command without an answer was sent, by the monotonic clock, and what it was."""

    def waits_for(self, ref: Msg) -> bool:
        return self._waiting is not None and ref in self._waiting[0]

    @property
    def idle(self) -> bool:
        """No command waits for an answer."""
        return self._waiting is None

    async def ask(self, refs: tuple[Msg, ...], frame: bytes) -> Event:
        """Send a command and wait for its answer, or for a refusal of it. Raises Unreachable."""
        link = await self._connector.connect()
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._waiting = (refs, future)
        link.send(frame)
        try:
            return await asyncio.wait_for(future, self._timing.answer_s)
        except TimeoutError:
            raise Unreachable("the server does not answer") from None
        finally:
            self._waiting = None

    def answered(self, event: Event, *refs: int) -> bool:
        """Hand `event` to the caller that waits for the answer to one of refs. False: nobody does."""
        if self._waiting is None or self._waiting[1].done() or not set(refs).intersection(self._waiting[0]):
            return False
        self._waiting[1].set_result(event)
        return True

    def tell(self, link: Link, frame: bytes, what: str) -> None:
        """Send a command that this wire answers only with a refusal. what: told to a person if it may be lost."""
        link.send(frame)
        self._unanswered = (time.monotonic(), what)

    def lost(self, why: str) -> str:
        """The connection has ended. Returns the command that may not have arrived, "" = none."""
        if self._waiting is not None and not self._waiting[1].done():
            self._waiting[1].set_exception(Broken(f"the connection was lost before the answer ({why})"))
        (sent_at, what), self._unanswered = self._unanswered, (0.0, "")
        return what if time.monotonic() - sent_at < self._timing.doubt_s else ""
