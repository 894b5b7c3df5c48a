"""Who may call themselves what: registration and passwords.

Owns: the rules for names, argon2id hashing in a small pool, open login.
Elsewhere: sessions and duplicate login (core.sessions.login), the rows (store).
Fails: Refused (bad credentials, name taken or not allowed, closed, busy); Unavailable from the store.

An unknown user costs the same as a wrong password: a hash nobody has is verified in its place.
"""

from __future__ import annotations

import asyncio
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2

from chatd.config.schema import AccountOptions as Settings
from chatd.config.schema import Config
from chatd.errors import ErrorCode, Refused
from chatd.model import User
from chatd.protocol import Login, Register
from chatd.store.contract import Account, Tables
from chatd.store.group_commit import GroupCommit

T = TypeVar("T")

_RESERVED = {"0", "-1"}
_SECRET_BYTES = 1024


def name_allowed(name: str, longest: int, *, digits: bool) -> bool:
    """Printable, no surrounding space, no '#' first (a group on the wire). All digits only where `digits`:
    such a name would capture what is sent to the account with that number."""
    if not 0 < len(name) <= longest or name in _RESERVED or name[0] == "#" or name != name.strip():
        return False
    if unicodedata.normalize("NFKC", name).isdigit() and not digits:
        return False
    return all(character == " " or unicodedata.category(character)[0] in "LMNPS" for character in name)


class Hasher:
    """argon2id in threads of its own, so that the loop never waits; at most `queue` at a time."""

    def __init__(self, settings: Settings) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=settings.argon2_passes, memory_cost=settings.argon2_memory_kib, parallelism=1
        )
        self._pool = ThreadPoolExecutor(settings.hash_threads, thread_name_prefix="hash")
        self._waiting = 0
        self._nobody = self._argon2.hash("nobody has this password")

    async def _run(self, work: Callable[[], T], queue: int) -> T:
        if self._waiting >= queue:
            raise Refused(ErrorCode.BUSY)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    async def hash(self, secret: str, queue: int) -> str:
        return await self._run(lambda: self.hash_now(secret), queue)

    def hash_now(self, secret: str) -> str:
        """Blocking, for chatctl."""
        return self._argon2.hash(secret.encode("utf-8", "surrogatepass"))

    async def verify(self, hashed: str, secret: str, queue: int) -> bool:
        """hashed "" = no such account (or one without a password): False, at the same cost."""
        return await self._run(lambda: self._verify(hashed, secret), queue)

    def _verify(self, hashed: str, secret: str) -> bool:
        try:
            self._argon2.verify(hashed or self._nobody, secret.encode("utf-8", "surrogatepass"))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return bool(hashed)


def check_new(name: str, secret: str, config: Config) -> None:
    """Refused unless an account with this name and password may be made."""
    if not name_allowed(name, config.limits.name_chars, digits=False):
        raise Refused(ErrorCode.NAME_NOT_ALLOWED)
    check_password(secret, config)


def check_password(secret: str, config: Config) -> None:
    """Refused unless this may be somebody's password."""
    if not config.accounts.min_password_chars <= len(secret) <= _SECRET_BYTES:
        raise Refused(ErrorCode.PASSWORD_NOT_ALLOWED)


class Accounts:
    def __init__(self, store: GroupCommit, config: Callable[[], Config]) -> None:
        self._store = store
        self._config = config
        self._hasher = Hasher(config().accounts)

    async def register(self, command: Register) -> User:
        config = self._config()
        if not config.accounts.registration:
            raise Refused(ErrorCode.REGISTRATION_CLOSED)
        check_new(command.name, command.secret, config)
        hashed = await self._hasher.hash(command.secret, config.limits.login_queue)
        now_ms = time.time_ns() // 1_000_000
        return await self._store.write(lambda tables: tables.accounts.create(command.name, hashed, now_ms))

    async def hash_new(self, secret: str) -> str:
        """The hash of a new password. Refused PASSWORD_NOT_ALLOWED."""
        config = self._config()
        check_password(secret, config)
        return await self._hasher.hash(secret, config.limits.login_queue)

    async def authenticate(self, command: Login) -> User:
        """Who this is. Refused BAD_CREDENTIALS, whatever was wrong."""
        config = self._config()
        name, user_id = command.name, command.user_id
        account = await self._store.read(lambda tables: tables.accounts.find(name, user_id))
        if config.accounts.login == "open":
            return account.user if account else await self._make_open(command)
        secret = command.secret if len(command.secret) <= _SECRET_BYTES else ""
        hashed = account.password if account else ""
        if not await self._hasher.verify(hashed, secret, config.limits.login_queue) or account is None:
            raise Refused(ErrorCode.BAD_CREDENTIALS)
        return account.user

    async def _make_open(self, command: Login) -> User:
        name = command.name
        if not name:
            raise Refused(ErrorCode.BAD_CREDENTIALS)
        if not name_allowed(name, self._config().limits.name_chars, digits=True):
            raise Refused(ErrorCode.NAME_NOT_ALLOWED)
        now_ms = time.time_ns() // 1_000_000

        def find_or_make(tables: Tables) -> Account:
            return tables.accounts.find(name, 0) or Account(tables.accounts.create(name, "", now_ms), "")

        return (await self._store.write(find_or_make)).user
