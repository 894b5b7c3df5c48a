"""/v1/users: accounts, which the operator's own programs make, change, lock and erase.

Owns: the inputs and outputs of these routes, and their records in the security trail.
Elsewhere: the changes and their rules (core.administration), sessions (http.resources.sessions), friends and blocks
(http.resources.relations), conversations (http.resources.conversations).
Fails: Refused, Unavailable.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chatd.core import profiles
from chatd.core.administration import Wanted
from chatd.core.profiles import Profile
from chatd.errors import ErrorCode
from chatd.http.call import Call
from chatd.http.resources.shared import (
    EndedSessions,
    MaybeTime,
    Next,
    OneUser,
    Page,
    Time,
    ended,
    exactly,
    following,
    maybe,
)
from chatd.http.route import NoInput, Route
from chatd.orders import REASON_CHARS
from chatd.security_log import SecurityEvent
from chatd.store.contract import Tables
from chatd.texts import fields

_Password = Annotated[str, Meta(max_length=1024, examples=["correct horse battery"])]
_REFUSED_NEW = (
    ErrorCode.NAME_NOT_ALLOWED,
    ErrorCode.NAME_TAKEN,
    ErrorCode.PASSWORD_NOT_ALLOWED,
    ErrorCode.BUSY,
)
_UNKNOWN = (ErrorCode.UNKNOWN_RECIPIENT,)


class ListedUser(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A user in a list."""

    id: int
    name: str
    created_at_ms: Time
    last_seen_at_ms: MaybeTime
    locked_at_ms: MaybeTime


class Users(msgspec.Struct, frozen=True, kw_only=True):
    """A page of all users, by id."""

    users: list[ListedUser]
    next: Next


class UserDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a user."""

    id: int
    name: str
    created_at_ms: Time
    last_seen_at_ms: MaybeTime
    locked_at_ms: MaybeTime
    lock_reason: str
    friends: Annotated[int, Meta(description="how many")]
    groups: Annotated[int, Meta(description="how many")]
    profile: Profile


class UserAsWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user as they are to be. What is left out stays as it is."""

    password: Annotated[
        _Password | None,
        Meta(description="a new user without one cannot log in by password; another one ends the user's sessions"),
    ] = None
    profile: Profile = Profile()
    reserved: Annotated[bool, Meta(description="the name of a new user may be one of accounts.reserved_names")] = False


class PutUser(msgspec.Struct, frozen=True, kw_only=True):
    """The user, who is as wanted now."""

    id: int
    name: Annotated[str, Meta(description="as it is stored")]
    created: Annotated[bool, Meta(description="the user is new")]
    sessions: Annotated[EndedSessions | None, Meta(description="null: the password is the same as before")]


class Lock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why an account is locked."""

    reason: Annotated[
        str, Meta(max_length=REASON_CHARS, description="one line; shown to operators", examples=["abuse"])
    ] = ""
    tell: Annotated[bool, Meta(description="whether the user's clients are told the reason as their sessions end")] = (
        False
    )


class Unlocked(msgspec.Struct, frozen=True):
    """The account is not locked."""

    was_locked: bool


class NewPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new password."""

    password: _Password


class Deletion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an account ends."""

    messages: Annotated[
        Literal["erase", "keep"],
        Meta(
            description="erase: the messages of the user lose their text, everywhere, within minutes; keep: they stay"
        ),
    ] = "erase"


# ---------------------------------------------------------------- reading


async def list_users(call: Call, _: NoInput, page: Page) -> Users:
    found = await call.core.store.read(lambda tables: tables.accounts.page(page.after_id, page.limit))
    rows = [
        ListedUser(
            id=one.user.id,
            name=one.user.name,
            created_at_ms=one.created_at_ms,
            last_seen_at_ms=maybe(one.seen_at_ms),
            locked_at_ms=maybe(one.locked_at_ms),
        )
        for one in found
    ]
    return Users(users=rows, next=following(rows[-1].id, len(rows), page) if rows else None)


async def get_user(call: Call, at: OneUser, _: NoInput) -> UserDetails:
    return await call.core.store.read(lambda tables: _details(tables, at.name))


def _details(tables: Tables, name: str) -> UserDetails:
    user = exactly(name)(tables)
    details = tables.accounts.details(user.id)
    return UserDetails(
        id=user.id,
        name=user.name,
        created_at_ms=details.created_at_ms,
        last_seen_at_ms=maybe(details.seen_at_ms),
        locked_at_ms=maybe(details.locked_at_ms),
        lock_reason=details.lock_reason,
        friends=details.friends,
        groups=details.groups,
        profile=Profile(**tables.accounts.profile(user.id)),
    )


# ---------------------------------------------------------------- changing


async def put_user(call: Call, at: OneUser, wanted: UserAsWanted) -> PutUser:
    made = await call.core.administration.put(
        Wanted(
            name=at.name,
            password=wanted.password,
            profile=profiles.checked(wanted.profile),
            is_reserved=wanted.reserved,
        )
    )
    user = made.user
    if made.is_new:
        call.record(SecurityEvent.ACCOUNT_CREATED, name=user.name, user=user.id)
    if made.ended is not None:
        call.record(SecurityEvent.PASSWORD_CHANGED, name=user.name, user=user.id)
    sessions = None if made.ended is None else ended(made.ended)
    return PutUser(id=user.id, name=user.name, created=made.is_new, sessions=sessions)


async def change_profile(call: Call, at: OneUser, profile: Profile) -> Profile:
    given = profiles.checked(profile)
    return Profile(**await call.core.administration.change_profile(at.name, given))


async def set_password(call: Call, at: OneUser, new: NewPassword) -> EndedSessions:
    user, result = await call.core.administration.set_password(at.name, new.password)
    call.record(SecurityEvent.PASSWORD_CHANGED, name=user.name, user=user.id)
    return ended(result)


async def lock(call: Call, at: OneUser, why: Lock) -> EndedSessions:
    reason = fields.line("reason", why.reason, REASON_CHARS) if why.reason else ""
    user, result = await call.core.administration.lock(at.name, reason, tell=why.tell)
    call.record(SecurityEvent.ACCOUNT_LOCKED, name=user.name, user=user.id, detail=reason)
    return ended(result)


async def unlock(call: Call, at: OneUser, _: NoInput) -> Unlocked:
    user, was_locked = await call.core.administration.unlock(at.name)
    if was_locked:
        call.record(SecurityEvent.ACCOUNT_UNLOCKED, name=user.name, user=user.id)
    return Unlocked(was_locked)


async def end_user(call: Call, at: OneUser, deletion: Deletion) -> EndedSessions:
    """The trail has only the id of an erased account: the name is what is to be forgotten."""
    if deletion.messages == "keep":
        user, result = await call.core.administration.delete(at.name)
        call.record(SecurityEvent.ACCOUNT_DELETED, name=user.name, user=user.id)
    else:
        user, result = await call.core.administration.erase(at.name)
        call.record(SecurityEvent.ACCOUNT_ERASED, name="", user=user.id)
    return ended(result)


ROUTES = (
    Route(
        method="GET",
        path="/v1/users",
        scope="users:read",
        handler=list_users,
        text="List all users, by id.",
        input=Page,
        output=Users,
    ),
    Route(
        method="GET",
        path="/v1/users/{name}",
        scope="users:read",
        handler=get_user,
        text="What is known of a user.",
        parameters=OneUser,
        output=UserDetails,
        refusals=_UNKNOWN,
    ),
    Route(
        method="PUT",
        path="/v1/users/{name}",
        scope="users:write",
        handler=put_user,
        text="Make a user, or change one to be as wanted. The same again changes nothing.",
        parameters=OneUser,
        input=UserAsWanted,
        output=PutUser,
        refusals=_REFUSED_NEW,
    ),
    Route(
        method="PATCH",
        path="/v1/users/{name}",
        scope="users:write",
        handler=change_profile,
        text='Change fields of a user\'s profile; "" empties one.',
        parameters=OneUser,
        input=Profile,
        output=Profile,
        refusals=_UNKNOWN,
    ),
    Route(
        method="DELETE",
        path="/v1/users/{name}",
        scope="users:write",
        handler=end_user,
        text="Erase a user: the account, and the text of every message that it has sent; its sessions end.",
        parameters=OneUser,
        input=Deletion,
        output=EndedSessions,
        refusals=_UNKNOWN,
    ),
    Route(
        method="PUT",
        path="/v1/users/{name}/password",
        scope="users:write",
        handler=set_password,
        text="Set a user's password; their sessions end.",
        parameters=OneUser,
        input=NewPassword,
        output=EndedSessions,
        refusals=(*_UNKNOWN, ErrorCode.PASSWORD_NOT_ALLOWED, ErrorCode.BUSY),
    ),
    Route(
        method="PUT",
        path="/v1/users/{name}/lock",
        scope="users:write",
        handler=lock,
        text="Lock an account: nobody can log in to it, and its sessions end.",
        parameters=OneUser,
        input=Lock,
        output=EndedSessions,
        refusals=_UNKNOWN,
    ),
    Route(
        method="DELETE",
        path="/v1/users/{name}/lock",
        scope="users:write",
        handler=unlock,
        text="Unlock an account.",
        parameters=OneUser,
        output=Unlocked,
        refusals=_UNKNOWN,
    ),
)
