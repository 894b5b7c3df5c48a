"""Requests about friends, and about who is online.

Owns: the arguments and answers of these operations.
Elsewhere: their rules (core.friends, core.consent, core.presence, the store).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from chatd.core import consent
from chatd.core.allowance import ASK_FRIEND, LIST, WRITE
from chatd.core.change import Change
from chatd.core.friends import Friends
from chatd.core.plugins import actions
from chatd.core.plugins.contract import NotAsked, Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.presence import Presence
from chatd.core.requests.arguments import NoArguments, OneUser, UserName, user_named
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.notices import of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import Refused
from chatd.model import FriendRequest, User, UserId
from chatd.store.contract import Asked, Purpose, Tables

_IN_LOGIN_ANSWER = NotAsked("on the chatserver wire the login answer has the same")


class SomeUsers(msgspec.Struct, frozen=True):
    users: Annotated[list[UserName], Meta(min_length=1, max_length=100)]


class FriendOperations:
    def __init__(self, services: Services, friends: Friends, presence: Presence, plugins: PluginPipeline) -> None:
        self._services = services
        self._friends = friends
        self._presence = presence
        self._plugins = plugins

    def table(self) -> OperationTable:
        return self._request_table() | self._friend_table() | self._presence_table()

    def _request_table(self) -> OperationTable:
        return {
            "friend.request": Operation(
                OneUser,
                "ask a user to become a friend",
                '{"user":U,"friends":bool}',
                asks=Point.BEFORE_FRIEND_REQUEST,
                write=self._ask,
                shown=_asked,
                cost=ASK_FRIEND,
            ),
            "friend.accept": Operation(
                OneUser,
                "accept a user's request",
                '{"user":U}',
                asks=Point.BEFORE_FRIEND_ANSWER,
                write=self._accept,
                shown=_user,
                cost=WRITE,
            ),
            "friend.refuse": Operation(
                OneUser,
                "refuse a user's request",
                '{"user":U}',
                asks=Point.BEFORE_FRIEND_ANSWER,
                write=self._refuse,
                shown=_user,
                cost=WRITE,
            ),
        }

    def _friend_table(self) -> OperationTable:
        return {
            "friend.remove": Operation(
                OneUser,
                "end a friendship, or withdraw a request",
                '{"user":U}',
                asks=Point.BEFORE_FRIEND_REMOVE,
                write=self._remove,
                shown=_user,
                cost=WRITE,
            ),
            "friend.list": Operation(
                NoArguments,
                "friends with their presence, and open requests",
                '{"friends":[U with "online"],"requests":[U]}',
                asks=_IN_LOGIN_ANSWER,
                read=self._list,
                cost=LIST,
            ),
        }

    def _presence_table(self) -> OperationTable:
        return {
            "presence.get": Operation(
                SomeUsers,
                "whether users are online, and when they were last seen",
                '{"users":[U with "online","last_seen"]}',
                asks=Point.BEFORE_PRESENCE,
                read=self._get_presence,
                cost=LIST,
            ),
            "presence.subscribe": Operation(
                SomeUsers,
                "be notified when users go online or offline",
                '{"users":[U with "online","last_seen"]}',
                asks=Point.BEFORE_PRESENCE,
                read=self._watch_presence,
                cost=LIST,
            ),
        }

    # ---------------------------------------------------------------- friends

    async def _ask(self, session: Session, arguments: OneUser) -> Change[tuple[User, Asked]]:
        return await self._friends.asking(session, user_named(arguments.user))

    async def _accept(self, session: Session, arguments: OneUser) -> Change[User]:
        return await self._friends.answering(session, user_named(arguments.user), accept=True)

    async def _refuse(self, session: Session, arguments: OneUser) -> Change[User]:
        return await self._friends.answering(session, user_named(arguments.user), accept=False)

    async def _remove(self, session: Session, arguments: OneUser) -> Change[User]:
        return await self._friends.removing(session, user_named(arguments.user))

    async def _list(self, session: Session, arguments: NoArguments) -> object:
        me = session.user.id
        config = self._services.config()

        def read(tables: Tables) -> tuple[list[User], list[FriendRequest], set[UserId]]:
            friends = tables.friends.of(me)
            unseen = consent.unseen(tables, config, me, [user.id for user in friends])
            return friends, tables.friends.requests_to(me), unseen

        friends, requests, unseen = await self._services.store.read(read)
        online = await self._services.hub.online(user.id for user in friends) - unseen
        return {
            "friends": [{**of_user(user), "online": user.id in online} for user in friends],
            "requests": [of_user(request.sender) for request in requests],
        }

    # ---------------------------------------------------------------- presence

    async def _get_presence(self, session: Session, arguments: SomeUsers) -> object:
        seen, _ = await self._last_seen(session, arguments, watch=False)
        online = await self._services.hub.online(user.id for user, _ in seen)
        return {"users": [_presence(user, online=user.id in online, last_seen_ms=at_ms) for user, at_ms in seen]}

    async def _watch_presence(self, session: Session, arguments: SomeUsers) -> object:
        seen, version = await self._last_seen(session, arguments, watch=True)
        users = [user for user, _ in seen]
        online = await self._presence.watch(session, users, version)
        return {"users": [_presence(user, online=online[user.id], last_seen_ms=at_ms) for user, at_ms in seen]}

    async def _last_seen(
        self, session: Session, arguments: SomeUsers, *, watch: bool
    ) -> tuple[list[tuple[User, int]], int]:
        """The users named and when each was last seen; and the ConsentTables.version() as of which they may be seen.
        Raises Refused NOT_ACCEPTED if one of them may not be seen."""

        def viewed(tables: Tables, who: actions.Who) -> actions.ViewPresence:
            users = tuple(user_named(name)(tables) for name in arguments.users)
            return actions.ViewPresence(**who, users=users, watch=watch)

        await self._plugins.before_action(session, Point.BEFORE_PRESENCE, viewed)
        me, default = session.user.id, consent.default_of(self._services.config(), Purpose.SEE)

        def read(tables: Tables) -> tuple[list[tuple[User, int]], int]:
            version = tables.consent.version()  # first: it may be too old, but not too new
            users = [user_named(name)(tables) for name in arguments.users]
            codes = tables.consent.refusals(Purpose.SEE, [(me, user.id) for user in users], default)
            for user, code in zip(users, codes, strict=True):
                if code is not None:
                    raise Refused(code, f"{user.name} does not show you whether they are online")
            return [(user, tables.accounts.last_seen(user.id)) for user in users], version

        return await self._services.store.read(read)


def _user(user: User) -> object:
    return {"user": of_user(user)}


def _asked(result: tuple[User, Asked]) -> object:
    user, asked = result
    return {"user": of_user(user), "friends": asked is Asked.FRIENDS}


def _presence(user: User, *, online: bool, last_seen_ms: int) -> dict[str, object]:
    return {**of_user(user), "online": online, "last_seen": last_seen_ms}
