"""/v1/tokens: login tokens for the users of an application.

Owns: the input and output of this route.
Elsewhere: making tokens (core.tokens), checking them (core.authentication).
Fails: Refused NOT_ALLOWED where no key of this server signs tokens.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta

from chatd.core.accounts import check_name
from chatd.errors import ErrorCode, Refused
from chatd.http.call import Call
from chatd.http.route import NoInput, Route
from chatd.security_log import SecurityEvent


class TokenWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is to log in."""

    name: Annotated[
        str,
        Meta(min_length=1, max_length=64, description="of a user; without an account, it is made at the first login"),
    ]
    ttl_s: Annotated[
        int,
        Meta(
            ge=1, lt=1 << 31, description="how long the token is valid, at most tokens.max_lifetime_s", examples=[300]
        ),
    ] = 300


class LoginToken(msgspec.Struct, frozen=True, kw_only=True):
    """What the user's client sends in place of a password."""

    token: str
    name: Annotated[str, Meta(description="the user whom it lets in, as the name is stored")]
    expires_in_s: int


async def mint(call: Call, _: NoInput, wanted: TokenWanted) -> LoginToken:
    """Raises Refused ACCOUNT_LOCKED, NAME_NOT_ALLOWED, BAD_FIELD, NOT_ALLOWED; Unavailable."""
    tokens = call.core.tokens
    if tokens is None:
        raise Refused(ErrorCode.NOT_ALLOWED, "this server makes no tokens: no [[token_key]] has mints = true")
    account = await call.core.store.read(lambda tables: tables.accounts.named(wanted.name))
    if account is not None and account.locked_at_ms:
        raise Refused(ErrorCode.ACCOUNT_LOCKED)
    if account is None:
        name = check_name(wanted.name, call.config, digits=call.config.accounts.number_names)
    else:
        name = account.user.name
    token = tokens.mint(name, wanted.ttl_s)
    call.record(SecurityEvent.TOKEN_MINTED, name=name, user=account.user.id if account else 0)
    return LoginToken(token=token, name=name, expires_in_s=wanted.ttl_s)


ROUTES = (
    Route(
        method="POST",
        path="/v1/tokens",
        scope="tokens:write",
        handler=mint,
        text="Make a token with which a user can log in for a short time.",
        input=TokenWanted,
        output=LoginToken,
        status=HTTPStatus.CREATED,
        refusals=(ErrorCode.NAME_NOT_ALLOWED, ErrorCode.ACCOUNT_LOCKED, ErrorCode.NOT_ALLOWED),
    ),
)
