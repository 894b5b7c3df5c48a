"""Making connections to Redis servers.

Owns: the socket and TLS, a single question over a separate connection, and describing an error in one line.
Elsewhere: the handshake of a lasting connection (bus.redis.handshake); keeping it (bus.redis.node); its bytes
(bus.redis.connection).
Fails: with one of CONNECT_ERRORS.
"""

from __future__ import annotations

import asyncio

import hiredis

from chatd.bus.redis.connection import Argument, ConnectionCallbacks, RedisConnection, Reply
from chatd.bus.redis.settings import RedisLimits, RedisServerAddress, RedisSettings
from chatd.errors import Unavailable

CONNECT_ERRORS = (OSError, EOFError, Unavailable, hiredis.ReplyError, TimeoutError)
"""Everything that an attempt to connect to a server and ask it something may raise."""


async def open_connection(
    settings: RedisSettings, limits: RedisLimits, address: RedisServerAddress, callbacks: ConnectionCallbacks
) -> RedisConnection:
    """A new connection on which nothing was sent yet. Raises one of CONNECT_ERRORS, within connect_s."""

    def make() -> RedisConnection:
        return RedisConnection(limits.queue_bytes, callbacks)

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(limits.connect_s):
        if not address.port:
            return (await loop.create_unix_connection(make, address.host))[1]
        host, port = address
        server_hostname = host if settings.tls else None
        return (await loop.create_connection(make, host, port, ssl=settings.tls, server_hostname=server_hostname))[1]


async def ask_once(
    settings: RedisSettings,
    limits: RedisLimits,
    address: RedisServerAddress,
    login: tuple[str, ...],
    *command: Argument,
) -> Reply:
    """The answer to one command, over a separate connection. Raises one of CONNECT_ERRORS."""
    connection = await open_connection(settings, limits, address, ConnectionCallbacks())
    try:
        async with asyncio.timeout(limits.answer_s):
            return (await all_answers([connection.ask("HELLO", 3, *login), connection.ask(*command)]))[1]
    finally:
        connection.drop("done")


async def all_answers(asked: list[asyncio.Future[Reply]]) -> list[Reply]:
    """Every answer. Raises the first error; Unavailable for an error of the server."""
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, hiredis.ReplyError):
            # An old server would repeat the password here.
            text = str(answer)
            raise Unavailable("Redis 6 or newer is needed" if "unknown command" in text else text)
        if isinstance(answer, BaseException):
            raise answer
    return answers


def why_of(error: BaseException) -> str:
    """One of CONNECT_ERRORS, described in one line."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
