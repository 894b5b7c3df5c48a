"""`python -m tests.tokens.planted switches -c FILE …` is chatd in whose workers guards of logins by token and by a
backend can be switched off (tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted), what finds them (tests.tokens.attacks).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.planted import main
from tests.harness.switches import Planted, plant


def _decoded_without(*claims: str) -> Planted:
    import jwt

    from chatd.tokens.verifier import Verifier

    def check(guard: Any, self: Any, token: str, key: Any) -> None:
        options = {f"verify_{claim}": False for claim in claims}
        jwt.decode(token, key.verifies, algorithms=[key.algorithm], options=options)

    return Verifier, "_check", check


def the_audience_is_not_checked() -> Planted:
    """A token for another service of the application is a login."""
    return _decoded_without("aud", "iss")


def the_expiry_is_not_checked() -> Planted:
    """A token is good for ever."""
    return _decoded_without("exp", "aud", "iss")


def a_failure_is_a_grant() -> Planted:
    """Whoever makes the backend fail comes in."""
    from chatd.core.backend_logins import BackendLogins, BackendUnavailable

    async def ask(guard: Any, self: Any, question: Any) -> bool:
        try:
            return await guard(self, question)  # type: ignore[no-any-return]
        except BackendUnavailable:
            return True

    return BackendLogins, "_ask", ask


def a_name_may_be_a_number() -> Planted:
    """Digits that nobody has as a name are the number of an account."""
    from chatd.store.sql.directory import UserDirectory, is_user_id

    return UserDirectory, "may_be_id", lambda guard, self, name: is_user_id(name)


def a_locked_account_is_opened() -> Planted:
    """A good token lets in whatever the operator has said."""
    from chatd.core import authentication

    return authentication, "unlocked", lambda guard, account: account


def sessions_do_not_end() -> Planted:
    """The end of a token is not the end of its session."""
    from chatd.core.sessions.expiry import Expiry

    return Expiry, "due", lambda guard, self, now_ms: []


def the_end_is_left_behind() -> Planted:
    """A session that moves to another worker lasts for ever."""
    from chatd.core.sessions.expiry import Expiry

    return Expiry, "end_of", lambda guard, self, session: 0


def a_deleted_account_comes_back() -> Planted:
    """A token from before makes it again."""
    from chatd.store.sql.accounts import SqlAccounts

    return SqlAccounts, "last_deletion_ms", lambda guard, self: 0


def a_token_is_a_password() -> Planted:
    """Whoever has a token may set the password."""
    from chatd.core.login_guard import Asks, LoginGuard

    async def nothing(name: str = "") -> None:
        pass

    async def check(guard: Any, self: Any, attempt: Any, command: Any) -> Any:
        return (await self.authenticate(attempt, command, Asks(nothing, nothing))).account

    return LoginGuard, "check_password", check


BUGS = {
    bug.__name__: bug
    for bug in (
        the_audience_is_not_checked,
        the_expiry_is_not_checked,
        a_failure_is_a_grant,
        a_name_may_be_a_number,
        a_locked_account_is_opened,
        sessions_do_not_end,
        the_end_is_left_behind,
        a_deleted_account_comes_back,
        a_token_is_a_password,
    )
}


if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
