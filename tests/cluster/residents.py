"""People who are simply there: logged in, silent, kept alive by their clients.

Owns: kept_alive, staying, insist, and how a client knows that its session is over (on UDP nobody closes anything).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from tests.harness.crowd import KEEP_ALIVE_PACKET
from tests.harness.deadline import until
from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.mobileimsdk import StockLink
from tests.harness.person import Person

HEARTBEAT_S = 1.0
LONG_S = 3600.0
"""Longer than any test."""


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

    async with beside([beat()]):
        yield


@contextlib.asynccontextmanager
async def staying(people: Sequence[Person]) -> AsyncIterator[None]:
    """They log in, and come back whenever they have lost their connection, while inside."""

    async def stay(person: Person) -> None:
        while True:
            await insist(person, LONG_S)
            await until(LONG_S, f"{person.name} has gone", lambda: has_gone(person), HEARTBEAT_S / 5)

    async with kept_alive(people), beside([stay(person) for person in people]):
        yield


@contextlib.asynccontextmanager
async def beside(work: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Runs while inside. What it raises is raised here."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
