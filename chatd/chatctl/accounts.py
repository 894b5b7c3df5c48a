"""The accounts and invite codes of the configured store, changed directly, with or without a running server.

Owns: opening the configured store, and each change in one transaction.
Elsewhere: what happens in the transaction (core.account_changes), the rules for names and passwords (core.accounts,
core.password_policy), the commands (chatctl.account_commands), many accounts at once (chatctl.bulk).
Fails: Refused, Unavailable, or BootError when the store cannot be opened. Only `create` creates a store.

A running server sees the change at once: workers share the store, and a login reads the account from it. Sessions whose
credentials changed are ended by the workers, which find the change in the store (core.sessions.credentials).
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import TypeVar

from chatd import invite_codes, wall_clock
from chatd.config.schema import Config
from chatd.core import account_changes
from chatd.core.account_changes import Changed, named_or_numbered
from chatd.core.accounts import check_name
from chatd.core.password_policy import check_length, check_password
from chatd.core.passwords import Hasher
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import User, UserId
from chatd.store.contract import AccountDetails, Again, Invite, NewInvite, Tables
from chatd.store.open import configured, open_tables

T = TypeVar("T")
_ATTEMPTS = 8
_PAUSE_S = 0.01


class StoredAccounts:
    """The accounts of the configured store. create: create a missing store. force: passwords are not checked by the
    rules for new passwords, except for the length that a login can carry. reserved: new accounts may have names of
    accounts.reserved_names."""

    def __init__(self, config: Config, *, create: bool = False, force: bool = False, reserved: bool = False) -> None:
        self._config = config
        self._create = create
        self._force = force
        self._reserved = reserved
        self._hasher = Hasher(config.accounts)

    # ---------------------------------------------------------------- accounts

    def prepare(self, name: str, password: str) -> tuple[str, str]:
        """Of a new account, the name as it is stored and the hash of the password. Raises Refused. May be called from
        several threads."""
        stored = check_name(name, self._config, reserved=self._reserved)
        self._check_password(password, stored)
        return stored, self._hasher.hash_now(password)

    def _check_password(self, password: str, name: str) -> None:
        if self._force:
            check_length(password, 0)
        else:
            check_password(password, name, self._config)

    def add(self, name: str, password: str) -> User:
        """The new account. Raises Refused."""
        stored, hashed = self.prepare(name, password)
        return self.change(lambda tables: tables.accounts.create(stored, hashed, wall_clock.now_ms()))

    def set_password(self, name: str, password: str) -> Changed:
        """Raises Refused, also for a password that no client could log in with."""
        self._check_password(password, name)
        hashed = self._hasher.hash_now(password)
        return self.change(lambda tables: account_changes.set_password(tables, named_or_numbered(name), hashed))

    def lock(self, name: str, reason: str) -> Changed:
        """Raises Refused."""
        return self.change(lambda tables: account_changes.lock(tables, named_or_numbered(name), reason))

    def unlock(self, name: str) -> tuple[User, bool]:
        """The user, and whether the account was locked. Raises Refused."""
        return self.change(lambda tables: account_changes.unlock(tables, named_or_numbered(name)))

    def delete(self, name: str) -> Changed:
        """Raises Refused."""
        return self.change(lambda tables: account_changes.delete(tables, named_or_numbered(name)))

    def ever(self, user_id: UserId) -> tuple[User, AccountDetails]:
        """As show(), by number and also of a deleted account. Raises Refused."""
        with contextlib.closing(self.open()) as tables:
            user = tables.accounts.ever(user_id)
            if user is None:
                raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
            return user, tables.accounts.details(user_id)

    def erase(self, user: User) -> Changed:
        """Its messages are blanked afterwards (chatctl.erasing). Raises Refused: another account has its name now."""
        return self.change(lambda tables: account_changes.erase_user(tables, user))

    def show(self, name: str) -> tuple[User, AccountDetails]:
        """Raises Refused."""
        with contextlib.closing(self.open()) as tables:
            user = self.find(tables, name)
            return user, tables.accounts.details(user.id)

    def find(self, tables: Tables, name: str) -> User:
        """In an open store. Raises Refused."""
        return named_or_numbered(name)(tables).user

    def all(self) -> list[tuple[UserId, str, int]]:
        """(id, name, created_at_ms) of every account, by id."""
        with contextlib.closing(self.open()) as tables:
            return tables.accounts.all()

    # ---------------------------------------------------------------- invite codes

    def invite(self, uses: int, expires_at_ms: int, note: str) -> tuple[int, str]:
        """The id of a new invite, and its code, which is stored nowhere else."""
        code = invite_codes.new()
        invite = NewInvite(invite_codes.hashed(invite_codes.read(code)), uses, expires_at_ms, note)
        return self.change(lambda tables: tables.invites.add(invite, wall_clock.now_ms())), code

    def invites(self) -> list[Invite]:
        with contextlib.closing(self.open()) as tables:
            return tables.invites.all()

    def revoke_invite(self, invite_id: int) -> bool:
        """False: there is no such invite, or it was revoked before."""
        return self.change(lambda tables: tables.invites.revoke(invite_id, wall_clock.now_ms()))

    # ---------------------------------------------------------------- the store

    def open(self) -> Tables:
        """The store, for reading, and for change_with(). To be closed by the caller."""
        return open_tables(configured(self._config), self._config.timeouts.store_s, create=self._create)

    def change(self, work: Callable[[Tables], T]) -> T:
        """As change_with(), on a connection of its own."""
        with contextlib.closing(self.open()) as tables:
            return self.change_with(tables, work)

    def change_with(self, tables: Tables, work: Callable[[Tables], T]) -> T:
        """Run `work` in one transaction, which is repeated when it conflicts with one of a running server."""
        for attempt in range(_ATTEMPTS):
            tables.begin()
            try:
                value = work(tables)
                tables.commit()
                return value
            except Again:
                tables.rollback()
                time.sleep(random.uniform(0, _PAUSE_S * 2**attempt))
            except BaseException:
                tables.rollback()
                raise
        raise Unavailable(f"the store is busy: {_ATTEMPTS} attempts conflicted with other transactions; try again")
