"""Attacks on passwords, over sockets, each from addresses of its own; every one returns what the attacker achieved.

Owns: the attacks and their figures. The same ones run against chatd (test_attacks) and against chatd with a guard
switched off (test_planted_bugs).
Elsewhere: the clients (tests.trail.visitors).
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from chatd.errors import ErrorCode
from tests.conversations.asking import PEERS
from tests.harness.daemon import Daemon
from tests.harness.link import ConnectionGone
from tests.trail.visitors import attempt, register

PASSWORD = "open-Sesame-1"
ATTACKER, OWNER, ELSEWHERE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
AT_ONCE = 20
LOOKED_AT = (0, ErrorCode.BAD_CREDENTIALS)
"""Answers after which the attacker knows whether the guess was right."""
OPTIONS = {"failures": 5, "account_failures": 20, "delay_s": 0, "first_s": 60}


async def tried(daemon: Daemon, wire: str, name: str, password: str, source: str) -> int:
    """The code of the answer; -1: none."""
    try:
        return await attempt(daemon, wire, name, password, source)
    except (ConnectionGone, TimeoutError):
        return -1


async def one_address(daemon: Daemon, wire: str, times: int, name: str = "alice") -> int:
    """Guesses of one address, many at once, each over a connection of its own; how many were looked at."""
    codes: list[int] = []
    for begun in range(0, times, AT_ONCE):
        some = range(begun, min(begun + AT_ONCE, times))
        codes += await asyncio.gather(*(tried(daemon, wire, name, f"wrong-{n}", ATTACKER) for n in some))
    return sum(code in LOOKED_AT for code in codes)


async def many_addresses(daemon: Daemon, wire: str, addresses: int, name: str = "alice") -> int:
    """One guess of each of many addresses at one account; how many were looked at."""
    codes: list[int] = []
    for begun in range(0, addresses, AT_ONCE):
        some = range(begun, min(begun + AT_ONCE, addresses))
        sources = [(n, f"127.1.{n >> 8}.{n & 255}") for n in some]
        codes += await asyncio.gather(*(tried(daemon, wire, name, f"wrong-{n}", source) for n, source in sources))
    return sum(code in LOOKED_AT for code in codes)


async def prepared(daemon: Daemon, *, known: str = OWNER) -> None:
    """Alice has an account, and has logged in from one address."""
    await register(daemon, "alice", PASSWORD)
    assert await attempt(daemon, "mobileimsdk", "alice", PASSWORD, known) == 0


async def change_password(daemon: Daemon, old: str) -> int:
    """A user who is logged in from ATTACKER asks for another password; the code of the answer, 0 = it is changed."""
    peer: Any = PEERS["mobileimsdk"]()
    peer.source = ATTACKER
    await peer.open(daemon.ports["mobileimsdk"])
    try:
        await peer.log_in("alice", PASSWORD)
        body = json.dumps({"op": "password.change", "ref": 1, "old": old, "new": "another-Sesame-2"})
        answer = await peer.ask(body)
        return int(answer.get("code", 0))
    finally:
        peer.close()


async def waits_during_flood(daemon: Daemon, logins: int, flood_s: float, streams: int) -> list[float]:
    """Seconds that correct logins of OWNER take, while ATTACKER logs in wrongly as fast as it can over `streams`
    connections at a time; a login that fails counts as 60 s."""
    over = False

    async def flooding(number: int) -> None:
        count = 0
        while not over:
            count += 1
            await tried(daemon, "chatserver", f"nobody-{number}-{count}", "wrong", ATTACKER)

    floods = [asyncio.ensure_future(flooding(number)) for number in range(streams)]
    waits: list[float] = []
    try:
        await asyncio.sleep(min(1.0, flood_s))
        for _ in range(logins):
            began = time.monotonic()
            code = await tried(daemon, "mobileimsdk", "alice", PASSWORD, OWNER)
            waits.append(time.monotonic() - began if code == 0 else 60.0)
    finally:
        over = True
        await asyncio.gather(*floods, return_exceptions=True)
    return waits
