"""Ending a user's sessions wherever they are, as an operator asks.

Owns: ending those of this worker, asking every other worker of the host and of the cluster to do the same, how long to
wait for their answers, and the sum. Each session is counted once, by the worker whose request ended it.
Elsewhere: how a session ends (core.sessions.login); who the other workers are (Bus.other_workers); the operator's order
to the workers of this host, and which orders are repeated for hosts that have not answered (master.questions.kick).
Fails: Unavailable from the store; then nothing was done. Workers that do not answer in time are named: a host that is
cut off ends the sessions when it is back and the order is repeated. Only sessions that had begun at the time of the
order are ended; a login after it may stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from chatd.address_bans import network_named
from chatd.bus.contract import EVERYBODY, topic_of_answer
from chatd.bus.survey import Question
from chatd.core import bus_messages
from chatd.core.bus_messages import KickAnswered, KickAsked
from chatd.core.services import Services
from chatd.core.sessions.login import Logins, Which
from chatd.errors import Disconnect
from chatd.model import UserId

ANSWER_S = 2.5
"""How long the operator waits. A worker that has just died is known to be dead before this."""
AGAIN_S = 0.25
"""Asked again after this, for a worker that subscribed a moment ago and missed the question."""
REPEAT_S = 2.0
"""The same while an order is repeated for minutes."""
_KEPT_S = 2 * ANSWER_S
"""For how long ended_before() is remembered."""
NOBODY: Mapping[str, str] = MappingProxyType({})


class KickResult(NamedTuple):
    """sessions: ended. known: there is such a user; user_id: its id, where it was looked up. unanswered: by name, the
    workers that have not answered, and where they are: the host, or "worker 2" of this host. cut_off: the bus is not
    whole here, so there may be more of them."""

    sessions: int
    known: bool = True
    unanswered: Mapping[str, str] = NOBODY
    cut_off: bool = False
    user_id: UserId = 0


class Repetition(NamedTuple):
    """An order that is given again. age_s: how long ago it was given first. limit_s: for how long those that do not
    answer are asked. unanswered: as in KickResult, of the attempts before: the bus of a worker that was not there does
    not know them."""

    age_s: float
    limit_s: float
    unanswered: Mapping[str, str] = NOBODY


class KickTarget(NamedTuple):
    """Whose sessions end: those of user_id, or if that is 0, of the user with this name, or if that is "" too, of
    everybody in this network (address_bans.network_named).

    user_id need not be a user's any more. protocol: only on this wire; 0 = on all. credentials: only sessions with an
    earlier version of the credentials; 0 = all."""

    name: str = ""
    user_id: UserId = 0
    credentials: int = 0
    protocol: int = 0
    network: str = ""


class _Order:
    """One order of an operator. known: workers that must answer, besides those that the bus knows. answered: names of
    the workers that have answered. sessions: ended so far."""

    __slots__ = ("answered", "given_at", "known", "reason", "sessions", "target")

    def __init__(self, target: KickTarget, reason: str, again: Repetition | None) -> None:
        """target: with the id of its user."""
        self.target = target
        self.reason = reason
        self.given_at = time.monotonic() - (again.age_s if again else 0.0)
        self.known = again.unanswered if again else NOBODY
        self.answered: set[str] = set()
        self.sessions = 0

    def take(self, answer: KickAnswered) -> None:
        self.answered.add(answer.worker)
        self.sessions += answer.sessions

    def encode(self, ref: int) -> bytes:
        return bus_messages.encode(self.question(ref))

    def question(self, ref: int) -> KickAsked:
        age_ms, target = int((time.monotonic() - self.given_at) * 1000), self.target
        return KickAsked(target.user_id, self.reason, ref, age_ms, target.credentials, target.protocol, target.network)


class SessionKicks:
    """Orders to end sessions: those given to this worker, and those of others, which it answers. One per worker."""

    def __init__(self, services: Services, logins: Logins) -> None:
        self.on_credentials: Callable[[UserId], None] = lambda user_id: None
        """Called when an account has other credentials than before, before its sessions here end."""
        self._services = services
        self._logins = logins
        self._ended: dict[UserId, tuple[int, int, float]] = {}
        """What ended_before() was told, and when (monotonic clock); the oldest first."""

    def ended_before(self, user_id: UserId, version: int, sessions: int) -> None:
        """Sessions here have ended because the account's credentials have this version, before the order of whoever
        changed them has arrived (core.sessions.credentials): its answer counts them."""
        now = time.monotonic()
        while self._ended and next(iter(self._ended.values()))[2] < now - _KEPT_S:
            del self._ended[next(iter(self._ended))]
        self._ended.pop(user_id, None)
        self._ended[user_id] = version, sessions, now

    def _take_ended(self, user_id: UserId, version: int) -> int:
        """How many sessions ended before the order for this version; counted once."""
        known, sessions, _ = self._ended.get(user_id, (0, 0, 0.0))
        if known < version:
            return 0
        del self._ended[user_id]
        return sessions

    async def kick(self, target: KickTarget, reason: str, again: Repetition | None = None) -> KickResult:
        """End these sessions. Takes at most about ANSWER_S, or again.limit_s.

        Raises:
            Unavailable: from the store, which is asked for a name; nothing was done.
        """
        if not target.user_id and target.name:
            account = await self._services.store.read(lambda tables: tables.accounts.find_any(target.name))
            if account is None:
                return KickResult(0, known=False)
            target = target._replace(user_id=account.user.id)
        order = _Order(target, reason, again)
        order.sessions = self._end_here(order.question(0))
        if not self._is_done(order):
            await (self._ask(order, again.limit_s, REPEAT_S) if again else self._ask(order, ANSWER_S, AGAIN_S))
        cut_off = not self._services.bus.healthy
        return KickResult(order.sessions, True, self._missing(order), cut_off, target.user_id)

    async def _ask(self, order: _Order, limit_s: float, every_s: float) -> None:
        """Until every worker has answered, or the time is over."""
        survey = self._services.surveys.open(Question(EVERYBODY, order.encode, KickAnswered, private=True), order.take)
        try:
            deadline = asyncio.get_running_loop().time() + limit_s
            await survey.run(lambda: self._is_done(order), deadline, every_s)
        finally:
            survey.close()

    def _missing(self, order: _Order) -> dict[str, str]:
        """The workers that have not answered, and where they are."""
        others = {**order.known, **self._services.bus.other_workers()}
        return {name: place for name, place in others.items() if name not in order.answered}

    def _is_done(self, order: _Order) -> bool:
        """Every worker has answered. Not while the bus is cut off: then only those are known that were there."""
        return self._services.bus.healthy and not self._missing(order)

    def asked(self, question: KickAsked) -> None:
        """Another worker asks."""
        answer = KickAnswered(question.ref, self._end_here(question), self._services.bus.name)
        self._services.bus.publish(topic_of_answer(question.ref), bus_messages.encode(answer))

    def _end_here(self, question: KickAsked) -> int:
        which = Which(question.protocol, question.age_ms / 1000, question.credentials)
        if question.network:
            return self._logins.kick_from(network_named(question.network), which, question.reason)
        user_id = question.user_id
        if not which.before:
            return self._logins.kick(user_id, which, question.reason, Disconnect.KICKED_BY_ADMIN)
        self.on_credentials(user_id)
        ended = self._logins.kick(user_id, which, question.reason, Disconnect.CREDENTIALS_CHANGED)
        return ended + self._take_ended(user_id, which.before)
