"""Waiting for a state, never for luck: every wait in the tests of the whole daemon goes through here.

Fails: TimeoutError that says what was waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run(story: Coroutine[Any, Any, T], limit_s: float = 60.0) -> T:
    """Run a story on a fresh loop; it may not take longer than limit_s."""

    async def bounded() -> T:
        async with asyncio.timeout(limit_s):
            return await story

    return uvloop.run(bounded())


async def within(limit_s: float, what: str, awaitable: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(limit_s):
            return await awaitable
    except TimeoutError:
        raise TimeoutError(f"not within {limit_s} s: {what}") from None


async def until(limit_s: float, what: str, state: Callable[[], T], step_s: float = 0.01) -> T:
    """The first true value of `state`."""
    ends = time.monotonic() + limit_s
    while not (value := state()):
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {limit_s} s: {what}")
        await asyncio.sleep(step_s)
    return value


def wait_until(limit_s: float, what: str, state: Callable[[], T], step_s: float = 0.02) -> T:
    """`until` for tests without a loop."""
    ends = time.monotonic() + limit_s
    while not (value := state()):
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {limit_s} s: {what}")
        time.sleep(step_s)
    return value
