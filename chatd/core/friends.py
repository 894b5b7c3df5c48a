"""Friend requests: asking, answering, telling the other side.

Owns: AddFriend and AnswerFriend. The rows and their rules are the store's.
Fails: Refused, Unavailable; then nothing changed and nobody was told.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from chatd.bus.base import Bus, topic_of_user
from chatd.config import Config
from chatd.core import signals
from chatd.core.hub import Hub
from chatd.core.session import Session
from chatd.model import FriendRequest
from chatd.protocol import AddFriend, AnswerFriend, FriendAnswered, FriendRequested
from chatd.store.commit import GroupCommit


class Friends:
    def __init__(self, store: GroupCommit, hub: Hub, bus: Bus, config: Callable[[], Config]) -> None:
        self._store = store
        self._hub = hub
        self._bus = bus
        self._config = config

    async def add(self, session: Session, command: AddFriend) -> None:
        """Ask; or, where the other side has asked already, accept."""
        user, to = session.user, command.user_id
        limit, now_ms = self._config().limits.friends_per_user, time.time_ns() // 1_000_000
        friends_now = await self._store.write(lambda tables: tables.request_friend(user, to, limit, now_ms))
        if friends_now:
            self._tell(to, signals.Answered(user, to, True))
        else:
            self._tell(to, signals.Asked(FriendRequest(user, to)))

    async def answer(self, session: Session, command: AnswerFriend) -> None:
        user, to, accept = session.user, command.user_id, command.accept
        now_ms = time.time_ns() // 1_000_000
        await self._store.write(lambda tables: tables.answer_friend(user.id, to, accept, now_ms))
        self._tell(to, signals.Answered(user, to, accept))

    def _tell(self, user_id: int, signal: signals.Asked | signals.Answered) -> None:
        self.heard(signal)
        self._bus.publish(topic_of_user(user_id), signals.encode(signal))

    def heard(self, signal: signals.Asked | signals.Answered) -> None:
        """Tell the sessions of this worker."""
        if isinstance(signal, signals.Asked):
            for session in self._hub.of_user(signal.request.to):
                session.peer.push(FriendRequested(signal.request))
        else:
            for session in self._hub.of_user(signal.to):
                session.peer.push(FriendAnswered(signal.by, signal.to, signal.accepted))
