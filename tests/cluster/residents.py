"""People who are simply there: logged in, silent, kept alive by their clients.

Owns: kept_alive, insist, and how a client knows that its session is over (on UDP nobody closes anything).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from tests.harness.crowd import KEEP_ALIVE_PACKET
from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.mobileimsdk import StockLink
from tests.harness.person import Person

HEARTBEAT_S = 1.0


def has_gone(person: Person) -> bool:
    link = person.link
    return person.away.is_set() or (isinstance(link, StockLink) and bool(link.kicked))


@contextlib.asynccontextmanager
async def kept_alive(people: Sequence[Person]) -> AsyncIterator[None]:
    """Those of them who are there send keep-alives while inside."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for person in people:
                if isinstance(person.link, StockLink) and not has_gone(person):
                    person.link.put(KEEP_ALIVE_PACKET)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def insist(person: Person, limit_s: float = 30.0) -> None:
    """Log in as soon as it is allowed."""
    async with asyncio.timeout(limit_s):
        while True:
            try:
                async with asyncio.timeout(5):
                    await person.arrive()
                return
            except (LoginRefused, ConnectionGone, TimeoutError):
                await asyncio.sleep(0.2)
