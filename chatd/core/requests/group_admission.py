"""Requests about who becomes a member of a group, who cannot, and who may not write in it.

Owns: the arguments and answers of these operations.
Elsewhere: the rules (core.groups, the store); the other requests about groups (core.requests.groups).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from chatd import wall_clock
from chatd.core.allowance import INVITE, LIST, WRITE
from chatd.core.change import Change
from chatd.core.groups.admission import LetIn, Rejected
from chatd.core.groups.groups import Groups
from chatd.core.groups.members import Decided
from chatd.core.plugins.contract import NotAsked, Point
from chatd.core.requests.arguments import PAGE, After, PageSize, UserName, user_named
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.groups import GroupNumber, OneGroup, OneMember, UsersPage
from chatd.core.requests.notices import of_group, of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.model import UserId
from chatd.store.contract import FOREVER

_OWN_INVITATIONS = NotAsked("it shows users their own invitations")
_FOR_ADMINS = NotAsked("it shows the owner and the admins what they decide about")
_MAX_MUTE_S = 10 * 365 * 86400
"""Longest mute that ends by itself, seconds."""


class InvitationsPage(msgspec.Struct, frozen=True):
    """Invitations, by the number of their group."""

    after: After = 0
    limit: PageSize = PAGE


class Mute(msgspec.Struct, frozen=True):
    """seconds: after which it ends by itself; without it, it ends by group.unmute."""

    group: GroupNumber
    user: UserName
    seconds: Annotated[int, Meta(ge=1, le=_MAX_MUTE_S)] | None = None


class GroupAdmissionOperations:
    def __init__(self, services: Services, groups: Groups) -> None:
        self._store = services.store
        self._admission = groups.admission
        self._members = groups.members

    def table(self) -> OperationTable:
        return self._invitations_table() | self._requests_table() | self._bans_table() | self._mutes_table()

    def _invitations_table(self) -> OperationTable:
        return {
            "group.invite": Operation(
                OneMember,
                "invite a user, who can then join whatever the group's policy; one who has asked is a member at once "
                "(owner, admin)",
                '{"user":U,"joined":bool}',
                asks=Point.BEFORE_GROUP_INVITE,
                write=self._invite,
                shown=_let_in,
                cost=INVITE,
            ),
            "group.add": Operation(
                OneMember,
                "make a user a member; one who does not accept that from the caller is invited: joined false "
                "(owner, admin)",
                '{"user":U,"joined":bool}',
                asks=Point.BEFORE_GROUP_ADD,
                write=self._add,
                shown=_let_in,
                cost=INVITE,
            ),
            "group.decline": Operation(
                OneGroup,
                "decline an invitation, or take back a request to join",
                "{}",
                asks=Point.BEFORE_GROUP_DECLINE,
                write=self._decline,
                cost=WRITE,
            ),
            "group.invitations": Operation(
                InvitationsPage,
                "the user's open invitations",
                '{"invitations":[{"group":G,"by":U,"at_ms":int}],"more":bool}',
                asks=_OWN_INVITATIONS,
                read=self._invitations,
                cost=LIST,
            ),
        }

    def _requests_table(self) -> OperationTable:
        return {
            "group.requests": Operation(
                UsersPage,
                "open requests to join a group (owner, admin)",
                '{"requests":[{"user":U,"at_ms":int}],"more":bool}',
                asks=_FOR_ADMINS,
                read=self._requests,
                cost=LIST,
            ),
            "group.approve": Operation(
                OneMember,
                "approve a request to join (owner, admin)",
                '{"user":U,"joined":bool}',
                asks=Point.BEFORE_GROUP_ANSWER,
                write=self._approve,
                shown=_let_in,
                cost=WRITE,
            ),
            "group.reject": Operation(
                OneMember,
                "refuse a request to join (owner, admin)",
                '{"user":U}',
                asks=Point.BEFORE_GROUP_ANSWER,
                write=self._reject,
                shown=lambda rejected: {"user": of_user(rejected.user)},
                cost=WRITE,
            ),
        }

    def _bans_table(self) -> OperationTable:
        return {
            "group.ban": Operation(
                OneMember,
                "keep a user out of a group until invited; a member is removed with it (owner, admin)",
                '{"user":U}',
                asks=Point.BEFORE_GROUP_BAN,
                write=self._ban,
                shown=_decided,
                cost=WRITE,
            ),
            "group.unban": Operation(
                OneMember,
                "let a banned user join again (owner, admin)",
                '{"user":U}',
                asks=Point.BEFORE_GROUP_BAN,
                write=self._unban,
                shown=_decided,
                cost=WRITE,
            ),
            "group.bans": Operation(
                UsersPage,
                "the banned users of a group (owner, admin)",
                '{"bans":[{"user":U,"by":U,"at_ms":int}],"more":bool}',
                asks=_FOR_ADMINS,
                read=self._bans,
                cost=LIST,
            ),
        }

    def _mutes_table(self) -> OperationTable:
        return {
            "group.mute": Operation(
                Mute,
                "stop a member from writing (owner, admin)",
                '{"user":U}',
                asks=Point.BEFORE_GROUP_MUTE,
                write=self._mute,
                shown=_decided,
                cost=WRITE,
            ),
            "group.unmute": Operation(
                OneMember,
                "let a muted member write again (owner, admin)",
                '{"user":U}',
                asks=Point.BEFORE_GROUP_MUTE,
                write=self._unmute,
                shown=_decided,
                cost=WRITE,
            ),
        }

    # ---------------------------------------------------------------- invitations

    async def _invite(self, session: Session, arguments: OneMember) -> Change[LetIn]:
        return await self._admission.inviting(session, arguments.group, user_named(arguments.user))

    async def _add(self, session: Session, arguments: OneMember) -> Change[LetIn]:
        return await self._admission.adding(session, arguments.group, user_named(arguments.user))

    async def _decline(self, session: Session, arguments: OneGroup) -> Change[UserId]:
        return await self._admission.declining(session, arguments.group)

    async def _invitations(self, session: Session, arguments: InvitationsPage) -> object:
        me, after, limit = session.user.id, arguments.after, arguments.limit
        found = await self._store.read(lambda tables: tables.admission.invitations(me, after, limit))
        return {
            "invitations": [
                {"group": of_group(one.group), "by": of_user(one.by) if one.by else None, "at_ms": one.at_ms}
                for one in found
            ],
            "more": len(found) == limit,
        }

    # ---------------------------------------------------------------- requests to join

    async def _requests(self, session: Session, arguments: UsersPage) -> object:
        me, page = session.user.id, arguments
        found = await self._store.read(lambda tables: tables.admission.requests(me, page.group, page.after, page.limit))
        return {
            "requests": [{"user": of_user(one.user), "at_ms": one.at_ms} for one in found],
            "more": len(found) == page.limit,
        }

    async def _approve(self, session: Session, arguments: OneMember) -> Change[LetIn]:
        return await self._admission.approving(session, arguments.group, user_named(arguments.user))

    async def _reject(self, session: Session, arguments: OneMember) -> Change[Rejected]:
        return await self._admission.rejecting(session, arguments.group, user_named(arguments.user))

    # ---------------------------------------------------------------- bans and mutes

    async def _ban(self, session: Session, arguments: OneMember) -> Change[Decided]:
        return await self._members.banning(session, arguments.group, user_named(arguments.user))

    async def _unban(self, session: Session, arguments: OneMember) -> Change[Decided]:
        return await self._members.unbanning(session, arguments.group, user_named(arguments.user))

    async def _bans(self, session: Session, arguments: UsersPage) -> object:
        me, page = session.user.id, arguments
        found = await self._store.read(lambda tables: tables.admission.bans(me, page.group, page.after, page.limit))
        return {
            "bans": [{"user": of_user(one.user), "by": of_user(one.by), "at_ms": one.at_ms} for one in found],
            "more": len(found) == page.limit,
        }

    async def _mute(self, session: Session, arguments: Mute) -> Change[Decided]:
        until_ms = FOREVER
        if arguments.seconds is not None:
            until_ms = wall_clock.now_ms() + arguments.seconds * 1000
        return await self._members.muting(session, arguments.group, user_named(arguments.user), until_ms)

    async def _unmute(self, session: Session, arguments: OneMember) -> Change[Decided]:
        return await self._members.muting(session, arguments.group, user_named(arguments.user), 0)


def _let_in(result: LetIn) -> object:
    return {"user": of_user(result.user), "joined": result.joined.pending is None}


def _decided(decided: Decided) -> object:
    return {"user": of_user(decided.user)}
