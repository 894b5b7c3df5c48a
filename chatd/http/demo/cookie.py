"""The cookie that says who is logged in on a page of the demo.

Owns: Pass, what the cookie says; sealing it with an HMAC, and opening it again; the headers Cookie and Set-Cookie.
Elsewhere: whether the account still has the credentials that the cookie names (http.demo.calls), the store's secret
(store.account_contract.AccountTables.stand_in_key), from which the key of the HMAC is derived.
Fails: never; a cookie that this store did not seal, or that has expired, opens to None.

Nothing is kept on the server, so every worker and host takes the cookie of every other. It does not encrypt: a client
may read the number of its account.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import NamedTuple

from chatd.model import UserId

NAME = b"chatd_demo"
LIFETIME_S = 12 * 3600
"""How long a login lasts, at most."""
_PURPOSE = b"chatd: cookie of the MobileIMSDK demo, 1"
"""What keeps this key apart from others that are derived from the same secret."""
_FORM = re.compile(r"(1\.([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,11}))\.([A-Za-z0-9_-]{43})", re.ASCII)


class Pass(NamedTuple):
    """credentials: their version when the user logged in (store.account_contract.Account). expires_at: seconds since
    the epoch."""

    user_id: UserId
    credentials: int
    expires_at: int


def key_of(secret: str) -> bytes:
    """secret: the store's, hexadecimal. Raises ValueError if it has none: nothing can be sealed with that."""
    if not secret:
        raise ValueError("the store has no secret yet")
    return hmac.digest(bytes.fromhex(secret), _PURPOSE, "sha256")


def sealed(key: bytes, passed: Pass) -> str:
    """The value of the cookie."""
    text = f"1.{passed.user_id}.{passed.credentials}.{passed.expires_at}"
    return f"{text}.{_mac(key, text)}"


def opened(key: bytes, value: str, now_s: float) -> Pass | None:
    """What sealed() was given, unless it has expired."""
    found = _FORM.fullmatch(value)
    if found is None or not hmac.compare_digest(found[5], _mac(key, found[1])):
        return None
    passed = Pass(int(found[2]), int(found[3]), int(found[4]))
    return passed if now_s < passed.expires_at else None


def _mac(key: bytes, text: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).decode().rstrip("=")


def value_in(headers: list[bytes]) -> str:
    """The cookie's value in headers Cookie; "" = it is not there, or there is more than one: then another page of the
    same site may have added its own."""
    found = []
    for header in headers:
        for pair in header.split(b";"):
            name, _, value = pair.strip().partition(b"=")
            if name == NAME:
                found.append(value.decode("latin-1"))
    return found[0] if len(found) == 1 else ""


def set_cookie(value: str, *, is_secure: bool) -> bytes:
    """The header Set-Cookie. is_secure: the browser is told to send it over TLS only."""
    attributes = [NAME + b"=" + value.encode(), b"Path=/api", b"Max-Age=%d" % LIFETIME_S, b"HttpOnly"]
    attributes += [b"SameSite=Strict", *([b"Secure"] if is_secure else [])]
    return b"; ".join(attributes)
