"""A user's sessions, on whatever worker they are.

Owns: asking the other workers, answering them, and how long is waited.
Elsewhere: the sessions of this worker (core.sessions.hub); who may ask (core.requests.people: everybody, about
themselves).
Fails: never; a worker that does not answer in time is missing, and the caller is told so.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets

from chatd.bus.contract import Bus, topic_of_user
from chatd.core import bus_messages
from chatd.core.sessions.hub import Hub
from chatd.core.sessions.session import Session
from chatd.model import Protocol

_ANSWER_S = 0.5
_WIRES = 2
"""A user has at most one session on each wire that has sessions: who has found so many has found all."""


class Roll:
    def __init__(self, hub: Hub, bus: Bus) -> None:
        self._hub = hub
        self._bus = bus
        self._asked: dict[int, tuple[list[bus_messages.SessionInfo], asyncio.Event]] = {}
        self._refs = itertools.count(secrets.randbits(61))

    async def call(self, session: Session) -> tuple[list[dict[str, object]], bool]:
        """The sessions of this one's user, and whether those are all."""
        user_id = session.user.id
        found = [_shown(_present(one), one is session) for one in self._hub.of_user(user_id)]
        if len(found) >= _WIRES or not await self._hub.elsewhere(user_id):
            return found, True
        ref = next(self._refs)
        answers, heard = self._asked[ref] = [], asyncio.Event()
        self._bus.publish(topic_of_user(user_id), bus_messages.encode(bus_messages.SessionsAsked(user_id, ref)))
        try:
            async with asyncio.timeout(_ANSWER_S):
                while len(found) + len(answers) < _WIRES:
                    heard.clear()
                    await heard.wait()
            return found + [_shown(answer, False) for answer in answers], True
        except TimeoutError:
            return found + [_shown(answer, False) for answer in answers], False
        finally:
            del self._asked[ref]

    def called(self, call: bus_messages.SessionsAsked) -> None:
        """Another worker asks."""
        for session in self._hub.of_user(call.user_id):
            answer = bus_messages.SessionsAnswered(call.ref, _present(session))
            self._bus.publish(topic_of_user(call.user_id), bus_messages.encode(answer))

    def answered(self, answer: bus_messages.SessionsAnswered) -> None:
        if (asked := self._asked.get(answer.ref)) is not None:
            asked[0].append(answer.session)
            asked[1].set()


def _present(session: Session) -> bus_messages.SessionInfo:
    return bus_messages.SessionInfo(int(session.protocol), session.since_ms, session.peer.remote)


def _shown(present: bus_messages.SessionInfo, this: bool) -> dict[str, object]:
    wire = Protocol(present.protocol).name.lower()
    return {"wire": wire, "since": present.since_ms, "peer": present.remote, "this": this}
