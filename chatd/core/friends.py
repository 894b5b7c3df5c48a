"""Friend requests: asking, answering, ending; telling the other side.

Owns: AddFriend, AnswerFriend and their like as Changes. The rows and their rules are the store's.
Fails: Refused, Unavailable; then nothing changed and nobody was told.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from chatd.bus.contract import topic_of_user
from chatd.core import bus_messages
from chatd.core.change import Change
from chatd.core.presence import Presence
from chatd.core.requests.notices import Notices
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import FriendRequest, User, UserId
from chatd.protocol import AddFriend, AnswerFriend, FriendAnswered, FriendRequested
from chatd.store.contract import Tables

Find = Callable[[Tables], User]
"""Whom a request names, looked up in its own transaction. Raises Refused UNKNOWN_RECIPIENT."""


def by_id(user_id: UserId) -> Find:
    def find(tables: Tables) -> User:
        account = tables.accounts.find("", user_id)
        if account is None:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
        return account.user

    return find


class Friends:
    def __init__(self, services: Services, notices: Notices, presence: Presence) -> None:
        self._store = services.store
        self._hub = services.hub
        self._bus = services.bus
        self._config = services.config
        self._notices = notices
        self._presence = presence

    async def add(self, session: Session, command: AddFriend) -> None:
        await self.asking(session.user, by_id(command.user_id)).apply(self._store)

    async def answer(self, session: Session, command: AnswerFriend) -> None:
        await self.answering(session.user, by_id(command.user_id), command.accept).apply(self._store)

    def asking(self, user: User, find: Find) -> Change[tuple[User, bool]]:
        """Ask; or, where the other side has asked already, accept. Gives the other and whether they are friends."""
        limit, now_ms = self._config().limits.friends_per_user, time.time_ns() // 1_000_000

        def write(tables: Tables) -> tuple[User, bool]:
            other = find(tables)
            return other, tables.friends.request(user, other.id, limit, now_ms)

        def after(result: tuple[User, bool]) -> None:
            other, friends_now = result
            if friends_now:
                self._tell(other.id, bus_messages.FriendRequestAnswered(user, other.id, True))
            else:
                self._tell(other.id, bus_messages.FriendRequestSent(FriendRequest(user, other.id)))

        return Change(write, after)

    def answering(self, user: User, find: Find, accept: bool) -> Change[User]:
        limit, now_ms = self._config().limits.friends_per_user, time.time_ns() // 1_000_000

        def write(tables: Tables) -> User:
            other = find(tables)
            tables.friends.answer(user.id, other.id, accept, limit, now_ms)
            return other

        return Change(
            write, lambda other: self._tell(other.id, bus_messages.FriendRequestAnswered(user, other.id, accept))
        )

    def removing(self, user: User, find: Find) -> Change[User]:
        """The other side is not told; it sees it in its list. Neither is told of the other's presence any more."""

        def write(tables: Tables) -> User:
            other = find(tables)
            tables.friends.remove(user.id, other.id)
            return other

        def after(other: User) -> None:
            self._presence.parted(user.id)
            self._presence.parted(other.id)

        return Change(write, after)

    def _tell(self, user_id: int, signal: bus_messages.FriendRequestSent | bus_messages.FriendRequestAnswered) -> None:
        self.heard(signal)
        self._bus.publish(topic_of_user(user_id), bus_messages.encode(signal))

    def heard(self, signal: bus_messages.FriendRequestSent | bus_messages.FriendRequestAnswered) -> None:
        """Tell the sessions of this worker."""
        if isinstance(signal, bus_messages.FriendRequestSent):
            for session in self._hub.of_user(signal.request.to):
                self._notices.friend_requested(session, FriendRequested(signal.request))
        else:
            for session in self._hub.of_user(signal.to):
                self._notices.friend_answered(session, FriendAnswered(signal.by, signal.to, signal.accepted))
