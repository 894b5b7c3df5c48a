"""Ending a user's sessions wherever they are, as an operator asks.

Owns: ending those of this worker, asking every other worker of the host and of the cluster to do the same, how long to
wait for their answers, repeating the question to those that did not answer, and the sum. Each session is counted once,
by the worker whose request ended it.
Elsewhere: how a session ends (core.sessions.login); who the other workers are (Bus.other_workers); the operator's order
to the workers of this host (master.kick).
Fails: Unavailable from the store; then nothing was done. Workers that do not answer in time are named, and asked
further for KEPT_S: a host that was cut off ends the sessions when it is back. Only sessions that had begun at the time
of the order are ended; a login after it may stay. An order that is kept is lost if this worker dies.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from chatd import log
from chatd.address_bans import network_named
from chatd.bus.contract import EVERYBODY, LOST_WORKER_KEPT_S, topic_of_answer
from chatd.bus.survey import Question, Survey
from chatd.core import bus_messages
from chatd.core.bus_messages import KickAnswered, KickAsked
from chatd.core.services import Services
from chatd.core.sessions.login import Logins, Which
from chatd.errors import Disconnect
from chatd.model import UserId

KEPT_S = LOST_WORKER_KEPT_S
"""As long as the bus remembers workers that disappeared."""
ANSWER_S = 2.5
"""How long the operator waits. A worker that has just died is known to be dead before this."""
AGAIN_S = 0.25
"""Asked again after this, for a worker that subscribed a moment ago and missed the question."""
KEPT_AGAIN_S = 2.0
"""The same while an order is kept."""
MAX_KEPT = 1000
"""Maximum orders kept; those beyond it are not asked further."""


class KickResult(NamedTuple):
    """sessions: ended. known: there is such a user. unanswered: hosts (or workers of this host) that have not answered.
    cut_off: the bus is not whole here, so there may be more of them. kept_s: they are asked further for this long."""

    sessions: int
    known: bool = True
    unanswered: tuple[str, ...] = ()
    cut_off: bool = False
    kept_s: int = 0


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
    """One order of an operator. answered: names of the workers that have answered. sessions: ended so far."""

    __slots__ = ("answered", "given_at", "reason", "sessions", "target")

    def __init__(self, target: KickTarget, reason: str) -> None:
        """target: with the id of its user."""
        self.target = target
        self.reason = reason
        self.given_at = time.monotonic()
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
    """Orders to end sessions: those given to this worker, and those of others, which it answers. One per worker.

    An order that some worker has not answered is kept, at most MAX_KEPT of them, by a background task that ends with
    this worker."""

    def __init__(self, services: Services, logins: Logins) -> None:
        self._services = services
        self._logins = logins
        self._kept = 0

    @property
    def kept(self) -> int:
        """Orders that are kept: some worker has not answered yet."""
        return self._kept

    async def kick(self, target: KickTarget, reason: str) -> KickResult:
        """End these sessions. Takes at most about ANSWER_S.

        Raises:
            Unavailable: from the store, which is asked for a name; nothing was done.
        """
        if not target.user_id and target.name:
            account = await self._services.store.read(lambda tables: tables.accounts.find(target.name, 0))
            if account is None:
                return KickResult(0, known=False)
            target = target._replace(user_id=account.user.id)
        order = _Order(target, reason)
        order.sessions = self._end_here(order.question(0))
        if self._is_done(order):
            return KickResult(order.sessions)
        survey = self._services.surveys.open(Question(EVERYBODY, order.encode, KickAnswered, private=True), order.take)
        try:
            if await self._ask(survey, order, ANSWER_S, AGAIN_S):
                survey.close()
                return KickResult(order.sessions)
        except BaseException:
            survey.close()
            raise
        return self._keep(survey, order)

    def _keep(self, survey: Survey[KickAnswered], order: _Order) -> KickResult:
        """The result for the operator while some workers have not answered; these are asked further."""
        kept = self._kept < MAX_KEPT
        if kept:
            self._kept += 1
            self._services.background.start(self._ask_further(survey, order))
        else:
            survey.close()
        unanswered = tuple(sorted(set(self._missing(order).values())))
        return KickResult(order.sessions, True, unanswered, not self._services.bus.healthy, int(KEPT_S) if kept else 0)

    def _missing(self, order: _Order) -> dict[str, str]:
        return {name: place for name, place in self._services.bus.other_workers().items() if name not in order.answered}

    def _is_done(self, order: _Order) -> bool:
        """Every worker has answered. Not while the bus is cut off: then only those are known that were there."""
        return self._services.bus.healthy and not self._missing(order)

    async def _ask(self, survey: Survey[KickAnswered], order: _Order, limit_s: float, every_s: float) -> bool:
        """Until every worker has answered (True), or the order is limit_s old (False)."""
        remaining_s = limit_s - (time.monotonic() - order.given_at)
        deadline = asyncio.get_running_loop().time() + remaining_s
        return await survey.run(lambda: self._is_done(order), deadline, every_s)

    async def _ask_further(self, survey: Survey[KickAnswered], order: _Order) -> None:
        before = order.sessions
        try:
            done = await self._ask(survey, order, KEPT_S, KEPT_AGAIN_S)
            log.get().info(
                "kick answered by every worker" if done else "kick given up, workers did not answer",
                user=order.target.user_id,
                network=order.target.network,
                sessions=order.sessions - before,
                unanswered=sorted(set(self._missing(order).values())),
            )
        finally:
            self._kept -= 1
            survey.close()

    def asked(self, question: KickAsked) -> None:
        """Another worker asks."""
        answer = KickAnswered(question.ref, self._end_here(question), self._services.bus.name)
        self._services.bus.publish(topic_of_answer(question.ref), bus_messages.encode(answer))

    def _end_here(self, question: KickAsked) -> int:
        which = Which(question.protocol, question.age_ms / 1000, question.credentials)
        if question.network:
            return self._logins.kick_from(network_named(question.network), which, question.reason)
        how = Disconnect.CREDENTIALS_CHANGED if which.before else Disconnect.KICKED_BY_ADMIN
        return self._logins.kick(question.user_id, which, question.reason, how)
