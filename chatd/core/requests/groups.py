"""Requests about groups.

Owns: the arguments and answers of these operations.
Elsewhere: how users become members, and who cannot (core.requests.group_admission); the rules (core.groups, the store).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chatd import wall_clock
from chatd.core import consent
from chatd.core.allowance import CHANGE, CREATE_GROUP, JOIN, LIST, WRITE
from chatd.core.change import Change
from chatd.core.groups.groups import Groups
from chatd.core.groups.members import Kick
from chatd.core.groups.settings import GroupDraft
from chatd.core.plugins.contract import NotAsked, Point
from chatd.core.requests.arguments import PAGE, After, NoArguments, PageSize, UserName, user_named
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.notices import of_group, of_rules, of_user, until
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.model import Group, GroupRules, JoinPolicy, Role, User, UserId
from chatd.store.contract import GroupDetails, Joined, Left, RulesChange, Tables

_SEEN_BY_MEMBERS = NotAsked("it shows members the rules of their own group")
_IN_LOGIN_ANSWER = NotAsked("on the chatserver wire the login answer has the same")
GroupNumber = Annotated[int, Meta(gt=0, lt=1 << 62)]


_Join = Literal["open", "approval", "invite"]
_History = Literal["joining", "all"]


class NewGroup(msgspec.Struct, frozen=True, kw_only=True):
    """join, history, announcements: as for group.set; without them, as the operator has set it."""

    name: str
    description: str = ""
    join: _Join | None = None
    history: _History | None = None
    announcements: bool = False


class NewRules(msgspec.Struct, frozen=True, kw_only=True):
    """join: by the group's number, after an admin has agreed, or by invitation. history: members read from their
    joining on, or all. announcements: only the owner and the admins write. What is left out stays as it is."""

    group: GroupNumber
    join: _Join | None = None
    history: _History | None = None
    announcements: bool | None = None


class OneGroup(msgspec.Struct, frozen=True):
    group: GroupNumber


class UsersPage(msgspec.Struct, frozen=True):
    """Users of a group, by id."""

    group: GroupNumber
    after: After = 0
    limit: PageSize = PAGE


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
        return self._groups_table() | self._rules_table() | self._membership_table() | self._members_table()

    def _groups_table(self) -> OperationTable:
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
            "group.dissolve": Operation(
                OneGroup,
                "end a group for all its members (owner)",
                "{}",
                asks=Point.BEFORE_GROUP_DISSOLVE,
                write=self._dissolve,
                cost=WRITE,
            ),
            "group.list": Operation(
                NoArguments,
                "the user's groups",
                '{"groups":[G]}',
                asks=_IN_LOGIN_ANSWER,
                read=self._list,
                cost=LIST,
            ),
        }

    def _rules_table(self) -> OperationTable:
        return {
            "group.get": Operation(
                OneGroup,
                "the rules of a group and the user's own place in it (members)",
                '{"group":G,"join":str,"history":str,"announcements":bool,"members":int,"role":str,"muted":bool,'
                '"until_ms":int or null,"requests":int,"invitations":int,"bans":int}',
                asks=_SEEN_BY_MEMBERS,
                read=self._get,
            ),
            "group.set": Operation(
                NewRules,
                "change how a group is joined, who reads its past (owner), and who writes (owner, admin)",
                '{"join":str,"history":str,"announcements":bool}',
                asks=Point.BEFORE_GROUP_RULES,
                write=self._set,
                shown=of_rules,
                cost=CHANGE,
            ),
            "group.rename": Operation(
                Rename,
                "change the name or description of a group (owner, admin who is not muted)",
                '{"group":G}',
                asks=Point.BEFORE_GROUP_RENAME,
                write=self._rename,
                shown=_group,
                cost=CHANGE,
            ),
        }

    def _membership_table(self) -> OperationTable:
        return {
            "group.join": Operation(
                OneGroup,
                "join a group; joined false: the owner or an admin decides",
                '{"group":G,"joined":bool}',
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
                cost=WRITE,
            ),
        }

    def _members_table(self) -> OperationTable:
        return {
            "group.members": Operation(
                UsersPage,
                "members of a group, with their roles and presence; for the owner and the admins also until when a "
                "member is muted",
                '{"members":[U with "role","online","muted","until_ms"],"more":bool}',
                asks=_IN_LOGIN_ANSWER,
                read=self._members,
                cost=LIST,
            ),
            "group.kick": Operation(
                OneMember,
                "remove a member, who is banned with it (owner, admin)",
                '{"user":U}',
                asks=Point.BEFORE_GROUP_KICK,
                write=self._kick,
                shown=_kicked,
                cost=WRITE,
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
        settings = self._groups.settings
        given = _change(arguments.join, arguments.history, arguments.announcements)
        rules = settings.rules_of_requests(given)
        draft = GroupDraft(name=arguments.name, description=arguments.description, rules=rules)
        return await settings.creating(session, draft)

    async def _get(self, session: Session, arguments: OneGroup) -> object:
        me, number = session.user.id, arguments.group
        found = await self._services.store.read(lambda tables: tables.groups.details(number, me))
        return _details(found, wall_clock.now_ms())

    async def _set(self, session: Session, arguments: NewRules) -> Change[GroupRules]:
        change = _change(arguments.join, arguments.history, arguments.announcements)
        return await self._groups.settings.setting_rules(session, arguments.group, change)

    async def _dissolve(self, session: Session, arguments: OneGroup) -> Change[int]:
        return await self._groups.settings.dissolving(session, arguments.group)

    async def _join(self, session: Session, arguments: OneGroup) -> Change[Joined]:
        return await self._groups.admission.joining(session, arguments.group)

    async def _leave(self, session: Session, arguments: OneGroup) -> Change[Left]:
        return await self._groups.members.leaving(session, arguments.group)

    async def _list(self, session: Session, arguments: NoArguments) -> object:
        me = session.user.id
        rows = await self._services.store.read(lambda tables: tables.groups.of(me, 0))
        return {"groups": [of_group(row.group) for row in rows]}

    async def _members(self, session: Session, arguments: UsersPage) -> object:
        me, number, now_ms = session.user.id, arguments.group, wall_clock.now_ms()

        config = self._services.config()

        def read(tables: Tables) -> tuple[list[tuple[User, Role]], dict[UserId, int], set[UserId]]:
            role = tables.groups.role(number, me)
            found = tables.groups.members(number, arguments.after, arguments.limit)
            ids = [user.id for user, _ in found]
            muted = tables.groups.muted(number, ids, now_ms) if role is not Role.MEMBER else {}
            return found, muted, consent.unseen(tables, config, me, ids)

        members, muted, unseen = await self._services.store.read(read)
        online = await self._services.hub.online(user.id for user, _ in members) - unseen
        return {
            "members": [
                {
                    **of_user(user),
                    "role": role.name.lower(),
                    "online": user.id in online,
                    **({"muted": True, "until_ms": until(muted[user.id])} if user.id in muted else {}),
                }
                for user, role in members
            ],
            "more": len(members) == arguments.limit,
        }

    async def _kick(self, session: Session, arguments: OneMember) -> Change[Kick]:
        return await self._groups.members.kicking(session, arguments.group, user_named(arguments.user))

    async def _rename(self, session: Session, arguments: Rename) -> Change[Group]:
        return await self._groups.settings.renaming(session, arguments.group, arguments.name, arguments.description)

    async def _role(self, session: Session, arguments: Promotion) -> Change[User]:
        role = Role[arguments.role.upper()]
        return await self._groups.members.giving_role(session, arguments.group, user_named(arguments.user), role)


def _group(group: Group) -> object:
    return {"group": of_group(group)}


def _joined(joined: Joined) -> object:
    return {"group": of_group(joined.group), "joined": joined.pending is None}


def _change(join: _Join | None, history: _History | None, announcements: bool | None) -> RulesChange:
    return RulesChange(
        join=None if join is None else JoinPolicy[join.upper()],
        whole_history=None if history is None else history == "all",
        announcements=announcements,
    )


def _details(found: GroupDetails, now_ms: int) -> object:
    muted = found.muted_until_ms > now_ms
    return {
        "group": of_group(found.group),
        **of_rules(found.rules),
        "members": found.members,
        "role": found.role.name.lower(),
        "muted": muted,
        "until_ms": until(found.muted_until_ms) if muted else None,
        "requests": found.requests,
        "invitations": found.invitations,
        "bans": found.bans,
    }


def _left(left: Left) -> object:
    return {"owner": left.heir, "ended": left.ended}


def _kicked(kick: Kick) -> object:
    return {"user": of_user(kick.user)}


def _user(user: User) -> object:
    return {"user": of_user(user)}
