"""Passwords: which are allowed, and hashing them with argon2id.

Owns: Hasher, a small pool of threads; the rules for a new password.
Elsewhere: whose password it is (core.accounts), the rows (store).
Fails: Refused PASSWORD_NOT_ALLOWED for a new password; Refused BUSY if too many hashes are already waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2

from chatd.config.schema import AccountOptions, Config
from chatd.errors import ErrorCode, Refused

T = TypeVar("T")

MAX_PASSWORD_CHARS = 1024
"""A longer password is refused when it is set, and is wrong at every login."""


def check_password(secret: str, config: Config) -> None:
    """Raises Refused PASSWORD_NOT_ALLOWED unless this may become somebody's password."""
    if not config.accounts.min_password_chars <= len(secret) <= MAX_PASSWORD_CHARS:
        raise Refused(ErrorCode.PASSWORD_NOT_ALLOWED)


class Hasher:
    """argon2id in separate threads: one hash takes longer than the worker's loop may be kept waiting."""

    def __init__(self, options: AccountOptions) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=options.argon2_passes, memory_cost=options.argon2_memory_kib, parallelism=1
        )
        self._pool = ThreadPoolExecutor(options.hash_threads, thread_name_prefix="hash")
        self._waiting = 0
        """Hashes requested and not finished."""
        self._nobody = self._argon2.hash("nobody has this password")
        """Verified when an account does not exist, so that the answer takes the same time."""

    async def hash(self, secret: str, queue: int) -> str:
        """Raises Refused BUSY if `queue` hashes are waiting."""
        return await self._run(lambda: self.hash_now(secret), queue)

    def hash_now(self, secret: str) -> str:
        """Blocks; for chatctl."""
        return self._argon2.hash(secret.encode("utf-8", "surrogatepass"))

    async def verify(self, hashed: str, secret: str, queue: int) -> bool:
        """hashed "": there is no such account, or it has no password: False, at the same cost. Raises Refused BUSY if
        `queue` hashes are waiting."""
        return await self._run(lambda: self.verify_now(hashed, secret), queue)

    def verify_now(self, hashed: str, secret: str) -> bool:
        """Blocks."""
        try:
            self._argon2.verify(hashed or self._nobody, secret.encode("utf-8", "surrogatepass"))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return bool(hashed)

    async def _run(self, work: Callable[[], T], queue: int) -> T:
        if self._waiting >= queue:
            raise Refused(ErrorCode.BUSY)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1
