"""How users become members of groups: joining, asking, inviting, adding.

Owns: JoinGroup and the requests about it, as Changes, about which plug-ins are asked first.
Elsewhere: the rules, which the store checks inside the transaction; notifying (core.groups.notify); the arguments of
requests (core.requests.group_admission).
Fails: Refused, Unavailable; then nothing was changed and nobody was told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from chatd import wall_clock
from chatd.core import consent
from chatd.core.change import Change
from chatd.core.friends import Find
from chatd.core.groups.finding import existing
from chatd.core.groups.notify import GroupNotify
from chatd.core.plugins import actions
from chatd.core.plugins.contract import Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.requests.notices import of_group, of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import MEANINGS, ErrorCode
from chatd.model import Group, GroupId, User, UserId
from chatd.protocol import Failed, GroupReady, JoinGroup
from chatd.store.contract import AdmissionLimits, AdmissionState, Joined, Purpose, Tables

_Admit = Callable[[UserId, GroupId, UserId, AdmissionLimits, int], Joined]
"""Inviting, adding or approving: who does it, the group, the user, at this time (epoch, ms)."""


class LetIn(NamedTuple):
    """The result of letting a user into a group, or inviting the user."""

    user: User
    joined: Joined


class Rejected(NamedTuple):
    """The result of refusing a user's request to join a group."""

    user: User
    group: Group


class GroupAdmission:
    def __init__(self, services: Services, notify: GroupNotify, plugins: PluginPipeline) -> None:
        self._services = services
        self._notify = notify
        self._plugins = plugins

    # ---------------------------------------------------------------- the command of the chatserver wire

    async def join(self, session: Session, command: JoinGroup) -> None:
        """A client is told that it has asked by an error, although that is stored: the deployed client ignores errors,
        and any other answer would mean that it is a member."""
        joined = await (await self.joining(session, command.group_id)).apply(self._services.store)
        if joined.pending is None:
            session.peer.push(GroupReady(joined.group, False))
        else:
            code = ErrorCode.APPROVAL_PENDING
            session.peer.push(Failed(code, MEANINGS[code].text, command))

    # ---------------------------------------------------------------- changes, which plug-ins may refuse

    async def joining(self, session: Session, group_id: GroupId) -> Change[Joined]:
        """All members are notified, so it costs as many recipients as a message. Raises Refused, Unavailable, like the
        following."""
        self._services.allowances.spend_recipients(session, group_id)
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_JOIN,
            lambda tables, who: actions.JoinGroup(**who, group=existing(tables, group_id)),
        )
        user, limits, now_ms = session.user, self.limits(), wall_clock.now_ms()

        def after(joined: Joined) -> Awaitable[None] | None:
            if joined.pending is None:
                return self._notify.entered(user, joined.group.id, joined.since_version, is_new=joined.fresh)
            if joined.fresh:
                fields = {"details": of_group(joined.group), "user": of_user(user)}
                self._notify.tell_users(joined.staff, "group.requested", group_id, **fields)
            return None

        return Change(lambda tables: tables.admission.join(user.id, group_id, limits, now_ms), after)

    async def declining(self, session: Session, group_id: GroupId) -> Change[UserId]:
        """Decline an invitation, or take back a request to join, of which nobody is told. The result: who had invited
        the user, 0 for a request."""
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_DECLINE,
            lambda tables, who: actions.DeclineInvitation(**who, group=existing(tables, group_id)),
        )
        user, now_ms = session.user, wall_clock.now_ms()
        return Change(
            lambda tables: tables.admission.decline(user.id, group_id, now_ms),
            lambda by: self._notify.tell_users([by] if by else [], "group.declined", group_id, user=of_user(user)),
        )

    async def inviting(self, session: Session, group_id: GroupId, find: Find) -> Change[LetIn]:
        await self._ask_about(session, Point.BEFORE_GROUP_INVITE, actions.InviteUser, group_id, find)
        return self._letting_in(session.user, group_id, find, lambda tables: tables.admission.invite)

    async def adding(self, session: Session, group_id: GroupId, find: Find) -> Change[LetIn]:
        await self._ask_about(session, Point.BEFORE_GROUP_ADD, actions.AddMember, group_id, find)
        return self._letting_in(session.user, group_id, find, lambda tables: tables.admission.add)

    async def approving(self, session: Session, group_id: GroupId, find: Find) -> Change[LetIn]:
        answer = partial(actions.AnswerJoinRequest, accept=True)
        await self._ask_about(session, Point.BEFORE_GROUP_ANSWER, answer, group_id, find)
        return self._letting_in(session.user, group_id, find, lambda tables: tables.admission.approve)

    async def rejecting(self, session: Session, group_id: GroupId, find: Find) -> Change[Rejected]:
        answer = partial(actions.AnswerJoinRequest, accept=False)
        await self._ask_about(session, Point.BEFORE_GROUP_ANSWER, answer, group_id, find)
        by, now_ms = session.user, wall_clock.now_ms()

        def write(tables: Tables) -> Rejected:
            user = find(tables)
            tables.admission.reject(by.id, group_id, user.id, now_ms)
            return Rejected(user, existing(tables, group_id))

        def after(result: Rejected) -> None:
            user, group = result
            self._notify.tell_users([user.id], "group.rejected", group_id, details=of_group(group))

        return Change(write, after)

    # ---------------------------------------------------------------- what they share

    async def _ask_about(
        self, session: Session, point: Point, action: Callable[..., actions.Action], group_id: GroupId, find: Find
    ) -> None:
        """Ask the plug-ins about an action that concerns a user and a group. Raises Refused, Unavailable."""
        await self._plugins.before_action(
            session, point, lambda tables, who: action(**who, group=existing(tables, group_id), user=find(tables))
        )

    def _letting_in(self, by: User, group_id: GroupId, find: Find, admit: Callable[[Tables], _Admit]) -> Change[LetIn]:
        limits, now_ms = self.limits(), wall_clock.now_ms()

        def write(tables: Tables) -> LetIn:
            user = find(tables)
            return LetIn(user, admit(tables)(by.id, group_id, user.id, limits, now_ms))

        def after(result: LetIn) -> Awaitable[None] | None:
            user, joined = result
            if not joined.fresh:
                return None
            if joined.pending is None:
                return self._notify.let_in(user, joined.group, joined.since_version, by)
            assert joined.pending is AdmissionState.INVITED
            fields = {"details": of_group(joined.group), "by": of_user(by)}
            self._notify.tell_users([user.id], "group.invited", joined.group.id, **fields)
            return None

        return Change(write, after)

    def limits(self) -> AdmissionLimits:
        config = self._services.config()
        return AdmissionLimits(
            members=config.limits.group_members,
            groups=config.limits.groups_per_user,
            pending_of_group=config.groups.pending_per_group,
            pending_of_user=config.groups.pending_per_user,
            again_ms=int(config.people.ask_again_s * 1000),
            may_add=consent.default_of(config, Purpose.ADD),
        )
