"""`chatctl user`: accounts, changed directly in the store, with or without a running server.

Owns: opening the configured store for one change, and that change in one transaction.
Elsewhere: the rules for names and passwords (core.accounts), the command line (chatctl.__main__).
Fails: Refused, Unavailable, or BootError when the store cannot be opened. Only `add` creates a store.

A running server sees the change at once: workers share the store, and a login reads the account from it. A session that
is logged in stays; chatctl asks the server to end those of an account that it has deleted.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import TypeVar

from chatd.config.schema import Config
from chatd.core.accounts import check_new
from chatd.core.passwords import MAX_PASSWORD_CHARS, Hasher, check_password
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import User, UserId
from chatd.store.contract import Again, Tables
from chatd.store.open import configured, open_tables

T = TypeVar("T")
_ATTEMPTS = 8
_PAUSE_S = 0.01


class StoredAccounts:
    """The accounts of the configured store. create: create a missing store."""

    def __init__(self, config: Config, *, create: bool) -> None:
        self._config = config
        self._create = create

    def add(self, name: str, password: str, *, reserved: bool = False) -> User:
        """The new account. reserved: the name may be one of accounts.reserved_names. Raises Refused."""
        self._check_length(password)
        stored = check_new(name, password, self._config, reserved=reserved)
        hashed = Hasher(self._config.accounts).hash_now(password)
        return self._change(lambda tables: tables.accounts.create(stored, hashed, time.time_ns() // 1_000_000))

    def set_password(self, name: str, password: str) -> UserId:
        """The id of the account. Raises Refused, also for a password that no client could log in with."""
        self._check_length(password)
        hashed = Hasher(self._config.accounts).hash_now(password)

        def work(tables: Tables) -> UserId:
            user_id = _find(tables, name).id
            tables.accounts.set_password(user_id, hashed)
            return user_id

        return self._change(work)

    def delete(self, name: str) -> UserId:
        """The id of the deleted account. Raises Refused."""

        def work(tables: Tables) -> UserId:
            user_id = _find(tables, name).id
            tables.accounts.delete(user_id)
            return user_id

        return self._change(work)

    def all(self) -> list[tuple[UserId, str, int]]:
        """(id, name, created_at_ms) of every account, by id."""
        with contextlib.closing(self._open()) as tables:
            return tables.accounts.all()

    def _check_length(self, password: str) -> None:
        """Raises Refused, naming the limits."""
        try:
            check_password(password, self._config)
        except Refused as error:
            limits = f"{self._config.accounts.min_password_chars} to {MAX_PASSWORD_CHARS}"
            text = f"a password must have {limits} characters, this one has {len(password)}"
            raise Refused(error.code, text) from None

    def _open(self) -> Tables:
        return open_tables(configured(self._config), self._config.timeouts.store_s, create=self._create)

    def _change(self, work: Callable[[Tables], T]) -> T:
        """Run `work` in one transaction, which is repeated when it conflicts with one of a running server."""
        with contextlib.closing(self._open()) as tables:
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


def _find(tables: Tables, name: str) -> User:
    account = tables.accounts.find(name, 0)
    if account is None:
        raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
    return account.user
