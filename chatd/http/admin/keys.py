"""Keys of the API and invite codes, on the operator's page.

Owns: listing, making, rotating and revoking them; their inputs and outputs.
Elsewhere: their forms (api_keys, invite_codes), the rows (store.api_key_contract, store.account_contract), the same
from a terminal (chatctl.keys, chatctl.account_commands).
Fails: Refused, Unavailable.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from chatd import api_keys, invite_codes, wall_clock
from chatd.errors import ErrorCode, Refused
from chatd.http.admin.requests import FRESH, LONGEST_S, READ, WRITE, AdminCall, route
from chatd.http.route import NoInput
from chatd.security_log import SecurityEvent
from chatd.store.contract import NewApiKey, NewInvite
from chatd.texts import fields

_NAME_CHARS = 64
_NOTE_CHARS = 200
_Name = Annotated[str, Meta(min_length=1, max_length=_NAME_CHARS)]
_Duration = Annotated[int, Meta(ge=0, le=LONGEST_S)]


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """As store.contract.ApiKey, without its hash. state: valid, expired or revoked."""

    id: int
    name: str
    scopes: tuple[str, ...]
    by: str
    state: str
    created_at_ms: int
    expires_at_ms: int
    used_at_ms: int


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """By id. scopes: all that there are, with what they allow."""

    keys: list[Key]
    scopes: dict[str, str]


class WantedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """for_s: how long it is valid; 0 = until it is revoked."""

    name: _Name
    scopes: Annotated[tuple[str, ...], Meta(min_length=1, max_length=len(api_keys.SCOPES))]
    for_s: _Duration = 0


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """overlap_s: how long the earlier key stays valid."""

    name: _Name
    overlap_s: _Duration = 0


class Named(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: _Name


class MadeKey(msgspec.Struct, frozen=True, kw_only=True):
    """key: shown this once."""

    id: int
    name: str
    key: str


class Revoked(msgspec.Struct, frozen=True):
    """How many were valid."""

    revoked: int


class ShownInvite(msgspec.Struct, frozen=True, kw_only=True):
    """As store.contract.Invite. valid: another account may be registered with it."""

    id: int
    uses: int
    used: int
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int
    note: str
    valid: bool


class Invites(msgspec.Struct, frozen=True):
    """By id."""

    invites: list[ShownInvite]


class WantedInvite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """uses: accounts that may be registered with it. for_s: how long it is valid."""

    uses: Annotated[int, Meta(ge=1, le=100_000)] = 1
    for_s: Annotated[int, Meta(ge=1, le=LONGEST_S)] = 7 * 86_400
    note: Annotated[str, Meta(max_length=_NOTE_CHARS)] = ""


class MadeInvite(msgspec.Struct, frozen=True, kw_only=True):
    """code: shown this once."""

    id: int
    code: str


class OneInvite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[int, Meta(ge=1)]


# ---------------------------------------------------------------- keys


async def show_keys(call: AdminCall, _: object, __: NoInput) -> Keys:
    """Raises Unavailable."""
    now_ms = wall_clock.now_ms()
    found = await call.core.store.read(lambda tables: tables.api_keys.all())
    keys = [
        Key(
            id=one.id,
            name=one.name,
            scopes=one.scopes,
            by=one.by,
            state="revoked" if one.revoked_at_ms else "valid" if one.valid(now_ms) else "expired",
            created_at_ms=one.created_at_ms,
            expires_at_ms=one.expires_at_ms,
            used_at_ms=one.used_at_ms,
        )
        for one in found
    ]
    return Keys(keys=keys, scopes=api_keys.SCOPES)


async def make_key(call: AdminCall, _: object, wanted: WantedKey) -> MadeKey:
    """Raises Refused BAD_FIELD, NAME_TAKEN; Unavailable."""
    try:
        scopes = api_keys.read_scopes(",".join(wanted.scopes))
    except ValueError as error:
        raise Refused(ErrorCode.BAD_FIELD, str(error)) from None
    secret, now_ms = api_keys.new(), wall_clock.now_ms()
    key = NewApiKey(
        name=fields.line("the name", wanted.name, _NAME_CHARS),
        secret_hash=api_keys.hashed(secret),
        scopes=scopes,
        by=call.by,
        expires_at_ms=now_ms + 1000 * wanted.for_s if wanted.for_s else 0,
    )
    number = await call.core.store.write(lambda tables: tables.api_keys.add(key, now_ms))
    call.record(SecurityEvent.API_KEY_ADDED, name=key.name, detail=" ".join(scopes))
    return MadeKey(id=number, name=key.name, key=secret)


async def rotate_key(call: AdminCall, _: object, given: Rotation) -> MadeKey:
    """Raises Refused UNKNOWN_KEY; Unavailable."""
    secret, now_ms = api_keys.new(), wall_clock.now_ms()
    made = api_keys.hashed(secret), now_ms + 1000 * given.overlap_s
    number = await call.core.store.write(lambda tables: tables.api_keys.rotate(given.name, *made, now_ms))
    call.record(SecurityEvent.API_KEY_ROTATED, name=given.name)
    return MadeKey(id=number, name=given.name, key=secret)


async def revoke_key(call: AdminCall, _: object, given: Named) -> Revoked:
    """Raises Unavailable."""
    now_ms = wall_clock.now_ms()
    revoked = await call.core.store.write(lambda tables: tables.api_keys.revoke(given.name, now_ms))
    if revoked:
        call.record(SecurityEvent.API_KEY_REVOKED, name=given.name)
    return Revoked(revoked)


# ---------------------------------------------------------------- invite codes


async def show_invites(call: AdminCall, _: object, __: NoInput) -> Invites:
    """Raises Unavailable."""
    now_ms = wall_clock.now_ms()
    found = await call.core.store.read(lambda tables: tables.invites.all())
    return Invites([ShownInvite(**one._asdict(), valid=one.valid(now_ms)) for one in found])


async def make_invite(call: AdminCall, _: object, wanted: WantedInvite) -> MadeInvite:
    """Raises Refused BAD_FIELD; Unavailable."""
    code, now_ms = invite_codes.new(), wall_clock.now_ms()
    note = fields.line("the note", wanted.note, _NOTE_CHARS) if wanted.note else ""
    invite = NewInvite(invite_codes.hashed(invite_codes.read(code)), wanted.uses, now_ms + 1000 * wanted.for_s, note)
    number = await call.core.store.write(lambda tables: tables.invites.add(invite, now_ms))
    call.record(SecurityEvent.INVITE_ADDED, detail=f"{number}: {wanted.uses} uses")
    return MadeInvite(id=number, code=code)


async def revoke_invite(call: AdminCall, _: object, given: OneInvite) -> Revoked:
    """Raises Unavailable."""
    now_ms = wall_clock.now_ms()
    revoked = await call.core.store.write(lambda tables: tables.invites.revoke(given.id, now_ms))
    if revoked:
        call.record(SecurityEvent.INVITE_REVOKED, detail=str(given.id))
    return Revoked(int(revoked))


ROUTES = (
    route("GET", "keys", READ, show_keys, NoInput, Keys, "Keys of the API."),
    route("POST", "keys", FRESH, make_key, WantedKey, MadeKey, "Make a key."),
    route(
        "POST", "keys/rotate", FRESH, rotate_key, Rotation, MadeKey, "Make another key with the name of a valid one."
    ),
    route("POST", "keys/revoke", WRITE, revoke_key, Named, Revoked, "Make the keys with a name invalid."),
    route("GET", "invites", READ, show_invites, NoInput, Invites, "Invite codes."),
    route("POST", "invites", WRITE, make_invite, WantedInvite, MadeInvite, "Make an invite code."),
    route("POST", "invites/revoke", WRITE, revoke_invite, OneInvite, Revoked, "Make an invite code invalid."),
)
