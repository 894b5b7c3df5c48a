"""Which passwords may be set.

Owns: the rules for a new password, and the text that says which one it breaks.
Elsewhere: the common passwords (core.weak_passwords), hashing (core.passwords), passwords that exist already, which
stay valid whatever these rules say (core.accounts).
Fails: Refused PASSWORD_NOT_ALLOWED.
"""

from __future__ import annotations

import unicodedata

from chatd.config.schema import Config
from chatd.core.weak_passwords import is_common
from chatd.errors import ErrorCode, Refused

MAX_PASSWORD_CHARS = 1024
"""A longer password is refused when it is set, and is wrong at every login."""


def check_password(secret: str, name: str, config: Config) -> None:
    """Raises Refused PASSWORD_NOT_ALLOWED, with a text for the user, unless this may become the password of the account
    with this name."""
    check_length(secret, config.accounts.min_password_chars)
    if config.accounts.common_passwords == "accept":
        return
    if _folded(secret) in (_folded(name), _folded(name)[::-1]):
        raise Refused(ErrorCode.PASSWORD_NOT_ALLOWED, "the password must not be the name")
    if len(set(secret)) == 1 or is_common(secret):
        raise Refused(ErrorCode.PASSWORD_NOT_ALLOWED, "this password is too common: attackers try it first")


def check_length(secret: str, shortest: int) -> None:
    """Raises Refused PASSWORD_NOT_ALLOWED, naming the limit."""
    if len(secret) < shortest:
        raise Refused(ErrorCode.PASSWORD_NOT_ALLOWED, f"a password must have at least {shortest} characters")
    if len(secret) > MAX_PASSWORD_CHARS:
        raise Refused(ErrorCode.PASSWORD_NOT_ALLOWED, f"a password must have at most {MAX_PASSWORD_CHARS} characters")


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()
