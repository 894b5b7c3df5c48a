"""Requests about friends, presence, profiles, passwords and one's own sessions.

Owns: the arguments and answers of these operations. Their rules: core.friends, core.presence, core.accounts, store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from chatd.config.schema import Config
from chatd.core.accounts import Accounts
from chatd.core.bus_messages import SessionInfo
from chatd.core.change import Change
from chatd.core.friends import Find, Friends, by_id
from chatd.core.presence import Presence
from chatd.core.requests.dispatch import NoArguments, Op, Table
from chatd.core.requests.notices import of_user
from chatd.core.sessions.hub import Hub
from chatd.core.sessions.login import Logins
from chatd.core.sessions.query import SessionQuery, info_of
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import Protocol, User
from chatd.protocol import Login
from chatd.store.contract import Tables
from chatd.store.group_commit import GroupCommit

Whom = Annotated[str, Meta(min_length=1, max_length=64)] | Annotated[int, Meta(gt=0, lt=1 << 62)]
"""A user by name or by id."""


def whom(name: str | int) -> Find:
    if isinstance(name, int):
        return by_id(name)

    def find(tables: Tables) -> User:
        account = tables.accounts.find(name, 0)
        if account is None:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
        return account.user

    return find


class OneUser(msgspec.Struct, frozen=True):
    user: Whom


class SomeUsers(msgspec.Struct, frozen=True):
    users: Annotated[list[Whom], Meta(min_length=1, max_length=100)]


class MaybeUser(msgspec.Struct, frozen=True):
    user: Whom | None = None


_Line = Annotated[str, Meta(max_length=200)]


class Profile(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a user tells of themselves. A field left out stays as it is; "" empties it."""

    nickname: _Line | None = None
    avatar: Annotated[str, Meta(max_length=1000)] | None = None
    status: _Line | None = None
    about: Annotated[str, Meta(max_length=1000)] | None = None


class Passwords(msgspec.Struct, frozen=True):
    old: Annotated[str, Meta(max_length=1024)]
    new: Annotated[str, Meta(max_length=1024)]


class WhichSession(msgspec.Struct, frozen=True):
    wire: Literal["chatserver", "mobileimsdk"]


class Text(msgspec.Struct, frozen=True):
    text: str = ""


class Parts(NamedTuple):
    """What these operations are made of."""

    store: GroupCommit
    hub: Hub
    friends: Friends
    presence: Presence
    accounts: Accounts
    logins: Logins
    query: SessionQuery
    config: Callable[[], Config]


class PeopleRequests:
    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._hub = parts.hub
        self._friends = parts.friends
        self._presence = parts.presence
        self._accounts = parts.accounts
        self._logins = parts.logins
        self._query = parts.query
        self._config = parts.config

    def table(self) -> Table:
        def user_of(result: User) -> object:
            return {"user": of_user(result)}

        def asked(result: tuple[User, bool]) -> object:
            return {"user": of_user(result[0]), "friends": result[1]}

        return {
            "friend.request": Op(
                OneUser, "ask a user to be friends", '{"user":U,"friends":bool}', write=self._ask, shown=asked
            ),
            "friend.accept": Op(OneUser, "accept a user's request", '{"user":U}', write=self._accept, shown=user_of),
            "friend.refuse": Op(OneUser, "refuse a user's request", '{"user":U}', write=self._refuse, shown=user_of),
            "friend.remove": Op(
                OneUser, "end a friendship, or take back a request", '{"user":U}', write=self._remove, shown=user_of
            ),
            "friend.list": Op(
                NoArguments,
                "friends with presence, and requests that wait",
                '{"friends":[U with "online"],"requests":[U]}',
                read=self._list,
            ),
            "presence.get": Op(
                SomeUsers,
                "whether users are online, and when last seen",
                '{"users":[U with "online","last_seen"]}',
                read=self._see,
            ),
            "presence.subscribe": Op(
                SomeUsers, "be told when users come and go", '{"users":[U with "online","last_seen"]}', read=self._watch
            ),
            "profile.get": Op(
                MaybeUser, "a user's profile; one's own without user", '{"user":U,"profile":{…}}', read=self._profile
            ),
            "profile.set": Op(
                Profile,
                "change one's own profile",
                '{"profile":{…}}',
                write=self._set_profile,
                shown=lambda r: {"profile": r},
            ),
            "password.change": Op(Passwords, "change one's own password", "{}", write=self._password),
            "session.list": Op(
                NoArguments,
                "one's own sessions",
                '{"sessions":[{"wire":str,"since":ms,"peer":str,"this":bool}],"complete":bool}',
                read=self._sessions,
            ),
            "session.kick": Op(WhichSession, "end one's own session on the wire named", "{}", read=self._kick),
            "whoami": Op(
                NoArguments, "who is logged in", '{"id":int,"name":str,"wire":str,"since":ms}', read=self._whoami
            ),
            "echo": Op(Text, "the text comes back", '{"text":str}', read=self._echo),
        }

    # ---------------------------------------------------------------- friends

    async def _ask(self, session: Session, arguments: OneUser) -> Change[tuple[User, bool]]:
        return self._friends.asking(session.user, whom(arguments.user))

    async def _accept(self, session: Session, arguments: OneUser) -> Change[User]:
        return self._friends.answering(session.user, whom(arguments.user), True)

    async def _refuse(self, session: Session, arguments: OneUser) -> Change[User]:
        return self._friends.answering(session.user, whom(arguments.user), False)

    async def _remove(self, session: Session, arguments: OneUser) -> Change[User]:
        return self._friends.removing(session.user, whom(arguments.user))

    async def _list(self, session: Session, arguments: NoArguments) -> object:
        me = session.user.id
        friends, requests = await self._store.read(
            lambda tables: (tables.friends.of(me), tables.friends.requests_to(me))
        )
        online = await self._hub.online(user.id for user in friends)
        return {
            "friends": [{**of_user(user), "online": user.id in online} for user in friends],
            "requests": [of_user(request.sender) for request in requests],
        }

    # ---------------------------------------------------------------- presence

    async def _see(self, session: Session, arguments: SomeUsers) -> object:
        seen = await self._seen(session, arguments)
        online = await self._hub.online(user.id for user, _ in seen)
        return {"users": [_presence(user, user.id in online, at_ms) for user, at_ms in seen]}

    async def _watch(self, session: Session, arguments: SomeUsers) -> object:
        seen = await self._seen(session, arguments)
        users = [user for user, _ in seen]
        online = await self._presence.watch(session, users, self._config().limits.presence_watches)
        return {"users": [_presence(user, online[user.id], at_ms) for user, at_ms in seen]}

    async def _seen(self, session: Session, arguments: SomeUsers) -> list[tuple[User, int]]:
        """The users named, and when they were last seen. Refused where one may not be seen."""
        me, everybody = session.user.id, self._config().accounts.presence == "all"

        def read(tables: Tables) -> list[tuple[User, int]]:
            users = [whom(name)(tables) for name in arguments.users]
            for user in users:
                if not everybody and not tables.friends.may_see(me, user.id):
                    raise Refused(ErrorCode.NOT_ALLOWED, f"you may not see whether {user.name} is online")
            return [(user, tables.accounts.last_seen(user.id)) for user in users]

        return await self._store.read(read)

    # ---------------------------------------------------------------- about oneself

    async def _profile(self, session: Session, arguments: MaybeUser) -> object:
        find = whom(arguments.user) if arguments.user is not None else by_id(session.user.id)

        def read(tables: Tables) -> object:
            user = find(tables)
            return {"user": of_user(user), "profile": tables.accounts.profile(user.id)}

        return await self._store.read(read)

    async def _set_profile(self, session: Session, arguments: Profile) -> Change[dict[str, str]]:
        me, given = session.user.id, msgspec.to_builtins(arguments)

        def write(tables: Tables) -> dict[str, str]:
            merged = {**tables.accounts.profile(me), **given}
            profile = {key: value for key, value in merged.items() if value}
            tables.accounts.set_profile(me, profile)
            return profile

        return Change(write, lambda profile: None)

    async def _password(self, session: Session, arguments: Passwords) -> Change[None]:
        await self._accounts.authenticate(Login("", session.user.id, arguments.old))
        hashed, me = await self._accounts.hash_new(arguments.new), session.user.id
        return Change(lambda tables: tables.accounts.set_password(me, hashed), lambda result: None)

    async def _whoami(self, session: Session, arguments: NoArguments) -> object:
        return {**of_user(session.user), "wire": session.protocol.name.lower(), "since": session.since_ms}

    async def _echo(self, session: Session, arguments: Text) -> object:
        return {"text": arguments.text}

    async def _sessions(self, session: Session, arguments: NoArguments) -> object:
        found = await self._query.sessions_of_same_user(session)
        here = [_session(info_of(one), this=one is session) for one in found.here]
        elsewhere = [_session(one, this=False) for one in found.elsewhere]
        return {"sessions": here + elsewhere, "complete": found.complete}

    async def _kick(self, session: Session, arguments: WhichSession) -> object:
        protocol = Protocol[arguments.wire.upper()]
        if protocol is session.protocol:
            raise Refused(ErrorCode.NOT_ALLOWED, "this is the session you are asking from")
        self._logins.end_own(session.user.id, protocol)
        return {}


def _session(info: SessionInfo, *, this: bool) -> dict[str, object]:
    wire = Protocol(info.protocol).name.lower()
    return {"wire": wire, "since": info.since_ms, "peer": info.remote, "this": this}


def _presence(user: User, online: bool, last_seen_ms: int) -> dict[str, object]:
    return {**of_user(user), "online": online, "last_seen": last_seen_ms}
