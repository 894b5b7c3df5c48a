"""Which session stays when a user has two on one wire.

Owns: the rule, as a function of what is known of each of the two sessions.
Elsewhere: finding out that there are two, and ending one (core.sessions.exclusive).
Fails: never.

On a wire with DuplicateLogin.REFUSE_NEW the session that has the session lock stays, unless a later login asks for
takeover.

Source: protocols/chatserver.md (errno 2, takeover) and protocols/mobileimsdk.md (firstLoginTime).
"""

from __future__ import annotations

import time
from typing import NamedTuple

from chatd.core.sessions.session import Session, SessionState
from chatd.errors import Disconnect
from chatd.protocol import DuplicateLogin, Kicked

ELSEWHERE = "logged in elsewhere"
"""The reason told to the client of the session that is ended."""


class Outranked(Exception):
    """Another session of the user stays, this one must end. silent: its client is not told, because the other session
    is its own reconnect."""

    def __init__(self, *, silent: bool) -> None:
        super().__init__()
        self.silent = silent


class Contender(NamedTuple):
    """One of two sessions. first_login_time: as the client said, milliseconds since the epoch. fresh: its login named
    none. age_s: since that login; 0 = it is logging in now. takes_over: see Session."""

    first_login_time: int
    fresh: bool
    age_s: float
    takes_over: bool = False


class Ruling(NamedTuple):
    """silent: the client of the session that ends is not told; it was replaced by its own reconnect."""

    new_stays: bool
    silent: bool


def rule(new: Contender, old: Contender) -> Ruling:
    """Which of two sessions stays on a wire with DuplicateLogin.LATER_LOGIN_WINS.

    Decided as if the younger had logged in while the older was there. Which of them got the session lock first says
    nothing after the bus was cut off, and clocks of different hosts say little; so ages are compared.
    """
    new_is_later = new.age_s <= old.age_s
    later, earlier = (new, old) if new_is_later else (old, new)
    later_stays = later.fresh or later.first_login_time >= earlier.first_login_time
    silent = not later.fresh and later.first_login_time == earlier.first_login_time
    return Ruling(later_stays is new_is_later, silent)


def decide(new: Contender, holder: Session) -> Ruling:
    """Which of two sessions stays by the rule of the wire. holder: a session of this worker, which has the lock."""
    old = contender(holder)
    if refuses_new(holder):
        return Ruling(new_stays=new.takes_over and new.age_s <= old.age_s, silent=False)
    return rule(new, old)


def contender(session: Session) -> Contender:
    """A session of this worker, as the rule sees it."""
    age_s = time.monotonic() - session.began_at if session.has_client else 0.0
    return Contender(session.first_login_time, session.fresh, age_s, session.takes_over)


def refuses_new(session: Session) -> bool:
    """On this wire the existing session stays, unless the new one takes over."""
    return session.peer.traits.duplicate_login is DuplicateLogin.REFUSE_NEW


def come_after(session: Session, first_login_time: int) -> None:
    """A first login is later than the one it ended, even if the clock of that host says otherwise."""
    if session.fresh and session.state is SessionState.LOGGING_IN:
        session.first_login_time = max(session.first_login_time, first_login_time + 1)


def end(session: Session, reason: Disconnect) -> None:
    """End a session from outside. One that is still logging in is refused by its own login, which sees its state."""
    match session.state:
        case SessionState.LIVE | SessionState.ARRIVING:
            session.peer.close(reason)
        case SessionState.LOGGING_IN:
            session.enter(SessionState.CLOSING)


def dismiss(session: Session, *, silent: bool) -> None:
    """End a session that another one of the user outranks."""
    if not silent and session.has_client:
        session.peer.push(Kicked(False, ELSEWHERE))
    end(session, Disconnect.REPLACED if silent else Disconnect.KICKED_DUPLICATE)
