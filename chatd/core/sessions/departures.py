"""Sessions that this worker hands over to its successor: what it knows of them, and their silent end here.

Owns: which session may leave, its state as a value, passing its lock, and forgetting it without a word to anybody.
Elsewhere: going on with it (core.sessions.arrivals), its connection, and when all this happens (net.handover).
Fails: Unavailable from the store or the bus; the session then stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from chatd.bus.contract import LockShare
from chatd.core.sessions.moving import (
    MovedAllowance,
    MovedCursor,
    MovedInFlight,
    MovedReceipt,
    MovedSession,
    OfferedPeer,
    OfferedSession,
)
from chatd.core.sessions.moving_parts import MovingParts
from chatd.core.sessions.session import OWN_CHANGE, InFlight, Session, SessionState
from chatd.protocol import Deliver


class Departures:
    """The sessions of a worker on their way to its successor; one per worker, of use only while it is replaced."""

    def __init__(self, parts: MovingParts) -> None:
        self._services = parts.services
        self._delivery = parts.delivery
        self._logins = parts.logins
        self._presence = parts.presence
        self._guard = parts.guard
        self.tell_broadcasts: Callable[[Session], tuple[int, ...]] = lambda session: ()
        """Called when a session is about to leave: the last moment to tell it what others are told. Returns the numbers
        of what it need not be told elsewhere. Set by core.core."""

    # ---------------------------------------------------------------- before

    def may_leave(self, session: Session) -> bool:
        """Whether nothing is happening to the session that only this worker can complete."""
        return session.state is SessionState.LIVE and session.credentials != OWN_CHANGE

    def offer(self, session: Session) -> OfferedSession:
        peer = session.peer
        return OfferedSession(
            user=session.user,
            protocol=session.protocol,
            first_login_time=session.first_login_time,
            fresh=session.fresh,
            by_seq=session.by_seq,
            takes_over=session.takes_over,
            features=session.features,
            credentials=session.credentials,
            since_ms=session.since_ms,
            age_s=time.monotonic() - session.began_at,
            peer=OfferedPeer(
                remote=peer.remote,
                traits=peer.traits,
                text_bytes=peer.text_bytes,
                lossy=peer.lossy,
                has_receipts=peer.has_receipts,
                is_private=peer.is_private,
            ),
        )

    async def settle(self) -> None:
        """Returns when everything that clients have asked the store for until now is committed and answered. Raises
        Unavailable: it may not be."""
        await self._services.store.read(lambda tables: None)

    async def give_lock(self, session: Session, to: LockShare) -> bool:
        """Pass the session's lock to the successor. False: it was served without, or lost it. Never raises."""
        return await self._logins.locks.give(session, to)

    async def take_lock_back(self, session: Session, given: LockShare) -> None:
        """The session does not move after all. Never raises."""
        await self._logins.locks.take_back(session, given)

    # ---------------------------------------------------------------- the end here

    def leave(
        self, session: Session, *, has_lock: bool, told: Sequence[str], broadcasts: tuple[int, ...]
    ) -> MovedSession:
        """From now on the session is the successor's: nothing of it is left here, and nobody notices. has_lock: what
        give_lock() has returned. told, broadcasts: see MovedSession."""
        peer, services = session.peer, self._services
        moved = msgspec.structs.replace(self._moved(session, has_lock, told), broadcasts=broadcasts)
        peer.session = None
        self._logins.by_wire[session.protocol] -= 1
        self._logins.expiry.forget(session)
        session.enter(SessionState.HANDED_OVER)
        self._delivery.leave(session)
        self._presence.unwatch(session)
        self._logins.locks.gave(session)
        services.hub.remove(session)
        self._guard.disconnected(peer)
        return moved

    def _moved(self, session: Session, has_lock: bool, told: Sequence[str]) -> MovedSession:
        now, cursors, allowance = self._services.loop.time(), session.cursors or {}, session.allowance
        receipts = session.receipts or ()
        return MovedSession(
            has_lock=has_lock,
            features=session.features,
            credentials=session.credentials,
            ends_at_ms=self._logins.expiry.end_of(session),
            groups=dict(session.groups or {}),
            entered=self._delivery.catch_up.entered_by(session),
            cursors=tuple(
                MovedCursor(conversation, cursor.pushed, tuple(cursor.unacked.items()), cursor.tells)
                for conversation, cursor in cursors.items()
            ),
            in_flight=tuple(_in_flight(fp, one, now) for fp, one in (session.in_flight or {}).items()),
            receipts=tuple(
                MovedReceipt(one.offset, one.conversation, one.seq)
                for one in receipts
                if cursors.get(one.conversation) is one.cursor
            ),
            watching=self._presence.watched_by(session),
            allowance=MovedAllowance(allowance.commands, allowance.recipients, allowance.changes),
            told=tuple(told),
            failures=self._guard.failures_of(session.peer),
        )


def _in_flight(fp: str, one: InFlight, now: float) -> MovedInFlight:
    in_s, event = max(0.0, one.next_at - now), one.event
    if isinstance(event, Deliver):
        return MovedInFlight(
            fp=fp, message=event.message, group_name=event.group_name, in_s=in_s, attempts=one.attempts
        )
    return MovedInFlight(fp=fp, text=event, in_s=in_s, attempts=one.attempts, about=one.about)
