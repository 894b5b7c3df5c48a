"""The guard in front of every login and password: penalties, known sources, delays.

Owns: Attempt, one attempt to log in or to change a password, from its first check to its outcome; closing connections
with too many failures; remembering from where a user logs in.
Elsewhere: the records and their penalties (core.penalties), which secret lets whom in (core.authentication), what
follows a login
(core.sessions.login), rows of known sources (store).
Fails: Refused TOO_MANY_ATTEMPTS. A known source that cannot be stored is logged at DEBUG and learnt at the next login.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import NamedTuple, TypeVar

from chatd.core.accounts import Accounts
from chatd.core.admission import Applicant, Work
from chatd.core.authentication import Authentication, Circumstances
from chatd.core.penalties import Origin, Penalties, subject_of
from chatd.core.proof import NotProved, Proved
from chatd.core.services import Services
from chatd.core.sessions.session import Peer
from chatd.errors import Disconnect, ErrorCode, Refused, Unavailable
from chatd.model import UserId
from chatd.protocol import Login
from chatd.sources import address_of, source_of
from chatd.store.contract import Account, KnownSource

T = TypeVar("T")
_DAY_S = 86_400
_SALT_BYTES = 8
_DIGEST_BYTES = 16
_COUNTED = (
    ErrorCode.BAD_CREDENTIALS,
    ErrorCode.TOO_MANY_ATTEMPTS,
    ErrorCode.TOKEN_EXPIRED,
    ErrorCode.WRONG_CODE,
)
"""Refusals of which a connection may have few."""


def origin_of(peer: Peer) -> Origin:
    return Origin(source_of(peer.remote), address_of(peer.remote), peer.protocol.name.lower(), peer.lossy)


def hidden(source: str, salt: str = "") -> str:
    """A source as the store keeps it: a salt and a hash, so that the table shows neither addresses nor that two users
    have one in common."""
    salt = salt or secrets.token_hex(_SALT_BYTES)
    digest = blake2b(source.encode(), digest_size=_DIGEST_BYTES, salt=bytes.fromhex(salt)).hexdigest()
    return salt + digest


def find_source(known: tuple[KnownSource, ...], source: str) -> KnownSource | None:
    """The row of this source, or None."""
    return next((one for one in known if hidden(source, one.hidden[: 2 * _SALT_BYTES]) == one.hidden), None)


class Asks(NamedTuple):
    """Who else may refuse a login: called when no penalty forbids it, and before an account with this name is made.
    They raise Refused."""

    may_log_in: Callable[[], Awaitable[None]]
    may_register: Callable[[str], Awaitable[None]]


class Attempt:
    """One attempt. origin: see core.penalties. account: whom it is for, None = there is no such account, or it is not
    known yet. subject: what the account is called in the penalty table, "" while it is not known. known: the row of the
    source from which the user logs in again. trusted: the user is logged in on this connection, or logged in before
    from this source; strangers' guesses do not matter."""

    __slots__ = ("account", "known", "origin", "peer", "subject", "trusted")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.origin = origin_of(peer)
        self.account: Account | None = None
        self.subject = ""
        self.known: KnownSource | None = None
        self.trusted = False


class LoginGuard:
    """failures: failed attempts by connection, of those that had any."""

    def __init__(
        self, services: Services, accounts: Accounts, penalties: Penalties, authentication: Authentication
    ) -> None:
        self.penalties = penalties
        self._services = services
        self.accounts = accounts
        self.authentication = authentication
        self._failures: dict[Peer, int] = {}

    def attempt(self, peer: Peer) -> Attempt:
        """One that begins now, by the client of this connection."""
        return Attempt(peer)

    async def authenticate(self, attempt: Attempt, command: Login, asks: Asks) -> Proved:
        """Whom the login lets in. asks: who else may refuse it.

        Raises: Refused TOO_MANY_ATTEMPTS, BAD_CREDENTIALS (after penalties.delay_s) or as core.authentication does;
        Unavailable.
        """

        async def prove() -> Proved:
            await asks.may_log_in()
            origin = attempt.origin
            by = Circumstances(self._applicant(attempt), origin.wire, origin.address, asks.may_register)
            return await self.authentication.prove(command, attempt.account, by)

        return await self.guarded(attempt, command, prove)

    async def check_password(
        self, attempt: Attempt, command: Login, also: Callable[[Account], Awaitable[None]] | None = None
    ) -> Account:
        """The account whose password this is, whatever kinds of login are accepted: a token is no password. also:
        what else must be right; what it raises counts like a wrong password. Raises as authenticate()."""

        async def prove() -> Account:
            account = await self.accounts.check_password(command, attempt.account, self._applicant(attempt))
            if also is not None:
                await also(account)
            return account

        return await self.guarded(attempt, command, prove)

    async def guarded(self, attempt: Attempt, command: Login, prove: Callable[[], Awaitable[T]]) -> T:
        """prove: called when no penalty forbids the attempt. What it raises counts as a failed attempt if it is a
        guess. Raises Refused TOO_MANY_ATTEMPTS, or what it raises (a guess after penalties.delay_s); Unavailable."""
        try:
            self.penalties.check_source(attempt.origin)
            await self._find_account(attempt, command)
            self._check_account(attempt)
            return await prove()
        except Refused as refused:
            if _is_guess(refused):
                await self._failed(attempt)
            if refused.code in _COUNTED:
                self._count(attempt.peer)
            raise

    async def _find_account(self, attempt: Attempt, command: Login) -> None:
        """Raises Unavailable."""
        candidate = await self.accounts.candidate(command)
        attempt.account = candidate.account
        attempt.subject = subject_of(candidate.user_id, candidate.name)
        attempt.known = find_source(candidate.sources, attempt.origin.source)
        attempt.trusted = attempt.known is not None or attempt.peer.session is not None

    def registrant(self, peer: Peer) -> Applicant:
        """For whom a new account's password is hashed. Raises Refused TOO_MANY_ATTEMPTS when there were too many
        registrations from this source; this attempt is counted."""
        origin = origin_of(peer)
        self.penalties.admit_registration(origin)
        return Applicant(origin.source, Work.DATAGRAM if peer.lossy else Work.STREAM, lambda: _check_there(peer))

    def changer(self, attempt: Attempt) -> Applicant:
        """For whom a changed password is hashed, after authenticate()."""
        return Applicant(attempt.origin.source, self._work(attempt), lambda: None)

    # ---------------------------------------------------------------- hashing

    def _applicant(self, attempt: Attempt) -> Applicant:
        return Applicant(attempt.origin.source, self._work(attempt), lambda: self.check_again(attempt))

    def _work(self, attempt: Attempt) -> Work:
        if attempt.origin.forgeable:
            return Work.DATAGRAM
        if attempt.trusted:
            return Work.KNOWN
        return Work.SUSPECT if self.penalties.has_offended(attempt.origin) else Work.STREAM

    def check_again(self, attempt: Attempt) -> None:
        """Its turn to be hashed, or compared, has come. Raises Refused if its client has gone, or if other attempts,
        which were since it was admitted, have brought a penalty: many attempts at once are not more than one by
        one."""
        _check_there(attempt.peer)
        self.penalties.check_source(attempt.origin)
        self._check_account(attempt)

    def _check_account(self, attempt: Attempt) -> None:
        self.penalties.check_account(attempt.subject, attempt.origin, known=attempt.trusted)

    # ---------------------------------------------------------------- afterwards

    async def _failed(self, attempt: Attempt) -> None:
        """The password was wrong. Returns when the client may be told."""
        origin = attempt.origin
        self.penalties.failed(attempt.subject, origin, known=attempt.trusted)
        options = self._services.config().penalties
        if options.enabled and options.delay_s and not origin.forgeable and not self.penalties.is_exempt(origin.source):
            await asyncio.sleep(options.delay_s)

    def _count(self, peer: Peer) -> None:
        """One more refusal of this connection; answered() ends it when there were too many."""
        if not peer.closed and not peer.lossy:
            self._failures[peer] = self._failures.get(peer, 0) + 1

    def answered(self, peer: Peer) -> None:
        """A command of this connection has been served, and its answer is queued. End the connection if it has had too
        many refusals. Cost: one lookup."""
        failures = self._failures.get(peer)
        if failures is None:
            return
        most = self._services.config().penalties.attempts_per_connection
        if most and failures >= most:
            peer.close(Disconnect.TOO_MANY_ATTEMPTS)

    def succeeded(self, attempt: Attempt, user_id: UserId) -> None:
        """The user of attempt.account is logged in. The record of the source stays as it is: an attacker may have an
        account too."""
        self._failures.pop(attempt.peer, None)
        today = int(time.time()) // _DAY_S
        source, known = attempt.origin.source, attempt.known
        if self.penalties.is_exempt(source) or (known is not None and known.seen_day >= today):
            return
        row = KnownSource(known.hidden if known else hidden(source), today)
        credentials = attempt.account.credentials if attempt.account else 0
        self._services.background.start(self._remember(user_id, row, credentials))

    async def _remember(self, user_id: UserId, row: KnownSource, credentials: int) -> None:
        try:
            await self._services.store.write(lambda tables: tables.known_sources.remember(user_id, row, credentials))
        except Unavailable as error:
            self._services.log.debug("source of a login not stored", user=user_id, why=str(error))

    def failures_of(self, peer: Peer) -> int:
        """Failed attempts on this connection since its login."""
        return self._failures.get(peer, 0)

    def resume(self, peer: Peer, failures: int) -> None:
        """The connection has come from another worker, where it had failed so many times."""
        if failures:
            self._failures[peer] = failures

    def disconnected(self, peer: Peer) -> None:
        """The connection is over. May be called twice."""
        self._failures.pop(peer, None)


def _is_guess(refused: Refused) -> bool:
    """Whether it counts as a failed attempt. A plug-in may refuse as a wrong password is refused."""
    return refused.is_guess if isinstance(refused, NotProved) else refused.code == ErrorCode.BAD_CREDENTIALS


def _check_there(peer: Peer) -> None:
    """Raises Refused if nobody waits for the answer."""
    if peer.gone:
        raise Refused(ErrorCode.BUSY)
