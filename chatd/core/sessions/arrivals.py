"""Sessions that this worker takes over from the one it succeeds.

Owns: preparing for an offered session (its account, memberships, subscriptions), going on with it when its connection
has come, and giving it up when it does not come after all.
Elsewhere: its state and its end in the other worker (core.sessions.departures), its connection (net.handover).
Fails: an offer that cannot be accepted is declined; the session then stays in the other worker.

Nobody notices a session that moves: no login is counted, no plug-in called, nothing recorded.

From the offer on the session is ARRIVING: it is in the index, and its topics are subscribed, so every message and
notice published from then on reaches this worker too. Messages wait in the session's buffer, notices in its
ArrivingPeer. When it arrives, the store is read as for a session that is behind, which gives it each message exactly
once; and of the notices those are told that the other worker had not told before.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from chatd.bus.contract import Bus
from chatd.core.memberships import ByGroup, read_memberships
from chatd.core.sessions.arriving_peer import ArrivingPeer
from chatd.core.sessions.moving import MovedInFlight, MovedSession, OfferedSession, text_of
from chatd.core.sessions.moving_parts import MovingParts
from chatd.core.sessions.session import Cursor, InFlight, Peer, Receipt, Session, SessionState
from chatd.errors import Disconnect, Unavailable
from chatd.model import ConversationId, UserId
from chatd.protocol import Kicked, ServerMessage
from chatd.store.contract import Tables


class _Found(NamedTuple):
    """What the store says of the users of offered sessions. credentials: the versions; a deleted account has none."""

    memberships: dict[UserId, ByGroup]
    credentials: dict[UserId, int]


class Arrivals:
    """The sessions on their way to this worker. For each: expect(), and then either arrive() or drop()."""

    def __init__(self, parts: MovingParts) -> None:
        self._services = parts.services
        self._delivery = parts.delivery
        self._logins = parts.logins
        self._presence = parts.presence
        self._guard = parts.guard

        self.on_broadcasts: Callable[[Session, Sequence[int]], None] = lambda session, numbers: None
        """Called with the broadcasts that a session was told by the other worker. Set by core.core."""

    @property
    def bus(self) -> Bus:
        """By which the predecessor gives locks."""
        return self._services.bus

    # ---------------------------------------------------------------- an offer

    async def expect(self, offers: Sequence[OfferedSession]) -> list[Session | None]:
        """Prepare for these sessions. None: the offer is declined, because the user has logged in here meanwhile, the
        account has changed, or the store does not answer. Each of the others must be given to arrive() or to drop().
        Cost: one read of the store, and one subscription."""
        sessions = [self._begin(offer) for offer in offers]
        try:
            found = await self._services.store.read(
                lambda tables: _find(tables, [one.user.id for one in sessions if one is not None])
            )
        except Unavailable:
            found = _Found({}, {})
        for number, session in enumerate(sessions):
            if session is not None and found.credentials.get(session.user.id) != session.credentials:
                self.drop(session)
                sessions[number] = None
        hub = self._services.hub
        prepared = [one for one in sessions if one is not None]
        await asyncio.gather(*(hub.add(one, found.memberships[one.user.id]) for one in prepared))
        return sessions

    def _begin(self, offer: OfferedSession) -> Session | None:
        peer = ArrivingPeer(offer.peer, offer.protocol)
        session = Session(offer.user, peer, offer.first_login_time, fresh=offer.fresh, by_seq=offer.by_seq)
        session.credentials = offer.credentials
        session.features = offer.features
        session.takes_over = offer.takes_over
        session.since_ms = offer.since_ms
        session.began_at = time.monotonic() - offer.age_s
        session.allowance = self._services.allowances.of(offer.user.id)
        session.buffer = []
        session.enter(SessionState.ARRIVING)
        peer.session = session
        return session if self._logins.locks.expect(session) else None

    def drop(self, session: Session) -> None:
        """It does not come: it stays in the other worker, or is lost with it."""
        session.enter(SessionState.CLOSING)
        self._delivery.detach(session)
        self._services.hub.remove(session)
        self._logins.locks.unexpect(session)
        session.enter(SessionState.CLOSED)

    # ---------------------------------------------------------------- an arrival

    def arrive(self, session: Session, moved: MovedSession, peer: Peer) -> None:
        """The session's connection has come: go on. Whoever has ended the session meanwhile has ended it now."""
        waiting = session.peer
        assert isinstance(waiting, ArrivingPeer)
        session.peer, peer.session = peer, session
        session.enter(SessionState.LIVE)
        self._logins.by_wire[session.protocol] += 1
        session.features = moved.features
        session.credentials = moved.credentials
        self._logins.expiry.watch(session, moved.ends_at_ms)
        self._services.allowances.resume(session.user.id, moved.allowance)
        self._guard.resume(peer, moved.failures)
        entered = self._restore(session, moved)
        self._logins.locks.arrived(session, has_lock=moved.has_lock)
        self._presence.resume(session, moved.watching)
        self._tell(session, waiting, moved)
        self.on_broadcasts(session, moved.broadcasts)
        if waiting.reason is Disconnect.CREDENTIALS_CHANGED:
            self._services.background.start(self._verify(session))
        elif waiting.reason is not None:
            peer.close(waiting.reason)
        if peer.closed and not session.is_over:  # closed before it had its session: its address is banned, say
            self._logins.left(peer)
        if not session.is_over:
            self._delivery.catch_up.resume(session, entered)

    def _restore(self, session: Session, moved: MovedSession) -> set[ConversationId]:
        """What the session was given. Returns the conversations whose cursors its next read must make. A group is left
        out if its membership is another one by now."""
        groups = session.groups or {}
        cursors = session.cursors = dict(session.cursors or {})
        for one in moved.cursors:
            group_id = -one.conversation
            if group_id < 0 or (group_id in groups and groups[group_id] == moved.groups.get(group_id)):
                cursor = cursors[one.conversation] = Cursor(one.pushed)
                cursor.unacked, cursor.tells = dict(one.unacked), one.tells
        session.unacknowledged = sum(len(cursor.unacked) for cursor in cursors.values())
        in_flight = [(one.fp, entry) for one in moved.in_flight if (entry := self._in_flight(one, cursors)) is not None]
        session.in_flight = dict(in_flight) or None
        session.receipts = deque(
            Receipt(one.offset, cursors[one.conversation], one.conversation, one.seq)
            for one in moved.receipts
            if one.conversation in cursors and one.seq in cursors[one.conversation].unacked
        )
        self._delivery.in_flight.resume(session)
        changed = {-group_id for group_id, since in groups.items() if moved.groups.get(group_id) != since}
        return changed | {conversation for conversation in moved.entered if -conversation in groups}

    def _in_flight(self, one: MovedInFlight, cursors: dict[ConversationId, Cursor]) -> InFlight | None:
        """None: the message is of a conversation that is left out."""
        next_at = self._services.loop.time() + one.in_s
        if one.message is None:
            return InFlight(None, one.text, next_at, one.attempts, one.about) if one.text is not None else None
        cursor = cursors.get(one.message.conversation)
        if cursor is None or one.message.seq not in cursor.unacked:
            return None
        event = self._delivery.in_flight.event(self._delivery.recent.latest(one.message), one.group_name, one.fp)
        return InFlight(cursor, event, next_at, one.attempts)

    def _tell(self, session: Session, waiting: ArrivingPeer, moved: MovedSession) -> None:
        """What was told to it here, unless the other worker has told it too."""
        told = Counter(moved.told)
        for event in waiting.events:
            text = text_of(event)
            if told[text]:
                told[text] -= 1
            elif isinstance(event, Kicked) and waiting.reason is Disconnect.CREDENTIALS_CHANGED:
                continue  # _verify() says whether that is true
            elif isinstance(event, ServerMessage) and event.fp:
                self._delivery.in_flight.tell(session, event)
            else:
                session.peer.push(event)

    async def _verify(self, session: Session) -> None:
        """The credentials of the account have changed while the session moved: perhaps by the session itself."""
        user_id = session.user.id
        try:
            found = await self._services.store.read(lambda tables: _find(tables, [user_id]))
        except Unavailable:
            found = _Found({}, {})
        if not session.is_over:
            self._logins.end_outdated(user_id, found.credentials.get(user_id, session.credentials + 1))


def _find(tables: Tables, user_ids: list[UserId]) -> _Found:
    accounts = [account for user_id in user_ids if (account := tables.accounts.find("", user_id)) is not None]
    memberships: dict[UserId, ByGroup] = dict(read_memberships(tables, user_ids))
    return _Found(memberships, {account.user.id: account.credentials for account in accounts})
