"""Catching up: reading from the store the messages that a session misses.

Owns: reading these messages, giving them up to the session's in-flight window, and the sessions for which a read is
due: those that are behind, and after a gap all of them, a slice per tick.
Elsewhere: messages as they are stored (core.delivery), acknowledgements (core.in_flight), queries (store).
Fails: a session stays `behind` and is tried again while the store cannot be read. Nothing is lost.

Everything that interrupts the order of live messages leads here: a login, the first message of a conversation, a
missing message, a full window, a gap in what the bus delivers (P4, P5, P6).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import partial

from chatd.core.in_flight import InFlightMessages
from chatd.core.memberships import ByGroup, Memberships, members_only, read_memberships
from chatd.core.services import Services
from chatd.core.sessions.session import GIVE, SKIP, Cursor, Session
from chatd.errors import Unavailable
from chatd.model import ConversationId, GroupId, Message, Seq, UserId
from chatd.store.contract import NEVER, Tables, Waiting

_RETRY_S = 1.0
"""Pause after a read that failed."""
_GAP_SLICE = 100
"""Minimum sessions for which the store is read per tick after a gap."""
_GAP_TICKS = 60
"""Maximum ticks (3 s) until the store has been read for all sessions after a gap (P5)."""


def mine(message: Message, session: Session) -> bool:
    """Whether the session's user sent it: then it counts in the order, but is not given."""
    return message.sender_id == session.user.id and message.to_id != message.sender_id


class CatchUp:
    """in_flight: set by core.delivery. on_live: called with a session and the live messages that waited for the read,
    when the session has everything that is in the store."""

    in_flight: InFlightMessages

    def __init__(
        self, services: Services, memberships: Memberships, on_live: Callable[[Session, list[Message]], None]
    ) -> None:
        self._hub = services.hub
        self._store = services.store
        self._config = services.config
        self._loop = services.loop
        self._background = services.background
        self._memberships = memberships
        self._on_live = on_live
        self._behind: set[Session] = set()
        """Sessions that are behind and had no room when they were last checked."""
        self._gap: dict[Session, None] = {}
        """Sessions for which a read is due after a gap, in this order."""
        self._gap_slice = _GAP_SLICE
        self._entered: dict[Session, set[ConversationId]] = {}
        """Conversations of groups that a session has entered, whose cursors are to be made by its next read. Made by
        the first live message instead, a cursor would skip what was missed before it and acknowledged by another
        session of the user."""

    # ---------------------------------------------------------------- when to read

    def start(self, session: Session, early: Message | None = None) -> None:
        """Read what the session misses. early: a live message that cannot be given before; then only conversations that
        the session does not know are read."""
        if session.buffer is not None:
            if early is not None:
                self.buffer(session, early)
            else:
                session.behind = True
            return
        session.buffer = [] if early is None else [early]
        session.behind = False
        self._background.start(self._run(session, everything=early is None))

    def enter(self, session: Session, group_ids: Iterable[GroupId]) -> None:
        """The session has entered these groups: read what it misses, and where it begins in each of them."""
        self._note_entered(session, group_ids)
        self.start(session)

    def _note_entered(self, session: Session, group_ids: Iterable[GroupId]) -> None:
        self._entered.setdefault(session, set()).update(-group_id for group_id in group_ids)

    def buffer(self, session: Session, message: Message) -> None:
        """Keep a live message until the read that is under way has ended."""
        assert session.buffer is not None
        if len(session.buffer) < self._config().limits.in_flight:
            session.buffer.append(message)
        else:
            session.behind = True

    def when_room(self, session: Session) -> None:
        """Read when the session's window has room again."""
        session.behind = True
        self._behind.add(session)

    def gap(self) -> None:
        """Any session may have missed something: read for each."""
        self._gap.update(dict.fromkeys(self._hub.sessions()))
        self._gap_slice = max(_GAP_SLICE, len(self._gap) // _GAP_TICKS)

    def work_off_gap(self) -> None:
        """At every tick: read for the next sessions after a gap."""
        for session in tuple(itertools.islice(self._gap, self._gap_slice)):
            del self._gap[session]
            if not session.is_over:
                self.start(session)

    def work_off_behind(self) -> None:
        """At every tick: go on with sessions whose write buffer was full."""
        for session in tuple(self._behind):
            if session.is_over or not session.behind:
                self._behind.discard(session)
            elif self.in_flight.has_room(session):
                self.start(session)

    def entered_by(self, session: Session) -> tuple[ConversationId, ...]:
        """Conversations of groups that the session has entered, whose cursors its next read must make."""
        return tuple(self._entered.get(session, ()))

    def resume(self, session: Session, entered: set[ConversationId]) -> None:
        """The session has come from another worker: read what it misses, before the live messages in its buffer.
        entered: see entered_by()."""
        if entered:
            self._entered.setdefault(session, set()).update(entered)
        session.buffer = session.buffer or []
        session.behind = False
        self._background.start(self._run(session, everything=True))

    def detach(self, session: Session) -> None:
        """The session is over."""
        self._behind.discard(session)
        self._entered.pop(session, None)
        session.buffer = None

    # ---------------------------------------------------------------- reading

    async def _run(self, session: Session, *, everything: bool) -> None:
        before = dict(session.groups or {})
        try:
            waiting, memberships = await self._read(session, everything)
        except Unavailable:
            session.buffer = None
            session.behind = True
            self._loop.call_later(_RETRY_S, self._retry, session)
            return
        if memberships is not None:
            if entered := self._memberships.take(session, before, memberships):
                await self._hub.subscribe(entered)
                self._note_entered(session, entered)
                session.behind = True
            waiting = members_only(waiting, session, before, memberships)
        if not session.is_over:
            self.merge(session, waiting)
            self._forget_entered(session)

    def _forget_entered(self, session: Session) -> None:
        """Forget the conversations that have their cursor now, and those of groups that the session has left."""
        entered = self._entered.pop(session, set()) - (session.cursors or {}).keys()
        if still := entered & {-group_id for group_id in session.groups or ()}:
            self._entered[session] = still

    async def _read(self, session: Session, everything: bool) -> tuple[Waiting, ByGroup | None]:
        """everything: also what another session of the user has acknowledged and this one was not given.

        The page grows until it holds something new: messages in flight are read again each time."""
        cursors = session.cursors or {}
        wanted = {message.conversation for message in session.buffer or ()} | self._entered.get(session, set())
        unknown = wanted - cursors.keys()
        given = {conversation: cursor.pushed for conversation, cursor in cursors.items()} if everything else {}
        limit = self._config().limits.in_flight + session.unacknowledged
        while True:
            found = await self._store.read(
                partial(_missing, user_id=session.user.id, limit=limit, unknown=unknown, given=given)
            )
            waiting = found[0]
            if not waiting.more or _is_new(session, waiting.messages[-1]):
                return found
            limit *= 2

    def _retry(self, session: Session) -> None:
        if session.behind and not session.is_over:
            self.start(session)

    # ---------------------------------------------------------------- giving

    def merge(self, session: Session, waiting: Waiting, told: int = 0, told_at: int = 0) -> None:
        """Give the messages read, then those that came live meanwhile. The first `told` messages were part of the login
        answer, which ends at byte told_at. Does nothing for a session that is over: sending the login answer, or
        another message, may have ended it, and what it was not given must not count as delivered."""
        if session.is_over:
            return
        cursors = session.cursors
        if cursors is None:
            if not waiting.messages and not waiting.delivered:
                self._go_on(session)
                return
            cursors = session.cursors = {}
        session.behind = session.behind or waiting.more
        touched = self._give_all(session, cursors, waiting, told, told_at)
        for conversation, delivered in waiting.delivered.items():
            if conversation not in cursors:
                cursors[conversation] = Cursor(delivered)
        for conversation, cursor in touched.items():
            if not cursor.unacked:  # only the user's own messages: nobody acknowledges them
                self._store.advance(session.user.id, conversation, cursor.pushed)
        if not session.is_over:
            self._go_on(session)

    def _give_all(
        self,
        session: Session,
        cursors: dict[ConversationId, Cursor],
        waiting: Waiting,
        told: int,
        told_at: int,
    ) -> dict[ConversationId, Cursor]:
        """Until the window is full, or the session is over. Returns the cursors that moved.

        Numbers that are missing in a conversation that was read completely are not in the store any more (deleted by
        retention): the session goes on after them."""
        touched: dict[ConversationId, Cursor] = {}
        for message in waiting.messages:
            if session.is_over:  # it was disconnected for what it was given a moment ago
                break
            self.in_flight.recent.read(message)
            cursor = cursors.get(message.conversation)
            if cursor is None:
                cursor = cursors[message.conversation] = Cursor(message.seq - 1)
            step = cursor.accept(message.seq, may_hold=0)
            if step is SKIP:
                if message.version:  # while the bus was down, this worker may not have learned of the change
                    self.in_flight.changed(session, self.in_flight.recent.latest(message))
                continue
            if step is not GIVE and cursor.pushed < waiting.complete_after.get(message.conversation, NEVER):
                session.behind = True  # another session of the user has acknowledged what is between: read that too
                continue
            is_own = mine(message, session) or (message.conversation, message.seq) in waiting.deleted
            if not is_own and told <= 0 and self.in_flight.is_full(session):
                session.behind = True
                break
            cursor.pushed = message.seq
            touched[message.conversation] = cursor
            if not is_own:
                name = self._memberships.names.of(message.group_id) if message.group_id else ""
                event = self.in_flight.event(message, name)
                cursor.tells = 0 if message.group_id else message.sender_id  # whether that user wants to know, or not
                self.in_flight.give(session, cursor, event, told_at if told > 0 else 0)
                told -= 1
        return touched

    def _go_on(self, session: Session) -> None:
        """Live again, unless more is in the store."""
        buffered, session.buffer = session.buffer or [], None
        if not session.behind:
            self._on_live(session, buffered)
        elif self.in_flight.has_room(session):
            self.start(session)
        else:
            self._behind.add(session)


def _is_new(session: Session, message: Message) -> bool:
    cursor = (session.cursors or {}).get(message.conversation)
    return cursor is None or cursor.accept(message.seq, may_hold=0) is not SKIP


def _missing(
    tables: Tables, user_id: UserId, limit: int, unknown: Iterable[ConversationId], given: dict[ConversationId, Seq]
) -> tuple[Waiting, ByGroup | None]:
    """The messages beyond what a session was given. Another session of the user may have moved the cursors further: the
    messages in between (a page of each conversation) come first. Also the user's memberships, read after the messages,
    if any of them is a group's."""
    waiting = tables.history.waiting(user_id, limit, (*unknown, *given))
    passed: list[Message] = []
    cut: set[ConversationId] = set()
    for conversation, pushed in given.items():
        behind = waiting.delivered[conversation] - pushed
        if behind > 0:
            room = min(limit, behind)
            page = tables.history.messages(user_id, conversation, pushed, 0, room)
            passed += page
            if len(page) == room < behind:
                cut.add(conversation)
    following = [message for message in waiting.messages if message.conversation not in cut]
    messages = [*passed, *following]
    deleted = tables.revisions.deleted(user_id, messages)
    waiting = Waiting(messages, waiting.more or bool(cut), waiting.delivered, given, deleted)
    if all(message.conversation > 0 for message in waiting.messages) and all(key > 0 for key in waiting.delivered):
        return waiting, None
    return waiting, read_memberships(tables, [user_id])[user_id]
