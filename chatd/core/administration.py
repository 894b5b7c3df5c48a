"""What an operator does to accounts through a running server.

Owns: making and changing accounts as an operator, in one transaction each, and ending the sessions of an account whose
credentials changed, on every worker and host.
Elsewhere: what happens in the transaction (core.account_changes), the same by chatctl (chatctl.accounts), the rules for
names and passwords (core.accounts, core.password_policy), ending sessions (core.sessions.kick), recording it (http),
blanking the messages of erased accounts (core.retention).
Fails: Refused, Unavailable; then nothing was changed. Sessions with earlier credentials end anyway within a second
(core.sessions.credentials); workers that do not answer are named in the result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from chatd import wall_clock
from chatd.core import account_changes, profiles
from chatd.core.account_changes import DELETED, LOCKED, PASSWORD_CHANGED, Changed, Find, named
from chatd.core.accounts import Accounts, check_name
from chatd.core.admission import OPERATOR
from chatd.core.password_policy import MAX_PASSWORD_CHARS
from chatd.core.services import Services
from chatd.core.sessions.kick import KickResult, KickTarget, SessionKicks
from chatd.errors import ErrorCode, Refused
from chatd.model import User
from chatd.store.contract import Account, Tables

if TYPE_CHECKING:
    from chatd.core.exports import Exports


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An account as it is to be. password: None = as it is; a new account then has none, and nobody can log in to it by
    password. profile: the fields to change. is_reserved: the name may be one of accounts.reserved_names."""

    name: str
    password: str | None = None
    profile: dict[str, str] = {}
    is_reserved: bool = False


class Made(NamedTuple):
    """is_new: the account did not exist. ended: the sessions that ended because the password changed; None = it did
    not."""

    user: User
    is_new: bool
    ended: KickResult | None = None


class Administration:
    def __init__(self, services: Services, accounts: Accounts, kicks: SessionKicks) -> None:
        self._services = services
        self._store = services.store
        self._config = services.config
        self._accounts = accounts
        self._kicks = kicks

    @functools.cached_property
    def exports(self) -> Exports:
        """Loaded when it is first used."""
        from chatd.core.exports import Exports

        return Exports(self._services)

    async def put(self, wanted: Wanted) -> Made:
        """Make the account, or change it to be as wanted. The same again changes nothing, and ends no session.

        Raises:
            Refused: NAME_NOT_ALLOWED, NAME_TAKEN (by one that looks the same), PASSWORD_NOT_ALLOWED, BUSY.
            Unavailable: from the store.
        """
        account = await self._store.read(lambda tables: tables.accounts.named(wanted.name))
        if account is None:
            made = await self._make(wanted)
            if made is not None:
                return made
            account = await self._store.read(named(wanted.name))  # somebody else has made it at the same moment
        return Made(account.user, False, await self._change(account, wanted))

    async def _make(self, wanted: Wanted) -> Made | None:
        """None: there is one now."""
        config = self._config()
        digits = config.accounts.number_names
        name = check_name(wanted.name, config, reserved=wanted.is_reserved, digits=digits)
        hashed = await self._accounts.hash_new(wanted.password, name, OPERATOR) if wanted.password is not None else ""

        def work(tables: Tables) -> User | None:
            if tables.accounts.named(name) is not None:
                return None
            user = tables.accounts.create(name, hashed, wall_clock.now_ms())
            profiles.change(tables, user.id, wanted.profile)
            return user

        user = await self._store.write(work)
        return None if user is None else Made(user, True)

    async def _change(self, account: Account, wanted: Wanted) -> KickResult | None:
        user, find = account.user, _same(account.user)
        hashed = ""
        if wanted.password is not None and not await self._has_password(account, wanted.password):
            hashed = await self._accounts.hash_new(wanted.password, user.name, OPERATOR)

        def work(tables: Tables) -> Changed | None:
            find(tables)
            changed = account_changes.set_password(tables, find, hashed) if hashed else None
            profiles.change(tables, user.id, wanted.profile)
            return changed

        changed = await self._store.write(work) if hashed or wanted.profile else None
        return None if changed is None else await self.end_sessions(changed, PASSWORD_CHANGED)

    async def _has_password(self, account: Account, password: str) -> bool:
        if not account.password or len(password) > MAX_PASSWORD_CHARS:
            return False
        return await self._accounts.hasher.verify(account.password, password, OPERATOR)

    async def set_password(self, name: str, password: str) -> tuple[User, KickResult]:
        """Raises: Refused UNKNOWN_RECIPIENT, PASSWORD_NOT_ALLOWED, BUSY; Unavailable."""
        account = await self._store.read(named(name))
        hashed = await self._accounts.hash_new(password, account.user.name, OPERATOR)
        find = _same(account.user)
        changed = await self._store.write(lambda tables: account_changes.set_password(tables, find, hashed))
        return changed.user, await self.end_sessions(changed, PASSWORD_CHANGED)

    async def lock(self, name: str, reason: str, *, tell: bool) -> tuple[User, KickResult]:
        """reason: one line. tell: the clients are told it. Raises: Refused UNKNOWN_RECIPIENT; Unavailable."""
        told = f"{LOCKED}: {reason}" if tell and reason else LOCKED
        return await self._ending(lambda tables: account_changes.lock(tables, named(name), reason), told)

    async def unlock(self, name: str) -> tuple[User, bool]:
        """The user, and whether the account was locked. Raises: Refused UNKNOWN_RECIPIENT; Unavailable."""
        return await self._store.write(lambda tables: account_changes.unlock(tables, named(name)))

    async def delete(self, name: str) -> tuple[User, KickResult]:
        """The messages stay. Raises: Refused UNKNOWN_RECIPIENT; Unavailable."""
        return await self._ending(lambda tables: account_changes.delete(tables, named(name)), DELETED)

    async def erase(self, name: str) -> tuple[User, KickResult]:
        """The messages lose their text within the next minutes. Raises: Refused UNKNOWN_RECIPIENT; Unavailable."""
        return await self._ending(lambda tables: account_changes.erase(tables, named(name)), DELETED)

    async def change_profile(self, name: str, fields: dict[str, str]) -> dict[str, str]:
        """fields: core.profiles.checked(). The whole profile. Raises: Refused UNKNOWN_RECIPIENT; Unavailable."""
        return await self._store.write(lambda tables: profiles.change(tables, named(name)(tables).user.id, fields))

    async def _ending(self, work: Callable[[Tables], Changed], reason: str) -> tuple[User, KickResult]:
        changed = await self._store.write(work)
        return changed.user, await self.end_sessions(changed, reason)

    async def end_sessions(self, changed: Changed, reason: str) -> KickResult:
        """Those with earlier credentials. Takes at most about core.sessions.kick.ANSWER_S."""
        target = KickTarget(user_id=changed.user.id, credentials=changed.version)
        return await self._kicks.kick(target, reason)


def _same(user: User) -> Find:
    """The account, if it is still there."""

    def find(tables: Tables) -> Account:
        account = tables.accounts.find("", user.id)
        if account is None:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
        return account

    return find
