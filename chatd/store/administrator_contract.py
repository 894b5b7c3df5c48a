"""The contract of a store: who may use the operator's page, and their sessions there. A part of store.contract.

Owns: Administrator, NewAdministrator, AdminSession, AdministratorTables.
Elsewhere: logging in, and how long a session lasts (core.administrators); the SQL (store.sql.administrators).
Fails: as store.contract says.
"""

from __future__ import annotations

import enum
from typing import Protocol

import msgspec

from chatd.model import User, UserId
from chatd.store.account_contract import Account


class AdminRole(enum.StrEnum):
    """What an administrator may do on the operator's page. The names are stored, and are on the wire."""

    ADMIN = "admin"
    """Everything."""

    READ = "read"
    """Look, and change nothing."""


class NewAdministrator(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """totp_secret: of the second factor, base32. by: who made it, for operators."""

    user_id: UserId
    role: AdminRole
    totp_secret: str
    by: str = ""


class Administrator(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """last_step: the step of time (RFC 6238) of the last code that was used; 0 = none was. used_at_ms: of the last
    login, epoch; 0 = none yet."""

    user: User
    role: AdminRole
    totp_secret: str
    last_step: int
    by: str
    created_at_ms: int
    used_at_ms: int


class AdminSession(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A login on the operator's page. token_hash: of the cookie, which is stored nowhere. credentials: of the account
    when it began (Account.credentials). Times are milliseconds since the epoch. seen_at_ms: of the last call, a minute
    exact. ends_at_ms: whatever is done. address: of the client."""

    token_hash: str
    user_id: UserId
    credentials: int
    began_at_ms: int
    seen_at_ms: int
    ends_at_ms: int
    address: str


class FoundSession(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A session, with what it depends on, as it is now."""

    session: AdminSession
    administrator: Administrator
    account: Account


class AdministratorTables(Protocol):
    """Rows go with the account."""

    def all(self) -> list[Administrator]:
        """By the number of the account."""
        ...

    def find(self, user_id: UserId) -> Administrator | None: ...

    def put(self, new: NewAdministrator, now_ms: int) -> None:
        """In a transaction: the account is an administrator from now on, with this role and this second factor; its
        sessions end. There is such an account."""
        ...

    def remove(self, user_id: UserId) -> bool:
        """In a transaction: no longer, and its sessions end. False: it was none."""
        ...

    def take_step(self, user_id: UserId, step: int) -> bool:
        """In a transaction: a code of this step is used. False: it, or a later one, was used before, or the account is
        no administrator; then nothing is changed."""
        ...

    def begin(self, session: AdminSession) -> None:
        """In a transaction. Sessions that have ended by then are forgotten."""
        ...

    def session(self, token_hash: str) -> FoundSession | None:
        """None: there is none, or the account is no administrator any more. Whether it has ended, the caller sees.
        Cost: three rows."""
        ...

    def seen(self, token_hash: str, now_ms: int) -> None:
        """In a transaction: it was used. Never moved back."""
        ...

    def end(self, token_hash: str) -> bool:
        """In a transaction. False: there was none."""
        ...
