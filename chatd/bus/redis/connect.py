"""Making a connection to a Redis server, and the one question that is asked over a connection of its own.

Owns: how long is waited for a server (Limits), the socket and TLS, what of an error is told.
Not here: keeping a connection (bus.redis.node); its bytes (bus.redis.connection).
Fails: with one of LOST.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import hiredis

from chatd.bus.redis.connection import Argument, Connection, Reply
from chatd.bus.redis.settings import Address, Place
from chatd.errors import Unavailable

LOST = (OSError, EOFError, Unavailable, hiredis.ReplyError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Limits:
    """answer_s: the longest wait for an answer. silent_s: a server that says nothing for so long is given up; it is
    asked something every ping_s. retry_s: the first and the longest wait before another attempt to connect."""

    answer_s: float = 1.0
    connect_s: float = 2.0
    ping_s: float = 0.5
    silent_s: float = 3.0
    retry_s: tuple[float, float] = (0.05, 1.0)
    queue_bytes: int = 8 * 1024 * 1024


async def answers_of(asked: list[asyncio.Future[Reply]]) -> list[Reply]:
    """Every answer, or the first error."""
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, hiredis.ReplyError):
            # An old server would repeat the password here.
            text = str(answer)
            raise Unavailable("Redis 6 or newer is needed" if "unknown command" in text else text)
        if isinstance(answer, BaseException):
            raise answer
    return answers


async def dial(place: Place, limits: Limits, address: Address, make: Callable[[], Connection]) -> Connection:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(limits.connect_s):
        if not address.port:
            return (await loop.create_unix_connection(make, address.host))[1]
        host, port = address
        server_hostname = host if place.tls else None
        return (await loop.create_connection(make, host, port, ssl=place.tls, server_hostname=server_hostname))[1]


async def ask_once(place: Place, limits: Limits, address: Address, login: tuple[str, ...], *command: Argument) -> Reply:
    """One question over a connection of its own. Raises one of LOST."""

    def nothing(*_: object) -> None:
        """Nobody publishes here."""

    connection = await dial(
        place, limits, address, lambda: Connection(limits.queue_bytes, nothing, nothing, nothing, nothing)
    )
    try:
        async with asyncio.timeout(limits.answer_s):
            return (await answers_of([connection.ask("HELLO", 3, *login), connection.ask(*command)]))[1]
    finally:
        connection.drop("done")


def why_of(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
