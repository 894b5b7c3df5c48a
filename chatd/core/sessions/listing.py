"""The sessions of this worker, as an operator asks for them.

Owns: finding those that match, in slices between which the worker serves its clients, and asking the workers of other
hosts.
Elsewhere: the query and its pages (client_list), one user's sessions (core.sessions.query).
Fails: never; workers that do not answer in time are missing, and the result says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple

from chatd.address_bans import contains, network_named
from chatd.bus.contract import EVERYBODY, topic_of_answer
from chatd.bus.survey import Question
from chatd.client_list import ClientPage, ClientQuery, Key, Order, ShownClient, is_after, merged
from chatd.core import bus_messages
from chatd.core.bus_messages import ClientsAnswered, ClientsAsked
from chatd.core.services import Services
from chatd.core.sessions.session import Session, SessionState

ANSWER_S = 3.0
"""How long to wait for the answers of other workers."""
AGAIN_S = 0.5
SLICE = 200
"""Sessions looked at in one turn of the loop: about half a millisecond."""
_SPARE_PAGES = 4
"""Rows are sorted when so many pages of them have been found; all but one page are dropped."""


class EveryHost(NamedTuple):
    """complete: every worker has answered."""

    page: ClientPage
    complete: bool


class SessionListing:
    """Answers what an operator asks about sessions; one per worker. It keeps nothing between two pages."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._host = os.uname().nodename

    async def page(self, query: ClientQuery) -> ClientPage:
        """Of this worker. Takes a turn of the loop for every SLICE sessions."""
        matches = _filter(query)
        now = self._services.loop.time()
        best: list[tuple[Key, Session, float]] = []
        key_of_session = _KEYS[query.order]
        matching = looked = 0
        for session in self._services.hub.sessions():
            looked += 1
            if looked % SLICE == 0:
                await asyncio.sleep(0)
            if session.state is not SessionState.LIVE:
                continue
            idle_s = round(max(0.0, now - session.peer.heard), 3)
            if idle_s < query.idle_s or not matches(session):
                continue
            matching += 1
            place = (session.user.id, session.protocol.name.lower(), self._services.slot)
            key: Key = (key_of_session(session, idle_s), *place)
            if is_after(key, query):
                best.append((key, session, idle_s))
                if len(best) >= _SPARE_PAGES * query.limit:
                    _keep_best(best, query)
        _keep_best(best, query)
        rows = tuple(self._row(session, idle_s) for _, session, idle_s in best)
        return ClientPage(rows=rows, matching=matching, sessions=looked)

    def _row(self, session: Session, idle_s: float) -> ShownClient:
        peer = session.peer
        return ShownClient(
            user_id=session.user.id,
            name=session.user.name,
            wire=session.protocol.name.lower(),
            carrier=peer.carrier,
            address=peer.remote,
            since_ms=session.since_ms,
            idle_s=idle_s,
            in_flight=session.unacknowledged,
            waiting_bytes=peer.out_bytes,
            behind=session.behind,
            worker=self._services.slot,
            host=self._host,
        )

    # ---------------------------------------------------------------- every host

    async def everywhere(self, query: ClientQuery) -> EveryHost:
        """Of every worker of every host. Within ANSWER_S."""
        bus, own = self._services.bus, await self.page(query)
        answers: dict[str, ClientPage] = {}

        def take(answer: ClientsAnswered) -> None:
            answers[answer.worker] = answer.page

        def is_complete() -> bool:
            return bus.healthy and bus.other_workers().keys() <= answers.keys()

        def encode(ref: int) -> bytes:
            return bus_messages.encode(ClientsAsked(query, ref))

        question = Question(EVERYBODY, encode, ClientsAnswered, private=True)
        with contextlib.closing(self._services.surveys.open(question, take)) as survey:
            complete = await survey.run(is_complete, asyncio.get_running_loop().time() + ANSWER_S, AGAIN_S)
        return EveryHost(merged([own, *answers.values()], query), complete)

    def asked(self, question: ClientsAsked) -> None:
        """Another worker asks."""
        self._services.background.start(self._answer(question))

    async def _answer(self, question: ClientsAsked) -> None:
        page = await self.page(question.query)
        answer = ClientsAnswered(question.ref, self._services.bus.name, page)
        self._services.bus.publish(topic_of_answer(question.ref), bus_messages.encode(answer))


_KEYS: dict[Order, Callable[[Session, float], float | str]] = {
    "since": lambda session, idle_s: session.since_ms,
    "name": lambda session, idle_s: session.user.name,
    "address": lambda session, idle_s: session.peer.remote,
    "idle": lambda session, idle_s: idle_s,
    "in_flight": lambda session, idle_s: session.unacknowledged,
    "waiting": lambda session, idle_s: session.peer.out_bytes,
}
"""As client_list.key_of() finds them in a row; rows are made of the sessions of one page only."""


def _keep_best(best: list[tuple[Key, Session, float]], query: ClientQuery) -> None:
    best.sort(key=lambda one: one[0], reverse=query.descending)
    del best[query.limit :]


def _filter(query: ClientQuery) -> Callable[[Session], bool]:
    """Whether a session matches, but for how long it is idle."""
    name, number = query.user.casefold(), int(query.user) if query.user.isdecimal() else 0
    network = network_named(query.network) if query.network else None

    def matches(session: Session) -> bool:
        if name and session.user.name.casefold() != name and session.user.id != number:
            return False
        if query.wire and query.wire not in (session.protocol.name.lower(), session.peer.carrier):
            return False
        return network is None or contains(network, session.peer.remote)

    return matches
