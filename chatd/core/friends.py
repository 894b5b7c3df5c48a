"""Friend requests: asking, answering, ending a friendship; notifying the other user.

Owns: AddFriend, AnswerFriend and the requests that mean the same, as Changes, about which plug-ins are asked first;
notifying the other user.
Elsewhere: the rows and their rules (store), the arguments of requests (core.requests.friends).
Fails: Refused, Unavailable; then nothing was changed and nobody was told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chatd import wall_clock
from chatd.bus.contract import topic_of_user
from chatd.core import bus_messages
from chatd.core.bus_messages import FriendRequestAnswered, FriendRequestSent
from chatd.core.change import Change
from chatd.core.consent import asking_rules
from chatd.core.plugins import actions
from chatd.core.plugins.contract import Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.presence import Presence
from chatd.core.requests.notices import Notices
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import FriendRequest, User, UserId
from chatd.protocol import AddFriend, AnswerFriend, FriendAnswered, FriendRequested
from chatd.store.contract import Asked, Tables

Find = Callable[[Tables], User]
"""Looks up the user whom a request names, in the request's own transaction. Raises Refused UNKNOWN_RECIPIENT."""


def by_id(user_id: UserId) -> Find:
    """Finds the user with this id."""

    def find(tables: Tables) -> User:
        account = tables.accounts.find("", user_id)
        if account is None:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
        return account.user

    return find


class Befriended(NamedTuple):
    """is_new: they were not friends before."""

    user: User
    other: User
    is_new: bool


class Friends:
    def __init__(self, services: Services, notices: Notices, presence: Presence, plugins: PluginPipeline) -> None:
        self._services = services
        self._notices = notices
        self._presence = presence
        self._plugins = plugins

    # ---------------------------------------------------------------- commands of the chatserver wire

    async def add(self, session: Session, command: AddFriend) -> None:
        change = await self.asking(session, by_id(command.user_id))
        await change.apply(self._services.store)

    async def answer(self, session: Session, command: AnswerFriend) -> None:
        change = await self.answering(session, by_id(command.user_id), accept=command.accept)
        await change.apply(self._services.store)

    # ---------------------------------------------------------------- changes, which plug-ins may refuse

    async def asking(self, session: Session, find: Find) -> Change[tuple[User, Asked]]:
        """Ask to be friends; if the other side has asked already, accept. The result: the other user, and what became
        of it. A user who was told of the request is not told again. Raises Refused, Unavailable."""
        await self._plugins.before_action(
            session, Point.BEFORE_FRIEND_REQUEST, lambda tables, who: actions.AskFriend(**who, user=find(tables))
        )
        user, rules, now_ms = session.user, asking_rules(self._services.config()), wall_clock.now_ms()

        def write(tables: Tables) -> tuple[User, Asked]:
            other = find(tables)
            return other, tables.friends.request(user, other.id, rules, now_ms)

        def after(result: tuple[User, Asked]) -> None:
            other, asked = result
            if asked is Asked.FRIENDS:
                self._tell(other.id, FriendRequestAnswered(user, other.id, True))
            elif asked is Asked.NEW:
                self._tell(other.id, FriendRequestSent(FriendRequest(user, other.id)))

        return Change(write, after)

    async def answering(self, session: Session, find: Find, *, accept: bool) -> Change[User]:
        """The result: the user who had asked. Raises Refused, Unavailable."""
        await self._plugins.before_action(
            session,
            Point.BEFORE_FRIEND_ANSWER,
            lambda tables, who: actions.AnswerFriend(**who, user=find(tables), accept=accept),
        )
        user, limit, now_ms = session.user, self._services.config().limits.friends_per_user, wall_clock.now_ms()

        def write(tables: Tables) -> User:
            other = find(tables)
            tables.friends.answer(user.id, other.id, accept, limit, now_ms)
            return other

        return Change(write, lambda other: self._tell(other.id, FriendRequestAnswered(user, other.id, accept)))

    async def removing(self, session: Session, find: Find) -> Change[User]:
        """End a friendship, or take back a request. The other user is not told, but finds it in the list of friends.
        From now on neither is told of the other's presence. Raises Refused, Unavailable."""
        await self._plugins.before_action(
            session, Point.BEFORE_FRIEND_REMOVE, lambda tables, who: actions.RemoveFriend(**who, user=find(tables))
        )
        user = session.user

        def write(tables: Tables) -> User:
            other = find(tables)
            tables.friends.remove(user.id, other.id)
            return other

        def after(other: User) -> None:
            self._presence.parted(user.id)
            self._presence.parted(other.id)

        return Change(write, after)

    def befriending(self, find: Find, find_other: Find) -> Change[Befriended]:
        """Two users become friends by order of the operator, who keeps their relations elsewhere: neither is asked, and
        each is told that the other has accepted."""
        limit, now_ms = self._services.config().limits.friends_per_user, wall_clock.now_ms()

        def write(tables: Tables) -> Befriended:
            user, other = find(tables), find_other(tables)
            return Befriended(user, other, tables.friends.befriend(user.id, other.id, limit, now_ms))

        def after(result: Befriended) -> None:
            user, other, is_new = result
            if is_new:
                self._tell(other.id, FriendRequestAnswered(user, other.id, True))
                self._tell(user.id, FriendRequestAnswered(other, user.id, True))

        return Change(write, after)

    # ---------------------------------------------------------------- telling

    def _tell(self, user_id: UserId, message: FriendRequestSent | FriendRequestAnswered) -> None:
        """Tell the user's sessions on every worker."""
        self.notify(message)
        self._services.bus.publish(topic_of_user(user_id), bus_messages.encode(message))

    def notify(self, message: FriendRequestSent | FriendRequestAnswered) -> None:
        """Tell the user's sessions on this worker."""
        if isinstance(message, FriendRequestSent):
            for session in self._services.hub.of_user(message.request.to):
                self._notices.friend_requested(session, FriendRequested(message.request))
        else:
            for session in self._services.hub.of_user(message.to):
                self._notices.friend_answered(session, FriendAnswered(message.by, message.to, message.accepted))
