"""`python -m tests.credentials.planted BUG -c FILE …` is chatd with a guard of credentials switched off in its workers.

Owns: the bugs, by name.
Elsewhere: planting one (tests.faults.planted).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.planted import main


def nobody_is_told() -> None:
    """A changed password ends no session by itself, and the store is not looked at."""
    from chatd.core.sessions.credentials import CredentialsWatch
    from chatd.core.sessions.login import Logins

    CredentialsWatch.tick = lambda self: None  # type: ignore[method-assign]
    Logins.end_outdated = lambda self, user_id, version: 0  # type: ignore[method-assign]


def the_store_is_not_looked_at() -> None:
    """Only who is told about a change acts."""
    from chatd.core.sessions.credentials import CredentialsWatch

    CredentialsWatch.tick = lambda self: None  # type: ignore[method-assign]


def an_invite_is_not_counted() -> None:
    """It is valid again and again."""
    from chatd.store.sql.invites import SqlInvites

    SqlInvites.use = lambda self, invite_id: None  # type: ignore[method-assign]


def own_session_ends_too() -> None:
    """Who changes the password is thrown out."""
    from chatd.core.sessions.credentials import CredentialsWatch

    def changed(self: Any, session: Any, version: int) -> None:
        session.credentials = version - 1
        self._logins.end_outdated(session.user.id, version)

    CredentialsWatch.changed_own = changed  # type: ignore[method-assign]


def slow_hashing() -> None:
    """No bug: the old password is verified as it was, but the answer takes until the file GATE exists."""
    from chatd.core.passwords import Hasher

    gate, verify = Path(os.environ["GATE"]), Hasher.verify_now

    def slow(self: Hasher, hashed: str, secret: str) -> bool:
        good = verify(self, hashed, secret)
        gate.with_suffix(".waiting").touch()
        while not gate.exists():
            time.sleep(0.01)
        return good

    Hasher.verify_now = slow  # type: ignore[method-assign]


def versions_are_not_compared() -> None:
    """A login takes the version that it finds when the session opens."""
    from chatd.core.sessions import login

    slow_hashing()
    view = login._view

    def obliging(tables: Any, session: Any, limit: int, listing: bool) -> Any:
        session.credentials = tables.accounts.find("", session.user.id).credentials
        return view(tables, session, limit, listing)

    login._view = obliging


MESSAGE_LOST, STORE_UNSEEN, GATE_CLOSED = "message-lost", "store-unseen", "gate-closed"
VERSIONS_UNCOMPARED = "versions-uncompared"
"""Files in the directory SWITCHES of a daemon with switches()."""
WAITING = "waiting"
"""The file there that says that a password is verified, behind the gate."""


def switches() -> None:
    """No bug as long as the directory SWITCHES is empty. MESSAGE_LOST in it: what other hosts should hear of changed
    credentials is lost. STORE_UNSEEN: the store is not looked at. GATE_CLOSED: passwords are verified as they were, but
    the answer takes until the file is gone. VERSIONS_UNCOMPARED: versions_are_not_compared()."""
    from chatd.bus.redis.bus import RedisBus
    from chatd.core.bus_messages import KickAsked, SessionEnded, decode
    from chatd.core.passwords import Hasher
    from chatd.core.sessions import login
    from chatd.core.sessions.credentials import CredentialsWatch

    folder = Path(os.environ["SWITCHES"])
    lost, unseen, gate = folder / MESSAGE_LOST, folder / STORE_UNSEEN, folder / GATE_CLOSED
    publish, tick, verify, view = RedisBus.publish, CredentialsWatch.tick, Hasher.verify_now, login._view

    def lossy(self: RedisBus, topic: int, data: bytes) -> None:
        if not (lost.exists() and isinstance(decode(data), KickAsked | SessionEnded)):
            publish(self, topic, data)

    def blind(self: CredentialsWatch) -> None:
        if not unseen.exists():
            tick(self)

    def gated(self: Hasher, hashed: str, secret: str) -> bool:
        good = verify(self, hashed, secret)
        while gate.exists():
            (folder / WAITING).touch()
            time.sleep(0.01)
        return good

    def obliging(tables: Any, session: Any, limit: int, listing: bool) -> Any:
        if (folder / VERSIONS_UNCOMPARED).exists():
            session.credentials = tables.accounts.find("", session.user.id).credentials
        return view(tables, session, limit, listing)

    login._view = obliging
    RedisBus.publish, CredentialsWatch.tick = lossy, blind  # type: ignore[method-assign]
    Hasher.verify_now = gated  # type: ignore[method-assign]


CHEAPEST, DEAREST = "cheapest", "dearest"
"""Files in the directory SWITCHES of a daemon with one_stand_in()."""


def one_stand_in() -> None:
    """No bug as long as the directory SWITCHES is empty. CHEAPEST in it: every login that names no account costs what
    the cheapest passwords of the store cost; DEAREST: what the dearest ones do."""
    from chatd.core.stand_in_hashes import StandInHashes

    folder, of = Path(os.environ["SWITCHES"]), StandInHashes.of

    def same(self: StandInHashes, name: str) -> str:
        if (folder / CHEAPEST).exists():
            return self._stand_ins[0]
        return self._stand_ins[-1] if (folder / DEAREST).exists() else of(self, name)

    StandInHashes.of = same  # type: ignore[method-assign]


def requests_are_recognised_by_their_text() -> None:
    """Also those with passwords in them."""
    from chatd.core.requests import dispatch

    dispatch._recognised_by = lambda sent, head, operation: dispatch.text_hash(sent.body)


BUGS = {
    bug.__name__: bug
    for bug in (
        nobody_is_told,
        the_store_is_not_looked_at,
        an_invite_is_not_counted,
        own_session_ends_too,
        versions_are_not_compared,
        requests_are_recognised_by_their_text,
    )
}

HARMLESS = {entry.__name__: entry for entry in (slow_hashing, switches, one_stand_in)}
"""No bugs by themselves."""

if __name__ == "__main__":
    sys.exit(main({**BUGS, **HARMLESS}))
