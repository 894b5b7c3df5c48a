"""A user's sessions, on all workers.

Owns: asking the other workers, answering them, and how long to wait.
Elsewhere: the sessions of this worker (core.sessions.hub); who may ask (core.requests.sessions: every user, about
their own).
Fails: never; the sessions of a worker that does not answer in time are missing, and the result says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import NamedTuple

from chatd.bus.contract import topic_of_user
from chatd.bus.survey import Question
from chatd.core import bus_messages
from chatd.core.bus_messages import SessionInfo, SessionsAnswered, SessionsAsked
from chatd.core.services import Services
from chatd.core.sessions.session import Session

ANSWER_S = 0.5
"""How long to wait for the answers of other workers."""
_WIRES = 2
"""A user has at most one session on each wire that has sessions: with this many found, all are found."""


class UserSessions(NamedTuple):
    """here: of this worker. elsewhere: of others. complete: there are no more."""

    here: list[Session]
    elsewhere: list[SessionInfo]
    complete: bool


class SessionQuery:
    def __init__(self, services: Services) -> None:
        self._services = services

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


def info_of(session: Session) -> SessionInfo:
    return SessionInfo(int(session.protocol), session.since_ms, session.peer.remote)
