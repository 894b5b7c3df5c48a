"""Attacks on accounts: sessions that should have ended, accounts that should not exist.

Owns: one function per attack. Each raises AssertionError or TimeoutError if it succeeds.
Elsewhere: the daemons (test_sessions, test_registration), what they do without their guards (planted).
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from chatd.errors import ErrorCode
from chatd.store.contract import text_hash
from tests.harness import chatserver
from tests.harness.daemon import Daemon
from tests.harness.deadline import until
from tests.harness.link import LoginRefused
from tests.harness.peer import NulPeer
from tests.harness.person import Town

ENDS_S = 1.0
"""Within this time of the change every session has ended."""
SLACK_S = 1.0
"""More, for a machine that is busy with other tests."""
NEW = "a completely different one"


async def ctl(daemon: Daemon, *arguments: str, input: str = "") -> tuple[int, str]:
    done = await asyncio.to_thread(lambda: daemon.ctl(*arguments, input=input))
    return done.returncode, done.stdout.strip() + done.stderr.strip()


async def change_password(peer: Any, old: str, new: str) -> dict[str, Any]:
    """The answer to the request, from a mobileimsdk client."""
    request = {"op": "password.change", "ref": "r1", "old": old, "new": new}
    peer.put(
        {"type": 2, "to": "0", "from": "", "dataContent": json.dumps(request), "fp": f"{time.time_ns()}", "QoS": True}
    )
    packet = await peer.find(type=2)
    answer: dict[str, Any] = json.loads(packet["dataContent"])
    return answer


async def all_sessions(town: Town, name: str) -> list[Any]:
    """One on every wire of this user that can have one beside the others, on whichever worker they land."""
    return [await town.on_mobile(name), await town.errand(name)]


async def ended(peers: list[Any], since: float) -> float:
    """When the last one has ended, in seconds since then."""
    await asyncio.wait_for(asyncio.gather(*(peer.end() for peer in peers)), ENDS_S + SLACK_S)
    return time.monotonic() - since


async def is_refused(town: Town, name: str, secret: str) -> int:
    """The code with which a login is refused."""
    peer = await town.mobile_peer()
    try:
        await peer.log_in(name, secret)
    except LoginRefused as refused:
        return refused.code
    finally:
        peer.close()
    raise AssertionError(f"{name} is logged in")


async def keep_a_session_after_the_password_was_changed(daemon: Daemon) -> None:
    """A thief has a session on the other wire. The owner changes the password, and keeps their own session."""
    town = Town(daemon)
    for _ in range(3):  # on the same worker or another
        name = await town.newcomer("alice")
        thief, owner = await town.errand(name), await town.on_mobile(name)
        changed_at = time.monotonic()
        assert (await change_password(owner, town.secret, NEW))["ok"] is True
        await ended([thief], changed_at)
        owner.put({"type": 1})
        assert (await owner.find(type=51))["from"] == "0"
        assert await is_refused(town, name, town.secret) == ErrorCode.BAD_CREDENTIALS
        owner.close()


async def keep_a_session_of_a_locked_account(daemon: Daemon) -> None:
    """The operator's change reaches the sessions through the store alone: chatctl cannot ask the server."""
    town = Town(daemon)
    socket = daemon.runtime_dir / "control.sock"
    hidden = socket.with_suffix(".hidden")
    socket.rename(hidden)
    try:
        for arguments, input in ((("lock",), ""), (("passwd",), f"{NEW}\n"), (("del",), "")):
            name = await town.newcomer("alice")
            peers = await all_sessions(town, name)
            code, said = await ctl(daemon, "user", arguments[0], name, input=input)
            changed_at = time.monotonic()
            assert code == 0, said
            await ended(peers, changed_at)
            assert await is_refused(town, name, town.secret) in (ErrorCode.BAD_CREDENTIALS, ErrorCode.ACCOUNT_LOCKED)
    finally:
        hidden.rename(socket)


async def log_in_during_the_change(daemon: Daemon) -> None:
    """The old password is verified before it is changed, and the login goes on afterwards. The daemon was started with
    GATE in its environment: it verifies a password only when the gate is open (planted.slow_hashing)."""
    town, gate = Town(daemon), Path(daemon.env["GATE"])
    name = await town.newcomer("alice")
    peer = NulPeer()
    await peer.open(daemon.ports["chatserver"])
    peer.put({"msgid": chatserver.LOGIN, "name": name, "password": town.secret})
    await until(10, "the password is being verified", gate.with_suffix(".waiting").exists)
    code, said = await ctl(daemon, "user", "passwd", name, input=f"{NEW}\n")
    await asyncio.to_thread(gate.touch)
    assert code == 0, said
    assert (await peer.find(msgid=chatserver.LOGIN_ACK))["errno"] == 1
    peer.close()


async def guess_a_password_from_a_copy_of_the_store(daemon: Daemon) -> None:
    """A thief has a backup of the database, and knows the old password, because it has leaked. The new one is in a
    short list of guesses. Only the slow hash of the password may tell which guess is right."""
    town = Town(daemon)
    name = await town.newcomer("alice")
    owner = await town.on_mobile(name)
    guesses = [f"guess number {number}" for number in range(100)]
    for fp, new in enumerate(("short", guesses[70])):  # one is refused; both answers are kept for repetitions
        request = {"op": "password.change", "ref": "r1", "old": town.secret, "new": new}
        owner.say(name, "0", json.dumps(request), f"fp {fp}")
        await owner.find(type=2)
    owner.close()
    with sqlite3.connect(f"file:{daemon.root / 'state' / 'chatd.db'}?mode=ro", uri=True) as copy:
        kept = list(copy.execute("SELECT * FROM request"))
    assert len(kept) == 2
    values = {value for row in kept for value in row}
    for old, new in [(town.secret, new) for new in guesses] + [(guess, "short") for guess in [*guesses, town.secret]]:
        body = json.dumps({"op": "password.change", "ref": "r1", "old": old, "new": new})
        assert text_hash(body) not in values, f"the passwords are {old} and {new}"
        assert not any(old in str(value) or new in str(value) for value in values)


async def register(daemon: Daemon, name: str, secret: str, invite: str = "") -> tuple[int, str]:
    """errno and text of the answer."""
    peer = NulPeer()
    await peer.open(daemon.ports["chatserver"])
    peer.put({"msgid": chatserver.REGISTER, "name": name, "password": secret, **({"invite": invite} if invite else {})})
    answer = await peer.find(msgid=chatserver.REGISTER_ACK)
    peer.close()
    return answer["errno"], str(answer.get("errmsg", ""))


async def share_an_invite(daemon: Daemon) -> None:
    """Many register at once with a code that is for one account."""
    code, said = await ctl(daemon, "invite", "add", "--note", "for one")
    assert code == 0, said
    invite = said.splitlines()[0].split("chatctl:")[0].strip()
    answers = await asyncio.gather(*(register(daemon, f"guest{n}", "some long words", invite) for n in range(8)))
    assert sorted(errno for errno, _ in answers) == [0] + [1] * 7, answers
