"""Telling all connected users something, as an operator asks.

Owns: telling the sessions of this worker, a few at a time; having every other worker do the same; how long to wait, and
the sum.
Elsewhere: the form of the text on each wire (core.requests.notices, wire), the operator's order and how often one may
be given (master.questions.broadcast).
Fails: Refused or Unavailable before anybody was told. Workers that do not answer are named. Nothing is stored: users
who are offline never see it, and what is being told when a worker ends is lost.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import NamedTuple

from chatd.bus.contract import EVERYBODY, topic_of_answer
from chatd.bus.survey import Question
from chatd.core import bus_messages
from chatd.core.bus_messages import BroadcastAnswered, BroadcastAsked
from chatd.core.requests.notices import Notices, notice
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import GroupId
from chatd.protocol import Announcement

SESSIONS_PER_TICK = 50
"""Told at once: 1,000 a second on each worker, which takes it a few milliseconds of each tenth of a second."""
ANSWER_S = 2.5
"""How long to wait for a worker that has not answered at all."""
AGAIN_S = 0.25
"""How often workers are asked how far they are."""
LIMIT_S = 120.0
"""How long the operator waits for workers that are still telling their sessions."""
_REMEMBERED = 32
"""Broadcasts that a worker remembers, so that a question that comes again tells nobody twice."""


class Audience(NamedTuple):
    """Whom to tell. protocol: only on this wire; 0 = on all. user: only this user, by name or id; group_id: only the
    members of this group."""

    protocol: int = 0
    user: str = ""
    group_id: GroupId = 0


class BroadcastResult(NamedTuple):
    """told: sessions that the text was written to. skipped: those that read too slowly to take it now. unanswered:
    hosts (or workers of this host) that have not answered, or not to the end. cut_off: the bus is not whole, so there
    may be more of these."""

    told: int
    skipped: int
    unanswered: tuple[str, ...] = ()
    cut_off: bool = False


class _Broadcast:
    """One text, and the sessions of this worker that are still to be told."""

    __slots__ = ("asked", "began_at", "left", "skipped", "text", "told")

    def __init__(self, asked: BroadcastAsked, sessions: list[Session], began_at: float) -> None:
        """began_at: on the loop's clock."""
        self.asked = asked
        self.began_at = began_at
        self.text = notice("broadcast", text=asked.text, at=asked.at_ms)
        self.left = deque(sessions)
        self.told = 0
        self.skipped = 0


class Broadcasts:
    """The texts that this worker is telling, its own and those of other workers; one per worker."""

    def __init__(self, services: Services, notices: Notices) -> None:
        self._services = services
        self._notices = notices
        self._known: OrderedDict[int, _Broadcast] = OrderedDict()
        """By ref, the oldest first."""
        self._told_before: dict[int, set[Session]] = {}
        """Sessions that were told by the worker before this one, by the ref of what this one was not asked to tell;
        for LIMIT_S."""

    # ---------------------------------------------------------------- on all workers

    async def send(self, text: str, at_ms: int, audience: Audience) -> BroadcastResult:
        """Tell them. at_ms: epoch. Returns when all have been told, at the latest after LIMIT_S.

        Raises:
            Refused: there is no such user or group; nobody was told.
            Unavailable: from the store, which is asked for these.
        """
        user_id = await self._check(audience)
        answers: dict[str, BroadcastAnswered] = {}
        bus, begun = self._services.bus, self._services.loop.time()

        def encode(ref: int) -> bytes:
            return bus_messages.encode(BroadcastAsked(ref, text, at_ms, audience.protocol, user_id, audience.group_id))

        def take(answer: BroadcastAnswered) -> None:
            answers[answer.worker] = answer

        def missing() -> set[str]:
            done = {name for name, answer in answers.items() if not answer.left}
            return {place for name, place in bus.other_workers().items() if name not in done}

        def is_complete() -> bool:
            if own.left or any(answer.left for answer in answers.values()):
                return False
            return (bus.healthy and not missing()) or self._services.loop.time() > begun + ANSWER_S

        question = Question(EVERYBODY, encode, BroadcastAnswered, private=True)
        with contextlib.closing(self._services.surveys.open(question, take)) as survey:
            own = self._begin(BroadcastAsked(survey.ref, text, at_ms, audience.protocol, user_id, audience.group_id))
            await survey.run(is_complete, begun + LIMIT_S, AGAIN_S)
        return BroadcastResult(
            own.told + sum(answer.told for answer in answers.values()),
            own.skipped + sum(answer.skipped for answer in answers.values()),
            tuple(sorted(missing())),
            not bus.healthy,
        )

    async def _check(self, audience: Audience) -> int:
        """The id of the user, 0 = there is none in the audience. Raises Refused, Unavailable."""
        user, group_id = audience.user, audience.group_id
        if user:
            account = await self._services.store.read(lambda tables: tables.accounts.find_any(user))
            if account is None:
                raise Refused(ErrorCode.UNKNOWN_RECIPIENT, f"{user}: no such user")
            return account.user.id
        if group_id and await self._services.store.read(lambda tables: tables.groups.find(group_id)) is None:
            raise Refused(ErrorCode.UNKNOWN_GROUP, f"#{group_id}: no such group")
        return 0

    def asked(self, question: BroadcastAsked) -> None:
        """Another worker asks."""
        one = self._begin(question)
        answer = BroadcastAnswered(question.ref, self._services.bus.name, one.told, one.skipped, len(one.left))
        self._services.bus.publish(topic_of_answer(question.ref), bus_messages.encode(answer))

    # ---------------------------------------------------------------- on this worker

    def _begin(self, asked: BroadcastAsked) -> _Broadcast:
        """What is known of this broadcast; a new one begins with the sessions that are here now."""
        known = self._known.get(asked.ref)
        if known is None:
            told = self._told_before.pop(asked.ref, ())
            left = [one for one in self._sessions(asked) if one not in told]
            known = self._known[asked.ref] = _Broadcast(asked, left, self._services.loop.time())
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    def _sessions(self, asked: BroadcastAsked) -> list[Session]:
        hub = self._services.hub
        if asked.user_id:
            chosen = list(hub.of_user(asked.user_id))
        elif asked.group_id:
            chosen = list(hub.of_group(asked.group_id))
        else:
            chosen = hub.sessions()
        return [one for one in chosen if not asked.protocol or one.protocol == asked.protocol]

    def tick(self) -> None:
        """About twenty times a second: tell some of those that are left."""
        room = SESSIONS_PER_TICK
        for one in self._known.values():
            while one.left and room:
                self._tell(one, one.left.popleft())
                room -= 1
            if not room:
                return

    def tell_now(self, session: Session) -> tuple[int, ...]:
        """The session is about to go to another worker: tell it what it would have been told here. Returns what need
        not be told there."""
        for one in self._known.values():
            if session in one.left:
                one.left.remove(session)
                self._tell(one, session)
        since = self._services.loop.time() - LIMIT_S
        return tuple(ref for ref, one in self._known.items() if one.began_at > since)

    def told_before(self, session: Session, refs: Iterable[int]) -> None:
        """The session has come from another worker, where it was told these. This worker may be asked later."""
        for ref in refs:
            if (known := self._known.get(ref)) is None:
                if ref not in self._told_before:
                    self._services.loop.call_later(LIMIT_S, self._told_before.pop, ref, None)
                self._told_before.setdefault(ref, set()).add(session)
            elif session in known.left:
                known.left.remove(session)

    def _tell(self, broadcast: _Broadcast, session: Session) -> None:
        if not session.has_client:
            return
        peer, asked = session.peer, broadcast.asked
        if peer.out_bytes > self._services.config().limits.outbox_bytes // 2:
            broadcast.skipped += 1
            return
        broadcast.told += 1
        if peer.traits.server_texts:
            self._notices.tell(session, broadcast.text)
        else:
            peer.push(Announcement(asked.text, session.user.id, asked.at_ms))
