"""The contract of a store: keys of the HTTP API. A part of store.contract, which has the rest.

Owns: ApiKey, NewApiKey, ApiKeyTables.
Elsewhere: the form of a key and its hash (api_keys), the SQL (store.sql.api_keys).
Fails: as store.contract says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class NewApiKey(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A key to be stored. secret_hash: api_keys.hashed(); the key itself is stored nowhere. by: who made it, for
    operators. expires_at_ms: epoch, 0 = never."""

    name: str
    secret_hash: str
    scopes: tuple[str, ...]
    by: str = ""
    expires_at_ms: int = 0


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stored key. Several rows have one name after a rotation: the newest, and earlier ones that are valid for a
    while. used_at_ms: the time of a use, some minutes exact; 0 = not used yet. Times are milliseconds since the epoch,
    0 = never."""

    id: int
    name: str
    secret_hash: str
    scopes: tuple[str, ...]
    by: str
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int
    used_at_ms: int

    def valid(self, now_ms: int) -> bool:
        return not self.revoked_at_ms and (not self.expires_at_ms or now_ms < self.expires_at_ms)


class ApiKeyTables(Protocol):
    """Keys of the HTTP API. Rows are never deleted, so that it stays known who acted."""

    def version(self) -> int:
        """Another one after every change but mark_used(). Cost: one row."""
        ...

    def all(self) -> list[ApiKey]:
        """By id, those that are no longer valid too."""
        ...

    def add(self, key: NewApiKey, now_ms: int) -> int:
        """In a transaction. Returns its id. Raises: Refused NAME_TAKEN: a valid key has the name."""
        ...

    def rotate(self, name: str, secret_hash: str, valid_until_ms: int, now_ms: int) -> int:
        """In a transaction: another key with the name, the scopes and the expiry of the valid one, which stays valid
        until valid_until_ms at most. Returns the id of the new one. Raises: Refused UNKNOWN_KEY."""
        ...

    def revoke(self, name: str, now_ms: int) -> int:
        """In a transaction: none with this name is valid any more. Returns how many were."""
        ...

    def mark_used(self, used: Sequence[tuple[int, int]]) -> None:
        """In a transaction. (id, epoch ms) of each; never moved back."""
