"""Finding accounts by the beginning of their name, on the operator's page.

Owns: the list.
Elsewhere: everything else about accounts is as in the API (http.admin.api).
Fails: Unavailable.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from chatd.http.admin.requests import READ, AdminCall, route
from chatd.model import UserId
from chatd.store.contract import ListedAccount

MOST = 200


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """like: the beginning of the name, in any spelling. after: the name of the last one that is known."""

    like: Annotated[str, Meta(max_length=64)] = ""
    after: Annotated[str, Meta(max_length=64)] = ""
    limit: Annotated[int, Meta(ge=1, le=MOST)] = 50


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """Times are milliseconds since the epoch; seen_at_ms 0 = never online, locked_at_ms 0 = not locked."""

    id: UserId
    name: str
    created_at_ms: int
    seen_at_ms: int
    locked_at_ms: int


class People(msgspec.Struct, frozen=True, kw_only=True):
    """By name. next: for `after`, "" = these were the last ones."""

    users: list[Listed]
    next: str


async def find(call: AdminCall, _: object, wanted: Wanted) -> People:
    """Raises Unavailable."""
    found = await call.core.store.read(
        lambda tables: tables.accounts.beginning_with(wanted.like, wanted.after, wanted.limit + 1)
    )
    shown = [_listed(one) for one in found[: wanted.limit]]
    return People(users=shown, next=shown[-1].name if len(found) > wanted.limit else "")


def _listed(one: ListedAccount) -> Listed:
    return Listed(
        id=one.user.id,
        name=one.user.name,
        created_at_ms=one.created_at_ms,
        seen_at_ms=one.seen_at_ms,
        locked_at_ms=one.locked_at_ms,
    )


ROUTES = (route("GET", "users", READ, find, Wanted, People, "Accounts whose name begins so."),)
