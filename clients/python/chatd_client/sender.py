"""Sending messages: in order, each repeated until it is acknowledged or refused.

Owns: the outbox, and which messages are in flight: one of each lane. What a lane is decides the wire. On one that names
the message it refuses, a lane is a conversation, so that a message that is put off is not overtaken by the next one to
the same recipient. On the chatserver wire a refusal need not name its message, so all messages are one lane.
Elsewhere: connections and logins (session), what is kept on disk (memory).
Fails: Invalid and Overloaded from check_room. What becomes of a message is told to the SenderUser.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from chatd_client.errors import Code, Invalid, Overloaded, is_temporary
from chatd_client.memory import Memory
from chatd_client.model import Destination, PendingMessage
from chatd_client.outbox import Outbox
from chatd_client.timing import Backoff

Transmit = Callable[[PendingMessage], None]

MAX_TEXT_BYTES = 64 * 1024
"""Longest text that is sent. A server's own limit is lower; but a server may be unable to refuse a frame that is far
too long before the connection breaks, and the message would be tried for ever."""
MAX_IN_FLIGHT = 64
"""Maximum messages that are sent and not answered, in all lanes."""


class SenderUser(Protocol):
    """Is told what becomes of messages."""

    def stored(self, message: PendingMessage, seq: int, at_ms: int) -> None:
        """Durable. seq, at_ms: its number and time; 0 from a server that does not tell."""
        ...

    def refused(self, message: PendingMessage, code: int, text: str) -> None:
        """For good; it is not sent again."""
        ...

    def unanswered(self) -> None:
        """A message was not answered in time: the connection is as good as none."""
        ...


class _Lane:
    """waiting: fps in order; the first one may be in flight. pause: between attempts of one that is put off."""

    __slots__ = ("in_flight", "pause", "put_off", "timer", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[str] = deque()
        self.in_flight = False
        self.put_off = False
        self.timer: asyncio.TimerHandle | None = None
        self.pause = Backoff(0.5, 5.0)

    def idle(self) -> None:
        """Nothing is in flight any more, and nothing is put off."""
        self.in_flight = self.put_off = False
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def lane_of_conversation(message: PendingMessage) -> object:
    return message.to


def one_lane(message: PendingMessage) -> object:
    return None


class Sender:
    def __init__(
        self, answer_s: float, user: SenderUser, lane_of: Callable[[PendingMessage], object] = lane_of_conversation
    ) -> None:
        self.outbox = Outbox()
        self.refused = 0
        """Messages refused for good, since the start."""
        self.memory = Memory(None)
        self.last_seq: dict[Destination, int] = {}
        """The number of the last message of this run that was acknowledged, by destination."""
        self._answer_s = answer_s
        self._user = user
        self._lane_of = lane_of
        self._transmit: Transmit | None = None
        """Sends a message on the present connection; None while not logged in."""
        self._lanes: dict[object, _Lane] = {}
        """Those with messages."""
        self._in_flight = 0

    def open(self, memory: Memory) -> int:
        """Begin with a user's memory; returns how many messages of an earlier run are to be sent again."""
        self.memory = memory
        self._replace(memory.unsettled(int(time.time() * 1000)))
        return len(self.outbox)

    def close(self) -> None:
        """The user has left; what is unacknowledged stays in their memory."""
        self.stop()
        self.memory.close(self.outbox)
        self.memory = Memory(None)
        self._replace([])
        self.last_seq.clear()

    def _replace(self, messages: list[PendingMessage]) -> None:
        self.outbox.replace(messages)
        self._lanes.clear()
        for message in messages:
            self._lane(message).waiting.append(message.fp)

    def _lane(self, message: PendingMessage) -> _Lane:
        return self._lanes.setdefault(self._lane_of(message), _Lane())

    def start(self, transmit: Transmit) -> None:
        """The client is logged in on a new connection. Unacknowledged messages are sent again, with the same fp."""
        self._transmit = transmit
        self._next()

    def stop(self) -> None:
        self._transmit = None
        self._in_flight = 0
        for lane in self._lanes.values():
            lane.idle()

    @property
    def busy(self) -> bool:
        return self._in_flight > 0

    def check_room(self, text: str) -> None:
        """Raises Invalid or Overloaded, and counts a refusal, when `text` cannot be added."""
        if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
            self.refused += 1
            raise Invalid(f"not sent, too long: {text[:40]}…", code=Code.TOO_LONG)
        if self.outbox.full:
            self.refused += 1
            raise Overloaded(f"not sent, too many messages wait for their acknowledgement: {text}")

    def add(self, message: PendingMessage) -> None:
        self.outbox.add(message)
        self.memory.wrote(message, self.outbox)
        lane = self._lane(message)
        lane.waiting.append(message.fp)
        self._advance(lane)

    def acknowledged(self, fp: str, seq: int = 0, at_ms: int = 0) -> None:
        """seq: its number in the conversation; 0 = not known."""
        message = self._settle(fp)
        if message is None:
            return
        if seq:
            self.last_seq[message.to] = seq
        self._user.stored(message, seq, at_ms)

    def withdraw(self, fp: str) -> bool:
        """Forget a message that the server has refused for the moment. False: it may be stored, or is not ours."""
        message = self.outbox.get(fp)
        lane = self._lanes.get(self._lane_of(message)) if message is not None else None
        if lane is None or not lane.put_off or lane.waiting[0] != fp:
            return False
        self._settle(fp)
        return True

    def answered_no(self, code: int, text: str, fp: str = "") -> None:
        """A refusal that names no message means the one in flight; one that names none of ours is out of date."""
        message = self.outbox.get(fp or self._only_in_flight())
        if message is None:
            return
        if is_temporary(code):
            self._try_later(self._lane(message))
            return
        self.refused += 1
        self._settle(message.fp)
        self._user.refused(message, code, text)

    def _only_in_flight(self) -> str:
        found = [lane.waiting[0] for lane in self._lanes.values() if lane.in_flight]
        return found[0] if len(found) == 1 else ""

    def _settle(self, fp: str) -> PendingMessage | None:
        """The message is done. None: it is not ours, or was done before."""
        message = self.outbox.remove(fp)
        if message is None:
            return None
        self.memory.settled(fp, self.outbox)
        key = self._lane_of(message)
        lane = self._lanes[key]
        if lane.waiting[0] == fp:
            lane.waiting.popleft()
            self._land(lane)
            lane.pause.reset()
        else:
            lane.waiting.remove(fp)
        if not lane.waiting:
            del self._lanes[key]
        self._next()
        return message

    def _land(self, lane: _Lane) -> None:
        self._in_flight -= lane.in_flight
        lane.idle()

    def _next(self) -> None:
        for lane in tuple(self._lanes.values()) if self._in_flight < MAX_IN_FLIGHT else ():
            self._advance(lane)

    def _advance(self, lane: _Lane) -> None:
        if self._transmit is None or lane.in_flight or lane.put_off or self._in_flight >= MAX_IN_FLIGHT:
            return
        message = self.outbox.get(lane.waiting[0])
        assert message is not None
        lane.in_flight = True
        self._in_flight += 1
        lane.timer = asyncio.get_running_loop().call_later(self._answer_s, self._user.unanswered)
        self._transmit(message)

    def _try_later(self, lane: _Lane) -> None:
        if lane.put_off:
            return
        self._land(lane)
        lane.put_off = True
        lane.timer = asyncio.get_running_loop().call_later(lane.pause.next_s(), self._try_now, lane)

    def _try_now(self, lane: _Lane) -> None:
        lane.idle()
        self._advance(lane)
