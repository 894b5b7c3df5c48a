"""Hashing passwords with argon2id, and verifying them.

Owns: Hasher, a small pool of threads; passwords verified a moment ago.
Elsewhere: which passwords may be set (core.password_policy), whose password it is (core.accounts), whose hash is made
next (core.admission), what is verified for an account that does not exist (core.stand_in_hashes), the rows (store).
Fails: Refused BUSY if too many hashes are already waiting.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import TypeVar

import argon2

from chatd.config.account_options import AccountOptions
from chatd.config.schema import Config
from chatd.core.admission import AdmissionQueue, Applicant

T = TypeVar("T")

VERIFIED_S = 600.0
"""How long a verified password is recognised without hashing it again."""
MAX_VERIFIED = 20_000
"""Maximum verified passwords remembered by one worker; about 200 bytes each."""


class Verified:
    """Pairs of a stored hash and a password that were found to belong together a moment ago.

    Kept as hashes with a random key that only this process has. The stored hash is part of them, so a changed password
    is verified anew at once. Wrong passwords are never remembered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = MAX_VERIFIED) -> None:
        self._clock = clock
        self._most = most
        self._key = secrets.token_bytes(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def knows(self, hashed: str, secret: str) -> bool:
        """Costs a few microseconds."""
        return self._until.get(self._digest(hashed, secret), 0.0) > self._clock()

    def add(self, hashed: str, secret: str) -> None:
        """They belong together."""
        digest = self._digest(hashed, secret)
        self._until[digest] = self._clock() + VERIFIED_S
        self._until.move_to_end(digest)
        if len(self._until) > self._most:
            self._until.popitem(last=False)

    def _digest(self, hashed: str, secret: str) -> bytes:
        data = f"{len(hashed)} {hashed}{secret}".encode("utf-8", "surrogatepass")
        return blake2b(data, digest_size=16, key=self._key).digest()


class Hasher:
    """argon2id in separate threads: one hash takes longer than the worker's loop may be kept waiting.

    config: asked for limits.login_queue and timeouts.login_s, which bound the queue.
    """

    def __init__(self, options: AccountOptions, config: Callable[[], Config] = Config) -> None:
        self._config = config
        self._argon2 = argon2.PasswordHasher(
            time_cost=options.argon2_passes, memory_cost=options.argon2_memory_kib, parallelism=1
        )
        self._pool = ThreadPoolExecutor(options.hash_threads, thread_name_prefix="hash")
        self.cost = f"$argon2id$v=19$m={options.argon2_memory_kib},t={options.argon2_passes},p=1"
        """How hashes begin that are made now."""
        began = time.monotonic()
        self._argon2.hash("as a measure of how long a hash takes")
        self.queue = AdmissionQueue(self._pool, options.hash_threads, time.monotonic() - began)
        self.verified = Verified()

    async def hash(self, secret: str, applicant: Applicant) -> str:
        """Raises Refused BUSY, or as applicant.check does."""
        return await self._run(lambda: self.hash_now(secret), applicant)

    def hash_now(self, secret: str) -> str:
        """Blocks; for chatctl."""
        return self._argon2.hash(secret.encode("utf-8", "surrogatepass"))

    async def verify(self, hashed: str, secret: str, applicant: Applicant) -> bool:
        """Raises Refused BUSY, or as applicant.check does."""
        if self.verified.knows(hashed, secret):
            return True
        good = await self._run(lambda: self.verify_now(hashed, secret), applicant)
        if good:
            self.verified.add(hashed, secret)
        return good

    def verify_now(self, hashed: str, secret: str) -> bool:
        """Blocks."""
        try:
            return self._argon2.verify(hashed, secret.encode("utf-8", "surrogatepass"))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    def is_outdated(self, hashed: str) -> bool:
        """Whether the hash was made with other parameters than this Hasher's."""
        return self._argon2.check_needs_rehash(hashed)

    async def _run(self, work: Callable[[], T], applicant: Applicant) -> T:
        config = self._config()
        return await self.queue.run(work, applicant, config.limits.login_queue, config.timeouts.login_s)
