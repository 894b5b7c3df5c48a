"""/v1/groups/{number}/members, /requests, /bans and /mutes: who is in a group, who cannot be, who may not write.

Owns: the inputs and outputs of these routes.
Elsewhere: the groups themselves (http.resources.groups); the rules (core.groups, the store).
Fails: Refused, Unavailable; HttpRefused 404 for a user who is not what the path says.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from chatd.errors import ErrorCode, Refused
from chatd.http.call import Call
from chatd.http.problems import HttpRefused
from chatd.http.resources.shared import (
    GroupNumber,
    Name,
    Next,
    OneGroup,
    Page,
    Time,
    UserRef,
    exactly,
    following,
    user_named,
)
from chatd.http.route import NoInput, NoOutput, Route
from chatd.model import Role

_Role = Literal["owner", "admin", "member"]
_ROLES: dict[Role, _Role] = {Role.OWNER: "owner", Role.ADMIN: "admin", Role.MEMBER: "member"}
_MAX_MUTE_S = 10 * 365 * 86400
_UNKNOWN = (ErrorCode.UNKNOWN_GROUP, ErrorCode.UNKNOWN_RECIPIENT)


class OneMember(msgspec.Struct, frozen=True):
    """The path of a user's place in a group."""

    number: GroupNumber
    name: Name


class MemberOf(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a group."""

    id: int
    name: str
    role: _Role
    online: bool
    muted: Annotated[bool, Meta(description="the member may not write")] = False
    until_ms: Annotated[int | None, Meta(description="when the mute ends, ms since the epoch; null: by an order")] = (
        None
    )


class MembersOf(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the members of a group, by the id of the user."""

    members: list[MemberOf]
    next: Next


class WantedMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """role left out: a new member is a plain one, and others keep theirs. The owner who names another becomes an
    admin."""

    role: _Role | None = None


class PutMember(msgspec.Struct, frozen=True, kw_only=True):
    """The user is a member."""

    id: int
    name: str
    role: _Role
    created: Annotated[bool, Meta(description="the user was not a member before")]


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A user who asks to join."""

    user: UserRef
    at_ms: Time


class JoinRequests(msgspec.Struct, frozen=True, kw_only=True):
    """A page of open requests to join a group, by the id of the user."""

    requests: list[JoinRequest]
    next: Next


class GroupBan(msgspec.Struct, frozen=True, kw_only=True):
    """A user who cannot join. by: id 0, name "0" = the system."""

    user: UserRef
    by: UserRef
    at_ms: Time


class GroupBans(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the banned users of a group, by the id of the user."""

    bans: list[GroupBan]
    next: Next


class MuteWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the member may not write."""

    seconds: Annotated[
        Annotated[int, Meta(ge=1, le=_MAX_MUTE_S)] | None, Meta(description="left out: until it is ended")
    ] = None


class _Members(msgspec.Struct, frozen=True):
    members: list[MemberOf]


class _Requests(msgspec.Struct, frozen=True):
    requests: list[JoinRequest]


class _Bans(msgspec.Struct, frozen=True):
    bans: list[GroupBan]


class _Result(msgspec.Struct, frozen=True):
    """Of an operation, not shown."""


def _asked(at: OneGroup, page: Page) -> dict[str, Any]:
    return {"group": at.number, "after": page.after_id, "limit": page.limit}


async def list_members(call: Call, at: OneGroup, page: Page) -> MembersOf:
    found = (await call.calls.operate(call.system(), "group.members", _asked(at, page), _Members)).members
    return MembersOf(members=found, next=following(found[-1].id, len(found), page) if found else None)


async def put_member(call: Call, at: OneMember, wanted: WantedMember) -> PutMember:
    role = None if wanted.role is None else Role[wanted.role.upper()]
    change = call.core.groups.orders.placing(at.number, exactly(at.name), role)
    placed = await change.apply(call.core.store)
    user = placed.user
    return PutMember(id=user.id, name=user.name, role=_ROLES[placed.role], created=placed.joined.fresh)


async def _order(call: Call, at: OneMember, op: str, **more: Any) -> NoOutput:
    """Raises Refused; HttpRefused 404 if there is nothing that could be ended."""
    user = await user_named(call, at.name)
    arguments = {"group": at.number, "user": user.id, **more}
    try:
        await call.calls.operate(call.system(), op, arguments, _Result, call.fp)
    except Refused as refused:
        if refused.code == ErrorCode.NOT_A_MEMBER:
            text = "this user is not a member of this group"
            raise HttpRefused(ErrorCode.NOT_A_MEMBER, text, status=HTTPStatus.NOT_FOUND) from None
        if refused.code == ErrorCode.NOT_ALLOWED and op in ("group.reject", "group.unban"):
            raise HttpRefused(ErrorCode.NOT_ALLOWED, refused.text, status=HTTPStatus.NOT_FOUND) from None
        raise
    return NoOutput()


async def remove_member(call: Call, at: OneMember, _: NoInput) -> NoOutput:
    return await _order(call, at, "group.kick")


async def list_requests(call: Call, at: OneGroup, page: Page) -> JoinRequests:
    found = (await call.calls.operate(call.system(), "group.requests", _asked(at, page), _Requests)).requests
    return JoinRequests(requests=found, next=following(found[-1].user.id, len(found), page) if found else None)


async def reject_request(call: Call, at: OneMember, _: NoInput) -> NoOutput:
    return await _order(call, at, "group.reject")


async def list_bans(call: Call, at: OneGroup, page: Page) -> GroupBans:
    found = (await call.calls.operate(call.system(), "group.bans", _asked(at, page), _Bans)).bans
    return GroupBans(bans=found, next=following(found[-1].user.id, len(found), page) if found else None)


async def ban(call: Call, at: OneMember, _: NoInput) -> NoOutput:
    return await _order(call, at, "group.ban")


async def unban(call: Call, at: OneMember, _: NoInput) -> NoOutput:
    return await _order(call, at, "group.unban")


async def mute(call: Call, at: OneMember, wanted: MuteWanted) -> NoOutput:
    return await _order(call, at, "group.mute", **({} if wanted.seconds is None else {"seconds": wanted.seconds}))


async def unmute(call: Call, at: OneMember, _: NoInput) -> NoOutput:
    return await _order(call, at, "group.unmute")


def _ordering(
    method: Literal["PUT", "DELETE"],
    path: str,
    handler: Any,
    text: str,
    wanted: type[msgspec.Struct] = NoInput,
) -> Route:
    """A row for an order about one user, which is answered without a body."""
    return Route(
        method=method,
        path=path,
        scope="groups:write",
        handler=handler,
        text=text,
        parameters=OneMember,
        input=wanted,
        status=HTTPStatus.NO_CONTENT,
        refusals=(*_UNKNOWN, ErrorCode.NOT_A_MEMBER, ErrorCode.NOT_ALLOWED, ErrorCode.LIMIT_REACHED),
        idempotent=True,
    )


ROUTES = (
    Route(
        method="GET",
        path="/v1/groups/{number}/members",
        scope="groups:read",
        handler=list_members,
        text="List the members of a group, with their roles and presence.",
        parameters=OneGroup,
        input=Page,
        output=MembersOf,
        refusals=(ErrorCode.UNKNOWN_GROUP,),
    ),
    Route(
        method="PUT",
        path="/v1/groups/{number}/members/{name}",
        scope="groups:write",
        handler=put_member,
        text="Make a user a member, or give a member a role. Ends a ban, and grants a request to join.",
        parameters=OneMember,
        input=WantedMember,
        output=PutMember,
        refusals=(*_UNKNOWN, ErrorCode.LIMIT_REACHED, ErrorCode.NOT_ALLOWED),
    ),
    _ordering(
        "DELETE",
        "/v1/groups/{number}/members/{name}",
        remove_member,
        "Remove a member, who is banned with it, as by a client's group.kick.",
    ),
    Route(
        method="GET",
        path="/v1/groups/{number}/requests",
        scope="groups:read",
        handler=list_requests,
        text="List the open requests to join a group.",
        parameters=OneGroup,
        input=Page,
        output=JoinRequests,
        refusals=(ErrorCode.UNKNOWN_GROUP,),
    ),
    _ordering("DELETE", "/v1/groups/{number}/requests/{name}", reject_request, "Refuse a request to join."),
    Route(
        method="GET",
        path="/v1/groups/{number}/bans",
        scope="groups:read",
        handler=list_bans,
        text="List the users who cannot join a group.",
        parameters=OneGroup,
        input=Page,
        output=GroupBans,
        refusals=(ErrorCode.UNKNOWN_GROUP,),
    ),
    _ordering("PUT", "/v1/groups/{number}/bans/{name}", ban, "Ban a user from a group; a member is removed with it."),
    _ordering("DELETE", "/v1/groups/{number}/bans/{name}", unban, "End a ban."),
    _ordering(
        "PUT",
        "/v1/groups/{number}/mutes/{name}",
        mute,
        "Stop a member from writing, for a time or until ended.",
        MuteWanted,
    ),
    _ordering("DELETE", "/v1/groups/{number}/mutes/{name}", unmute, "Let a muted member write again."),
)
