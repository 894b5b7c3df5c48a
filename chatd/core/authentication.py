"""Which secret lets whom in: passwords, tokens, and what a backend grants, in the order of accounts.login.

Owns: the kinds of login and their order, what the outcome of several kinds is together, whom a token names, and making
the account of a first login.
Elsewhere: each kind by itself (core.accounts, core.tokens, core.backend_logins), the account that a login names, and
penalties (core.login_guard), the session (core.sessions.login).
Fails: NotProved; Refused for an account that is locked or may not be made; Unavailable from the store.

A secret in the form of a pass (core.passes) is a pass or nothing. One in the form of a token is tried as a token first.
A token that one of the keys has signed is decided by that; any other text of this form may still be a password, or
something for the backend, as any other secret. If one kind cannot be checked now and no other lets the client in, the
client is told to try again: nothing is let in unchecked, and an outage is nobody's failed attempt.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from chatd.core.accounts import Accounts, check_name, unlocked
from chatd.core.admission import Applicant
from chatd.core.backend_logins import BackendLogins, BackendUnavailable, Question
from chatd.core.passes import Passes, Purpose, looks_like_pass, still_counts
from chatd.core.proof import CANNOT_BE_CHECKED, DENIED, NO_TOKEN, UNKNOWN_USER, WRONG_PASS, NotProved, Proved
from chatd.core.services import Services
from chatd.core.tokens.contract import KeysUnavailable, Tokens
from chatd.errors import ErrorCode, Refused
from chatd.protocol import Login
from chatd.store.contract import Account
from chatd.texts.names import name_key
from chatd.tokens.contract import Claims, TokenProblem, TokenRefused, looks_like_token

_TRY_AGAIN = "this server cannot check logins at the moment, try again"


class Circumstances(NamedTuple):
    """Of one login. applicant: for whom work is done. wire, address: of the client, for the backend. may_register:
    called with the name of an account before it is made; raises Refused."""

    applicant: Applicant
    wire: str
    address: str
    may_register: Callable[[str], Awaitable[None]]


class _Attempt(NamedTuple):
    command: Login
    account: Account | None
    by: Circumstances


class Authentication:
    """tokens, backend: None = the configuration has no such logins."""

    def __init__(
        self,
        services: Services,
        accounts: Accounts,
        passes: Passes,
        tokens: Tokens | None = None,
        backend: BackendLogins | None = None,
    ) -> None:
        self._config = services.config
        self._accounts = accounts
        self._passes = passes
        self._tokens = tokens
        self._backend = backend
        self._checks: dict[str, Callable[[_Attempt], Awaitable[Proved]]] = {
            "pass": self._by_pass,
            "open": self._by_nothing,
            "password": self._by_password,
            "token": self._by_token,
            "http": self._by_backend,
        }

    async def prove(self, command: Login, account: Account | None, by: Circumstances) -> Proved:
        """Whom the secret lets in. account: as Accounts.find() gave it for this command.

        Raises: NotProved; Refused ACCOUNT_LOCKED (only after the right secret), TOKEN_EXPIRED, BUSY, NAME_NOT_ALLOWED
        or NAME_TAKEN for an account that cannot be made, or what by.may_register says; Unavailable."""
        attempt = _Attempt(command, account, by)
        kinds = self._kinds_for(command.secret)
        if not kinds:
            raise NotProved(NO_TOKEN)
        denials, is_known = [], True
        for kind in kinds:
            try:
                return await self._checks[kind](attempt)
            except NotProved as denial:
                if denial.is_final:
                    raise
                denials.append(denial)
            except (KeysUnavailable, BackendUnavailable):
                is_known = False
        if is_known:
            raise denials[0]
        has_guessed = bool(denials and account is not None and account.password and "password" in kinds)
        raise NotProved(CANNOT_BE_CHECKED, ErrorCode.UNAVAILABLE, _TRY_AGAIN, is_guess=has_guessed)

    def _kinds_for(self, secret: str) -> tuple[str, ...]:
        """In the order in which they are tried."""
        if looks_like_pass(secret):
            return ("pass",)
        kinds = self._config().accounts.kinds
        if "token" not in kinds:
            return kinds
        others = tuple(kind for kind in kinds if kind != "token")
        return ("token", *others) if looks_like_token(secret) else others

    async def fresh_end_ms(self, command: Login, name: str) -> int:
        """Until when a session of the user with this name may last, by the token of a repeated login; 0 = the secret is
        no token that says so. Never raises."""
        if self._tokens is None or not looks_like_token(command.secret):
            return 0
        try:
            claims = await self._tokens.verify(command.secret)
        except (TokenRefused, KeysUnavailable):
            return 0
        return self._end_ms(claims) if name_key(claims.name) == name_key(name) else 0

    # ---------------------------------------------------------------- the kinds

    async def _by_pass(self, attempt: _Attempt) -> Proved:
        """Whatever kinds of login there are, the one that the user has passed was one of them."""
        one, account = self._passes.open(attempt.command.secret, Purpose.LOGIN), attempt.account
        if one is None or account is None or one.user_id != account.user.id or not still_counts(one, account):
            raise NotProved(WRONG_PASS)
        return Proved(account, ends_at_ms=one.ends_at_ms)

    async def _by_nothing(self, attempt: _Attempt) -> Proved:
        return Proved(await self._accounts.open_account(attempt.command, attempt.account))

    async def _by_password(self, attempt: _Attempt) -> Proved:
        return Proved(await self._accounts.check_password(attempt.command, attempt.account, attempt.by.applicant))

    async def _by_token(self, attempt: _Attempt) -> Proved:
        assert self._tokens is not None
        try:
            claims = await self._tokens.verify(attempt.command.secret)
        except TokenRefused as refused:
            if refused.problem is TokenProblem.EXPIRED:
                raise NotProved(refused.problem.value, ErrorCode.TOKEN_EXPIRED, is_guess=False) from None
            raise NotProved(refused.problem.value, is_final=refused.is_signed) from None
        if not _is_for(claims.name, attempt):
            raise NotProved(TokenProblem.OTHER_NAME.value, is_final=True)
        ends_at_ms = self._end_ms(claims) if self._config().accounts.end_at_expiry else 0
        proved = await self._account_for(claims.name, attempt, claims.issued_at)
        return proved._replace(ends_at_ms=ends_at_ms)

    def _end_ms(self, claims: Claims) -> int:
        """A token that has just expired, and was accepted because clocks differ, is good for as long as that."""
        expires_at = claims.expires_at
        if expires_at <= time.time():
            expires_at += self._config().tokens.leeway_s
        return math.ceil(expires_at * 1000)

    async def _by_backend(self, attempt: _Attempt) -> Proved:
        assert self._backend is not None
        command, account, by = attempt
        name = account.user.name if account is not None else self._as_stored(command.name)
        if not name:
            raise NotProved(UNKNOWN_USER)
        version = f"{account.user.id} {account.credentials} {account.locked_at_ms}" if account is not None else ""
        question = Question(name=name, secret=command.secret, wire=by.wire, address=by.address)
        if not await self._backend.grants(question, version, by.applicant):
            raise NotProved(DENIED)
        return await self._account_for(name, attempt, None)

    def _as_stored(self, name: str) -> str:
        """The name of the account that a login would make, which is what the backend is asked about: otherwise a user
        of the application whose name is this one in other characters could have it. A name that cannot be given is
        asked about as it is."""
        try:
            return check_name(name, self._config(), digits=True)
        except Refused:
            return name

    async def _account_for(self, name: str, attempt: _Attempt, vouched_at: float | None) -> Proved:
        """The account of somebody who may log in under this name, made if there is none. Raises NotProved; Refused;
        Unavailable."""
        if attempt.account is not None:
            return Proved(unlocked(attempt.account))
        config = self._config()
        if not config.accounts.new_at_login:
            raise NotProved(UNKNOWN_USER, is_guess=False, is_final=True)
        stored = check_name(name, config, digits=config.accounts.number_names)
        await attempt.by.may_register(stored)
        return await self._accounts.find_or_make(stored, vouched_at)


def _is_for(name: str, attempt: _Attempt) -> bool:
    """Whether a token for this name is for the account that the login names: by the same name, or by the number of the
    account that has this name. Never by a name that is a number."""
    command, account = attempt.command, attempt.account
    if command.name and name_key(command.name) != name_key(name):
        return False
    if account is None:
        return bool(command.name)
    return name_key(account.user.name) == name_key(name)
