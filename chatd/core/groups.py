"""Groups: creating, joining, leaving, roles; notifying the members.

Owns: CreateGroup, JoinGroup and the requests that mean the same, as Changes, about which plug-ins are asked first;
notifying the members.
Elsewhere: the rules, which the store checks inside the transaction; which sessions are given a group's messages
(core.memberships); the arguments of requests (core.requests.groups).
Fails: Refused, Unavailable; then nothing was changed and nobody was told.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from functools import partial
from typing import NamedTuple

from chatd.bus.contract import topic_of_group, topic_of_user
from chatd.core import bus_messages
from chatd.core.bus_messages import GroupJoined, GroupLeft, GroupNotice, GroupRenamed
from chatd.core.change import Change
from chatd.core.friends import Find
from chatd.core.memberships import Memberships
from chatd.core.plugins import actions
from chatd.core.plugins.contract import Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.presence import Presence
from chatd.core.requests.notices import Notices, notice, of_group, of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import Group, GroupId, Role, User, UserId
from chatd.protocol import CreateGroup, GroupReady, JoinGroup
from chatd.store.contract import FIRST_VERSION, Joined, Left, Tables
from chatd.texts import fields

_DESCRIPTION_CHARS = 200
"""Longest description of a group."""


class Since(NamedTuple):
    """The change of membership that a notice reports. members_version: the group's after it. departed: the user who
    left with it, 0 = nobody."""

    members_version: int
    departed: UserId = 0


class Kick(NamedTuple):
    """The result of removing a member. members_version: the group's after it."""

    user: User
    members_version: int


def existing(tables: Tables, group_id: GroupId) -> Group:
    """Raises Refused UNKNOWN_GROUP."""
    group = tables.groups.find(group_id)
    if group is None:
        raise Refused(ErrorCode.UNKNOWN_GROUP)
    return group


class Groups:
    def __init__(
        self,
        services: Services,
        memberships: Memberships,
        notices: Notices,
        presence: Presence,
        plugins: PluginPipeline,
    ) -> None:
        self._services = services
        self._memberships = memberships
        self._notices, self._presence = notices, presence
        self._plugins = plugins

    # ---------------------------------------------------------------- commands of the chatserver wire

    async def create(self, session: Session, command: CreateGroup) -> None:
        change = await self.creating(session, command.name, command.description)
        group = await change.apply(self._services.store)
        session.peer.push(GroupReady(group, True))

    async def join(self, session: Session, command: JoinGroup) -> None:
        joined = await (await self.joining(session, command.group_id)).apply(self._services.store)
        session.peer.push(GroupReady(joined.group, False))

    # ---------------------------------------------------------------- changes, which plug-ins may refuse

    async def creating(self, session: Session, name: str, description: str) -> Change[Group]:
        """Raises Refused, also BAD_FIELD; Unavailable."""
        name, text = self._checked(name, description)
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_CREATE,
            lambda tables, who: actions.CreateGroup(**who, name=name, description=text or ""),
        )
        user, limits, now_ms = session.user, self._services.config().limits, time.time_ns() // 1_000_000

        def write(tables: Tables) -> Group:
            made = tables.groups.create(user.id, name, text or "", limits.groups_per_user, now_ms)
            return Group(made, name, text or "")

        return Change(write, lambda group: self._entered(user, group.id, FIRST_VERSION))

    async def joining(self, session: Session, group_id: GroupId) -> Change[Joined]:
        """Raises Refused, Unavailable, like the following."""
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_JOIN,
            lambda tables, who: actions.JoinGroup(**who, group=existing(tables, group_id)),
        )
        user, limits, now_ms = session.user, self._services.config().limits, time.time_ns() // 1_000_000

        def write(tables: Tables) -> Joined:
            return tables.groups.join(user.id, group_id, limits.group_members, limits.groups_per_user, now_ms)

        def after(joined: Joined) -> Awaitable[None]:
            return self._entered(user, joined.group.id, joined.since_version, is_new=joined.fresh)

        return Change(write, after)

    async def leaving(self, session: Session, group_id: GroupId) -> Change[Left]:
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_LEAVE,
            lambda tables, who: actions.LeaveGroup(**who, group=existing(tables, group_id)),
        )
        user = session.user

        def after(left: Left) -> None:
            version = left.members_version
            self._gone(user.id, group_id, False, version)
            self._tell(group_id, "group.left", Since(version, user.id), user=of_user(user), owner=left.heir)

        return Change(lambda tables: tables.groups.leave(user.id, group_id), after)

    async def kicking(self, session: Session, group_id: GroupId, find: Find) -> Change[Kick]:
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_KICK,
            lambda tables, who: actions.KickMember(**who, group=existing(tables, group_id), user=find(tables)),
        )
        by = session.user

        def write(tables: Tables) -> Kick:
            user = find(tables)
            return Kick(user, tables.groups.kick(by.id, group_id, user.id))

        def after(kick: Kick) -> None:
            user, version = kick
            self._gone(user.id, group_id, True, version)
            self._tell(group_id, "group.kicked", Since(version, user.id), user=of_user(user), by=of_user(by))

        return Change(write, after)

    async def renaming(self, session: Session, group_id: GroupId, name: str, description: str | None) -> Change[Group]:
        """description None: as it is. Raises also Refused BAD_FIELD."""
        name, text = self._checked(name, description)

        def renamed(tables: Tables, who: actions.Who) -> actions.RenameGroup:
            return actions.RenameGroup(**who, group=existing(tables, group_id), name=name, description=text)

        await self._plugins.before_action(session, Point.BEFORE_GROUP_RENAME, renamed)
        by = session.user
        return Change(
            lambda tables: tables.groups.rename(by.id, group_id, name, text),
            lambda group: self._renamed(group, by),
        )

    async def giving_role(self, session: Session, group_id: GroupId, find: Find, role: Role) -> Change[User]:
        def given(tables: Tables, who: actions.Who) -> actions.SetRole:
            return actions.SetRole(**who, group=existing(tables, group_id), user=find(tables), role=role)

        await self._plugins.before_action(session, Point.BEFORE_GROUP_ROLE, given)
        by = session.user

        def write(tables: Tables) -> User:
            user = find(tables)
            tables.groups.set_role(by.id, group_id, user.id, role)
            return user

        return Change(
            write,
            lambda user: self._tell(group_id, "group.role", user=of_user(user), role=role.name.lower()),
        )

    def _checked(self, name: str, description: str | None) -> tuple[str, str | None]:
        """As they are stored. Raises Refused BAD_FIELD."""
        name = fields.name("the group's name", name, self._services.config().limits.name_chars)
        if description is not None:
            description = fields.paragraphs("the group's description", description, _DESCRIPTION_CHARS)
        return name, description

    # ---------------------------------------------------------------- telling

    def _entered(self, user: User, group_id: GroupId, since_version: int, *, is_new: bool = True) -> Awaitable[None]:
        """Every session of the user, on every worker, is given the group's messages from now on."""
        joined = GroupJoined(user.id, group_id, since_version)
        self._services.bus.publish(topic_of_user(user.id), bus_messages.encode(joined))
        if is_new:
            self._tell(group_id, "group.joined", Since(since_version), user=of_user(user))
        return self._memberships.joined(user.id, group_id, since_version)

    async def joined(self, message: GroupJoined) -> None:
        """The user's sessions on this worker are given the group's messages from now on."""
        await self._memberships.joined(message.user_id, message.group_id, message.since_version)

    def _gone(self, user_id: UserId, group_id: GroupId, kicked: bool, members_version: int) -> None:
        left = GroupLeft(user_id, group_id, kicked, members_version)
        self._services.bus.publish(topic_of_user(user_id), bus_messages.encode(left))
        self._presence.parted(user_id)
        self.left(left)

    def left(self, message: GroupLeft) -> None:
        """The user's sessions on this worker are given nothing of the group any more, unless the user has joined again
        since."""
        self._memberships.left(message.user_id, message.group_id, message.members_version)
        if message.kicked:
            for session in self._services.hub.of_user(message.user_id):
                if message.group_id not in (session.groups or ()):
                    self._notices.tell(session, notice("group.kicked", group=message.group_id))
        self._presence.left(message.user_id)

    def _renamed(self, group: Group, by: User) -> None:
        renamed = GroupRenamed(group.id)
        self._services.bus.publish(topic_of_group(group.id), bus_messages.encode(renamed))
        self.renamed(renamed)
        self._tell(group.id, "group.renamed", details=of_group(group), by=of_user(by))

    def renamed(self, message: GroupRenamed) -> None:
        """Clients on this worker that are shown the group's name are shown the new one from now on."""
        self._memberships.names.renamed(message.group_id)

    def _tell(self, group_id: GroupId, event: str, since: Since | None = None, **fields: object) -> None:
        """Tell the members' sessions on every worker. since: the change of membership that the notice reports, if
        any."""
        message = GroupNotice(group_id, notice(event, group=group_id, **fields), *(since or ()))
        self._services.bus.publish(topic_of_group(group_id), bus_messages.encode(message))
        self.notify(message)

    def notify(self, message: GroupNotice) -> None:
        """Tell the members' sessions on this worker, once the members are known."""
        group_id, version = message.group_id, message.members_version
        if message.departed:
            self._memberships.left(message.departed, group_id, version)
        elif version:
            self._memberships.changed(group_id, version)
        group = self._services.hub.group(group_id)
        if group is None:
            return
        if group.waiting is None and version <= group.known_version:
            self._tell_members(message)
        else:
            self._memberships.wait(group_id, group, version, partial(self._tell_members, message))

    def _tell_members(self, message: GroupNotice) -> None:
        """All except those who joined after the change that the notice reports, or with it."""
        for session in tuple(self._services.hub.of_group(message.group_id)):
            since_version = (session.groups or {})[message.group_id]
            if not message.members_version or since_version < message.members_version:
                self._notices.tell(session, message.text)
