"""Attacks on passwords, over sockets, each from addresses of its own; every one returns what the attacker achieved.

Owns: the attacks and their figures. The same ones run against chatd (test_attacks) and against chatd with a guard
switched off (test_planted_bugs).
Elsewhere: the clients (tests.trail.visitors).
"""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid

from chatd.chatctl.control_client import ControlClient
from chatd.errors import MEANINGS, ErrorCode
from chatd.master.replies import PenaltiesReply, PenaltyRow
from chatd.master.requests import PenaltiesRequest
from tests.harness import chatserver
from tests.harness.daemon import Daemon
from tests.harness.link import ConnectionGone
from tests.harness.mobileimsdk import DATA
from tests.trail.visitors import attempt, client_of, register

PASSWORD = "open-Sesame-1"
ATTACKER, OWNER, ELSEWHERE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
AT_ONCE = 20
LOOKED_AT = (0, ErrorCode.BAD_CREDENTIALS)
"""Answers after which the attacker knows whether the guess was right."""
LOGINS = 300
"""Of one flood, each from an address of its own."""
PATIENT = {"login_s": 120.0}
"""The queue for hashes has room for the whole flood."""
COSTLY = {"argon2_memory_kib": 4096, "argon2_passes": 2, "hash_threads": 1}
"""A hash takes some milliseconds, far longer than all else that a login needs."""
OPTIONS = {"failures": 5, "account_failures": 20, "delay_s": 0, "first_s": 60}


async def tried(daemon: Daemon, wire: str, name: str, password: str, source: str) -> int:
    """The code of the answer; -1: none."""
    try:
        if wire == "chatserver":
            return await tried_on_chatserver(daemon, name, password, source)
        return await attempt(daemon, wire, name, password, source)
    except (ConnectionGone, TimeoutError):
        return -1


async def tried_on_chatserver(daemon: Daemon, name: str, password: str, source: str) -> int:
    """This wire has one number for all refusals: the text tells them apart."""
    peer = client_of("chatserver", source)
    await peer.open(daemon.ports["chatserver"])
    try:
        peer.put({"msgid": chatserver.LOGIN, "name": name, "password": password})
        answer = await peer.find(msgid=chatserver.LOGIN_ACK)
    finally:
        peer.close()
    if answer["errno"] == 0:
        return 0
    text = str(answer["errmsg"])
    return next((code for code, meaning in MEANINGS.items() if text.startswith(meaning.text.partition(",")[0])), -1)


async def one_address(daemon: Daemon, wire: str, times: int, name: str = "alice", attacker: str = ATTACKER) -> int:
    """Guesses of one address, many at once, each over a connection of its own; how many were looked at."""
    codes: list[int] = []
    for begun in range(0, times, AT_ONCE):
        some = range(begun, min(begun + AT_ONCE, times))
        codes += await asyncio.gather(*(tried(daemon, wire, name, f"wrong-{n}", attacker) for n in some))
    return sum(code in LOOKED_AT for code in codes)


async def many_addresses(daemon: Daemon, wire: str, addresses: int, name: str = "alice") -> int:
    """One guess of each of many addresses at one account; how many were looked at."""
    codes: list[int] = []
    for begun in range(0, addresses, AT_ONCE):
        some = range(begun, min(begun + AT_ONCE, addresses))
        sources = [(n, f"127.1.{n >> 8}.{n & 255}") for n in some]
        codes += await asyncio.gather(*(tried(daemon, wire, name, f"wrong-{n}", source) for n, source in sources))
    return sum(code in LOOKED_AT for code in codes)


async def register_from_a_site(daemon: Daemon, times: int) -> int:
    """Registrations from as many IPv6 /64 networks of one /48, as one customer has. The daemon believes
    the PROXY headers of this host. How many accounts there are then."""
    answers = []
    for number in range(times):
        head = f"PROXY TCP6 2001:db8:7:{number:x}::1 2001:db8::1 5000 6000\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.ports["chatserver"])
        frame = {"msgid": chatserver.REGISTER, "name": f"made{number}up", "password": PASSWORD}
        writer.write(head.encode() + json.dumps(frame).encode() + b"\0")
        answers.append(json.loads((await asyncio.wait_for(reader.readuntil(b"\0"), 10)).rstrip(b"\0")))
        writer.close()
    return sum(answer["errno"] == 0 for answer in answers)


async def records(daemon: Daemon) -> dict[str, PenaltyRow]:
    """What was counted, by the source or the account, without the cost of starting chatctl."""
    control = ControlClient(str(daemon.runtime_dir))
    found = await asyncio.to_thread(control.ask, PenaltiesRequest(), PenaltiesReply)
    return {row.subject: row for row in found.penalties}


async def abandoned_logins(daemon: Daemon) -> tuple[float, float]:
    """Many clients send a login and go at once, most with FIN, some with a reset; then alice logs in for the first
    time, from an address of her own. The seconds that the hashes of the flood would take, and those that she waited;
    infinite if she is not let in.

    The hashes are measured by some logins to names without an account, one after the other.
    """
    sample = 10
    began = time.monotonic()
    for number in range(sample):
        await tried(daemon, "chatserver", f"nobody{number}", PASSWORD, ELSEWHERE)
    hashes_s = (time.monotonic() - began) / sample * LOGINS

    peers = [client_of("chatserver", f"127.2.{number >> 8}.{number & 255}") for number in range(1, LOGINS + 1)]
    for peer in peers:
        await peer.open(daemon.ports["chatserver"])
    for number, peer in enumerate(peers):
        peer.put({"msgid": chatserver.LOGIN, "name": f"nobody{number}", "password": PASSWORD})
    for _ in range(2):  # the only worker answers these when it has read the logins
        assert await asyncio.to_thread(daemon.answers, "echo", 10.0)
    for number, peer in enumerate(peers):
        peer.close() if number % 6 else peer.abort()
    began = time.monotonic()
    code = await tried(daemon, "chatserver", "alice", PASSWORD, ATTACKER)
    return hashes_s, time.monotonic() - began if code == 0 else math.inf


async def guess_from_where_the_old_password_was_used(daemon: Daemon, name: str) -> tuple[int, int]:
    """A thief logs in with the user's password; the user changes it. While strangers guess, so that the account has a
    penalty, the thief guesses on from the same address. The codes of the thief's guess, which only a known source is
    told, and of the user's login."""
    thief, new = "127.5.0.2", "another-Sesame-2"
    await prepared(daemon, name)
    assert await attempt(daemon, "mobileimsdk", name, PASSWORD, thief) == 0
    peer = client_of("mobileimsdk", OWNER)
    await peer.open(daemon.ports["mobileimsdk"])
    await peer.log_in(name, PASSWORD)
    peer.say(name, "0", json.dumps({"op": "password.change", "old": PASSWORD, "new": new}), str(uuid.uuid4()))
    answer = json.loads((await peer.find(type=DATA))["dataContent"])
    assert answer["ok"], answer
    peer.close()
    await many_addresses(daemon, "chatserver", 60, name)
    guessed = await tried(daemon, "chatserver", name, "a guess", thief)
    return guessed, await tried(daemon, "chatserver", name, new, OWNER)


async def prepared(daemon: Daemon, name: str = "alice") -> None:
    """The user has an account, and has logged in from one address."""
    await register(daemon, name, PASSWORD)
    assert await attempt(daemon, "mobileimsdk", name, PASSWORD, OWNER) == 0
