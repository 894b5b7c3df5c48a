"""Subscribing to channels on one server, and waiting for its confirmations.

Owns: how channels are spread over commands, and when everything sent so far is confirmed.
Elsewhere: which channels (bus.redis.channels), on which server (bus.redis.topology).
Fails: a refusal by the server is reported to `on_refused`; a lost connection is not, because the node notices it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial

import hiredis

from chatd.bus.redis.connection import RedisConnection

CHANNELS_PER_COMMAND = 500


class NodeSubscriptions:
    """sharded: use the sharded channels of a Redis Cluster."""

    def __init__(self, sharded: bool, on_refused: Callable[[Collection[bytes], hiredis.ReplyError], None]) -> None:
        """on_refused: gets the channels that we are not subscribed to after all; none for a refused unsubscription."""
        self._subscribe_command = b"SSUBSCRIBE" if sharded else b"SUBSCRIBE"
        self._unsubscribe_command = b"SUNSUBSCRIBE" if sharded else b"UNSUBSCRIBE"
        self._per_command = 1 if sharded else CHANNELS_PER_COMMAND
        """Sharded channels of one command must have one slot."""
        self._on_refused = on_refused
        self._last: asyncio.Future[None] | None = None
        """The last subscription sent over the present connection."""

    @property
    def confirming(self) -> asyncio.Future[None] | None:
        """Done when everything subscribed until now is confirmed; None if it is. Do not cancel it."""
        return self._last if self._last is not None and not self._last.done() else None

    def reset(self) -> None:
        """The connection is a new one: nothing is being confirmed."""
        self._last = None

    def subscribe(self, connection: RedisConnection, channels: list[bytes]) -> asyncio.Future[None] | None:
        """Done when all are confirmed; None without channels."""
        if not channels:
            return None
        for some in self._split(channels):
            self._last = connection.subscription(self._subscribe_command, some)
            self._last.add_done_callback(partial(self._done, some))
        return self._last

    def unsubscribe(self, connection: RedisConnection, channels: list[bytes]) -> None:
        for some in self._split(channels):
            connection.subscription(self._unsubscribe_command, some).add_done_callback(partial(self._done, ()))

    def _split(self, channels: list[bytes]) -> list[list[bytes]]:
        size = self._per_command
        return [channels[at : at + size] for at in range(0, len(channels), size)]

    def _done(self, channels: Collection[bytes], done: asyncio.Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, hiredis.ReplyError):
            self._on_refused(channels, error)
