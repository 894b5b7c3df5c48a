"""One connection to RabbitMQ: opened, used, lost.

Owns: Link: connecting, declaring the queues exactly as the other server does, publishing with confirms, consuming; what
RabbitMQ's refusals mean to people.
Elsewhere: AMQP (aio_pika), when it is tried again (bridges.incoming, bridges.outgoing), what is sent.
Fails: LinkFailed, with a text for people that holds no password. After it the link is used no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelPreconditionFailed, DeliveryError

from chatd.config.bridge_options import BridgeOptions
from chatd.errors import ChatdError

_CONNECT_S = 10.0
_ANSWER_S = 30.0
"""Until RabbitMQ has confirmed a message, or answered anything else. While it is short of memory or disk, it does
not."""
_CLOSE_S = 2.0
_HEARTBEAT_S = 10
"""A RabbitMQ that is silent for twice as long is gone."""
_OTHER_PROPERTIES = "inequivalent arg"
"""In the text of a refusal: RabbitMQ refuses other things with the same code."""
_TRUNCATED = 300
"""Characters of an error of RabbitMQ that are shown."""

for _name in ("aiormq", "aio_pika"):  # every failure that they log is an exception, too
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


class LinkFailed(ChatdError):
    """The connection cannot be used, or not any more."""


class WrongQueue(LinkFailed):
    """A queue has other properties than it must have. An operator must decide what becomes of it."""


Deliver = Callable[[AbstractIncomingMessage | LinkFailed], None]


class Link:
    """purpose: what RabbitMQ shows of the connection ("in", "out")."""

    def __init__(self, options: BridgeOptions, purpose: str) -> None:
        self._options = options
        self._purpose = purpose
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._lost: LinkFailed | None = None
        self._on_lost: Callable[[LinkFailed], None] | None = None

    async def open(self) -> None:
        """Connect, and declare the queues. Raises: LinkFailed."""
        try:
            async with _answered_within(_CONNECT_S):
                await self._open()
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> None:
        self._connection = connection = await aio_pika.connect(
            self._options.url,
            ssl_context=self._tls(),
            heartbeat=_HEARTBEAT_S,
            client_properties={"connection_name": f"chatd bridge {self._options.name} {self._purpose}"},
        )
        connection.close_callbacks.add(self._closed)
        self._channel = channel = connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.initialize()
        channel.close_callbacks.add(self._closed)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(self._cancelled)
        for name in (self._options.incoming, self._options.outgoing, self._options.dead_letters):
            await channel.declare_queue(name, durable=True, exclusive=False, auto_delete=False)

    def _tls(self) -> ssl.SSLContext | None:
        """Raises LinkFailed."""
        if not self._options.url.startswith("amqps:"):
            return None
        try:
            return ssl.create_default_context(cafile=self._options.ca_file or None)
        except OSError as error:
            raise LinkFailed(f"ca_file {self._options.ca_file}: {error.strerror or error}") from None

    # ---------------------------------------------------------------- publishing

    async def publish(self, queue: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Returns when RabbitMQ has it on its disk. Of publishes that are not awaited one after the other, the order is
        that of the calls. Raises: LinkFailed: it may have been taken nevertheless."""
        if self._channel is None or self._lost is not None:
            raise self._lost or LinkFailed("not connected")
        message = aio_pika.Message(
            body,
            headers=dict(headers) if headers else None,
            content_type="text/plain",
            content_encoding="UTF-8",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        async with _answered_within(_ANSWER_S):
            try:
                await self._channel.default_exchange.publish(message, routing_key=queue, mandatory=True)
            except DeliveryError as error:
                why = "it is full" if error.message is None else "there is no such queue"
                raise LinkFailed(f"RabbitMQ does not take a message for {queue}: {why}") from None

    # ---------------------------------------------------------------- consuming

    async def consume(self, deliver: Deliver) -> None:
        """Call `deliver` with every message of the incoming queue, in order, and at the end with why it ended. At most
        `prefetch` messages come before one is acknowledged. Nobody else can consume from the queue. Raises:
        LinkFailed."""
        assert self._channel is not None
        self._on_lost = deliver

        async def arrived(message: AbstractIncomingMessage) -> None:
            deliver(message)

        async with _answered_within(_ANSWER_S):
            await self._channel.set_qos(prefetch_count=self._options.prefetch)
            queue = await self._channel.get_queue(self._options.incoming, ensure=False)
            await queue.consume(arrived, exclusive=True)

    @staticmethod
    async def acknowledge(last: AbstractIncomingMessage) -> None:
        """This message and all before it. Raises: LinkFailed."""
        async with _answered_within(_ANSWER_S):
            await last.ack(multiple=True)

    # ---------------------------------------------------------------- the end

    def _closed(self, _: Any, error: BaseException | None) -> None:
        self._lose(LinkFailed("RabbitMQ closed the connection") if error is None else _failed(error))

    async def _cancelled(self, _: Any) -> None:
        self._lose(LinkFailed(f"RabbitMQ ended the consuming of {self._options.incoming}: was the queue deleted?"))

    def _lose(self, failed: LinkFailed) -> None:
        if self._lost is None:
            self._lost = failed
            if self._on_lost is not None:
                self._on_lost(failed)

    async def close(self) -> None:
        """What was not acknowledged is delivered again."""
        self._on_lost = None
        self._lost = self._lost or LinkFailed("not connected")
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
                async with asyncio.timeout(_CLOSE_S):
                    await connection.close()


@contextlib.asynccontextmanager
async def _answered_within(limit_s: float) -> AsyncIterator[None]:
    """Raises: LinkFailed for what aio_pika raises."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except (TimeoutError, *CONNECTION_EXCEPTIONS) as error:
        raise _failed(error) from None


def _failed(error: BaseException) -> LinkFailed:
    text = str(error)[:_TRUNCATED]
    if isinstance(error, ChannelPreconditionFailed) and _OTHER_PROPERTIES in text:
        return WrongQueue(
            f"a queue exists with other properties: {text}. The other server needs durable, not exclusive, not"
            " auto-deleted; empty the queue, delete it, and it is made anew"
        )
    if isinstance(error, TimeoutError):
        return LinkFailed("RabbitMQ does not answer")
    return LinkFailed(f"RabbitMQ: {text or type(error).__name__}")
