"""What users say about themselves.

Owns: the fields of a profile, their limits, and the form in which they are stored.
Elsewhere: who may change and see it (core.requests.profile), the rows (store).
Fails: Refused BAD_FIELD.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta

from chatd.model import UserId
from chatd.store.contract import Tables
from chatd.texts import fields

_Line = Annotated[str, Meta(max_length=200)]
_Long = Annotated[str, Meta(max_length=1000)]

_ACCEPTED: dict[str, Callable[[str], str]] = {
    "nickname": partial(fields.name, "nickname", longest=200),
    "avatar": partial(fields.line, "avatar", longest=1000),
    "status": partial(fields.line, "status", longest=200),
    "about": partial(fields.paragraphs, "about", longest=1000),
}
"""By field, makes the form that is stored. Each raises Refused BAD_FIELD."""


class Profile(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What users say about themselves. A field left out stays as it is; "" empties it."""

    nickname: _Line | None = None
    avatar: _Long | None = None
    status: _Line | None = None
    about: _Long | None = None


def checked(profile: Profile) -> dict[str, str]:
    """The fields that were given, as they are stored. Raises Refused BAD_FIELD."""
    written = msgspec.to_builtins(profile)
    return {field: _ACCEPTED[field](text) if text else "" for field, text in written.items()}


def change(tables: Tables, user_id: UserId, given: dict[str, str]) -> dict[str, str]:
    """In a transaction. given: checked(). The whole profile as it is now."""
    merged = {**tables.accounts.profile(user_id), **given}
    profile = {key: value for key, value in merged.items() if value}
    if given:
        tables.accounts.set_profile(user_id, profile)
    return profile
