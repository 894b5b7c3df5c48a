"""One connection to a Redis server. Publishes, commands, answers and pushed messages share it, each way in one order.

Owns: RESP3 (hiredis parses, commands are packed here) and matching answers to commands.
Elsewhere: the queue (bus.write_buffer); making connections and replacing lost ones (bus.redis.connect, bus.redis.node);
what messages mean (bus.redis.bus).
Fails: a publish that does not fit in the queue is dropped (`gap`). Commands that pile up beyond the limit, and answers
that match nothing, drop the connection: `lost` is done then, every unanswered command raises Unavailable, and
`publishes_unanswered` says whether publishes may have been lost.

Redis answers in the order of the commands, and confirms subscriptions in the same order. So the head of one queue says
what has to come next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import hiredis

from chatd.bus.write_buffer import WriteBuffer
from chatd.errors import Unavailable

Reply = Any
Argument = bytes | str | int

_INCOMPLETE = object()
"""What hiredis returns while a reply is not complete."""
_CONFIRMATIONS = frozenset((b"subscribe", b"unsubscribe", b"ssubscribe", b"sunsubscribe"))


def _ignore(*_: object) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionCallbacks:
    """Called by a connection while it is up. All are called from the loop, never from inside a method."""

    on_message: Callable[[bytes, bytes], None] = _ignore
    """A message was published: channel, data."""
    on_publish_refused: Callable[[hiredis.ReplyError], None] = _ignore
    """The server answered a publish with an error."""
    on_subscription_ended: Callable[[bytes], None] = _ignore
    """The server ended the subscription to this channel by itself."""
    on_gap: Callable[[], None] = _ignore
    """Publishes were dropped, and there is room again now."""


class _PublishRun:
    """Publishes without another command between them. count: how many are unanswered."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class _PendingSubscription:
    """A command that is confirmed `left` more times instead of being answered.

    channel: what must be confirmed, if it is only one."""

    __slots__ = ("channel", "done", "kind", "left")

    def __init__(self, kind: bytes, channels: list[bytes], done: asyncio.Future[None]) -> None:
        self.kind = kind
        self.channel = channels[0] if len(channels) == 1 else None
        self.left = len(channels)
        self.done = done


def pack(arguments: Iterable[Argument]) -> bytes:
    """A command in RESP."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


class RedisConnection(WriteBuffer):
    def __init__(self, limit_bytes: int, callbacks: ConnectionCallbacks) -> None:
        super().__init__(limit_bytes)
        self._on_message = callbacks.on_message
        self._callbacks = callbacks
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._pending: deque[_PublishRun | _PendingSubscription | asyncio.Future[Reply]] = deque()
        """Commands and runs of publishes that were sent and not answered, in order."""
        self._run: _PublishRun | None = None
        """The last of `_pending`, if it is a run that may grow."""
        self.heard_at = self._loop.time()
        """Loop time of the last bytes from the server."""
        self.publishes_unanswered = False
        """Once lost: publishes were unanswered, and so perhaps lost too."""
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Done when the connection has ended; its result says why."""

    # ------------------------------------------------------------ sending

    def publish(self, framed: bytes) -> None:
        """Queue a framed PUBLISH or SPUBLISH command, or drop it. Once one is dropped, all are until the queue has
        drained: one contiguous run is missing."""
        size = len(framed)
        if self.gap or self._bytes + size > self._room:
            self.gap = True
            return
        run = self._run
        if run is None:
            run = self._run = _PublishRun()
            self._pending.append(run)
        run.count += 1
        self._queue.append(framed)
        self._bytes += size
        if not self._flush_scheduled:
            self._schedule_flush()

    def ask(self, *arguments: Argument) -> asyncio.Future[Reply]:
        """Send a command; the future has its answer. It fails with Unavailable if the connection is lost before, and
        with hiredis.ReplyError if the server answers with an error."""
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._send(pack(arguments), answer)
        return answer

    def subscription(self, command: bytes, channels: list[bytes]) -> asyncio.Future[None]:
        """Send SUBSCRIBE, SSUBSCRIBE, UNSUBSCRIBE or SUNSUBSCRIBE; done when every channel is confirmed. It fails as
        ask() does. channels: at least one."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._send(pack((command, *channels)), _PendingSubscription(command.lower(), channels, done))
        return done

    def _send(self, data: bytes, expected: _PendingSubscription | asyncio.Future[Reply]) -> None:
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
            self._callbacks.on_gap()

    def _on_overflow(self) -> None:
        self.drop("too much waits for it")

    # ------------------------------------------------------------ receiving

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        reader = self._reader
        reader.feed(data)
        gets = reader.gets
        try:
            while (reply := gets()) is not _INCOMPLETE:
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
        if type(head) is _PublishRun:
            head.count -= 1
            if not head.count:
                self._pending.popleft()
                if head is self._run:
                    self._run = None
            if type(reply) is hiredis.ReplyError:
                self._callbacks.on_publish_refused(reply)
            return
        self._pending.popleft()
        expected = cast("_PendingSubscription | asyncio.Future[Reply]", head)
        future: asyncio.Future[Any] = expected.done if isinstance(expected, _PendingSubscription) else expected
        if future.done():
            return
        if isinstance(reply, hiredis.ReplyError):
            future.set_exception(reply)
        elif isinstance(expected, _PendingSubscription):
            self.drop("an answer where a confirmation was due")
        else:
            future.set_result(reply)

    def _confirmed(self, kind: bytes, channel: bytes) -> None:
        head = self._pending[0] if self._pending else None
        if not isinstance(head, _PendingSubscription) or head.kind != kind or head.channel not in (None, channel):
            self._callbacks.on_subscription_ended(channel)
            return
        head.left -= 1
        if not head.left:
            self._pending.popleft()
            if not head.done.done():
                head.done.set_result(None)

    # ------------------------------------------------------------ the end

    def drop(self, why: str) -> None:
        """End the connection at once; `lost` is done when this returns. Later calls change nothing."""
        if self.lost.done():
            return
        self.lost.set_result(why)
        self._room = -1
        if self._transport is not None:
            self._transport.abort()
        pending, self._pending, self._run = self._pending, deque(), None
        for expected in pending:
            if isinstance(expected, _PublishRun):
                self.publishes_unanswered = True
            else:
                _fail(expected, why)

    def resume_writing(self) -> None:
        if not self.lost.done():
            super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.drop(str(exc) if exc else "it closed the connection")


def _fail(expected: _PendingSubscription | asyncio.Future[Reply], why: str) -> None:
    future: asyncio.Future[Any] = expected.done if isinstance(expected, _PendingSubscription) else expected
    if not future.done():
        future.set_exception(Unavailable(f"redis: {why}"))
        future.exception()  # there may be no waiter
