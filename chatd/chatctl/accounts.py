"""`chatctl user`: accounts, changed straight in the store, with or without a running server.

Owns: opening the configured store for one change. Elsewhere: the rules (core.accounts), the command line (chatctl).
Fails: Refused, Unavailable, BootError (the store cannot be opened).

A running server sees the change at once: workers share the store, and a login reads the account from it.
A session that is logged in stays; chatctl asks the server to end those of an account that it has deleted.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import TypeVar

from chatd.config.schema import Config
from chatd.core.accounts import check_new
from chatd.core.passwords import Hasher
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import User, UserId
from chatd.store.contract import Again, Tables
from chatd.store.open import configured, open_tables

T = TypeVar("T")
_ATTEMPTS = 8
_PAUSE_S = 0.01


def add(config: Config, name: str, password: str) -> UserId:
    check_new(name, password, config)
    hashed = Hasher(config.accounts).hash_now(password)
    now_ms = time.time_ns() // 1_000_000
    return _change(config, lambda tables: tables.accounts.create(name, hashed, now_ms).id, create=True)


def set_password(config: Config, name: str, password: str) -> None:
    if len(password) < config.accounts.min_password_chars:
        raise Refused(ErrorCode.PASSWORD_NOT_ALLOWED)
    hashed = Hasher(config.accounts).hash_now(password)
    _change(config, lambda tables: tables.accounts.set_password(_known(tables, name).id, hashed))


def delete(config: Config, name: str) -> UserId:
    def work(tables: Tables) -> UserId:
        user_id = _known(tables, name).id
        tables.accounts.delete(user_id)
        return user_id

    return _change(config, work)


def list_users(config: Config) -> list[tuple[UserId, str, int]]:
    """(id, name, created_at_ms) of all, by id."""
    with contextlib.closing(_open(config, create=False)) as tables:
        return tables.accounts.all()


def _open(config: Config, *, create: bool) -> Tables:
    return open_tables(configured(config), config.timeouts.store_s, create=create)


def _change(config: Config, work: Callable[[Tables], T], *, create: bool = False) -> T:
    """In one transaction, run again when it met one of a running server. create: a missing store is created."""
    with contextlib.closing(_open(config, create=create)) as tables:
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
    raise Unavailable("the store: met other transactions too often")


def _known(tables: Tables, name: str) -> User:
    account = tables.accounts.find(name, 0)
    if account is None:
        raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
    return account.user
