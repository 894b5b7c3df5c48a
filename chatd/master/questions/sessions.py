"""Listing a user's sessions on every worker and host, as an operator asks.

Owns: the order and the reply.
Elsewhere: asking a worker, which asks all others (master.questions.asking); finding the sessions (core.sessions.query).
Fails: as master.questions.asking does.
"""

from __future__ import annotations

from chatd.master.questions.asking import WorkerQuestions
from chatd.master.replies import Respond, SessionsReply
from chatd.master.requests import SessionsRequest
from chatd.orders import SessionsDone, SessionsOrder


class SessionLists:
    def __init__(self, questions: WorkerQuestions) -> None:
        self._questions = questions

    def begin(self, request: SessionsRequest, respond: Respond) -> None:
        """Reply with a SessionsReply, or with a failure."""
        self._questions.ask(lambda ref: SessionsOrder(ref=ref, user_id=request.user_id), _reply, respond)


def _reply(answer: SessionsDone) -> SessionsReply:
    return SessionsReply(sessions=answer.sessions, complete=answer.complete)
