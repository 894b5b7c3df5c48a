"""Requests about groups.

Owns: the arguments and answers of these operations. Their rules: core.groups and the store.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chatd.core.change import Change
from chatd.core.groups import Groups, Kick
from chatd.core.requests.dispatch import NoArguments, Op, Table
from chatd.core.requests.notices import of_group, of_user
from chatd.core.requests.people import Whom, whom
from chatd.core.sessions.hub import Hub
from chatd.core.sessions.session import Session
from chatd.model import Group, Role, User
from chatd.store.contract import Joined, Left, Tables
from chatd.store.group_commit import GroupCommit

_Number = Annotated[int, Meta(gt=0, lt=1 << 62)]
_PAGE = 200


class New(msgspec.Struct, frozen=True):
    name: str
    description: str = ""


class OneGroup(msgspec.Struct, frozen=True):
    group: _Number


class MembersPage(msgspec.Struct, frozen=True):
    """after: the last user id of the page before."""

    group: _Number
    after: Annotated[int, Meta(ge=0, lt=1 << 62)] = 0
    limit: Annotated[int, Meta(ge=1, le=_PAGE)] = _PAGE


class OneMember(msgspec.Struct, frozen=True):
    group: _Number
    user: Whom


class Rename(msgspec.Struct, frozen=True):
    group: _Number
    name: str
    description: str | None = None


class Promotion(msgspec.Struct, frozen=True):
    group: _Number
    user: Whom
    role: Literal["owner", "admin", "member"]


class GroupRequests:
    def __init__(self, store: GroupCommit, hub: Hub, groups: Groups) -> None:
        self._store = store
        self._hub = hub
        self._groups = groups

    def table(self) -> Table:
        def group_of(result: Group) -> object:
            return {"group": of_group(result)}

        def joined(result: Joined) -> object:
            return group_of(result.group)

        def kicked(result: Kick) -> object:
            return {"user": of_user(result.user)}

        def user_of(result: User) -> object:
            return {"user": of_user(result)}

        def left(result: Left) -> object:
            return {"owner": result.heir, "ended": result.ended}

        return {
            "group.create": Op(New, "make a group; one owns it", '{"group":G}', write=self._create, shown=group_of),
            "group.join": Op(OneGroup, "become a member", '{"group":G}', write=self._join, shown=joined),
            "group.leave": Op(
                OneGroup,
                "stop being a member; an owner hands over",
                '{"owner":int or null,"ended":bool}',
                write=self._leave,
                shown=left,
            ),
            "group.list": Op(NoArguments, "one's groups", '{"groups":[G]}', read=self._list),
            "group.members": Op(
                MembersPage,
                "who is in a group, with roles and presence",
                '{"members":[U with "role","online"],"more":bool}',
                read=self._members,
            ),
            "group.kick": Op(OneMember, "remove a member (owner, admin)", '{"user":U}', write=self._kick, shown=kicked),
            "group.rename": Op(
                Rename, "change name or description (owner, admin)", '{"group":G}', write=self._rename, shown=group_of
            ),
            "group.role": Op(Promotion, "give a member a role (owner)", '{"user":U}', write=self._role, shown=user_of),
        }

    async def _create(self, session: Session, arguments: New) -> Change[Group]:
        return self._groups.creating(session.user, arguments.name, arguments.description)

    async def _join(self, session: Session, arguments: OneGroup) -> Change[Joined]:
        return self._groups.joining(session.user, arguments.group)

    async def _leave(self, session: Session, arguments: OneGroup) -> Change[Left]:
        return self._groups.leaving(session.user, arguments.group)

    async def _list(self, session: Session, arguments: NoArguments) -> object:
        me = session.user.id
        rows = await self._store.read(lambda tables: tables.groups.of(me, 0))
        return {"groups": [of_group(row.group) for row in rows]}

    async def _members(self, session: Session, arguments: MembersPage) -> object:
        me, number = session.user.id, arguments.group

        def read(tables: Tables) -> list[tuple[User, Role]]:
            tables.groups.role(number, me)
            return tables.groups.members(number, arguments.after, arguments.limit)

        members = await self._store.read(read)
        online = await self._hub.online(user.id for user, _ in members)
        return {
            "members": [
                {**of_user(user), "role": role.name.lower(), "online": user.id in online} for user, role in members
            ],
            "more": len(members) == arguments.limit,
        }

    async def _kick(self, session: Session, arguments: OneMember) -> Change[Kick]:
        return self._groups.kicking(session.user, arguments.group, whom(arguments.user))

    async def _rename(self, session: Session, arguments: Rename) -> Change[Group]:
        return self._groups.renaming(session.user, arguments.group, arguments.name, arguments.description)

    async def _role(self, session: Session, arguments: Promotion) -> Change[User]:
        role = Role[arguments.role.upper()]
        return self._groups.giving_role(session.user, arguments.group, whom(arguments.user), role)
