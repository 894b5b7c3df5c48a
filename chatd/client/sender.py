"""Sending messages: in order, each repeated until it is acknowledged or refused.

Owns: the outbox, and which message is in flight. One at a time: a refusal on this wire need not name the message it
refuses, and a message that is put off for a moment must not be overtaken by the next.
Elsewhere: connections and logins (session), what is kept on disk (memory).
Fails: a message refused for good is reported as a notice, and counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from chatd.client.frames import Destination, ErrorAnswer, PendingMessage
from chatd.client.memory import Memory, Notice
from chatd.client.outbox import Outbox
from chatd.client.timing import Backoff
from chatd.errors import MEANINGS

Transmit = Callable[[PendingMessage], None]

MAX_TEXT_BYTES = 64 * 1024
"""Longest text that is sent. A server's own limit is lower; but a server may be unable to refuse a frame that is far
too long before the connection breaks, and the message would be tried for ever."""


class NotDone(Exception):
    """The request was not carried out; the text says why."""


class Sender:
    def __init__(self, answer_s: float, give_up: Callable[[], None], notice: Notice) -> None:
        """give_up: called when a message is not answered for answer_s; it ends the connection."""
        self.outbox = Outbox()
        self.refused = 0
        """Messages refused for good, since the start."""
        self.memory = Memory(0, None, notice)
        self.last_seq: dict[Destination, int] = {}
        """The number of the last message of this run that was acknowledged, by destination."""
        self.on_refused: Callable[[Destination, int], None] = lambda to, errno: None
        """Called with the destination and the error code of a message that is refused for good."""
        self._answer_s = answer_s
        self._give_up = give_up
        self._notice = notice
        self._transmit: Transmit | None = None
        """Sends a message on the present connection; None while not logged in."""
        self._in_flight = ""
        """The fp of the message that was sent and not answered; "" = none."""
        self._timer: asyncio.TimerHandle | None = None
        self._put_off = False
        """The server has refused the first message for the moment; it is tried again after a pause."""
        self._pause = Backoff(0.5, 5.0)

    def open(self, memory: Memory) -> int:
        """Begin with a user's memory; returns how many messages of an earlier run are to be sent again."""
        self.memory = memory
        self.outbox.replace(memory.unsettled(int(time.time() * 1000)))
        return len(self.outbox)

    def close(self) -> None:
        """The user has left; what is unacknowledged stays in their memory."""
        self.stop()
        self.memory.close(self.outbox)
        self.memory = Memory(0, None, self._notice)
        self.outbox.replace(())
        self.last_seq.clear()

    def start(self, transmit: Transmit) -> None:
        """The client is logged in on a new connection. Unacknowledged messages are sent again, with the same fp."""
        self._transmit = transmit
        self._next()

    def stop(self) -> None:
        self._transmit = None
        self._put_off = False
        self._clear_in_flight()

    @property
    def busy(self) -> bool:
        return bool(self._in_flight)

    def check_room(self, text: str) -> None:
        """Raises NotDone, and counts a refusal, when `text` cannot be added."""
        if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
            self.refused += 1
            raise NotDone(f"not sent, too long: {text[:40]}…")
        if self.outbox.full:
            self.refused += 1
            raise NotDone(f"not sent, too many messages wait for their acknowledgement: {text}")

    def add(self, message: PendingMessage) -> None:
        self.outbox.add(message)
        self.memory.wrote(message, self.outbox)
        self._next()

    def acknowledged(self, fp: str, seq: int = 0) -> None:
        """seq: its number in the conversation; 0 = not known, or it was refused."""
        message = self.outbox.remove(fp)
        if message is not None:
            self.memory.settled(fp, self.outbox)
            if seq:
                self.last_seq[message.to] = seq
        if fp and fp == self._in_flight:
            self._clear_in_flight()
            self._pause.reset()
        self._next()

    def answered_no(self, refusal: ErrorAnswer) -> None:
        """A refusal that names no message means the one in flight; one that names none of ours is out of date."""
        message = self.outbox.get(refusal.fp or self._in_flight)
        if message is None:
            return
        if is_temporary(refusal.errno):
            self._try_later()
            return
        self.refused += 1
        self._notice(f"not sent to {message.to}: {refusal.text or 'refused'}: {message.text}")
        self.on_refused(message.to, refusal.errno)
        self.acknowledged(message.fp)

    def _next(self) -> None:
        message = self.outbox.head()
        if message is None or self._transmit is None or self._in_flight or self._put_off:
            return
        self._in_flight = message.fp
        self._timer = asyncio.get_running_loop().call_later(self._answer_s, self._give_up)
        self._transmit(message)

    def _clear_in_flight(self) -> None:
        """Nothing is in flight any more."""
        self._in_flight = ""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _try_later(self) -> None:
        self._clear_in_flight()
        if not self._put_off:
            self._put_off = True
            self._timer = asyncio.get_running_loop().call_later(self._pause.next_s(), self._try_now)

    def _try_now(self) -> None:
        self._put_off = False
        self._timer = None
        self._next()


def is_temporary(errno: int) -> bool:
    """Whether the same request may succeed later; an errno this version does not know is final."""
    return any(code == errno and meaning.temporary for code, meaning in MEANINGS.items())
