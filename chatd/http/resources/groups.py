"""/v1/groups: groups, which the operator's own programs make and rule, whoever owns them.

Owns: the inputs and outputs of these routes.
Elsewhere: members (http.resources.members), messages (http.resources.conversations); the rules (core.groups, the
store). What an owner can do, the system can do with the same operations.
Fails: Refused, Unavailable.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chatd.core.groups.settings import GroupDraft
from chatd.errors import ErrorCode, Refused
from chatd.http.call import Call
from chatd.http.resources.shared import (
    Name,
    Next,
    OneGroup,
    OneUser,
    Page,
    Time,
    UserRef,
    exactly,
    following,
    ref,
)
from chatd.http.route import NoInput, NoOutput, Route
from chatd.model import JoinPolicy
from chatd.store.contract import GroupOverview, RulesChange, Tables

MOST_MEMBERS = 100
"""Maximum members that a group can be made with."""
_Join = Annotated[
    Literal["open", "approval", "invite"],
    Meta(description="how it is joined: by its number; after the owner or an admin has agreed; by invitation"),
]
_History = Annotated[
    Literal["joining", "all"], Meta(description="what members read: what was written since they joined, or all")
]
_Announcements = Annotated[bool, Meta(description="only the owner and the admins write")]
_GroupName = Annotated[str, Meta(min_length=1, max_length=256, examples=["team"])]
_Description = Annotated[str, Meta(max_length=1000)]
_UNKNOWN = (ErrorCode.UNKNOWN_GROUP,)


class NewGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group to be made."""

    name: _GroupName
    owner: Name
    description: _Description = ""
    members: Annotated[
        list[Name], Meta(max_length=MOST_MEMBERS, description="besides the owner; they are members at once")
    ] = []
    join: Annotated[_Join | None, Meta(description="left out: as groups.mobileimsdk_join says")] = None
    history: Annotated[_History | None, Meta(description="left out: as groups.mobileimsdk_whole_history says")] = None
    announcements: _Announcements = False


class GroupDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A group."""

    number: int
    name: str
    description: str
    owner: UserRef
    members: Annotated[int, Meta(description="how many")]
    join: _Join
    history: _History
    announcements: _Announcements
    created_at_ms: Time


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    """A page of groups, by number."""

    groups: list[GroupDetails]
    next: Next


class GroupChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    name: _GroupName | None = None
    description: _Description | None = None
    join: _Join | None = None
    history: _History | None = None
    announcements: _Announcements | None = None


class _Result(msgspec.Struct, frozen=True):
    """Of an operation, not shown."""


def _shown(one: GroupOverview) -> GroupDetails:
    return GroupDetails(
        number=one.group.id,
        name=one.group.name,
        description=one.group.description,
        owner=ref(one.owner),
        members=one.members,
        join=_JOIN[one.rules.join],
        history="all" if one.rules.whole_history else "joining",
        announcements=one.rules.announcements,
        created_at_ms=one.created_at_ms,
    )


_JOIN: dict[JoinPolicy, Literal["open", "approval", "invite"]] = {
    JoinPolicy.OPEN: "open",
    JoinPolicy.APPROVAL: "approval",
    JoinPolicy.INVITE: "invite",
}


# ---------------------------------------------------------------- reading


async def list_groups(call: Call, _: NoInput, page: Page) -> Groups:
    found = await call.core.store.read(lambda tables: tables.groups.page(page.after_id, page.limit))
    rows = [_shown(one) for one in found]
    return Groups(groups=rows, next=following(rows[-1].number, len(rows), page) if rows else None)


async def groups_of_user(call: Call, at: OneUser, page: Page) -> Groups:
    def read(tables: Tables) -> tuple[list[GroupOverview], bool]:
        numbers = [one for one in tables.groups.ids_of(exactly(at.name)(tables).id) if one > page.after_id]
        found = [tables.groups.overview(number) for number in numbers[: page.limit]]
        return [one for one in found if one is not None], len(numbers) > page.limit

    found, more = await call.core.store.read(read)
    return Groups(groups=[_shown(one) for one in found], next=str(found[-1].group.id) if more else None)


async def get_group(call: Call, at: OneGroup, _: NoInput) -> GroupDetails:
    return await call.core.store.read(lambda tables: _details(tables, at.number))


def _details(tables: Tables, number: int) -> GroupDetails:
    """Raises Refused UNKNOWN_GROUP."""
    found = tables.groups.overview(number)
    if found is None:
        raise Refused(ErrorCode.UNKNOWN_GROUP)
    return _shown(found)


# ---------------------------------------------------------------- changing


async def create_group(call: Call, _: NoInput, new: NewGroup) -> GroupDetails:
    groups = call.core.groups
    given = RulesChange(
        join=None if new.join is None else JoinPolicy[new.join.upper()],
        whole_history=None if new.history is None else new.history == "all",
        announcements=new.announcements,
    )
    draft = GroupDraft(name=new.name, description=new.description, rules=groups.settings.rules_of_requests(given))
    change = groups.orders.creating(draft, exactly(new.owner), [exactly(name) for name in new.members])
    made: GroupDetails = await call.change(change, lambda created: _shown(created.group), GroupDetails)
    return made


async def change_group(call: Call, at: OneGroup, change: GroupChange) -> GroupDetails:
    """Rules first, and the name if that was possible."""
    number = at.number
    before = await get_group(call, at, NoInput())
    rules = {
        "join": change.join,
        "history": change.history,
        "announcements": change.announcements,
    }
    given = {field: value for field, value in rules.items() if value is not None and value != getattr(before, field)}
    texts = (change.name or before.name, change.description)
    is_renamed = texts[0] != before.name or change.description not in (None, before.description)
    if given:
        await call.calls.operate(call.system(), "group.set", {"group": number, **given}, _Result)
    if is_renamed:
        renamed = {"group": number, "name": texts[0], "description": texts[1]}
        await call.calls.operate(call.system(), "group.rename", renamed, _Result)
    return await get_group(call, at, NoInput())


async def dissolve_group(call: Call, at: OneGroup, _: NoInput) -> NoOutput:
    await call.calls.operate(call.system(), "group.dissolve", {"group": at.number}, _Result, call.fp)
    return NoOutput()


ROUTES = (
    Route(
        method="POST",
        path="/v1/groups",
        scope="groups:write",
        handler=create_group,
        text="Make a group, with an owner and members, who are told.",
        input=NewGroup,
        output=GroupDetails,
        status=HTTPStatus.CREATED,
        refusals=(ErrorCode.UNKNOWN_RECIPIENT, ErrorCode.LIMIT_REACHED, ErrorCode.FP_REUSED),
        idempotent=True,
    ),
    Route(
        method="GET",
        path="/v1/groups",
        scope="groups:read",
        handler=list_groups,
        text="List all groups, by number.",
        input=Page,
        output=Groups,
    ),
    Route(
        method="GET",
        path="/v1/users/{name}/groups",
        scope="groups:read",
        handler=groups_of_user,
        text="List the groups that a user is in, by number.",
        parameters=OneUser,
        input=Page,
        output=Groups,
        refusals=(ErrorCode.UNKNOWN_RECIPIENT,),
    ),
    Route(
        method="GET",
        path="/v1/groups/{number}",
        scope="groups:read",
        handler=get_group,
        text="What is known of a group.",
        parameters=OneGroup,
        output=GroupDetails,
        refusals=_UNKNOWN,
    ),
    Route(
        method="PATCH",
        path="/v1/groups/{number}",
        scope="groups:write",
        handler=change_group,
        text="Change the name, the description or the rules of a group; the members are told.",
        parameters=OneGroup,
        input=GroupChange,
        output=GroupDetails,
        refusals=_UNKNOWN,
    ),
    Route(
        method="DELETE",
        path="/v1/groups/{number}",
        scope="groups:write",
        handler=dissolve_group,
        text="Dissolve a group: all memberships end; its messages stay.",
        parameters=OneGroup,
        status=HTTPStatus.NO_CONTENT,
        refusals=_UNKNOWN,
        idempotent=True,
    ),
)
