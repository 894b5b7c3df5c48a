"""Ending a user's sessions wherever they are, as an operator asks.

Owns: ending those of this worker, asking the other workers of the host and of the cluster, how long is waited for
their answers, the sum. Every session is counted once, by who was first to ask for its end.
Elsewhere: what ends a session (core.login); the operator's order to the workers of this host (master.kick).
Fails: Unavailable from the store, nothing is done then. When nobody answers in time the operator is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from typing import NamedTuple

from chatd.bus.base import Bus, topic_of_answer, topic_of_user
from chatd.core import signals
from chatd.core.hub import Hub
from chatd.core.login import Logins
from chatd.model import UserId
from chatd.store.commit import GroupCommit

_ANSWER_S = 1.0
_QUIET_S = 0.2
"""When nobody has answered for so long, all have."""


class Expelled(NamedTuple):
    """sessions: ended. known: there is such a user. why: it may not have been all."""

    sessions: int
    known: bool = True
    why: str = ""


class _Asked:
    """sessions: ended by who has answered so far."""

    def __init__(self) -> None:
        self.answers = 0
        self.sessions = 0
        self.heard = asyncio.Event()

    async def more(self) -> bool:
        """Whether anything was heard within _QUIET_S."""
        self.heard.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_QUIET_S):
                await self.heard.wait()
        return self.heard.is_set()


class Expulsion:
    def __init__(self, hub: Hub, bus: Bus, store: GroupCommit, logins: Logins) -> None:
        self._hub = hub
        self._bus = bus
        self._store = store
        self._logins = logins
        self._asked: dict[int, _Asked] = {}
        self._refs = itertools.count(secrets.randbits(59))

    async def expel(self, name: str, user_id: UserId, reason: str) -> Expelled:
        """user_id 0: who has this name. With a user_id it need not be anybody's any more."""
        if not user_id:
            account = await self._store.read(lambda tables: tables.account(name, 0))
            if account is None:
                return Expelled(0, known=False)
            user_id = account.user.id
        ended = self._logins.kick(user_id, 0, reason, by_admin=True)
        if not await self._hub.elsewhere(user_id):
            return Expelled(ended)
        elsewhere, complete = await self._ask(user_id, reason)
        return Expelled(ended + elsewhere, why="" if complete else "sessions on other hosts or workers may remain")

    async def _ask(self, user_id: UserId, reason: str) -> tuple[int, bool]:
        """How many sessions of others have ended, and whether that is all. (Who comes again meanwhile may stay.)"""
        ref, asked = next(self._refs), _Asked()
        answers = topic_of_answer(ref)
        self._asked[ref] = asked
        try:
            await self._bus.subscribe([answers])
            question = signals.encode(signals.Expel(user_id, reason, ref))
            async with asyncio.timeout(_ANSWER_S):
                while not asked.answers and await self._hub.elsewhere(user_id):  # again: who heard it not may be new
                    self._bus.publish(topic_of_user(user_id), question)
                    while await asked.more():
                        pass
            return asked.sessions, True
        except TimeoutError:
            return asked.sessions, False
        finally:
            del self._asked[ref]
            self._bus.unsubscribe([answers])

    def asked(self, signal: signals.Expel) -> None:
        """Another worker asks."""
        ended = self._logins.kick(signal.user_id, 0, signal.reason, by_admin=True)
        self._bus.publish(topic_of_answer(signal.ref), signals.encode(signals.Expelled(signal.ref, ended)))

    def answered(self, signal: signals.Expelled) -> None:
        if (asked := self._asked.get(signal.ref)) is not None:
            asked.answers += 1
            asked.sessions += signal.sessions
            asked.heard.set()
