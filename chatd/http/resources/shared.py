"""What several resources share: names and pages in requests, users and sessions in answers.

Owns: these types, and finding the user that a path names.
Elsewhere: the resources, in the modules of this package.
Fails: HttpRefused 404 where nobody has the name; Unavailable.
"""

from __future__ import annotations

from typing import Annotated, NoReturn

import msgspec
from msgspec import Meta

from chatd.core.friends import Find
from chatd.core.sessions.kick import KickResult
from chatd.errors import ErrorCode, Refused
from chatd.http.call import Call
from chatd.http.problems import HttpRefused
from chatd.model import User, UserId
from chatd.store.contract import Tables

MOST_ROWS = 200
"""Maximum rows of one page."""

Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="the name of a user, percent-encoded in a path; a number is a name like any other, never an id",
        examples=["alice"],
    ),
]
GroupNumber = Annotated[int, Meta(ge=1, lt=1 << 62, description="the number of a group", examples=[7])]
Time = Annotated[int, Meta(ge=0, description="milliseconds since the epoch")]
MaybeTime = Annotated[int | None, Meta(description="milliseconds since the epoch; null: never")]
After = Annotated[
    str, Meta(pattern=r"^[0-9]{0,18}$", description="`next` of the page before; left out: the first page")
]
Limit = Annotated[int, Meta(ge=1, le=MOST_ROWS, description="maximum rows of the page")]
Next = Annotated[str | None, Meta(description="`after` of the next page; null: there is none")]


class OneUser(msgspec.Struct, frozen=True):
    """The path of a user."""

    name: Name


class OneGroup(msgspec.Struct, frozen=True):
    """The path of a group."""

    number: GroupNumber


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of a list is wanted."""

    after: After = ""
    limit: Limit = 50

    @property
    def after_id(self) -> int:
        return int(self.after or 0)


class UserRef(msgspec.Struct, frozen=True, gc=False):
    """A user."""

    id: Annotated[int, Meta(description="the number of the account, which never changes", examples=[1])]
    name: Annotated[str, Meta(examples=["alice"])]


class EndedSessions(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the sessions of a user. After a change of the password, a lock, or the end of the account, all of
    them end within a second, whether or not their host has answered."""

    sessions_ended: Annotated[int, Meta(ge=0, description="on all workers and hosts that have answered")]
    unanswered: Annotated[list[str], Meta(description="hosts that have not answered in time; the call may be repeated")]


def ref(user: User) -> UserRef:
    return UserRef(user.id, user.name)


def ended(result: KickResult) -> EndedSessions:
    return EndedSessions(sessions_ended=result.sessions, unanswered=sorted(set(result.unanswered.values())))


def maybe(at_ms: int) -> int | None:
    """A time as answers have it: the store says 0 for never."""
    return at_ms or None


def following(last_id: int, found: int, page: Page) -> str | None:
    """`next` of a page that was read in full. found: its rows."""
    return str(last_id) if found == page.limit else None


def no_such_user(field: str = "") -> NoReturn:
    raise HttpRefused(ErrorCode.UNKNOWN_RECIPIENT, field=field)


def exactly(name: str) -> Find:
    """Finds the user with this name, and nobody whose id it is. Raises Refused UNKNOWN_RECIPIENT when called."""

    def find(tables: Tables) -> User:
        account = tables.accounts.named(name)
        if account is None:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT, f"no such user: {name}")
        return account.user

    return find


async def user_named(call: Call, name: str, field: str = "") -> User:
    """field: where the request names the user, "" = in its path. Raises HttpRefused 404; Unavailable."""
    try:
        return await call.core.store.read(exactly(name))
    except Refused as refused:
        raise HttpRefused(ErrorCode.UNKNOWN_RECIPIENT, refused.text, field=field) from None


async def online(call: Call, user_ids: list[UserId]) -> set[UserId]:
    return await call.core.hub.online(user_ids)
