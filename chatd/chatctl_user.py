"""`chatctl user`: accounts, changed straight in the store, with or without a running server.

Owns: opening the configured store for one change. Elsewhere: the rules (core.accounts), the command line (chatctl).
Fails: Refused, Unavailable, BootError (the store cannot be opened).

A running server sees the change at once: workers share the store, and a login reads the account from it.
A session that is logged in stays; chatctl asks the server to end those of an account that it has deleted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from chatd.config import Config
from chatd.core.accounts import Hasher, check_new
from chatd.errors import ErrorCode, Refused
from chatd.model import User, UserId
from chatd.store.base import Tables
from chatd.worker import open_tables


def add(config: Config, name: str, password: str) -> UserId:
    check_new(name, password, config)
    hashed = Hasher(config.accounts).hash_now(password)
    with _change(config) as tables:
        return tables.create_user(name, hashed, time.time_ns() // 1_000_000).id


def set_password(config: Config, name: str, password: str) -> None:
    if len(password) < config.accounts.min_password_chars:
        raise Refused(ErrorCode.PASSWORD_NOT_ALLOWED)
    hashed = Hasher(config.accounts).hash_now(password)
    with _change(config) as tables:
        tables.set_password(_known(tables, name).id, hashed)


def delete(config: Config, name: str) -> UserId:
    with _change(config) as tables:
        user_id = _known(tables, name).id
        tables.delete_user(user_id)
    return user_id


def list_users(config: Config) -> list[tuple[UserId, str, int]]:
    """(id, name, created_at_ms) of all, by id."""
    with contextlib.closing(open_tables(config)) as tables:
        return tables.users()


@contextlib.contextmanager
def _change(config: Config) -> Iterator[Tables]:
    with contextlib.closing(open_tables(config)) as tables:
        tables.begin()
        try:
            yield tables
        except BaseException:
            tables.rollback()
            raise
        tables.commit()


def _known(tables: Tables, name: str) -> User:
    account = tables.account(name, 0)
    if account is None:
        raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
    return account.user
