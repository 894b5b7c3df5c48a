"""Groups: creating, joining, leaving, roles; telling the members.

Owns: CreateGroup, JoinGroup and their like as Changes. The rules are the store's, inside the transaction.
Elsewhere: which sessions hear a group (core.memberships).
Fails: Refused, Unavailable; then nothing changed and nobody was told.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from functools import partial
from typing import NamedTuple

from chatd.bus.contract import topic_of_group, topic_of_user
from chatd.core import bus_messages
from chatd.core.change import Change
from chatd.core.friends import Find
from chatd.core.memberships import Memberships
from chatd.core.presence import Presence
from chatd.core.requests.notices import Notices, notice, of_group, of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import Group, GroupId, Role, User, UserId
from chatd.protocol import CreateGroup, GroupReady, JoinGroup
from chatd.store.contract import FIRST_VERSION, Joined, Left, Tables

_DESCRIPTION_CHARS = 200


class Since(NamedTuple):
    """When news of who is a member became so, and who stopped being one by it (0: nobody)."""

    members_version: int
    departed: UserId = 0


class Kick(NamedTuple):
    user: User
    members_version: int


class Groups:
    def __init__(self, services: Services, memberships: Memberships, notices: Notices, presence: Presence) -> None:
        self._store = services.store
        self._hub = services.hub
        self._bus = services.bus
        self._config = services.config
        self._memberships = memberships
        self._notices = notices
        self._presence = presence

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

        return Change(write, lambda group: self._entered(user, group.id, FIRST_VERSION))

    def joining(self, user: User, group_id: GroupId) -> Change[Joined]:
        limits, now_ms = self._config().limits, time.time_ns() // 1_000_000

        def write(tables: Tables) -> Joined:
            return tables.groups.join(user.id, group_id, limits.group_members, limits.groups_per_user, now_ms)

        def after(joined: Joined) -> Awaitable[None]:
            return self._entered(user, joined.group.id, joined.since_version, is_new=joined.fresh)

        return Change(write, after)

    def leaving(self, user: User, group_id: GroupId) -> Change[Left]:
        def after(left: Left) -> None:
            version = left.members_version
            self._gone(user.id, group_id, False, version)
            self._news(group_id, "group.left", Since(version, user.id), user=of_user(user), owner=left.heir)

        return Change(lambda tables: tables.groups.leave(user.id, group_id), after)

    def kicking(self, by: User, group_id: GroupId, find: Find) -> Change[Kick]:
        def write(tables: Tables) -> Kick:
            user = find(tables)
            return Kick(user, tables.groups.kick(by.id, group_id, user.id))

        def after(kick: Kick) -> None:
            user, version = kick
            self._gone(user.id, group_id, True, version)
            self._news(group_id, "group.kicked", Since(version, user.id), user=of_user(user), by=of_user(by))

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

    def _entered(self, user: User, group_id: GroupId, since_version: int, *, is_new: bool = True) -> Awaitable[None]:
        """Every session of the user, here and elsewhere, hears the group from now on."""
        joined = bus_messages.GroupJoined(user.id, group_id, since_version)
        self._bus.publish(topic_of_user(user.id), bus_messages.encode(joined))
        if is_new:
            self._news(group_id, "group.joined", Since(since_version), user=of_user(user))
        return self._memberships.joined(user.id, group_id, since_version)

    async def joined(self, signal: bus_messages.GroupJoined) -> None:
        """The user's sessions on this worker hear the group from now on."""
        await self._memberships.joined(signal.user_id, signal.group_id, signal.since_version)

    def _gone(self, user_id: UserId, group_id: GroupId, kicked: bool, members_version: int) -> None:
        left = bus_messages.GroupLeft(user_id, group_id, kicked, members_version)
        self._bus.publish(topic_of_user(user_id), bus_messages.encode(left))
        self._presence.parted(user_id)
        self.left(left)

    def left(self, signal: bus_messages.GroupLeft) -> None:
        """The user's sessions on this worker are no members any more, unless the user has joined again since."""
        self._memberships.left(signal.user_id, signal.group_id, signal.members_version)
        if signal.kicked:
            for session in self._hub.of_user(signal.user_id):
                if signal.group_id not in (session.groups or ()):
                    self._notices.tell(session, notice("group.kicked", group=signal.group_id))
        self._presence.left(signal.user_id)

    def _news(self, group_id: GroupId, event: str, since: Since | None = None, **fields: object) -> None:
        """since: where the news are of who is a member."""
        text = notice(event, group=group_id, **fields)
        news = bus_messages.GroupNotice(group_id, text, *(since or ()))
        self._bus.publish(topic_of_group(group_id), bus_messages.encode(news))
        self.news(news)

    def news(self, signal: bus_messages.GroupNotice) -> None:
        """Tell the members on this worker."""
        group_id, version = signal.group_id, signal.members_version
        if signal.departed:
            self._memberships.left(signal.departed, group_id, version)
        elif version:
            self._memberships.changed(group_id, version)
        group = self._hub.group(group_id)
        if group is None:
            return
        if group.waiting is None and version <= group.known_version:
            self._tell_members(signal)
        else:
            self._memberships.wait(group_id, group, version, partial(self._tell_members, signal))

    def _tell_members(self, signal: bus_messages.GroupNotice) -> None:
        """Not those who have joined since, or by what the notice tells of."""
        for session in tuple(self._hub.of_group(signal.group_id)):
            since_version = (session.groups or {})[signal.group_id]
            if not signal.members_version or since_version < signal.members_version:
                self._notices.tell(session, signal.text)
