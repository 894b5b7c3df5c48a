"""Checking a login token: signature, times, audience, issuer, name.

Owns: Verifier, the order of the checks, and which problem is reported.
Elsewhere: keys (tokens.keys), the header (tokens.contract), JWT itself (the library PyJWT), what a login does with the
claims (core.tokens).
Fails: TokenRefused. Nothing else raises, whatever the token is.

Cost: about 40 µs for HS256, and up to 200 µs for a public key.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable
from typing import Any

import jwt
from jwt import exceptions

from chatd.config.token_options import TokenOptions
from chatd.tokens.contract import MAX_TOKEN_BYTES, Claims, TokenProblem, TokenRefused, read_header, strict_object
from chatd.tokens.keys import Key, KeyRing

_PROBLEMS: tuple[tuple[type[Exception], TokenProblem], ...] = (
    (exceptions.ExpiredSignatureError, TokenProblem.EXPIRED),
    (exceptions.ImmatureSignatureError, TokenProblem.NOT_YET_VALID),
    (exceptions.InvalidAudienceError, TokenProblem.WRONG_AUDIENCE),
    (exceptions.InvalidIssuerError, TokenProblem.WRONG_ISSUER),
    (exceptions.MissingRequiredClaimError, TokenProblem.BAD_CLAIMS),
)
"""By the library's exception, all of which come after a good signature."""
_REQUIRED = ("exp", "sub")
_LAST_TIME = 1 << 53
"""Seconds since the epoch: no time of a claim is later."""


class Verifier:
    def __init__(self, options: TokenOptions, now: Callable[[], float] = time.time) -> None:
        """now: the clock, in seconds since the epoch; for the maximum lifetime. The library has its own."""
        self._options = options
        self._now = now
        self._decode = jwt.PyJWT().decode

    def verify(self, token: str, ring: KeyRing) -> Claims:
        """The claims of a token that one of the keys has signed and that is valid now. Raises TokenRefused."""
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenRefused(TokenProblem.TOO_LONG)
        candidates = ring.of(read_header(token))
        if not candidates:
            raise TokenRefused(TokenProblem.UNKNOWN_KEY)
        for key in candidates:
            try:
                self._check(token, key)
            except exceptions.InvalidSignatureError:
                continue
            except (exceptions.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
                raise TokenRefused(_problem_of(error)) from None
            return self._claims(token)
        raise TokenRefused(TokenProblem.BAD_SIGNATURE)

    def _check(self, token: str, key: Key) -> None:
        options = self._options
        self._decode(
            token,
            key.verifies,
            algorithms=[key.algorithm],
            audience=list(options.audience) or None,
            issuer=list(options.issuer) or None,
            leeway=options.leeway_s,
            options={
                "require": [*_REQUIRED, *(["aud"] if options.audience else []), *(["iss"] if options.issuer else [])],
                "verify_aud": bool(options.audience),
                "verify_iss": bool(options.issuer),
            },
        )

    def _claims(self, token: str) -> Claims:
        """Of a token that the library has accepted. Raises TokenRefused for what the library lets pass: a claim that is
        there twice or has another type, and a lifetime above max_lifetime_s."""
        part = token.split(".")[1]
        try:
            fields = strict_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except ValueError:
            raise TokenRefused(TokenProblem.BAD_CLAIMS) from None
        times = {name: fields[name] for name in ("exp", "nbf", "iat") if fields.get(name) is not None}
        name = fields.get("sub")
        if not isinstance(name, str) or not name or not all(map(_is_time, times.values())):
            raise TokenRefused(TokenProblem.BAD_CLAIMS)
        claims = Claims(name, float(times["exp"]), float(times.get("iat", 0)))
        longest = self._options.max_lifetime_s
        began = claims.issued_at or self._now()
        if longest and claims.expires_at - began > longest + self._options.leeway_s:
            raise TokenRefused(TokenProblem.LIVES_TOO_LONG)
        return claims


def _is_time(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 < value < _LAST_TIME


def _problem_of(error: Exception) -> TokenProblem:
    for kind, problem in _PROBLEMS:
        if isinstance(error, kind):
            return problem
    return TokenProblem.MALFORMED if isinstance(error, exceptions.DecodeError) else TokenProblem.BAD_CLAIMS
