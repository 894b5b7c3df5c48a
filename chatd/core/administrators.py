"""Administrators of the operator's page: logging in with a second factor, and their sessions.

Owns: Administrators: who is let in, how long a session lasts, and when a fresh code is asked for.
Elsewhere: codes (totp), passwords and penalties (core.login_guard), the rows (store.administrator_contract), cookies
and calls (http.admin), who is an administrator (chatctl.administrators).
Fails: Refused, Unavailable.

A session is a row of the store, which each call reads: so it ends at the commit of what ends it, on every host. The
password and the code are asked for together, and whatever is wrong is answered alike, after the same work: also
somebody who knows a password does not learn whether its owner is an administrator.
"""

from __future__ import annotations

import re
import secrets
import time
from hashlib import sha256
from typing import NamedTuple

from chatd import totp, wall_clock
from chatd.core import trail
from chatd.core.login_guard import Attempt, LoginGuard
from chatd.core.privacy import check_private
from chatd.core.proof import NotProved
from chatd.core.services import Services
from chatd.core.sessions.login import Logins
from chatd.core.sessions.session import Peer
from chatd.errors import ErrorCode, Refused
from chatd.protocol import Login
from chatd.security_log import SecurityEvent
from chatd.sources import address_of
from chatd.store.contract import Account, Administrator, AdminSession, FoundSession

SESSION_S = 12 * 3600
"""A session ends so long after its login, whatever is done."""
IDLE_S = 30 * 60
"""And so long after its last call."""
SEEN_S = 60
"""A call is noted in the store if the last one that was is so long ago."""
NOT_AN_ADMINISTRATOR, WRONG_CODE, USED_CODE = "not_an_administrator", "wrong_code", "used_code"
"""Words of the security trail."""
REFUSED = "unknown administrator, wrong password, or wrong code"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_MAX_CODE_CHARS = 32


class NewSession(NamedTuple):
    """token: of the cookie; it is shown once and stored nowhere."""

    token: str
    administrator: Administrator


def _hashed(token: str) -> str:
    return sha256(token.encode("ascii")).hexdigest()


def has_ended(found: FoundSession, now_ms: int) -> bool:
    """Whether it does not count any more: its time is over, or its account is not as it was."""
    one, account = found.session, found.account
    if account.credentials != one.credentials or account.locked_at_ms:
        return True
    return now_ms >= one.ends_at_ms or now_ms >= one.seen_at_ms + IDLE_S * 1000


class Administrators:
    def __init__(self, services: Services, logins: Logins, guard: LoginGuard) -> None:
        self._services = services
        self._store = services.store
        self._logins = logins
        self._guard = guard

    async def log_in(self, peer: Peer, command: Login, code: str) -> NewSession:
        """command: name and password. Raises Refused BAD_CREDENTIALS, TOO_MANY_ATTEMPTS, TLS_NEEDED, BUSY;
        Unavailable."""
        attempt = self._guard.attempt(peer)
        try:
            check_private(peer, self._services.config())
            account = await self._guard.check_password(
                attempt, command, lambda account: self._check(attempt, account, code)
            )
        except Refused as refused:
            self._logins.refused(attempt, command, refused)
            if refused.code in (ErrorCode.BAD_CREDENTIALS, ErrorCode.ACCOUNT_LOCKED):
                raise Refused(ErrorCode.BAD_CREDENTIALS, REFUSED) from None
            raise
        made = await self._begin(peer, account)
        trail.record(SecurityEvent.ADMIN_LOGIN, peer, name=account.user.name, user=account.user.id)
        self._guard.succeeded(attempt, account.user.id)
        return made

    async def _begin(self, peer: Peer, account: Account) -> NewSession:
        """Raises Refused BAD_CREDENTIALS: it has ceased to be an administrator meanwhile; Unavailable."""
        token, now_ms = secrets.token_urlsafe(32), wall_clock.now_ms()
        session = AdminSession(
            token_hash=_hashed(token),
            user_id=account.user.id,
            credentials=account.credentials,
            began_at_ms=now_ms,
            seen_at_ms=now_ms,
            ends_at_ms=now_ms + SESSION_S * 1000,
            address=address_of(peer.remote),
        )
        await self._store.write(lambda tables: tables.administrators.begin(session))
        found = await self.find(token)
        if found is None:
            raise Refused(ErrorCode.BAD_CREDENTIALS, REFUSED)
        return NewSession(token, found.administrator)

    async def find(self, token: str, *, keeps_alive: bool = True) -> FoundSession | None:
        """The session of this cookie, if it counts. keeps_alive: somebody has asked for something, not the page by
        itself. Raises Unavailable. Cost: one small read of the store."""
        if _TOKEN.fullmatch(token) is None:
            return None
        token_hash, now_ms = _hashed(token), wall_clock.now_ms()
        found = await self._store.read(lambda tables: tables.administrators.session(token_hash))
        if found is None or has_ended(found, now_ms):
            return None
        if keeps_alive and now_ms >= found.session.seen_at_ms + SEEN_S * 1000:
            await self._store.write(lambda tables: tables.administrators.seen(token_hash, now_ms))
        return found

    async def log_out(self, token: str) -> None:
        """Raises Unavailable."""
        if _TOKEN.fullmatch(token) is not None:
            await self._store.write(lambda tables: tables.administrators.end(_hashed(token)))

    async def check_code(self, peer: Peer, found: FoundSession, code: str) -> None:
        """Somebody wants to do what needs a fresh code. Raises Refused CODE_NEEDED, WRONG_CODE, which counts as a
        guess, or TOO_MANY_ATTEMPTS; Unavailable."""
        if not code:
            raise Refused(ErrorCode.CODE_NEEDED)
        user = found.account.user
        command, attempt = Login(name="", user_id=user.id, secret=""), self._guard.attempt(peer)
        try:
            await self._guard.guarded(
                attempt, command, lambda: self._check(attempt, found.account, code, ErrorCode.WRONG_CODE)
            )
        except NotProved as refused:
            trail.record(SecurityEvent.ADMIN_CODE_FAILED, peer, reason=refused.reason, name=user.name, user=user.id)
            raise

    async def _check(
        self, attempt: Attempt, account: Account, code: str, wrong: ErrorCode = ErrorCode.BAD_CREDENTIALS
    ) -> None:
        """That this is a code of the account's second factor, which counts once. wrong: what is refused if not. Raises
        NotProved; Refused TOO_MANY_ATTEMPTS, BUSY; Unavailable."""
        user_id = account.user.id
        found = await self._store.read(lambda tables: tables.administrators.find(user_id))
        self._guard.check_again(attempt)  # from here to the count of a wrong code nothing else runs
        if found is None:
            raise NotProved(NOT_AN_ADMINISTRATOR, wrong)
        step = totp.step_of(found.totp_secret, code, time.time()) if len(code) <= _MAX_CODE_CHARS else 0
        if not step:
            raise NotProved(WRONG_CODE, wrong)
        if not await self._store.write(lambda tables: tables.administrators.take_step(user_id, step)):
            raise NotProved(USED_CODE, wrong)
