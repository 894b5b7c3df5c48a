"""Messages that change after they were sent: edited, recalled, removed; and telling those who can read them.

Owns: these changes, about which plug-ins are asked first; passing a change on to every worker, and to the sessions of
this one; waiting until no worker gives a recalled text any more.
Elsewhere: the rules, which the store checks inside the transaction (store.revision_contract); the arguments of requests
(core.requests.changes); what is given to clients (core.in_flight, core.recent_changes).
Fails: Refused, Unavailable; then nothing was changed and nobody was told. While the bus is down, sessions on other
workers are not told; their clients learn of the change from `sync`, and messages are read from the store as they are.
The same holds for members of a group while the store cannot say who they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from chatd import wall_clock
from chatd.bus.contract import EVERYBODY, Topic, topic_of_answer, topic_of_group, topic_of_user
from chatd.bus.survey import Question
from chatd.config.schema import Config
from chatd.core import bus_messages, consent
from chatd.core.bus_messages import ChangeApplied, MessageChanged
from chatd.core.change import Change
from chatd.core.delivery import Delivery
from chatd.core.memberships import Memberships
from chatd.core.requests.notices import Notices, changed_notice
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.model import SYSTEM, ConversationId, MessageState, Seq, User, UserId
from chatd.protocol import Changed
from chatd.store.contract import Purpose, Revised, Tables

APPLIED_S = 1.0
"""How long the acknowledgement of a recall waits for the other workers. One that hangs is not waited for longer."""
_AGAIN_S = 0.25
"""Asked again after this, for a worker that subscribed a moment ago and missed the question."""

_FOR_EVER_MS = 1 << 60

FindConversation = Callable[[Tables], ConversationId]
"""Finds the conversation in the transaction; raises Refused."""


class Which(NamedTuple):
    """A message, as a request names it."""

    find: FindConversation
    seq: Seq


class Changes:
    def __init__(self, services: Services, delivery: Delivery, memberships: Memberships, notices: Notices) -> None:
        self._services = services
        self._delivery = delivery
        self._memberships = memberships
        self._notices = notices
        self._recent = delivery.recent

    # ---------------------------------------------------------------- changes of the store

    def editing(self, session: Session, which: Which, text: str) -> Change[Revised]:
        """text: has been checked, and plug-ins were asked."""
        user, config = session.user, self._services.config()
        within_ms = _within_ms(user, config.people.edit_s)

        def write(tables: Tables) -> Revised:
            conversation = which.find(tables)
            _check_accepted(tables, config, user.id, (conversation, which.seq))
            return tables.revisions.edit(user.id, conversation, which.seq, (text, within_ms), wall_clock.now_ms())

        return Change(write, lambda revised: self._tell(session, revised))

    def recalling(self, session: Session, which: Which) -> Change[Revised]:
        user = session.user
        within_ms = _within_ms(user, self._services.config().people.recall_s)

        def write(tables: Tables) -> Revised:
            return tables.revisions.recall(user.id, which.find(tables), which.seq, within_ms, wall_clock.now_ms())

        return Change(write, lambda revised: self._tell(session, revised))

    def removing(self, session: Session, which: Which) -> Change[Revised]:
        user = session.user

        def write(tables: Tables) -> Revised:
            return tables.revisions.remove(user.id, which.find(tables), which.seq, wall_clock.now_ms())

        return Change(write, lambda revised: self._tell(session, revised))

    # ---------------------------------------------------------------- after the commit

    def _tell(self, session: Session, revised: Revised) -> Awaitable[None] | None:
        """Everybody's sessions, but the one that made the change. Where a text is gone, returns when no worker gives it
        any more."""
        changed = MessageChanged(
            revised.message,
            session.user,
            revised.number,
            wall_clock.now_ms(),
            revised.members_version,
            revised.excluded,
        )
        self._apply(changed, session)
        if revised.message.state is MessageState.EDITED:
            for topic in _topics(changed):
                self._services.bus.publish(topic, bus_messages.encode(changed))
            return None
        return self._tell_everybody(changed)

    async def _tell_everybody(self, changed: MessageChanged) -> None:
        bus = self._services.bus
        applied: set[str] = set()

        def encode(ref: int) -> bytes:
            return bus_messages.encode(changed.with_ref(ref))

        def all_applied() -> bool:
            return bus.other_workers().keys() <= applied or not bus.healthy

        question = Question(EVERYBODY, encode, ChangeApplied, private=True)
        survey = self._services.surveys.open(question, lambda answer: applied.add(answer.worker))
        try:
            if not bus.healthy:
                await survey.ask()
            await survey.run(all_applied, self._services.loop.time() + APPLIED_S, _AGAIN_S)
        finally:
            survey.close()

    # ---------------------------------------------------------------- on every worker

    def arrived(self, changed: MessageChanged) -> None:
        """Another worker has made a change."""
        self._apply(changed)
        if changed.ref:
            answer = ChangeApplied(changed.ref, self._services.bus.name)
            self._services.bus.publish(topic_of_answer(changed.ref), bus_messages.encode(answer))

    def _apply(self, changed: MessageChanged, but: Session | None = None) -> None:
        """From now on, nothing here gives an earlier version. Then tell the sessions. A change that is known already,
        or that a later one has overtaken, is told to nobody; also if the later one was read from the store, and comes
        over the bus after this one."""
        message, hub = changed.message, self._services.hub
        if not self._recent.note(message):
            return
        latest = self._recent.latest(message)
        if not message.group_id:
            sessions = {*hub.of_user(message.to_id), *hub.of_user(message.sender_id)}
            for session in sessions:
                self._delivery.in_flight.changed(session, latest)
                if latest.version == message.version:
                    self._tell_session(session, changed, but)
            return
        group = hub.group(message.group_id)
        if group is None:
            return
        for session in tuple(group.sessions):
            self._delivery.in_flight.changed(session, latest)
        tell, version = partial(self._tell_members, changed, but), changed.members_version
        if group.waiting is None and 0 < version <= group.known_version:
            tell()
        else:
            self._memberships.wait(message.group_id, group, version, tell)

    def _tell_members(self, changed: MessageChanged, but: Session | None) -> None:
        """Those who were members at the change and may read the message. Meanwhile a later change may have come."""
        if self._recent.is_overtaken(changed.message):
            return
        group_id, excluded = changed.message.group_id, frozenset(changed.excluded)
        for session in tuple(self._services.hub.of_group(group_id)):
            since = (session.groups or {}).get(group_id, 0)
            if since <= changed.members_version and session.user.id not in excluded:
                self._tell_session(session, changed, but)

    def _tell_session(self, session: Session, changed: MessageChanged, but: Session | None) -> None:
        message = changed.message
        if session is but or not session.has_client or self._delivery.is_ahead(session, message):
            return  # a message that the session was not given yet is given as it is now
        if session.peer.traits.server_texts:
            other = User(message.to_id, message.to_name)
            if other.id == session.user.id:
                other = User(message.sender_id, message.sender_name)
            place = f"#{message.group_id}" if message.group_id else other.name
            self._notices.tell(session, changed_notice(place, message, changed.by, changed.number), about=message)
        elif changed.by.id != session.user.id:
            session.peer.push(Changed(message, changed.by, changed.at_ms))


def _check_accepted(tables: Tables, config: Config, user_id: UserId, at: tuple[ConversationId, Seq]) -> None:
    """A user who may no longer write to somebody cannot do it by editing. Raises Refused."""
    conversation, seq = at
    if conversation < 0 or user_id == SYSTEM.id:
        return
    for message in tables.history.at(conversation, (seq,)):
        if message.sender_id == user_id:
            consent.check(tables, config, Purpose.WRITE, user_id, message.to_id)


def _topics(changed: MessageChanged) -> tuple[Topic, ...]:
    message = changed.message
    if message.group_id:
        return (topic_of_group(message.group_id),)
    return tuple({topic_of_user(message.to_id), topic_of_user(message.sender_id)})


def _within_ms(user: User, seconds: float) -> int:
    """For how long after sending the user may change a message; the system may for ever."""
    return _FOR_EVER_MS if user.id == SYSTEM.id else int(seconds * 1000)
