"""What happens to members of a group: leaving, removing, banning, roles, muting.

Owns: the requests about it, as Changes, about which plug-ins are asked first.
Elsewhere: the rules, which the store checks inside the transaction; notifying (core.groups.notify); the arguments of
requests (core.requests.groups, core.requests.group_admission).
Fails: Refused, Unavailable; then nothing was changed and nobody was told.
"""

from __future__ import annotations

from typing import NamedTuple

from chatd import wall_clock
from chatd.core.change import Change
from chatd.core.friends import Find
from chatd.core.groups.finding import existing
from chatd.core.groups.notify import GroupNotify, Since
from chatd.core.plugins import actions
from chatd.core.plugins.contract import Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.requests.notices import of_user, until
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.model import GroupId, Role, User, UserId
from chatd.store.contract import Left, Tables


class Kick(NamedTuple):
    """The result of removing a member. members_version: the group's after it."""

    user: User
    members_version: int


SAME_END_MS = 60_000
"""Two ends of a mute that are closer together are the same to its user."""


class Decided(NamedTuple):
    """The result of a decision about a user. staff: the owner and admins, who are notified. members_version: the
    group's if the user stopped being a member with it, else 0. is_new: something has changed, so they are notified."""

    user: User
    staff: tuple[UserId, ...]
    members_version: int = 0
    is_new: bool = True


class GroupMembers:
    def __init__(self, services: Services, notify: GroupNotify, plugins: PluginPipeline) -> None:
        self._services = services
        self._notify = notify
        self._plugins = plugins

    async def leaving(self, session: Session, group_id: GroupId) -> Change[Left]:
        """Raises Refused, Unavailable, like the following."""
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_LEAVE,
            lambda tables, who: actions.LeaveGroup(**who, group=existing(tables, group_id)),
        )
        user = session.user

        def after(left: Left) -> None:
            version = left.members_version
            self._notify.gone(user.id, group_id, False, version)
            self._notify.tell(group_id, "group.left", Since(version, user.id), user=of_user(user), owner=left.heir)

        return Change(lambda tables: tables.groups.leave(user.id, group_id), after)

    async def kicking(self, session: Session, group_id: GroupId, find: Find) -> Change[Kick]:
        await self._ask_about_kick(session, group_id, find)
        by, now_ms = session.user, wall_clock.now_ms()

        def write(tables: Tables) -> Kick:
            user = find(tables)
            return Kick(user, tables.groups.kick(by.id, group_id, user.id, now_ms))

        return Change(write, lambda kick: self._removed(group_id, kick.user, by, kick.members_version))

    async def _ask_about_kick(self, session: Session, group_id: GroupId, find: Find) -> None:
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_KICK,
            lambda tables, who: actions.KickMember(**who, group=existing(tables, group_id), user=find(tables)),
        )

    def _removed(self, group_id: GroupId, user: User, by: User, members_version: int) -> None:
        self._notify.gone(user.id, group_id, True, members_version)
        since = Since(members_version, user.id)
        self._notify.tell(group_id, "group.kicked", since, user=of_user(user), by=of_user(by))

    # ---------------------------------------------------------------- bans

    async def banning(self, session: Session, group_id: GroupId, find: Find) -> Change[Decided]:
        """Who is a member is removed with it, so plug-ins are asked about that, too."""
        await self._ask_about_ban(session, group_id, find, banned=True)

        def is_member(tables: Tables) -> bool:
            return bool(tables.groups.members_among(group_id, [find(tables).id])[1])

        if self._plugins.has(Point.BEFORE_GROUP_KICK) and await self._services.store.read(is_member):
            await self._ask_about_kick(session, group_id, find)
        by, now_ms = session.user, wall_clock.now_ms()

        def write(tables: Tables) -> Decided:
            user = find(tables)
            version = tables.admission.ban(by.id, group_id, user.id, now_ms)
            return Decided(user, tables.groups.staff(group_id), version)

        def after(decided: Decided) -> None:
            user, staff, version, _ = decided
            if version:
                self._removed(group_id, user, by, version)
            self._notify.tell_users(staff, "group.banned", group_id, user=of_user(user), by=of_user(by))

        return Change(write, after)

    async def unbanning(self, session: Session, group_id: GroupId, find: Find) -> Change[Decided]:
        await self._ask_about_ban(session, group_id, find, banned=False)
        by = session.user

        def write(tables: Tables) -> Decided:
            user = find(tables)
            tables.admission.unban(by.id, group_id, user.id)
            return Decided(user, tables.groups.staff(group_id))

        def after(decided: Decided) -> None:
            user = of_user(decided.user)
            self._notify.tell_users(decided.staff, "group.unbanned", group_id, user=user, by=of_user(by))

        return Change(write, after)

    async def _ask_about_ban(self, session: Session, group_id: GroupId, find: Find, *, banned: bool) -> None:
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_BAN,
            lambda tables, who: actions.BanUser(
                **who, group=existing(tables, group_id), user=find(tables), banned=banned
            ),
        )

    # ---------------------------------------------------------------- roles and muting

    async def giving_role(self, session: Session, group_id: GroupId, find: Find, role: Role) -> Change[User]:
        def given(tables: Tables, who: actions.Who) -> actions.SetRole:
            return actions.SetRole(**who, group=existing(tables, group_id), user=find(tables), role=role)

        self._services.allowances.spend_recipients(session, group_id)
        await self._plugins.before_action(session, Point.BEFORE_GROUP_ROLE, given)
        by = session.user

        def write(tables: Tables) -> User:
            user = find(tables)
            tables.groups.set_role(by.id, group_id, user.id, role)
            return user

        return Change(
            write,
            lambda user: self._notify.tell(group_id, "group.role", user=of_user(user), role=role.name.lower()),
        )

    async def muting(self, session: Session, group_id: GroupId, find: Find, until_ms: int) -> Change[Decided]:
        """until_ms: epoch; store.contract.FOREVER; 0 = the member may write again. Nobody is notified of what was so
        before, or of an end that is later or earlier by less than SAME_END_MS."""
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_MUTE,
            lambda tables, who: actions.MuteMember(
                **who, group=existing(tables, group_id), user=find(tables), until_ms=until_ms
            ),
        )
        by, now_ms = session.user, wall_clock.now_ms()

        def write(tables: Tables) -> Decided:
            user = find(tables)
            before = tables.groups.mute(by.id, group_id, user.id, until_ms)
            is_new = abs(until_ms - (before if before > now_ms else 0)) >= SAME_END_MS
            return Decided(user, tables.groups.staff(group_id), is_new=is_new)

        def after(decided: Decided) -> None:
            if not decided.is_new:
                return
            user = decided.user
            told: dict[str, object] = {"user": of_user(user), "by": of_user(by)}
            if until_ms:
                told["until_ms"] = until(until_ms)
            event = "group.muted" if until_ms else "group.unmuted"
            self._notify.tell_users((user.id, *decided.staff), event, group_id, **told)

        return Change(write, after)
