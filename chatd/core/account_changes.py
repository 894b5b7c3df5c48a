"""Changes of accounts that an operator orders: what happens in the transaction.

Owns: each change as a function of the store, and finding the account that it is about.
Elsewhere: the rules for names and passwords (core.accounts, core.password_policy), running the transaction
(chatctl.accounts), ending the sessions of an account whose credentials changed
(core.sessions.kick).
Fails: Refused UNKNOWN_RECIPIENT where there is no such account; then nothing was changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chatd import wall_clock
from chatd.errors import ErrorCode, Refused
from chatd.model import User
from chatd.store.contract import Account, Tables

Find = Callable[[Tables], Account]
"""Finds the account in the transaction. Raises Refused UNKNOWN_RECIPIENT."""


PASSWORD_CHANGED = "the password was changed"
LOCKED = "this account is locked"
DELETED = "this account has been deleted"
"""What the clients are told whose sessions end."""


class Changed(NamedTuple):
    """An account whose credentials were changed, and their new version: sessions with an earlier one end."""

    user: User
    version: int


def named(name: str) -> Find:
    """The account with this name. A number is a name like any other."""

    def find(tables: Tables) -> Account:
        return _there(tables.accounts.named(name))

    return find


def named_or_numbered(name: str) -> Find:
    """The account with this name; or, if no account has it and it is a number, the one with this id."""

    def find(tables: Tables) -> Account:
        return _there(tables.accounts.find_any(name))

    return find


def _there(account: Account | None) -> Account:
    if account is None:
        raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
    return account


def set_password(tables: Tables, find: Find, hashed: str) -> Changed:
    user = find(tables).user
    return Changed(user, tables.accounts.set_password(user.id, hashed))


def lock(tables: Tables, find: Find, reason: str) -> Changed:
    user = find(tables).user
    return Changed(user, tables.accounts.lock(user.id, reason, wall_clock.now_ms()))


def unlock(tables: Tables, find: Find) -> tuple[User, bool]:
    """The user, and whether the account was locked."""
    account = find(tables)
    tables.accounts.unlock(account.user.id)
    return account.user, account.locked_at_ms > 0


def delete(tables: Tables, find: Find) -> Changed:
    """Its messages stay."""
    user = find(tables).user
    return Changed(user, tables.accounts.delete(user.id))


def erase(tables: Tables, find: Find) -> Changed:
    """Its messages are blanked afterwards, in slices (store.retention_contract.ErasureTables)."""
    return erase_user(tables, find(tables).user)


def erase_user(tables: Tables, user: User) -> Changed:
    """As erase(), also of a deleted account. Raises Refused UNKNOWN_RECIPIENT if the account with this id has another
    name now."""
    if tables.accounts.ever(user.id) != user:
        raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
    return Changed(user, tables.accounts.erase(user.id, wall_clock.now_ms()))
