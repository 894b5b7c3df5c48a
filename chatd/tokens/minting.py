"""Making a login token with one of the server's own keys.

Owns: mint(): which key signs, and the claims.
Elsewhere: who may ask for one (chatctl.tokens, the HTTP API), checking one (tokens.verifier).
Fails: Refused: no key may sign, or the lifetime is not allowed.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence

import jwt

from chatd.config.token_options import TokenOptions
from chatd.errors import ErrorCode, Refused
from chatd.tokens.keys import Key

MAX_TTL_S = 366 * 24 * 3600.0
"""Longest lifetime of a token made here, where tokens.max_lifetime_s does not say less."""


def mint(name: str, ttl_s: float, keys: Sequence[Key], options: TokenOptions) -> str:
    """A token for this name, valid for ttl_s from now, signed with the first key that may sign. The name is taken as it
    is. Raises Refused NOT_ALLOWED, BAD_FIELD."""
    key = next((one for one in keys if one.signs is not None), None)
    if key is None:
        raise Refused(ErrorCode.NOT_ALLOWED, "this server makes no tokens: no [[token_key]] has mints = true")
    longest = options.max_lifetime_s or MAX_TTL_S
    if not (math.isfinite(ttl_s) and 1 <= ttl_s <= longest):
        raise Refused(ErrorCode.BAD_FIELD, f"a token lives 1 to {longest:.0f} seconds")
    issued_at = int(time.time())
    claims: dict[str, object] = {
        "sub": name,
        "iat": issued_at,
        "exp": issued_at + math.ceil(ttl_s),
        "jti": secrets.token_urlsafe(9),
    }
    if options.audience:
        claims["aud"] = options.audience[0]
    if options.issuer:
        claims["iss"] = options.issuer[0]
    headers = {"kid": key.kid} if key.kid else None
    assert key.signs is not None
    return jwt.encode(claims, key.signs, algorithm=key.algorithm, headers=headers)
