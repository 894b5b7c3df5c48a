"""Requests about groups.

Owns: the arguments and answers of these operations.
Elsewhere: their rules (core.groups, the store).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chatd.core import consent
from chatd.core.allowance import CHANGE, CREATE_GROUP, JOIN, LIST
from chatd.core.change import Change
from chatd.core.groups import Groups, Kick
from chatd.core.plugins.contract import NotAsked, Point
from chatd.core.requests.arguments import NoArguments, UserName, user_named
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.notices import of_group, of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.model import Group, Role, User, UserId
from chatd.store.contract import Joined, Left, Tables

_IN_LOGIN_ANSWER = NotAsked("on the chatserver wire the login answer has the same")
GroupNumber = Annotated[int, Meta(gt=0, lt=1 << 62)]
_PAGE = 200


class NewGroup(msgspec.Struct, frozen=True):
    name: str
    description: str = ""


class OneGroup(msgspec.Struct, frozen=True):
    group: GroupNumber


class MembersPage(msgspec.Struct, frozen=True):
    """after: the last user id of the page before."""

    group: GroupNumber
    after: Annotated[int, Meta(ge=0, lt=1 << 62)] = 0
    limit: Annotated[int, Meta(ge=1, le=_PAGE)] = _PAGE


class OneMember(msgspec.Struct, frozen=True):
    group: GroupNumber
    user: UserName


class Rename(msgspec.Struct, frozen=True):
    group: GroupNumber
    name: str
    description: str | None = None


class Promotion(msgspec.Struct, frozen=True):
    group: GroupNumber
    user: UserName
    role: Literal["owner", "admin", "member"]


class GroupOperations:
    def __init__(self, services: Services, groups: Groups) -> None:
        self._services = services
        self._groups = groups

    def table(self) -> OperationTable:
        return {
            "group.create": Operation(
                NewGroup,
                "create a group and become its owner",
                '{"group":G}',
                asks=Point.BEFORE_GROUP_CREATE,
                write=self._create,
                shown=_group,
                cost=CREATE_GROUP,
            ),
            "group.join": Operation(
                OneGroup,
                "join a group",
                '{"group":G}',
                asks=Point.BEFORE_GROUP_JOIN,
                write=self._join,
                shown=_joined,
                cost=JOIN,
            ),
            "group.leave": Operation(
                OneGroup,
                "leave a group; if the owner leaves, the group gets another one",
                '{"owner":int or null,"ended":bool}',
                asks=Point.BEFORE_GROUP_LEAVE,
                write=self._leave,
                shown=_left,
                cost=CHANGE,
            ),
            "group.list": Operation(
                NoArguments,
                "the user's groups",
                '{"groups":[G]}',
                asks=_IN_LOGIN_ANSWER,
                read=self._list,
                cost=LIST,
            ),
            "group.members": Operation(
                MembersPage,
                "members of a group, with their roles and presence",
                '{"members":[U with "role","online"],"more":bool}',
                asks=_IN_LOGIN_ANSWER,
                read=self._members,
                cost=LIST,
            ),
            "group.kick": Operation(
                OneMember,
                "remove a member (owner, admin)",
                '{"user":U}',
                asks=Point.BEFORE_GROUP_KICK,
                write=self._kick,
                shown=_kicked,
                cost=CHANGE,
            ),
            "group.rename": Operation(
                Rename,
                "change the name or description of a group (owner, admin)",
                '{"group":G}',
                asks=Point.BEFORE_GROUP_RENAME,
                write=self._rename,
                shown=_group,
                cost=CHANGE,
            ),
            "group.role": Operation(
                Promotion,
                "give a member a role (owner)",
                '{"user":U}',
                asks=Point.BEFORE_GROUP_ROLE,
                write=self._role,
                shown=_user,
                cost=CHANGE,
            ),
        }

    async def _create(self, session: Session, arguments: NewGroup) -> Change[Group]:
        return await self._groups.creating(session, arguments.name, arguments.description)

    async def _join(self, session: Session, arguments: OneGroup) -> Change[Joined]:
        return await self._groups.joining(session, arguments.group)

    async def _leave(self, session: Session, arguments: OneGroup) -> Change[Left]:
        return await self._groups.leaving(session, arguments.group)

    async def _list(self, session: Session, arguments: NoArguments) -> object:
        me = session.user.id
        rows = await self._services.store.read(lambda tables: tables.groups.of(me, 0))
        return {"groups": [of_group(row.group) for row in rows]}

    async def _members(self, session: Session, arguments: MembersPage) -> object:
        me, number = session.user.id, arguments.group

        config = self._services.config()

        def read(tables: Tables) -> tuple[list[tuple[User, Role]], set[UserId]]:
            tables.groups.role(number, me)
            members = tables.groups.members(number, arguments.after, arguments.limit)
            return members, consent.unseen(tables, config, me, [user.id for user, _ in members])

        members, unseen = await self._services.store.read(read)
        online = await self._services.hub.online(user.id for user, _ in members) - unseen
        return {
            "members": [
                {**of_user(user), "role": role.name.lower(), "online": user.id in online} for user, role in members
            ],
            "more": len(members) == arguments.limit,
        }

    async def _kick(self, session: Session, arguments: OneMember) -> Change[Kick]:
        return await self._groups.kicking(session, arguments.group, user_named(arguments.user))

    async def _rename(self, session: Session, arguments: Rename) -> Change[Group]:
        return await self._groups.renaming(session, arguments.group, arguments.name, arguments.description)

    async def _role(self, session: Session, arguments: Promotion) -> Change[User]:
        role = Role[arguments.role.upper()]
        return await self._groups.giving_role(session, arguments.group, user_named(arguments.user), role)


def _group(group: Group) -> object:
    return {"group": of_group(group)}


def _joined(joined: Joined) -> object:
    return {"group": of_group(joined.group)}


def _left(left: Left) -> object:
    return {"owner": left.heir, "ended": left.ended}


def _kicked(kick: Kick) -> object:
    return {"user": of_user(kick.user)}


def _user(user: User) -> object:
    return {"user": of_user(user)}
