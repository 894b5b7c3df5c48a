"""Ending a user's sessions wherever they are, as an operator asks.

Owns: ending those of this worker, asking every other worker of the host and of the cluster, how long is waited for
their answers, asking on where one did not answer, the sum. Every session is counted once, by who was first to ask for
its end.
Elsewhere: what ends a session (core.sessions.login); who the others are (Bus.other_workers); the operator's order to
the workers of this host (master.kick).
Fails: Unavailable from the store, nothing is done then. Who has not answered in time is named, and asked again for
KEPT_S: a host that was cut off ends the sessions when it is back. It ends those alone that had begun by the time of the
order: who comes again after it may stay. What is kept dies with this worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from typing import NamedTuple

from chatd import log
from chatd.bus.contract import EVERYBODY, LOST_WORKER_KEPT_S, topic_of_answer
from chatd.core import bus_messages
from chatd.core.services import Services
from chatd.core.sessions.login import Logins
from chatd.model import UserId

KEPT_S = LOST_WORKER_KEPT_S
"""As long as the bus remembers who was lost."""
_ANSWER_S = 2.5
"""A worker that has just died is known to be dead before this."""
_AGAIN_S = 0.25
"""Asked again after this: who heard it not may have come a moment ago."""
_KEPT_AGAIN_S = 2.0
_MOST_KEPT = 1000


class Expelled(NamedTuple):
    """sessions: ended. known: there is such a user. unanswered: hosts (or workers of this host) that have not answered.
    cut_off: there may be more of them, for the bus is not whole here. kept_s: for so long they are asked on."""

    sessions: int
    known: bool = True
    unanswered: tuple[str, ...] = ()
    cut_off: bool = False
    kept_s: int = 0


class _Order:
    """answered: by their names. sessions: ended by who has answered so far."""

    def __init__(self, ref: int, user_id: UserId, reason: str) -> None:
        self.ref = ref
        self.user_id = user_id
        self.reason = reason
        self.given_at = time.monotonic()
        self.answered: set[str] = set()
        self.sessions = 0
        self.heard = asyncio.Event()

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.given_at

    async def answers(self, wait_s: float) -> None:
        """Returns when somebody answers, or after wait_s."""
        self.heard.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.heard.wait()


class Expulsion:
    def __init__(self, services: Services, logins: Logins) -> None:
        self._bus = services.bus
        self._store = services.store
        self._background = services.background
        self._logins = logins
        self._orders: dict[int, _Order] = {}
        self._kept = 0
        self._refs = itertools.count(secrets.randbits(59) + 1)

    async def expel(self, name: str, user_id: UserId, reason: str) -> Expelled:
        """user_id 0: who has this name. With a user_id it need not be anybody's any more."""
        if not user_id:
            account = await self._store.read(lambda tables: tables.accounts.find(name, 0))
            if account is None:
                return Expelled(0, known=False)
            user_id = account.user.id
        order = _Order(next(self._refs), user_id, reason)
        order.sessions = self._logins.kick(user_id, 0, reason, by_admin=True)
        if self._is_done(order):
            return Expelled(order.sessions)
        self._orders[order.ref] = order
        try:
            await self._bus.subscribe([topic_of_answer(order.ref)])
            await self._ask(order, _AGAIN_S, _ANSWER_S)
        except BaseException:
            self._forget(order)
            raise
        return self._told(order)

    def _told(self, order: _Order) -> Expelled:
        if self._is_done(order):
            self._forget(order)
            return Expelled(order.sessions)
        kept = self._kept < _MOST_KEPT
        if kept:
            self._kept += 1
            self._background.start(self._ask_on(order))
        else:
            self._forget(order)
        missing = tuple(sorted(set(self._missing(order).values())))
        return Expelled(order.sessions, True, missing, not self._bus.healthy, int(KEPT_S) if kept else 0)

    def _missing(self, order: _Order) -> dict[str, str]:
        return {name: place for name, place in self._bus.other_workers().items() if name not in order.answered}

    def _is_done(self, order: _Order) -> bool:
        """Cut off, one knows only who was there."""
        return self._bus.healthy and not self._missing(order)

    async def _ask(self, order: _Order, again_s: float, limit_s: float) -> None:
        """Until all have answered, or the order is that old."""
        asked_at = float("-inf")
        while not self._is_done(order) and order.age_s < limit_s:
            if order.age_s >= asked_at + again_s:
                asked_at = order.age_s
                age_ms = int(order.age_s * 1000)
                question = bus_messages.KickAsked(order.user_id, order.reason, order.ref, age_ms)
                self._bus.publish(EVERYBODY, bus_messages.encode(question))
            await order.answers(min(again_s, limit_s - order.age_s))

    async def _ask_on(self, order: _Order) -> None:
        before = order.sessions
        try:
            await self._ask(order, _KEPT_AGAIN_S, KEPT_S)
            log.get().info(
                "a kick has reached everybody" if self._is_done(order) else "a kick is given up",
                user=order.user_id,
                sessions=order.sessions - before,
                unanswered=sorted(set(self._missing(order).values())),
            )
        finally:
            self._kept -= 1
            self._forget(order)

    def _forget(self, order: _Order) -> None:
        del self._orders[order.ref]
        self._bus.unsubscribe([topic_of_answer(order.ref)])

    def asked(self, signal: bus_messages.KickAsked) -> None:
        """Another worker asks."""
        older_s = signal.age_ms / 1000
        ended = self._logins.kick(signal.user_id, 0, signal.reason, by_admin=True, older_s=older_s)
        answer = bus_messages.KickAnswered(signal.ref, ended, self._bus.name)
        self._bus.publish(topic_of_answer(signal.ref), bus_messages.encode(answer))

    def answered(self, signal: bus_messages.KickAnswered) -> None:
        if (order := self._orders.get(signal.ref)) is not None:
            order.answered.add(signal.worker)
            order.sessions += signal.sessions
            order.heard.set()
