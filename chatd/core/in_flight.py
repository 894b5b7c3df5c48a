"""The in-flight window: messages that a session was given and that its client is not yet known to have.

Owns: giving a message to a session, the three ways in which a client acknowledges, resending, and moving the user's
stored cursors.
Elsewhere: which message comes next (core.delivery, core.catch_up), the knowledge of the kernel (net.receipts), the
stored cursors themselves (store).
Fails: never. A message that is not acknowledged stays beyond the stored cursor, and is given again at the user's next
login.

How a client acknowledges:

* by fp: each message with an Acknowledge (WireTraits.acknowledges). Given again until then, while the session lives.
* by seq: a Received says how far it is in a conversation (Session.by_seq). Not given again within the session: its wire
  is a stream, in which a message can only get lost together with the connection.
* not at all: a message counts as acknowledged when its last byte has been received, as far as the peer knows that.

The stored cursor belongs to the user: the session that acknowledges first moves it for all. Live sessions are given
everything nevertheless, but a later session is given only messages after the cursor. So a session may move it only past
messages that its own client has acknowledged.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Callable, Collection

import msgspec

from chatd.config.schema import LimitOptions
from chatd.core.recent_changes import RecentChanges
from chatd.core.services import Services
from chatd.core.sessions.session import Cursor, InFlight, Receipt, Session, SessionState
from chatd.model import ConversationId, Message, MessageState, Seq, UserId
from chatd.protocol import Deliver, ServerMessage

_LIVE = SessionState.LIVE
"""Read per message: an attribute of an enum costs several times a global."""
_MAX_RESEND_S = 60.0
_MAX_DATAGRAMS = 64
"""Maximum messages in flight to a lossy peer. A message that does not fit into the client's socket (usually 200 KiB) is
lost: it would be resent, but after later ones."""
_is_made_here = re.compile(r"-?\d+\.\d+|s[0-9a-f]+\.[0-9a-f]+|(re|cut):.*", re.ASCII | re.DOTALL).fullmatch
"""Whether the server makes fps of this form: those of messages without one, of notices, answers and told cuts."""


def fp_of(message: Message) -> str:
    """The fp that the recipient acknowledges; made by the server if the sender gave none, or one that the server could
    make: a client drops what comes under an fp it has seen, so a message could be hidden by sending its fp before it.
    "" = no acknowledgement is expected."""
    if not message.qos:
        return ""
    fp = message.fp
    if fp and not (("." in fp or ":" in fp) and _is_made_here(fp)):
        return fp
    return f"{message.conversation}.{message.seq}"


class InFlightMessages:
    """given: messages given to clients, total.

    resending: sessions with messages that are resent until they are acknowledged.
    receiving: sessions with missing receipts, including ended ones whose connection is open.
    on_room: called for a session that is behind, when enough of what it was given is acknowledged.
    on_cut: called when the client of a session was given only the beginning of a message. on_reached: called when the
    user's position in a conversation with Cursor.tells has moved. links_of: finds the addresses of a message's files
    for stock clients. All three are set by core.core.
    """

    def __init__(self, services: Services, recent: RecentChanges, on_room: Callable[[Session], None]) -> None:
        self.given = 0
        self.recent = recent
        self._changed, self._read = recent.known, recent.read_changed
        self._store = services.store
        self._config = services.config
        self._loop = services.loop
        self._on_room = on_room
        self._tracing = services.tracing
        self.on_cut: Callable[[Session, Message], None] = _nothing
        self.links_of: Callable[[Message], tuple[str, ...]] = _no_links
        self.on_reached: Callable[[Session, UserId, Seq], None] = _nothing
        self.resending: set[Session] = set()
        self.receiving: set[Session] = set()

    # ---------------------------------------------------------------- the window

    def is_full(self, session: Session) -> bool:
        """The window or the write buffer is full: further messages must wait in the store. A client is not disconnected
        because others send it many messages."""
        limits = self._config().limits
        window = _window(session, limits)
        return session.unacknowledged >= window or session.peer.out_bytes > limits.outbox_bytes // 2

    def has_room(self, session: Session) -> bool:
        """Enough is free to read the store again."""
        limits = self._config().limits
        window = _window(session, limits)
        return session.unacknowledged <= window // 2 and session.peer.out_bytes <= limits.outbox_bytes // 4

    # ---------------------------------------------------------------- out

    def event(self, message: Message, group_name: str = "", fp: str | None = None) -> Deliver:
        """What gives the message to all its recipients. fp: None = the message's."""
        links = self.links_of(message) if message.attachments else ()
        return Deliver(message, fp_of(message) if fp is None else fp, {}, group_name, links=links)

    def give(self, session: Session, cursor: Cursor, event: Deliver, told_at: int = 0) -> None:
        """Send to the client. told_at: it was part of the login answer, which ends at this byte."""
        if session.state is not _LIVE:  # a message given a moment ago filled its write buffer, which ended it
            return
        message = event.message
        if (self._changed or self._read) and (message := self.recent.latest(message)) is not event.message:
            event = self.event(message, event.group_name, event.fp)
        cursor.unacked[message.seq] = 0
        session.unacknowledged += 1
        self.given += 1
        if self._tracing.follows:
            self._tracing.given(session, message)
        if session.explicit and (event.fp or not session.peer.has_receipts):
            in_flight = session.in_flight
            if in_flight is None:
                in_flight = session.in_flight = {}
            if not event.fp or event.fp in in_flight:  # no fp, or another sender used the same
                event = msgspec.structs.replace(event, fp=f"{message.conversation}.{message.seq}")
            in_flight[event.fp] = InFlight(cursor, event, self._loop.time() + self._config().timeouts.resend_s)
            self.resending.add(session)
            cursor.unacked[message.seq] = session.peer.push(event)
            if event.is_cut and session.peer.is_cut(event):
                self.on_cut(session, message)
            return
        offset = told_at or session.peer.push(event)
        if event.is_cut and session.peer.is_cut(event):
            self.on_cut(session, message)
        cursor.unacked[message.seq] = 0 if told_at else offset
        if session.by_seq or session.state is not _LIVE:
            return
        if session.receipts is None:
            session.receipts = deque()
        session.receipts.append(Receipt(offset, cursor, message.conversation, message.seq))
        self.receiving.add(session)

    def tell(self, session: Session, event: ServerMessage, about: tuple[ConversationId, Seq] | None = None) -> None:
        """Send a text of the server. To a client that acknowledges by fp it is sent again until then, while the session
        lives; once very many are unacknowledged, further ones are sent only once. about: the message whose text is in
        it."""
        if session.explicit and session.in_flight is None:
            session.in_flight = {}
        if session.in_flight is not None and len(session.in_flight) < 2 * self._config().limits.in_flight:
            next_at = self._loop.time() + self._config().timeouts.resend_s
            session.in_flight[event.fp] = InFlight(None, event, next_at, about=about)
            self.resending.add(session)
        session.peer.push(event)

    def resend(self) -> None:
        """Once a second: send again what was not acknowledged, each time after twice the wait."""
        now = self._loop.time()
        first_s = self._config().timeouts.resend_s
        for session in tuple(self.resending):
            if not session.in_flight or session.is_over:
                self.resending.discard(session)
                continue
            for one in session.in_flight.values():
                if one.next_at <= now:
                    one.attempts += 1
                    one.next_at = now + min(first_s * 2**one.attempts, _MAX_RESEND_S)
                    end = session.peer.push(one.event)
                    if one.cursor is not None:
                        one.cursor.unacked[one.event.message.seq] = end  # type: ignore[union-attr]
                        if self._tracing.users:
                            self._tracing.given(session, one.event.message, "given again")  # type: ignore[union-attr]

    def changed(self, session: Session, message: Message) -> None:
        """A message has changed: if the session was given it and has not acknowledged it, an earlier version is not
        sent again, and if it is still queued it is replaced. Its fp stays. When its text is gone, no notice with the
        text is sent again either."""
        if message.state > MessageState.EDITED and session.in_flight:
            about = message.conversation, message.seq
            for fp in [fp for fp, one in session.in_flight.items() if one.about == about]:
                del session.in_flight[fp]
        cursor = session.cursors.get(message.conversation) if session.cursors else None
        if cursor is None or message.seq not in cursor.unacked:
            return
        event = self.event(message)
        for one in (session.in_flight or {}).values():
            if one.cursor is cursor and one.event.message.seq == message.seq:  # type: ignore[union-attr]
                event = one.event = self.event(message, one.event.group_name, one.event.fp)  # type: ignore[union-attr]
        moved = session.peer.replace(cursor.unacked[message.seq], event)
        if moved:
            _move(session, moved)

    # ---------------------------------------------------------------- acknowledgements

    def acknowledged(self, session: Session, fp: str) -> None:
        """By fp. An acknowledgement of a packet that the session was not given is ignored."""
        one = session.in_flight.pop(fp, None) if session.in_flight else None
        if one is not None and one.cursor is not None:
            message = one.event.message  # type: ignore[union-attr]  # with a cursor, it is a Deliver
            self._done(session, one.cursor, message.conversation, message.seq)

    def received(self, session: Session, conversation: ConversationId, seq: Seq) -> None:
        """By seq: everything the session was given of this conversation up to `seq`. Ignored from a session that does
        not acknowledge in this way, and for messages that it was not given."""
        cursor = session.cursors.get(conversation) if session.cursors else None
        if cursor is None or not session.by_seq:
            return
        for given in list(itertools.takewhile(seq.__ge__, cursor.unacked)):
            self._done(session, cursor, conversation, given)

    def check_receipts(self, session: Session, *, final: bool = False) -> None:
        """By bytes: ask the peer how many the client has received. final: its connection is over, nothing more will be
        known. Also called for sessions that have ended while their connection has not."""
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

    def sweep_receipts(self) -> None:
        """At every tick: check the receipts of all sessions that miss some."""
        for session in tuple(self.receiving):
            self.check_receipts(session)
            if not session.receipts:
                self.receiving.discard(session)

    def _done(self, session: Session, cursor: Cursor, conversation: ConversationId, seq: Seq) -> None:
        """The client has this message. The stored cursor moves when the oldest in flight is acknowledged."""
        unacked = cursor.unacked
        first = next(iter(unacked))
        del unacked[seq]
        if self._tracing.users:
            self._tracing.acknowledged(session, conversation, seq)
        session.unacknowledged -= 1
        if seq == first:
            reached = next(iter(unacked)) - 1 if unacked else cursor.pushed
            self._store.advance(session.user.id, conversation, reached)
            if cursor.tells:
                self.on_reached(session, cursor.tells, reached)
        if session.behind and session.state is _LIVE and self.has_room(session):
            self._on_room(session)

    # ---------------------------------------------------------------- the end

    def forget(self, session: Session, cursor: Cursor) -> None:
        """Nothing of this conversation is sent again: the user may no longer see it."""
        in_flight = session.in_flight or {}
        for fp in [fp for fp, one in in_flight.items() if one.cursor is cursor]:
            self.acknowledged(session, fp)
        if session.by_seq:
            session.unacknowledged -= len(cursor.unacked)
            cursor.unacked.clear()

    def drop(self, session: Session, cursor: Cursor, up_to: Seq, seqs: Collection[Seq]) -> None:
        """These messages count as acknowledged by a client that acknowledges by fp."""
        in_flight = session.in_flight or {}
        for fp, one in tuple(in_flight.items()):
            if one.cursor is cursor:
                seq = one.event.message.seq  # type: ignore[union-attr]
                if seq <= up_to or seq in seqs:
                    self.acknowledged(session, fp)

    def resume(self, session: Session) -> None:
        """The session has come from another worker, with what it was given there."""
        if session.in_flight:
            self.resending.add(session)
        if session.receipts:
            self.receiving.add(session)
        else:
            session.receipts = None

    def leave(self, session: Session) -> None:
        """The session goes on in another worker, with everything it was given."""
        self.resending.discard(session)
        self.receiving.discard(session)
        session.in_flight = session.receipts = None
        self._store.flush_cursors()

    def detach(self, session: Session) -> None:
        """The session is over. Until the connection ends, further receipts may come; the messages without one are given
        again at the user's next login."""
        self.check_receipts(session)
        if session.receipts:
            session.peer.settle(session)
        else:
            session.receipts = None
            self.receiving.discard(session)
        self.resending.discard(session)
        session.in_flight = None
        self._store.flush_cursors()


def _move(session: Session, moved: list[tuple[int, int]]) -> None:
    """What is queued has been replaced: byte offsets have changed. moved: see Peer.replace()."""

    def now(offset: int) -> int:
        return offset + sum(grown for end, grown in moved if end <= offset)

    for cursor in (session.cursors or {}).values():
        for seq, offset in cursor.unacked.items():
            cursor.unacked[seq] = now(offset)
    for receipt in session.receipts or ():
        receipt.offset = now(receipt.offset)


def _window(session: Session, limits: LimitOptions) -> int:
    return min(limits.in_flight, _MAX_DATAGRAMS) if session.peer.lossy else limits.in_flight


def _nothing(*_: object) -> None:
    pass


def _no_links(message: Message) -> tuple[str, ...]:
    return ()
