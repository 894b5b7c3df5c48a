"""Arguments that several operations share.

Owns: their types, and how a user named in a request is found.
Elsewhere: decoding them (core.requests.dispatch).
Fails: Refused UNKNOWN_RECIPIENT if nobody has the name.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from chatd.core.friends import Find, by_id
from chatd.errors import ErrorCode, Refused
from chatd.model import User
from chatd.store.contract import Tables

UserName = Annotated[str, Meta(min_length=1, max_length=64)] | Annotated[int, Meta(gt=0, lt=1 << 62)]
"""A user, by name or by id."""


PAGE = 200
"""Maximum rows of one page of a list."""
After = Annotated[int, Meta(ge=0, lt=1 << 62)]
"""The id of the last row of the page before; 0 = the first page."""
PageSize = Annotated[int, Meta(ge=1, le=PAGE)]


class NoArguments(msgspec.Struct, frozen=True):
    pass


class OneUser(msgspec.Struct, frozen=True):
    user: UserName


def user_named(name: str | int) -> Find:
    """Looks the user up in the transaction of the request. A text is a name, or an id that nobody has as a name. Raises
    Refused UNKNOWN_RECIPIENT when called."""
    if isinstance(name, int):
        return by_id(name)

    def find(tables: Tables) -> User:
        account = tables.accounts.find(name, 0)
        if account is None:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
        return account.user

    return find
