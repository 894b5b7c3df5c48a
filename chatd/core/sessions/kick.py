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


class _Order:
    """One order of an operator. credentials: only sessions with an earlier version of the credentials end; 0 = all.
    answered: names of the workers that have answered. sessions: ended so far."""

    __slots__ = ("answered", "credentials", "given_at", "reason", "sessions", "user_id")

    def __init__(self, user_id: UserId, reason: str, credentials: int) -> None:
        self.user_id = user_id
        self.reason = reason
        self.credentials = credentials
        self.given_at = time.monotonic()
        self.answered: set[str] = set()
        self.sessions = 0

    def take(self, answer: KickAnswered) -> None:
        self.answered.add(answer.worker)
        self.sessions += answer.sessions

    def encode(self, ref: int) -> bytes:
        age_ms = int((time.monotonic() - self.given_at) * 1000)
        return bus_messages.encode(KickAsked(self.user_id, self.reason, ref, age_ms, self.credentials))


class SessionKicks:
    def __init__(self, services: Services, logins: Logins) -> None:
        self._services = services
        self._logins = logins
        self._kept = 0

    @property
    def kept(self) -> int:
        """Orders that are kept: some worker has not answered yet."""
        return self._kept

    async def kick(self, name: str, user_id: UserId, reason: str, credentials: int = 0) -> KickResult:
        """End the sessions of user_id, or if that is 0, of the user with this name. user_id need not be a user's any
        more. credentials: only those with an earlier version of the credentials. Takes at most about ANSWER_S.

        Raises:
            Unavailable: from the store, which is asked for a name; nothing was done.
        """
        if not user_id:
            account = await self._services.store.read(lambda tables: tables.accounts.find(name, 0))
            if account is None:
                return KickResult(0, known=False)
            user_id = account.user.id
        order = _Order(user_id, reason, credentials)
        order.sessions = self._end_here(user_id, reason, Which(before=credentials))
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
                user=order.user_id,
                sessions=order.sessions - before,
                unanswered=sorted(set(self._missing(order).values())),
            )
        finally:
            self._kept -= 1
            survey.close()

    def asked(self, question: KickAsked) -> None:
        """Another worker asks."""
        which = Which(older_s=question.age_ms / 1000, before=question.credentials)
        ended = self._end_here(question.user_id, question.reason, which)
        answer = KickAnswered(question.ref, ended, self._services.bus.name)
        self._services.bus.publish(topic_of_answer(question.ref), bus_messages.encode(answer))

    def _end_here(self, user_id: UserId, reason: str, which: Which) -> int:
        how = Disconnect.CREDENTIALS_CHANGED if which.before else Disconnect.KICKED_BY_ADMIN
        return self._logins.kick(user_id, which, reason, how)
