"""Notifying those whom a change of a group concerns, on every worker.

Owns: what is published after such a change, and what this worker does when it hears of one: its sessions enter or leave
the group, and are told.
Elsewhere: the changes (core.groups.settings, core.groups.admission, core.groups.members), which sessions are given a
group's messages (core.memberships).
Fails: never; a notification may be lost with the bus, and then memberships are read from the store (core.memberships).
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from functools import partial
from typing import NamedTuple

from chatd.bus.contract import topic_of_group, topic_of_user
from chatd.core import bus_messages
from chatd.core.bus_messages import (
    GroupDissolved,
    GroupEntered,
    GroupJoined,
    GroupLeft,
    GroupNotice,
    GroupRenamed,
)
from chatd.core.memberships import Memberships
from chatd.core.presence import Presence
from chatd.core.requests.notices import Notices, notice, of_group, of_user
from chatd.core.services import Services
from chatd.model import Group, GroupId, User, UserId
from chatd.protocol import GroupReady


class Since(NamedTuple):
    """The change of membership that a notice reports. members_version: the group's after it. departed: the user who
    left with it, 0 = nobody."""

    members_version: int
    departed: UserId = 0


class GroupNotify:
    def __init__(self, services: Services, memberships: Memberships, notices: Notices, presence: Presence) -> None:
        self._bus = services.bus
        self._hub = services.hub
        self._memberships = memberships
        self._notices = notices
        self._presence = presence

    # ---------------------------------------------------------------- joining

    def entered(self, user: User, group_id: GroupId, since_version: int, *, is_new: bool = True) -> Awaitable[None]:
        """Every session of the user, on every worker, is given the group's messages from now on."""
        joined = GroupJoined(user.id, group_id, since_version)
        self._bus.publish(topic_of_user(user.id), bus_messages.encode(joined))
        if is_new:
            self.tell(group_id, "group.joined", Since(since_version), user=of_user(user))
        return self._memberships.joined(user.id, group_id, since_version)

    async def joined(self, message: GroupJoined) -> None:
        """The user's sessions on this worker are given the group's messages from now on."""
        await self._memberships.joined(message.user_id, message.group_id, message.since_version)

    async def let_in(self, user: User, group: Group, since_version: int, by: User) -> None:
        """As entered(), and the user is told that somebody else has done it."""
        await self.entered(user, group.id, since_version)
        text = notice("group.entered", group=group.id, details=of_group(group), by=of_user(by))
        message = GroupEntered(user.id, group, text)
        self._bus.publish(topic_of_user(user.id), bus_messages.encode(message))
        self.was_let_in(message)

    def was_let_in(self, message: GroupEntered) -> None:
        """Tell the user's sessions on this worker."""
        for session in self._hub.of_user(message.user_id):
            if session.peer.traits.server_texts:
                self._notices.tell(session, message.text)
            else:
                session.peer.push(GroupReady(message.group, created=False, asked_for=False))

    # ---------------------------------------------------------------- leaving

    def gone(self, user_id: UserId, group_id: GroupId, kicked: bool, members_version: int) -> None:
        """No session of the user, on any worker, is given anything of the group any more."""
        left = GroupLeft(user_id, group_id, kicked, members_version)
        self._bus.publish(topic_of_user(user_id), bus_messages.encode(left))
        self._presence.parted(user_id)
        self.left(left)

    def left(self, message: GroupLeft) -> None:
        """The user's sessions on this worker are given nothing of the group any more, unless the user has joined again
        since."""
        self._memberships.left(message.user_id, message.group_id, message.members_version)
        if message.kicked:
            for session in self._hub.of_user(message.user_id):
                if message.group_id not in (session.groups or ()):
                    self._notices.tell(session, notice("group.kicked", group=message.group_id))
        self._presence.left(message.user_id)

    def dissolve(self, group_id: GroupId, by: User, members_version: int) -> None:
        """All memberships have ended with this version: tell the members on every worker."""
        message = GroupDissolved(group_id, notice("group.dissolved", group=group_id, by=of_user(by)), members_version)
        self._bus.publish(topic_of_group(group_id), bus_messages.encode(message))
        self.dissolved(message)

    def dissolved(self, message: GroupDissolved) -> None:
        """Tell the sessions of members on this worker, which are given nothing of the group any more."""
        sessions = tuple(self._hub.of_group(message.group_id))
        self._memberships.ended(message.group_id, message.members_version)
        for session in sessions:
            self._notices.tell(session, message.text)
            self._presence.left(session.user.id)

    # ---------------------------------------------------------------- telling

    def rename(self, group: Group, by: User) -> None:
        """The group has another name or description: tell the members on every worker."""
        renamed = GroupRenamed(group.id)
        self._bus.publish(topic_of_group(group.id), bus_messages.encode(renamed))
        self.renamed(renamed)
        self.tell(group.id, "group.renamed", details=of_group(group), by=of_user(by))

    def renamed(self, message: GroupRenamed) -> None:
        """Clients on this worker that are shown the group's name are shown the new one from now on."""
        self._memberships.names.renamed(message.group_id)

    def tell(self, group_id: GroupId, event: str, since: Since | None = None, **fields: object) -> None:
        """Tell the members' sessions on every worker. since: the change of membership that the notice reports, if
        any."""
        message = GroupNotice(group_id, notice(event, group=group_id, **fields), *(since or ()))
        self._bus.publish(topic_of_group(group_id), bus_messages.encode(message))
        self.notify(message)

    def notify(self, message: GroupNotice) -> None:
        """Tell the members' sessions on this worker, once the members are known."""
        group_id, version = message.group_id, message.members_version
        if message.departed:
            self._memberships.left(message.departed, group_id, version)
        elif version:
            self._memberships.changed(group_id, version)
        group = self._hub.group(group_id)
        if group is None:
            return
        if group.waiting is None and version <= group.known_version:
            self._tell_members(message)
        else:
            self._memberships.wait(group_id, group, version, partial(self._tell_members, message))

    def _tell_members(self, message: GroupNotice) -> None:
        """All except those who joined after the change that the notice reports, or with it."""
        for session in tuple(self._hub.of_group(message.group_id)):
            since_version = (session.groups or {})[message.group_id]
            if not message.members_version or since_version < message.members_version:
                self._notices.tell(session, message.text)

    def tell_users(self, user_ids: Iterable[UserId], event: str, group_id: GroupId, **fields: object) -> None:
        """Tell these users' sessions on every worker."""
        text = notice(event, group=group_id, **fields)
        for user_id in dict.fromkeys(user_ids):
            self._notices.tell_user(user_id, text)
