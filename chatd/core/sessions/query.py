"""A user's sessions, on all workers.

Owns: asking the other workers, answering them, and how long to wait.
Elsewhere: the sessions of this worker (core.sessions.hub); who may ask (core.requests.sessions: every user, about
their own; master.questions.sessions: an operator, about anybody's).
Fails: never; the sessions of a worker that does not answer in time are missing, and the result says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from typing import NamedTuple

from chatd.bus.contract import EVERYBODY, topic_of_answer, topic_of_user
from chatd.bus.survey import Question
from chatd.core import bus_messages
from chatd.core.bus_messages import (
    SessionInfo,
    SessionsAnswered,
    SessionsAsked,
    WorkerSessionsAnswered,
    WorkerSessionsAsked,
)
from chatd.core.services import Services
from chatd.core.sessions.session import Session, SessionState
from chatd.model import UserId

ANSWER_S = 0.5
"""How long to wait for the answers of other workers."""
OPERATOR_ANSWER_S = 2.0
"""The same for an operator."""
AGAIN_S = 0.25
"""Asked again after this, for a worker that subscribed a moment ago and missed the question."""
_WIRES = 2
"""A user has at most one session on each wire that has sessions: with this many found, all are found."""


class UserSessions(NamedTuple):
    """here: of this worker. elsewhere: of others. complete: there are no more."""

    here: list[Session]
    elsewhere: list[SessionInfo]
    complete: bool


class PlacedSession(NamedTuple):
    """host, slot: of its worker."""

    info: SessionInfo
    host: str
    slot: int


class AllSessions(NamedTuple):
    """complete: every worker has answered, so there are no more."""

    sessions: list[PlacedSession]
    complete: bool


class SessionQuery:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._host = os.uname().nodename

    async def sessions_of_same_user(self, session: Session) -> UserSessions:
        """Within ANSWER_S. The session itself is among those found here."""
        user_id = session.user.id
        here, elsewhere = list(self._services.hub.of_user(user_id)), list[SessionInfo]()
        if len(here) >= _WIRES or not await self._services.hub.elsewhere(user_id):
            return UserSessions(here, elsewhere, complete=True)
        question = Question(
            topic_of_user(user_id),
            lambda ref: bus_messages.encode(SessionsAsked(user_id, ref)),
            SessionsAnswered,
        )
        with contextlib.closing(
            self._services.surveys.open(question, lambda answer: elsewhere.append(answer.session))
        ) as survey:
            complete = await survey.run(
                lambda: len(here) + len(elsewhere) >= _WIRES,
                asyncio.get_running_loop().time() + ANSWER_S,
                every_s=math.inf,
            )
        return UserSessions(here, elsewhere, complete)

    def asked(self, question: SessionsAsked) -> None:
        """Another worker asks."""
        for session in self._services.hub.of_user(question.user_id):
            answer = SessionsAnswered(question.ref, info_of(session))
            self._services.bus.publish(topic_of_user(question.user_id), bus_messages.encode(answer))

    # ---------------------------------------------------------------- for operators

    async def sessions_of(self, user_id: UserId) -> AllSessions:
        """Within OPERATOR_ANSWER_S."""
        bus, answers = self._services.bus, [self._here(user_id, 0)]

        def is_complete() -> bool:
            return bus.healthy and bus.other_workers().keys() <= {answer.worker for answer in answers}

        def encode(ref: int) -> bytes:
            return bus_messages.encode(WorkerSessionsAsked(user_id, ref))

        question = Question(EVERYBODY, encode, WorkerSessionsAnswered, private=True)
        with contextlib.closing(self._services.surveys.open(question, answers.append)) as survey:
            deadline = asyncio.get_running_loop().time() + OPERATOR_ANSWER_S
            complete = await survey.run(is_complete, deadline, AGAIN_S)
        last = {answer.worker: answer for answer in answers}  # one that was asked again has answered again
        found = [PlacedSession(info, one.host, one.slot) for one in last.values() for info in one.sessions]
        return AllSessions(sorted(found, key=lambda one: (one.info.protocol, one.info.since_ms)), complete)

    def asked_by_operator(self, question: WorkerSessionsAsked) -> None:
        """Another worker asks."""
        answer = self._here(question.user_id, question.ref)
        self._services.bus.publish(topic_of_answer(question.ref), bus_messages.encode(answer))

    def _here(self, user_id: UserId, ref: int) -> WorkerSessionsAnswered:
        infos = tuple(info_of(one) for one in self._services.hub.of_user(user_id) if one.state is SessionState.LIVE)
        return WorkerSessionsAnswered(ref, self._services.bus.name, self._host, self._services.slot, infos)


def info_of(session: Session) -> SessionInfo:
    return SessionInfo(int(session.protocol), session.since_ms, session.peer.remote)
