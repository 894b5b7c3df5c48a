"""Checks of the bus: whether Redis can be used, and its clock.

Owns: asking each configured Redis server once.
Elsewhere: the connection (bus.redis.connect), what running workers say of the bus (chatctl.doctor.server).
Fails: never.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from chatd.bus.redis.connect import CONNECT_ERRORS, ask_once, why_of
from chatd.bus.redis.settings import RedisLimits, RedisServerAddress, RedisSettings, read_settings
from chatd.chatctl.doctor.finding import Finding, Installation, error, ok
from chatd.chatctl.doctor.stores import skew
from chatd.errors import BootError


def bus(installation: Installation) -> Iterator[Finding]:
    """Whether each Redis server answers, and its clock; nothing for a local bus."""
    url = installation.config.bus.url
    if url.startswith("local:"):
        return
    try:
        settings = read_settings(url)
    except BootError as failure:
        yield error("bus.usable", str(failure), "chatd does not start", "correct bus.url, or the files that it names")
        return
    for address in settings.addresses:
        yield from _of_server(settings, address)


def _of_server(settings: RedisSettings, address: RedisServerAddress) -> Iterator[Finding]:
    """Sentinels have no TIME: they are only pinged."""
    is_sentinel = settings.kind == "sentinel"
    login = settings.sentinel_login if is_sentinel else settings.login
    before = time.time()
    try:
        answer = asyncio.run(ask_once(settings, RedisLimits(), address, login, "PING" if is_sentinel else "TIME"))
    except CONNECT_ERRORS as failure:
        meaning = "messages between workers and hosts arrive late, and a worker that dies may not be replaced"
        advice = "start Redis, or correct bus.url; redis-cli -h HOST -p PORT PING"
        yield error("bus.usable", f"redis at {address} cannot be used: {why_of(failure)}", meaning, advice)
        return
    yield ok("bus.usable", f"redis at {address} answers")
    if isinstance(answer, list) and len(answer) == 2:
        seconds = int(answer[0]) + int(answer[1]) / 1e6
        yield from skew("clock.bus", f"redis at {address}", seconds - (before + time.time()) / 2)
