"""The second factor of administrators: codes that change every 30 seconds (TOTP, RFC 6238).

Owns: making a secret, the address by which an app learns it, finding the step of time to which a code belongs.
Elsewhere: that a code counts once (store.administrator_contract), who needs one (core.administrators).
Fails: never.

Six digits, SHA-1, 30 seconds: what every app knows.
"""

from __future__ import annotations

import hmac

import pyotp

STEP_S = 30
SKEW = 1
"""A code counts for so many steps before and after its own: clocks differ, and people type slowly."""
ISSUER = "chatd"


def new_secret() -> str:
    """160 random bits, base32."""
    return str(pyotp.random_base32())


def address(secret: str, name: str, host: str) -> str:
    """otpauth://…, which an app reads from a picture. name: of the account. host: where it is an administrator."""
    return str(pyotp.TOTP(secret).provisioning_uri(name=f"{name}@{host}", issuer_name=ISSUER))


def step_of(secret: str, code: str, now_s: float) -> int:
    """The latest step near now with this code; 0 = there is none. Spaces in the code do not matter. now_s: epoch."""
    given, now = code.replace(" ", ""), int(now_s) // STEP_S
    totp, found = pyotp.TOTP(secret), 0
    for step in range(now - SKEW, now + SKEW + 1):
        if hmac.compare_digest(totp.at(step * STEP_S).encode(), given.encode("utf-8", "surrogatepass")):
            found = step
    return found
