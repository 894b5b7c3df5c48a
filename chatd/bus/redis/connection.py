"""One connection to a Redis server, over which everything goes in one order: publishes, commands and what is pushed.

Owns: RESP3 framing (hiredis reads, commands are framed here), and matching answers to questions.
Not here: the queue of what is to be sent (bus.write_buffer); who the server is and making the connection anew
(bus.redis.node); what messages mean (bus.redis.bus).
Fails: a publish that does not fit in the queue is dropped (`gap` is set until it has drained); a command that
piles up beyond that, or an answer that cannot be matched, drops the connection. `lost` is then done, every question
without an answer raises Unavailable, and `unanswered` says whether publishes were among them.

Redis answers in the order it was asked, and its confirmations of subscriptions are in the same order: so the head of
one queue always knows what comes next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import hiredis

from chatd.bus.write_buffer import WriteBuffer
from chatd.errors import Unavailable

Reply = Any
Argument = bytes | str | int

_NOTHING = object()
_CONFIRMATIONS = frozenset((b"subscribe", b"unsubscribe", b"ssubscribe", b"sunsubscribe"))


class _Publishes:
    """A run of publishes without another command between them."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class _Subscription:
    """A command that is confirmed `left` times instead of answered."""

    __slots__ = ("channel", "done", "kind", "left")

    def __init__(self, kind: bytes, channels: list[bytes], done: asyncio.Future[None]) -> None:
        self.kind = kind
        self.channel = channels[0] if len(channels) == 1 else None
        self.left = len(channels)
        self.done = done


def pack(arguments: Iterable[Argument]) -> bytes:
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


class Connection(WriteBuffer):
    """on_message: (channel, data), what was published. on_refused: the error of a publish. on_ended: a subscription
    that the server ended by itself. All are called from the loop while the connection is up, never inside a method.

    heard_at: loop time of the last bytes. gap: a publish was dropped and nobody was told yet.
    """

    def __init__(
        self,
        limit_bytes: int,
        on_message: Callable[[bytes, bytes], None],
        on_refused: Callable[[hiredis.ReplyError], None],
        on_ended: Callable[[bytes], None],
        on_drained: Callable[[], None],
    ) -> None:
        super().__init__(limit_bytes)
        self._on_message, self._on_refused, self._on_ended = on_message, on_refused, on_ended
        self._on_drained = on_drained
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._pending: deque[_Publishes | _Subscription | asyncio.Future[Reply]] = deque()
        self._run: _Publishes | None = None
        self.heard_at = self._loop.time()
        self.unanswered = False
        self.lost: asyncio.Future[str] = self._loop.create_future()

    # ------------------------------------------------------------ asking

    def publish(self, framed: bytes) -> None:
        """A framed PUBLISH or SPUBLISH; or it is dropped. The first one dropped drops all until the queue has
        drained, so that there is one hole."""
        size = len(framed)
        if self.gap or self._bytes + size > self._room:
            self.gap = True
            return
        run = self._run
        if run is None:
            run = self._run = _Publishes()
            self._pending.append(run)
        run.count += 1
        self._queue.append(framed)
        self._bytes += size
        if not self._flush_scheduled:
            self._schedule_flush()

    def ask(self, *arguments: Argument) -> asyncio.Future[Reply]:
        """The answer: raises Unavailable when the connection is lost before it, hiredis.ReplyError for a refusal."""
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._send(pack(arguments), answer)
        return answer

    def subscription(self, command: bytes, channels: list[bytes]) -> asyncio.Future[None]:
        """SUBSCRIBE and its relatives. Done when all of it is confirmed. channels: not empty."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._send(pack((command, *channels)), _Subscription(command.lower(), channels, done))
        return done

    def _send(self, data: bytes, expected: _Subscription | asyncio.Future[Reply]) -> None:
        if self.lost.done():
            _fail(expected, self.lost.result())
            return
        self._run = None
        self._pending.append(expected)
        self.send_control(data)

    def _write(self, transport: asyncio.WriteTransport) -> None:
        transport.write(self._take_queue())
        if self.gap and not self._paused:
            self.gap = False
            self._on_drained()

    def _on_overflow(self) -> None:
        self.drop("too much waits for it")

    # ------------------------------------------------------------ being answered

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        reader = self._reader
        reader.feed(data)
        gets = reader.gets
        try:
            while (reply := gets()) is not _NOTHING:
                if type(reply) is not hiredis.PushNotification:
                    self._answered(reply)
                elif reply[0] == b"message" or reply[0] == b"smessage":
                    self._on_message(reply[1], reply[2])
                elif reply[0] in _CONFIRMATIONS:
                    self._confirmed(reply[0], reply[1])
        except hiredis.ProtocolError as error:
            self.drop(f"it does not speak RESP3: {error}")

    def _answered(self, reply: Reply) -> None:
        if not self._pending:
            self.drop("an answer to no question")
            return
        head = self._pending[0]
        if type(head) is _Publishes:
            head.count -= 1
            if not head.count:
                self._pending.popleft()
                if head is self._run:
                    self._run = None
            if type(reply) is hiredis.ReplyError:
                self._on_refused(reply)
            return
        self._pending.popleft()
        expected = cast("_Subscription | asyncio.Future[Reply]", head)
        future: asyncio.Future[Any] = expected.done if isinstance(expected, _Subscription) else expected
        if future.done():
            return
        if isinstance(reply, hiredis.ReplyError):
            future.set_exception(reply)
        elif isinstance(expected, _Subscription):
            self.drop("an answer where a confirmation was due")
        else:
            future.set_result(reply)

    def _confirmed(self, kind: bytes, channel: bytes) -> None:
        head = self._pending[0] if self._pending else None
        if not isinstance(head, _Subscription) or head.kind != kind or head.channel not in (None, channel):
            self._on_ended(channel)
            return
        head.left -= 1
        if not head.left:
            self._pending.popleft()
            if not head.done.done():
                head.done.set_result(None)

    # ------------------------------------------------------------ its end

    def drop(self, why: str) -> None:
        """Idempotent. `lost` is done when this returns; its result is the first `why`."""
        if self.lost.done():
            return
        self.lost.set_result(why)
        self._room = -1
        if self._transport is not None:
            self._transport.abort()
        pending, self._pending, self._run = self._pending, deque(), None
        for expected in pending:
            if isinstance(expected, _Publishes):
                self.unanswered = True
            else:
                _fail(expected, why)

    def resume_writing(self) -> None:
        if not self.lost.done():
            super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.drop(str(exc) if exc else "it closed the connection")


def _fail(expected: _Subscription | asyncio.Future[Reply], why: str) -> None:
    future: asyncio.Future[Any] = expected.done if isinstance(expected, _Subscription) else expected
    if not future.done():
        future.set_exception(Unavailable(f"redis: {why}"))
        future.exception()  # whoever does not wait for it need not be told
