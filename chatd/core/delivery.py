"""Live delivery: from a message that was just stored to the sessions of its recipients.

Owns: passing a message from its commit to the sessions of this worker, and to the bus for those of other workers; the
order within each conversation.
Elsewhere: messages that a session misses (core.catch_up), acknowledgements (core.in_flight), permission to write to a
user or group (core.messages, store), bytes (wire, net).
Fails: never. A message that cannot be given now is in the store, and the session catches up.

Every session is given each conversation in order and without gaps: a Cursor knows how far it has come, and decides what
happens to the next message.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial

from chatd.bus.contract import topic_of_group, topic_of_user
from chatd.core import bus_messages
from chatd.core.bus_messages import MessageStored
from chatd.core.catch_up import CatchUp, mine
from chatd.core.in_flight import InFlightMessages
from chatd.core.memberships import Memberships
from chatd.core.recent_changes import RecentChanges
from chatd.core.services import Services
from chatd.core.sessions.session import GIVE, HOLD, SKIP, Cursor, Session, SessionState
from chatd.model import ConversationId, GroupId, Message, Seq
from chatd.protocol import Deliver

_HOLD_S = 0.1
"""How long a message waits for an earlier one, from another worker, before the store is asked."""
_MAX_HELD = 512
"""Maximum messages of one conversation that wait in this way; with more, the store is asked at once."""
_MAX_CURSORS = 10_000
"""Maximum cursors of one session. Beyond it, idle ones are dropped; the next message of such a conversation reads its
cursor again."""


class Delivery:
    """catch_up, in_flight, recent: the other parts of delivery, public for callers that need only one of them."""

    def __init__(self, services: Services, memberships: Memberships) -> None:
        self.recent = RecentChanges(services.loop.time)
        self.catch_up = CatchUp(services, memberships, self._go_live)
        self.in_flight = self.catch_up.in_flight = InFlightMessages(services, self.recent, self.catch_up.start)
        self._hub = services.hub
        self._bus = services.bus
        self._loop = services.loop
        self._memberships = memberships
        self._tracing = services.tracing
        memberships.set_listener(self)

    # ---------------------------------------------------------------- messages come in

    def stored(self, message: Message, members_version: int, *, tells: bool = False) -> None:
        """This worker has stored the message, or found it stored already: then the first notification may have been
        lost. tells: the sender wants to know when it is delivered."""
        self.arrived(message, members_version, tells=tells)
        topic = topic_of_group(message.group_id) if message.group_id else topic_of_user(message.to_id)
        if self._bus.has_subscribers(topic):
            self._bus.publish(topic, bus_messages.encode(MessageStored(message, members_version, tells)))
            if self._tracing.users:
                self._tracing.published(message)

    def arrived(self, message: Message, members_version: int, *, tells: bool = False) -> None:
        """Give the message to the sessions of this worker. members_version: the group's when the message was stored, 0
        if that is not known. tells: see stored(). Cost: one step per session."""
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
        event = self.in_flight.event(message)
        for session in self._hub.of_user(message.to_id):
            self._offer(session, message, event)
        if message.sender_id != message.to_id:
            for session in self._hub.of_user(message.sender_id):
                self._offer(session, message, event)
        if tells and message.sender_id != message.to_id:
            for session in self._hub.of_user(message.to_id):
                cursor = session.cursors.get(message.conversation) if session.cursors else None
                if cursor is not None:
                    cursor.tells = message.sender_id

    def _to_members(self, message: Message, members_version: int) -> None:
        event = self.in_flight.event(message, self._memberships.names.of(message.group_id))
        sessions = tuple(self._hub.of_group(message.group_id))
        if message.seq == 1:  # its members at that time need not ask the store
            for session in sessions:
                if (session.groups or {})[message.group_id] <= members_version:
                    _trim(session)
                    session.cursors = session.cursors or {}
                    session.cursors.setdefault(message.conversation, Cursor(0))
        for session in sessions:
            self._offer(session, message, event)

    # ---------------------------------------------------------------- in order

    def _offer(self, session: Session, message: Message, event: Deliver) -> None:
        if session.buffer is not None:
            self.catch_up.buffer(session, message)
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
                    self.catch_up.start(session, message)
                return
            _trim(session)
            cursor = cursors[message.conversation] = Cursor(0)
        step = cursor.accept(message.seq, _MAX_HELD)
        if step is GIVE:
            self._accept(session, cursor, event)
        elif step is HOLD:
            self._hold(session, cursor, message)
        elif step is not SKIP:
            self.catch_up.start(session)

    def _accept(self, session: Session, cursor: Cursor, event: Deliver) -> None:
        """The message is the next one: give it, unless the user sent it or the window is full."""
        message = event.message
        if message.sender_id == session.user.id and mine(message, session):
            cursor.pushed = message.seq
        elif self.in_flight.is_full(session):
            self.catch_up.when_room(session)
            if self._tracing.users:
                self._tracing.waits(session, message, "in_flight_window_full")
            return
        else:
            cursor.pushed = message.seq
            self.in_flight.give(session, cursor, event)
        if cursor.held:
            self._release(session, cursor)

    def _hold(self, session: Session, cursor: Cursor, message: Message) -> None:
        """Hold the message for a moment, until the earlier ones come."""
        if cursor.held is None:
            cursor.held = {}
            self._loop.call_later(_HOLD_S, self._held_long_enough, session, cursor)
        cursor.held[message.seq] = message

    def _held_long_enough(self, session: Session, cursor: Cursor) -> None:
        if cursor.held and not session.is_over:
            self.catch_up.start(session)

    def _release(self, session: Session, cursor: Cursor) -> None:
        held, cursor.held = cursor.held or {}, None
        for seq in sorted(held):
            self._offer_late(session, held[seq])

    def _go_live(self, session: Session, buffered: list[Message]) -> None:
        """The session has caught up: give the messages that were held back, and those that came live during the
        read."""
        for cursor in tuple((session.cursors or {}).values()):
            if cursor.held:
                self._release(session, cursor)
        for message in buffered:
            self._offer_late(session, message)

    def _offer_late(self, session: Session, message: Message) -> None:
        """The message has waited here: meanwhile the user may have left the group."""
        if not message.group_id or message.group_id in (session.groups or ()):
            name = self._memberships.names.of(message.group_id) if message.group_id else ""
            self._offer(session, message, self.in_flight.event(message, name))

    def is_ahead(self, session: Session, message: Message) -> bool:
        """Whether the session has not come as far as this message, and will be given it. False for one that arrives
        from another worker: it may have been given it there."""
        if session.state is SessionState.ARRIVING:
            return False
        cursor = session.cursors.get(message.conversation) if session.cursors else None
        if cursor is not None:
            return cursor.pushed < message.seq
        return session.buffer is not None or session.behind

    def deleted(self, session: Session, conversation: ConversationId, up_to: Seq, seqs: Collection[Seq]) -> None:
        """The user has deleted these messages from their own history: they are not sent again."""
        cursor = session.cursors.get(conversation) if session.cursors else None
        if cursor is not None:
            self.in_flight.drop(session, cursor, up_to, seqs)

    # ---------------------------------------------------------------- groups, and the end

    def groups_entered(self, session: Session, group_ids: Iterable[GroupId]) -> None:
        """Read the messages stored before this worker received those of the groups. See
        core.memberships.MembershipListener."""
        self.catch_up.enter(session, group_ids)

    def group_left(self, session: Session, group_id: GroupId) -> None:
        """Nothing of the group is given any more, not even again. See core.memberships.MembershipListener."""
        conversation = -group_id
        if session.buffer:
            session.buffer = [message for message in session.buffer if message.conversation != conversation]
        cursor = session.cursors.pop(conversation, None) if session.cursors else None
        if cursor is not None:
            self.in_flight.forget(session, cursor)

    def leave(self, session: Session) -> None:
        """The session goes on in another worker, with everything it was given: nothing of it is kept here."""
        self.in_flight.leave(session)
        self.catch_up.detach(session)
        session.cursors = None

    def detach(self, session: Session) -> None:
        """The session is over: nothing more is given."""
        self.in_flight.detach(session)
        self.catch_up.detach(session)
        session.cursors = None


def _trim(session: Session) -> None:
    cursors = session.cursors
    if cursors is not None and len(cursors) >= _MAX_CURSORS:
        for conversation in [key for key, cursor in cursors.items() if not cursor.unacked and not cursor.held]:
            del cursors[conversation]
