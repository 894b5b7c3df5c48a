"""/v1/users/{name}/friends and /blocks: relations of users, for backends that keep them elsewhere.

Owns: the inputs and outputs of these routes.
Elsewhere: the rules (core.friends, core.blocks, the store). Friends are made in the name of the operator, so neither
user is asked; the rest is done in the name of the user of the path, as their client would.
Fails: Refused, Unavailable.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta

from chatd.errors import ErrorCode, Refused
from chatd.http.call import Call
from chatd.http.problems import HttpRefused
from chatd.http.resources.shared import (
    Name,
    Next,
    OneUser,
    Page,
    UserRef,
    exactly,
    following,
    ref,
    user_named,
)
from chatd.http.route import NoInput, NoOutput, Route
from chatd.model import User
from chatd.store.contract import Tables

_UNKNOWN = (ErrorCode.UNKNOWN_RECIPIENT,)


class TwoUsers(msgspec.Struct, frozen=True):
    """The path of a relation of the first user to the other."""

    name: Name
    other: Name


class FriendOf(msgspec.Struct, frozen=True, kw_only=True):
    """A friend of a user."""

    id: int
    name: str
    online: bool


class FriendsOf(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a user's friends, by id."""

    friends: list[FriendOf]
    requests: Annotated[
        list[UserRef], Meta(description="users who ask to become a friend; on the first page, at most 1000")
    ]
    next: Next


class NewFriend(msgspec.Struct, frozen=True):
    """The two users are friends."""

    created: Annotated[bool, Meta(description="they were not friends before")]


class BlockedBy(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the users whom a user blocks, by id."""

    users: list[UserRef]
    next: Next


class _Nothing(msgspec.Struct, frozen=True):
    """The result of an operation that is not shown."""


# ---------------------------------------------------------------- friends


async def list_friends(call: Call, at: OneUser, page: Page) -> FriendsOf:
    found, requests = await call.core.store.read(lambda tables: _friends(tables, at.name, page))
    online = await call.core.hub.online([one.id for one in found])
    rows = [FriendOf(id=one.id, name=one.name, online=one.id in online) for one in found]
    return FriendsOf(
        friends=rows,
        requests=[ref(one) for one in requests],
        next=following(rows[-1].id, len(rows), page) if rows else None,
    )


def _friends(tables: Tables, name: str, page: Page) -> tuple[list[User], list[User]]:
    user = exactly(name)(tables)
    after = page.after_id
    friends = [one for one in tables.friends.of(user.id) if one.id > after][: page.limit]
    requests = [] if after else [one.sender for one in tables.friends.requests_to(user.id)]
    return friends, requests


async def befriend(call: Call, at: TwoUsers, _: NoInput) -> NewFriend:
    change = call.core.friends.befriending(exactly(at.name), exactly(at.other))
    result = await change.apply(call.core.store)
    return NewFriend(result.is_new)


async def end_friendship(call: Call, at: TwoUsers, _: NoInput) -> NoOutput:
    """Also withdraws the user's request."""
    await _as_user(call, at, "friend.remove")
    return NoOutput()


# ---------------------------------------------------------------- blocks


async def list_blocks(call: Call, at: OneUser, page: Page) -> BlockedBy:
    def read(tables: Tables) -> list[User]:
        return tables.consent.blocked(exactly(at.name)(tables).id, page.after_id, page.limit)

    found = await call.core.store.read(read)
    following_id = following(found[-1].id, len(found), page) if found else None
    return BlockedBy(users=[ref(one) for one in found], next=following_id)


async def block(call: Call, at: TwoUsers, _: NoInput) -> NoOutput:
    await _as_user(call, at, "block")
    return NoOutput()


async def unblock(call: Call, at: TwoUsers, _: NoInput) -> NoOutput:
    await _as_user(call, at, "unblock")
    return NoOutput()


async def _as_user(call: Call, at: TwoUsers, op: str) -> None:
    """Raises Refused; HttpRefused 404 for a relation that there is not."""
    other = await user_named(call, at.other)
    caller = await call.caller(at.name, "")
    try:
        await call.calls.operate(caller, op, {"user": other.id}, _Nothing, call.fp)
    except Refused as refused:
        if refused.code == ErrorCode.NOT_ALLOWED and op in ("friend.remove", "unblock"):
            raise HttpRefused(ErrorCode.NOT_ALLOWED, refused.text, status=HTTPStatus.NOT_FOUND) from None
        raise


_AS_USER = (*_UNKNOWN, ErrorCode.ACCOUNT_LOCKED, ErrorCode.NOT_ALLOWED, ErrorCode.LIMIT_REACHED)
ROUTES = (
    Route(
        method="GET",
        path="/v1/users/{name}/friends",
        scope="users:read",
        handler=list_friends,
        text="List a user's friends, and who asks to become one.",
        parameters=OneUser,
        input=Page,
        output=FriendsOf,
        refusals=_UNKNOWN,
    ),
    Route(
        method="PUT",
        path="/v1/users/{name}/friends/{other}",
        scope="users:write",
        handler=befriend,
        text="Make two users friends of each other, without asking them.",
        parameters=TwoUsers,
        output=NewFriend,
        refusals=(*_UNKNOWN, ErrorCode.NOT_ALLOWED, ErrorCode.NOT_ACCEPTED, ErrorCode.LIMIT_REACHED),
    ),
    Route(
        method="DELETE",
        path="/v1/users/{name}/friends/{other}",
        scope="users:write",
        handler=end_friendship,
        text="End a friendship, or withdraw the user's request.",
        parameters=TwoUsers,
        status=HTTPStatus.NO_CONTENT,
        refusals=_AS_USER,
        idempotent=True,
    ),
    Route(
        method="GET",
        path="/v1/users/{name}/blocks",
        scope="users:read",
        handler=list_blocks,
        text="List the users whom a user blocks.",
        parameters=OneUser,
        input=Page,
        output=BlockedBy,
        refusals=_UNKNOWN,
    ),
    Route(
        method="PUT",
        path="/v1/users/{name}/blocks/{other}",
        scope="users:write",
        handler=block,
        text="Let a user block another: neither can write to the other, and a friendship ends.",
        parameters=TwoUsers,
        status=HTTPStatus.NO_CONTENT,
        refusals=_AS_USER,
        idempotent=True,
    ),
    Route(
        method="DELETE",
        path="/v1/users/{name}/blocks/{other}",
        scope="users:write",
        handler=unblock,
        text="End a block.",
        parameters=TwoUsers,
        status=HTTPStatus.NO_CONTENT,
        refusals=_AS_USER,
        idempotent=True,
    ),
)
