"""Groups: creating, joining, leaving, roles; telling the members.

Owns: CreateGroup, JoinGroup and their like as Changes. The rules are the store's, inside the transaction.
Elsewhere: which sessions hear a group (core.sessions.hub).
Fails: Refused, Unavailable; then nothing changed and nobody was told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from chatd.bus.contract import topic_of_group, topic_of_user
from chatd.core import bus_messages
from chatd.core.change import Change
from chatd.core.delivery import Delivery
from chatd.core.friends import Find
from chatd.core.presence import Presence
from chatd.core.requests.notices import Notices, notice, of_group, of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import Group, GroupId, Role, User, UserId
from chatd.protocol import CreateGroup, GroupReady, JoinGroup
from chatd.store.contract import Joined, Left, Tables

_DESCRIPTION_CHARS = 200
_RETRY_S = 1.0
_AT_ONCE = 50
"""Sessions whose memberships are read again in one piece."""


class Groups:
    def __init__(self, services: Services, delivery: Delivery, notices: Notices, presence: Presence) -> None:
        self._store = services.store
        self._hub = services.hub
        self._bus = services.bus
        self._config = services.config
        self._background = services.background
        self._delivery = delivery
        self._notices = notices
        self._presence = presence
        self._stale: set[Session] = set()

    # ---------------------------------------------------------------- commands of the chatserver wire

    async def create(self, session: Session, command: CreateGroup) -> None:
        group = await self.creating(session.user, command.name, command.description).apply(self._store)
        session.peer.push(GroupReady(group, True))

    async def join(self, session: Session, command: JoinGroup) -> None:
        joined = await self.joining(session.user, command.group_id).apply(self._store)
        session.peer.push(GroupReady(joined.group, False))

    # ---------------------------------------------------------------- changes

    def creating(self, user: User, name: str, description: str) -> Change[Group]:
        name, limits, now_ms = self._checked(name, description), self._config().limits, time.time_ns() // 1_000_000

        def write(tables: Tables) -> Group:
            made = tables.groups.create(user.id, name, description, limits.groups_per_user, now_ms)
            return Group(made, name, description)

        return Change(write, lambda group: self._entered(user, group))

    def joining(self, user: User, group_id: GroupId) -> Change[Joined]:
        limits, now_ms = self._config().limits, time.time_ns() // 1_000_000

        def write(tables: Tables) -> Joined:
            return tables.groups.join(user.id, group_id, limits.group_members, limits.groups_per_user, now_ms)

        def after(joined: Joined) -> Awaitable[None]:
            return self._entered(user, joined.group, tell=joined.fresh)

        return Change(write, after)

    def leaving(self, user: User, group_id: GroupId) -> Change[Left]:
        def after(left: Left) -> None:
            self._gone(user.id, group_id, False)
            self._news(group_id, "group.left", user=of_user(user), owner=left.heir)

        return Change(lambda tables: tables.groups.leave(user.id, group_id), after)

    def kicking(self, by: User, group_id: GroupId, find: Find) -> Change[User]:
        def write(tables: Tables) -> User:
            user = find(tables)
            tables.groups.kick(by.id, group_id, user.id)
            return user

        def after(user: User) -> None:
            self._gone(user.id, group_id, True)
            self._news(group_id, "group.kicked", user=of_user(user), by=of_user(by))

        return Change(write, after)

    def renaming(self, by: User, group_id: GroupId, name: str, description: str | None) -> Change[Group]:
        name = self._checked(name, description or "")
        return Change(
            lambda tables: tables.groups.rename(by.id, group_id, name, description),
            lambda group: self._news(group_id, "group.renamed", details=of_group(group), by=of_user(by)),
        )

    def giving_role(self, by: User, group_id: GroupId, find: Find, role: Role) -> Change[User]:
        def write(tables: Tables) -> User:
            user = find(tables)
            tables.groups.set_role(by.id, group_id, user.id, role)
            return user

        return Change(
            write,
            lambda user: self._news(group_id, "group.role", user=of_user(user), role=role.name.lower()),
        )

    def _checked(self, name: str, description: str) -> str:
        name = name.strip()
        if not 0 < len(name) <= self._config().limits.name_chars or len(description) > _DESCRIPTION_CHARS:
            raise Refused(ErrorCode.BAD_FIELD, "the group's name or description is empty or too long")
        return name

    # ---------------------------------------------------------------- who hears of it

    def _entered(self, user: User, group: Group, *, tell: bool = True) -> Awaitable[None]:
        """Every session of the user, here and elsewhere, hears the group from now on."""
        joined = bus_messages.GroupJoined(user.id, group.id)
        self._bus.publish(topic_of_user(user.id), bus_messages.encode(joined))
        if tell:
            self._news(group.id, "group.joined", user=of_user(user))
        return self.joined(joined)

    async def joined(self, signal: bus_messages.GroupJoined) -> None:
        """The user's sessions on this worker hear the group, and read what was stored before they did."""
        for session in self._hub.of_user(signal.user_id):
            await self._hub.join(session, signal.group_id)
            if not session.is_over:
                self._delivery.catch_up(session)

    def _gone(self, user_id: UserId, group_id: GroupId, kicked: bool) -> None:
        left = bus_messages.GroupLeft(user_id, group_id, kicked)
        self._bus.publish(topic_of_user(user_id), bus_messages.encode(left))
        self._presence.parted(user_id)
        self.left(left)

    def left(self, signal: bus_messages.GroupLeft) -> None:
        """The user's sessions on this worker are no members any more."""
        for session in self._hub.of_user(signal.user_id):
            self._quit(session, signal.group_id)
            if signal.kicked:
                self._notices.tell(session, notice("group.kicked", group=signal.group_id))
        self._presence.left(signal.user_id)

    def _quit(self, session: Session, group_id: GroupId) -> None:
        self._hub.leave(session, group_id)
        self._delivery.forget(session, -group_id)

    def gap(self) -> None:
        """Signals may have been missed: read the memberships of this worker's sessions again."""
        if not self._stale:
            self._background.start(self._reread())
        self._stale.update(self._hub.sessions())

    async def _reread(self) -> None:
        await asyncio.sleep(0)
        while self._stale:
            some = [self._stale.pop() for _ in range(min(_AT_ONCE, len(self._stale)))]
            try:
                await self._reread_some([session for session in some if not session.is_over])
            except Unavailable:
                self._stale.update(some)
                await asyncio.sleep(_RETRY_S)

    async def _reread_some(self, sessions: list[Session]) -> None:
        def read(tables: Tables) -> list[set[GroupId]]:
            return [set(tables.groups.ids_of(session.user.id)) for session in sessions]

        before = [set(session.groups or ()) for session in sessions]
        for session, had, has in zip(sessions, before, await self._store.read(read), strict=True):
            await self._regroup(session, had, has)

    async def _regroup(self, session: Session, had: set[GroupId], has: set[GroupId]) -> None:
        """had: before the store was asked; what was signalled since then is newer than the answer."""
        for group_id in had - has:
            self._quit(session, group_id)
        if (new := has - had) and not session.is_over:
            await self._hub.join(session, *new)
            self._delivery.catch_up(session)

    def _news(self, group_id: GroupId, event: str, **fields: object) -> None:
        news = bus_messages.GroupNotice(group_id, notice(event, group=group_id, **fields))
        self._bus.publish(topic_of_group(group_id), bus_messages.encode(news))
        self.news(news)

    def news(self, signal: bus_messages.GroupNotice) -> None:
        """Tell the members on this worker."""
        for session in tuple(self._hub.of_group(signal.group_id)):
            self._notices.tell(session, signal.text)
