"""Bring a stored message to its recipients.

Owns: the way from "stored" to "acknowledged": live sessions here, the bus to elsewhere, what waits in the
store, resending, cursors. Not here: who may write to whom (store.append, core.messages); bytes (wire).
Fails: when the store cannot be read a session stays `behind` and is tried again; nothing is lost.

Every session is given each conversation in order and without holes: a Cursor knows how far. Whatever
disturbs that (first message of a conversation, a gap, a full window, a lost doorbell, a login) ends in
the same place: catch_up(), which reads from the store what the session misses (P4, P5, P6).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from functools import partial

from chatd.bus.contract import topic_of_group, topic_of_user
from chatd.config.schema import LimitOptions
from chatd.core import bus_messages
from chatd.core.memberships import ByGroup, Memberships, members_only, read_memberships
from chatd.core.services import Services
from chatd.core.sessions.session import Cursor, InFlight, Receipt, Session, SessionState
from chatd.errors import Unavailable
from chatd.model import ConversationId, GroupId, Message, Seq, UserId
from chatd.protocol import Deliver, ServerMessage
from chatd.store.contract import Tables, Waiting

_LIVE = SessionState.LIVE
"""Read per message: an attribute of an enum costs several times a global."""
_HOLD_S = 0.1
"""An early message waits this long for the one before it (another worker's) until the store is asked."""
_RETRY_S = 1.0
_LONGEST_RESEND_S = 60.0
_DATAGRAMS = 64
"""So many unacknowledged at most where what does not fit into the client's socket (200 KiB, as usual) is lost: it would
come again, but after what was sent later."""
_CURSORS = 10_000
_GAP_SLICE, _GAP_TICKS = 100, 60
"""After a gap so many sessions are read per tick at least, and all of them within so many ticks, 3 s (P5)."""


def mine(message: Message, session: Session) -> bool:
    """The session's own message: closes the numbering, is not given."""
    return message.sender_id == session.user.id and message.to_id != message.sender_id


def fp_of(message: Message) -> str:
    """What the recipient acknowledges; made by the server where the sender gave none."""
    if not message.qos:
        return ""
    return message.fp or f"{message.conversation}.{message.seq}"


class Delivery:
    def __init__(self, services: Services, memberships: Memberships) -> None:
        self._hub = services.hub
        self._bus = services.bus
        self._store = services.store
        self._config = services.config
        self._loop = services.loop
        self._background = services.background
        self._memberships = memberships
        memberships.set_listener(self)
        self._resending: set[Session] = set()
        self._receiving: set[Session] = set()
        self._behind: set[Session] = set()
        self._gap: dict[Session, None] = {}
        self._gap_slice = _GAP_SLICE
        self.given = 0
        """Messages given to clients, total."""

    # ---------------------------------------------------------------- messages come in

    def stored(self, message: Message, members_version: int) -> None:
        """A message this worker has stored (or met again: the doorbell may have been lost the first time)."""
        self.arrived(message, members_version)
        topic = topic_of_group(message.group_id) if message.group_id else topic_of_user(message.to_id)
        if self._bus.has_subscribers(topic):
            self._bus.publish(topic, bus_messages.encode(bus_messages.MessageStored(message, members_version)))

    def arrived(self, message: Message, members_version: int) -> None:
        """For the sessions of this worker. members_version: the group's when the message was stored, 0 if that is not
        known. Cost: one step per session."""
        if message.group_id:
            group = self._hub.group(message.group_id)
            if group is None:
                return
            if group.waiting is None and 0 < members_version <= group.known_version:
                self._to_members(message, members_version)
            else:
                act = partial(self._to_members, message, members_version)
                self._memberships.wait(message.group_id, group, members_version, act)
            return
        event = Deliver(message, fp_of(message), {})
        for session in self._hub.of_user(message.to_id):
            self._offer(session, message, event)
        if message.sender_id != message.to_id:
            for session in self._hub.of_user(message.sender_id):
                self._offer(session, message, event)

    def _to_members(self, message: Message, members_version: int) -> None:
        event, sessions = Deliver(message, fp_of(message), {}), tuple(self._hub.of_group(message.group_id))
        if message.seq == 1:  # who was a member when the group's first message was stored need not ask the store
            for session in sessions:
                if (session.groups or {})[message.group_id] <= members_version:
                    self._trim(session)
                    session.cursors = session.cursors or {}
                    session.cursors.setdefault(message.conversation, Cursor(0))
        for session in sessions:
            self._offer(session, message, event)

    def _offer(self, session: Session, message: Message, event: Deliver) -> None:
        if session.buffer is not None:
            self._buffer(session, message)
            return
        if session.behind:
            return
        cursors = session.cursors
        if cursors is None:
            cursors = session.cursors = {}
        cursor = cursors.get(message.conversation)
        if cursor is None:
            if message.seq > 1 or message.group_id:  # a group: its user may have joined after this was stored
                if not mine(message, session):
                    self.catch_up(session, message)
                return
            self._trim(session)
            cursor = cursors[message.conversation] = Cursor(0)
        ahead = message.seq - cursor.pushed
        if ahead == 1:
            if message.sender_id == session.user.id and mine(message, session):
                cursor.pushed = message.seq
            elif self._is_full(session):
                session.behind = True
                self._behind.add(session)
                return
            else:
                cursor.pushed = message.seq
                self._give(session, cursor, event)
            if cursor.held:
                self._release(session, cursor)
        elif ahead > 1:
            self._hold(session, cursor, message)

    def _buffer(self, session: Session, message: Message) -> None:
        assert session.buffer is not None
        if len(session.buffer) < self._config().limits.in_flight:
            session.buffer.append(message)
        else:
            session.behind = True

    def _hold(self, session: Session, cursor: Cursor, message: Message) -> None:
        if cursor.held is None:
            cursor.held = {}
            self._loop.call_later(_HOLD_S, self._fill, session, cursor)
        cursor.held[message.seq] = message
        if len(cursor.held) > self._config().limits.in_flight:
            self.catch_up(session)

    def _fill(self, session: Session, cursor: Cursor) -> None:
        if cursor.held and not session.is_over:
            self.catch_up(session)

    def _release(self, session: Session, cursor: Cursor) -> None:
        held, cursor.held = cursor.held or {}, None
        for seq in sorted(held):
            self._offer_late(session, held[seq])

    def _offer_late(self, session: Session, message: Message) -> None:
        """What waited here: meanwhile the user may have left the group."""
        if not message.group_id or message.group_id in (session.groups or ()):
            self._offer(session, message, Deliver(message, fp_of(message), {}))

    def group_left(self, session: Session, group_id: GroupId) -> None:
        """Nothing of the group is given any more, not even again. Kept by core.memberships.MembershipListener."""
        conversation = -group_id
        if session.buffer:
            session.buffer = [message for message in session.buffer if message.conversation != conversation]
        cursor = session.cursors.pop(conversation, None) if session.cursors else None
        if cursor is None:
            return
        for fp in [
            fp for fp, in_flight_message in (session.in_flight or {}).items() if in_flight_message.cursor is cursor
        ]:
            self.acknowledged(session, fp)

    def _is_full(self, session: Session) -> bool:
        """Its window or its outbox: what comes now waits in the store. A peer is not cut for what others send it."""
        limits = self._config().limits
        window = _window(session, limits)
        return session.unacknowledged >= window or session.peer.out_bytes > limits.outbox_bytes // 2

    def _has_room(self, session: Session) -> bool:
        limits = self._config().limits
        window = _window(session, limits)
        return session.unacknowledged <= window // 2 and session.peer.out_bytes <= limits.outbox_bytes // 4

    # ---------------------------------------------------------------- messages go out

    def _give(self, session: Session, cursor: Cursor, event: Deliver, told_at: int = 0) -> None:
        """Hand over; told_at: it went out with the login answer, at that byte."""
        if session.state is not _LIVE:  # cut a moment ago, for what it was given before this
            return
        message = event.message
        cursor.unacked[message.seq] = None
        session.unacknowledged += 1
        self.given += 1
        if session.explicit and (event.fp or session.peer.lossy):
            in_flight = session.in_flight
            if in_flight is None:
                in_flight = session.in_flight = {}
            if not event.fp or event.fp in in_flight:  # nobody asked; or another sender's with the same fp is in flight
                event = Deliver(message, f"{message.conversation}.{message.seq}", event.frames)
            in_flight[event.fp] = InFlight(cursor, event, self._loop.time() + self._config().timeouts.resend_s)
            self._resending.add(session)
            session.peer.push(event)
            return
        offset = told_at or session.peer.push(event)
        if session.state is not _LIVE:
            return
        if session.receipts is None:
            session.receipts = deque()
        session.receipts.append(Receipt(offset, cursor, message.conversation, message.seq))
        self._receiving.add(session)

    def acknowledged(self, session: Session, fp: str) -> None:
        """The recipient's own acknowledgement; one for a packet it was not given is ignored."""
        in_flight_message = session.in_flight.pop(fp, None) if session.in_flight else None
        if in_flight_message is not None and in_flight_message.cursor is not None:
            message = in_flight_message.event.message  # type: ignore[union-attr]  # with a cursor, it is a Deliver
            self._done(session, in_flight_message.cursor, message.conversation, message.seq)

    def tell(self, session: Session, event: ServerMessage) -> None:
        """A text of the server, given again until acknowledged while the session lives. To a client that
        acknowledges none of very many it is given once."""
        if session.in_flight is None:
            session.in_flight = {}
        if len(session.in_flight) < 2 * self._config().limits.in_flight:
            session.in_flight[event.fp] = InFlight(None, event, self._loop.time() + self._config().timeouts.resend_s)
            self._resending.add(session)
        session.peer.push(event)

    def check_receipts(self, session: Session, *, final: bool = False) -> None:
        """Take as delivered what the peer is known to have received. final: its connection is over, the rest is
        given again at the user's next login. Also of sessions that have ended on a connection that has not."""
        waiting = session.receipts
        if waiting:
            received = session.peer.received()
            while waiting and waiting[0].offset <= received:
                receipt = waiting.popleft()
                self._done(session, receipt.cursor, receipt.conversation, receipt.seq)
            if session.is_over:
                self._store.flush_cursors()
        if final:
            session.receipts = None

    def _done(self, session: Session, cursor: Cursor, conversation: ConversationId, seq: int) -> None:
        unacked = cursor.unacked
        first = next(iter(unacked))
        del unacked[seq]
        session.unacknowledged -= 1
        if seq == first:
            reached = next(iter(unacked)) - 1 if unacked else cursor.pushed
            self._store.advance(session.user.id, conversation, reached)
        if session.behind and session.state is _LIVE and self._has_room(session):
            self.catch_up(session)

    def sweep_receipts(self) -> None:
        """Some ten times a second."""
        for session in tuple(self._receiving):
            self.check_receipts(session)
            if not session.receipts:
                self._receiving.discard(session)

    def resend(self) -> None:
        """Once a second: give again what was not acknowledged, each time after twice the wait."""
        now = self._loop.time()
        first_s = self._config().timeouts.resend_s
        for session in tuple(self._resending):
            if not session.in_flight or session.is_over:
                self._resending.discard(session)
                continue
            for in_flight_message in session.in_flight.values():
                if in_flight_message.next_at <= now:
                    in_flight_message.attempts += 1
                    in_flight_message.next_at = now + min(first_s * 2**in_flight_message.attempts, _LONGEST_RESEND_S)
                    session.peer.push(in_flight_message.event)

    # ---------------------------------------------------------------- what waits in the store

    def gap(self) -> None:
        """Something may have been missed by any session: each reads the store, a slice per tick."""
        self._gap.update(dict.fromkeys(self._hub.sessions()))
        self._gap_slice = max(_GAP_SLICE, len(self._gap) // _GAP_TICKS)

    def work_off_gap(self) -> None:
        for session in tuple(itertools.islice(self._gap, self._gap_slice)):
            del self._gap[session]
            if not session.is_over:
                self.catch_up(session)

    def work_off_behind(self) -> None:
        """Some ten times a second: go on with whose outbox was full."""
        for session in tuple(self._behind):
            if session.is_over or not session.behind:
                self._behind.discard(session)
            elif self._has_room(session):
                self.catch_up(session)

    def catch_up(self, session: Session, early: Message | None = None) -> None:
        """Read from the store what the session misses and give it, up to its window."""
        if session.buffer is not None:
            if early is not None:
                self._buffer(session, early)
            else:
                session.behind = True
            return
        session.buffer = [] if early is None else [early]
        session.behind = False
        self._background.start(self._catch_up(session, early is None))

    async def _catch_up(self, session: Session, whole: bool) -> None:
        """whole: also what another session of the user has acknowledged and this one was not given."""
        cursors, user_id = session.cursors or {}, session.user.id
        unknown = {message.conversation for message in session.buffer or () if message.conversation not in cursors}
        given = {conversation: cursor.pushed for conversation, cursor in cursors.items()} if whole else {}
        limit = self._config().limits.in_flight + session.unacknowledged
        before = dict(session.groups or {})
        try:
            while True:
                waiting, memberships = await self._store.read(
                    partial(_missing, user_id=user_id, limit=limit, unknown=unknown, given=given)
                )
                if not waiting.more or self._is_new(session, waiting.messages[-1]):
                    break
                limit *= 2
        except Unavailable:
            session.buffer = None
            session.behind = True
            self._loop.call_later(_RETRY_S, self._again, session)
            return
        if memberships is not None:
            if entered := self._memberships.take(session, before, memberships):
                await self._hub.subscribe(entered)
                session.behind = True
            waiting = members_only(waiting, session, before, memberships)
        if not session.is_over:
            self.merge(session, waiting)

    def _again(self, session: Session) -> None:
        if session.behind and not session.is_over:
            self.catch_up(session)

    def _is_new(self, session: Session, message: Message) -> bool:
        cursor = (session.cursors or {}).get(message.conversation)
        return cursor is None or message.seq > cursor.pushed

    def merge(self, session: Session, waiting: Waiting, told: int = 0, told_at: int = 0) -> None:
        """Give what was read, then what came live meanwhile. The first `told` went out with the login
        answer, which ends at byte told_at."""
        cursors = session.cursors
        if cursors is None:
            if not waiting.messages and not waiting.delivered:
                self._resume(session)
                return
            cursors = session.cursors = {}
        touched: dict[ConversationId, Cursor] = {}
        session.behind = session.behind or waiting.more
        for message in waiting.messages:
            cursor = cursors.get(message.conversation)
            if cursor is None:
                cursor = cursors[message.conversation] = Cursor(message.seq - 1)
            if message.seq <= cursor.pushed:
                continue
            if message.seq > cursor.pushed + 1:  # another session of the user has acknowledged what is between
                session.behind = True
                continue
            if mine(message, session):
                cursor.pushed = message.seq
            elif told <= 0 and self._is_full(session):
                session.behind = True
                break
            else:
                cursor.pushed = message.seq
                self._give(session, cursor, Deliver(message, fp_of(message), {}), told_at if told > 0 else 0)
                told -= 1
            touched[message.conversation] = cursor
        for conversation, delivered in waiting.delivered.items():
            if conversation not in cursors:
                cursors[conversation] = Cursor(delivered)
        for conversation, cursor in touched.items():
            if not cursor.unacked:
                self._store.advance(session.user.id, conversation, cursor.pushed)
        self._resume(session)

    def _resume(self, session: Session) -> None:
        """Live again, unless more waits in the store and there is room for it."""
        buffered, session.buffer = session.buffer or [], None
        if session.behind:
            if self._has_room(session):
                self.catch_up(session)
            else:
                self._behind.add(session)
            return
        for cursor in tuple((session.cursors or {}).values()):
            if cursor.held:
                self._release(session, cursor)
        for message in buffered:
            self._offer_late(session, message)

    def _trim(self, session: Session) -> None:
        """Forget conversations at rest; the next message of one reads its cursor again."""
        cursors = session.cursors
        if cursors is not None and len(cursors) >= _CURSORS:
            for conversation in [key for key, cursor in cursors.items() if not cursor.unacked and not cursor.held]:
                del cursors[conversation]

    # ---------------------------------------------------------------- the end of a session

    def detach(self, session: Session) -> None:
        """Nothing more is given. What is not known to be received now may still become known until the connection
        ends; the rest is given again at the user's next login."""
        self.check_receipts(session)
        if session.receipts:
            session.peer.settle(session)
        else:
            session.receipts = None
            self._receiving.discard(session)
        self._resending.discard(session)
        self._behind.discard(session)
        session.cursors = session.in_flight = session.buffer = None
        self._store.flush_cursors()


def _window(session: Session, limits: LimitOptions) -> int:
    return min(limits.in_flight, _DATAGRAMS) if session.peer.lossy else limits.in_flight


def _missing(
    tables: Tables, user_id: UserId, limit: int, unknown: Iterable[ConversationId], given: dict[ConversationId, Seq]
) -> tuple[Waiting, ByGroup | None]:
    """What waits for a session that was given so much already. Another session of the user may have moved the cursors
    further: what lies between (a page of each conversation) comes first. And the user's memberships, read after the
    messages, if there are any of a group."""
    waiting = tables.history.waiting(user_id, limit, (*unknown, *given))
    passed: list[Message] = []
    more = waiting.more
    for conversation, pushed in given.items():
        behind = waiting.delivered[conversation] - pushed
        if behind > 0:
            passed += tables.history.messages(conversation, pushed, 0, min(limit, behind))
            more = more or behind > limit
    waiting = Waiting([*passed, *waiting.messages], more, waiting.delivered)
    if all(message.conversation > 0 for message in waiting.messages) and all(key > 0 for key in waiting.delivered):
        return waiting, None
    return waiting, read_memberships(tables, [user_id])[user_id]
