"""What a login token is, and what may be wrong with one. Needs no library, so that a server without tokens loads none.

Owns: telling a token from another secret, Claims, TokenProblem and TokenRefused.
Elsewhere: keys (tokens.keys), checking a token (tokens.verifier), making one (tokens.minting), what a login does with
it (core.tokens).
Fails: reading the header of something that is no token raises TokenRefused.
"""

from __future__ import annotations

import base64
import binascii
import enum
import json
import re
from typing import Any, NamedTuple

from chatd.errors import ChatdError

MAX_TOKEN_BYTES = 8192
"""A longer token is refused unread. (A packet of the mobileimsdk wire holds less: docs/tokens.md.)"""
MAX_HEADER_CHARS = 1024
"""Of the first part: `alg`, `typ`, `kid` and little else."""
MAX_KID_CHARS = 256
MAX_KEY_SET_BYTES = 128 * 1024

_PARTS = re.compile(r"([A-Za-z0-9_-]{2,})\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]*)")


class TokenProblem(enum.Enum):
    """What is wrong with a token. The values are the reasons of the security trail."""

    TOO_LONG = "token_too_long"
    MALFORMED = "token_malformed"
    UNKNOWN_KEY = "token_of_unknown_key"
    """No key has this `kid` and algorithm: also "none", or HS256 with a key that is for RS256."""
    BAD_SIGNATURE = "token_with_bad_signature"
    EXPIRED = "token_expired"
    NOT_YET_VALID = "token_not_yet_valid"
    LIVES_TOO_LONG = "token_lives_too_long"
    WRONG_AUDIENCE = "token_for_another_audience"
    WRONG_ISSUER = "token_of_another_issuer"
    BAD_CLAIMS = "token_with_bad_claims"
    """`exp` or `sub` is missing, a claim has the wrong type, or a name is there twice."""
    OTHER_NAME = "token_for_another_name"


_UNSIGNED = (TokenProblem.TOO_LONG, TokenProblem.MALFORMED, TokenProblem.UNKNOWN_KEY, TokenProblem.BAD_SIGNATURE)


class TokenRefused(ChatdError):
    """The token lets nobody in."""

    def __init__(self, problem: TokenProblem) -> None:
        super().__init__(problem.value)
        self.problem = problem

    @property
    def is_signed(self) -> bool:
        """One of the keys has signed it, so it is a token and cannot be a password."""
        return self.problem not in _UNSIGNED


class Claims(NamedTuple):
    """A token that is valid now. name: its `sub`. Times in seconds since the epoch; issued_at 0 = the token does not
    say when."""

    name: str
    expires_at: float
    issued_at: float = 0.0


class Header(NamedTuple):
    """The first part of a token. kid: None = the token names no key."""

    algorithm: str
    kid: str | None


def looks_like_token(secret: str) -> bool:
    """Whether it has the form of a token: three parts in base64url, the first of which is a JSON object with `alg`.
    Cost: a few microseconds."""
    match = _PARTS.fullmatch(secret)
    if match is None:
        return False
    try:
        return isinstance(_header_fields(match[1]).get("alg"), str)
    except ValueError:
        return False


def read_header(token: str) -> Header:
    """Raises TokenRefused. A header that asks for an extension (`crit`, `b64`) is refused; one that brings a key along
    (`jwk`, `jku`, `x5c`, `x5u`) is read without it."""
    match = _PARTS.fullmatch(token)
    if match is None:
        raise TokenRefused(TokenProblem.MALFORMED)
    try:
        fields = _header_fields(match[1])
    except ValueError:
        raise TokenRefused(TokenProblem.MALFORMED) from None
    algorithm, kid = fields.get("alg"), fields.get("kid")
    if not isinstance(algorithm, str) or "crit" in fields or "b64" in fields or "zip" in fields:
        raise TokenRefused(TokenProblem.MALFORMED)
    if kid is not None and not (isinstance(kid, str) and len(kid) <= MAX_KID_CHARS):
        raise TokenRefused(TokenProblem.MALFORMED)
    return Header(algorithm, kid)


def strict_object(data: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8 in which no name is there twice, at any depth. Raises ValueError."""
    try:
        found = json.loads(data.decode(), object_pairs_hook=_without_repetition, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _header_fields(part: str) -> dict[str, Any]:
    """Raises ValueError."""
    if len(part) > MAX_HEADER_CHARS:
        raise ValueError("too long")
    try:
        return strict_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except binascii.Error:
        raise ValueError("not base64url") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name is there twice")
    return fields


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
