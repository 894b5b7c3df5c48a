"""What proves who logs in, and what does not.

Owns: Proved and NotProved; the words of the security trail for what a secret was.
Elsewhere: passwords (core.accounts), tokens and the backend (core.authentication), what a failure costs
(core.login_guard).
Fails: never.
"""

from __future__ import annotations

from typing import NamedTuple

from chatd.errors import ErrorCode, Refused
from chatd.store.contract import Account

WRONG_PASSWORD, UNKNOWN_USER = "wrong_password", "unknown_user"
NO_TOKEN = "no_token"
"""Only tokens are accepted, and this is none."""
WRONG_PASS = "wrong_pass"
DENIED = "denied_by_backend"
OLDER_THAN_DELETION = "token_older_than_a_deletion"
"""An account was deleted after the token was made: it must not make that account again."""
CANNOT_BE_CHECKED = "cannot_be_checked"
"""A key set or the backend cannot be reached."""


class Proved(NamedTuple):
    """account: whose it is. is_new: this login has made it. ends_at_ms: when the session must end, milliseconds since
    the epoch; 0 = it need not."""

    account: Account
    is_new: bool = False
    ends_at_ms: int = 0


class NotProved(Refused):
    """The secret lets nobody in. reason: a fixed word, for the security trail; the client is not told. is_guess: it
    counts as a failed attempt for the account and its source. is_final: no other kind of login need be tried."""

    def __init__(
        self,
        reason: str,
        code: ErrorCode = ErrorCode.BAD_CREDENTIALS,
        text: str = "",
        *,
        is_guess: bool = True,
        is_final: bool = False,
    ) -> None:
        super().__init__(code, text)
        self.reason = reason
        self.is_guess = is_guess
        self.is_final = is_final or code == ErrorCode.TOKEN_EXPIRED
