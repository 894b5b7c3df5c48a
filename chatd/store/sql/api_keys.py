"""Keys of the HTTP API, in the SQL of both twins.

Owns: the table `api_key`, and meta.api_keys, their version.
Elsewhere: the form of a key and its hash (api_keys), what a worker knows of them (core.key_ring).
Fails: Refused before anything is written; what the database raises passes through.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatd.errors import ErrorCode, Refused
from chatd.store.api_key_contract import ApiKey, NewApiKey
from chatd.store.sql.database import Backend, Database

_COLUMNS = "id, name, secret_hash, scopes, created_by, created_at_ms, expires_at_ms, revoked_at_ms, used_at_ms"
_VERSION = "`key` = 'api_keys'"


class SqlApiKeys:
    """store.api_key_contract.ApiKeyTables."""

    def __init__(self, db: Database, backend: Backend) -> None:
        self._db = db
        self._backend = backend

    def version(self) -> int:
        return int(self._db.execute(f"SELECT value FROM meta WHERE {_VERSION}").fetchone()[0])

    def all(self) -> list[ApiKey]:
        return [_key(row) for row in self._db.execute(f"SELECT {_COLUMNS} FROM api_key ORDER BY id").fetchall()]

    def add(self, key: NewApiKey, now_ms: int) -> int:
        if self._valid(key.name, now_ms):
            raise Refused(ErrorCode.NAME_TAKEN, f"there is a valid key {key.name}")
        return self._insert(key, now_ms)

    def rotate(self, name: str, secret_hash: str, valid_until_ms: int, now_ms: int) -> int:
        valid = self._valid(name, now_ms)
        if not valid:
            raise Refused(ErrorCode.UNKNOWN_KEY)
        newest = valid[-1]
        for one in valid:
            until_ms = min(valid_until_ms, one.expires_at_ms or valid_until_ms)
            self._db.execute("UPDATE api_key SET expires_at_ms = ? WHERE id = ?", (until_ms, one.id))
        made = NewApiKey(
            name=name,
            secret_hash=secret_hash,
            scopes=newest.scopes,
            by=newest.by,
            expires_at_ms=newest.expires_at_ms,
        )
        return self._insert(made, now_ms)

    def revoke(self, name: str, now_ms: int) -> int:
        valid = self._valid(name, now_ms)
        for one in valid:
            self._db.execute("UPDATE api_key SET revoked_at_ms = ? WHERE id = ?", (now_ms, one.id))
        if valid:
            self._changed()
        return len(valid)

    def mark_used(self, used: Sequence[tuple[int, int]]) -> None:
        for number, at_ms in used:
            self._db.execute(
                "UPDATE api_key SET used_at_ms = ? WHERE id = ? AND used_at_ms < ?", (at_ms, number, at_ms)
            )

    def _valid(self, name: str, now_ms: int) -> list[ApiKey]:
        """Those with this name, the newest last. Other changes of keys wait until this transaction has ended."""
        self._db.execute(f"UPDATE meta SET value = value WHERE {_VERSION}")
        return [one for one in self.all() if one.name == name and one.valid(now_ms)]

    def _insert(self, key: NewApiKey, now_ms: int) -> int:
        number = self._db.execute(
            "INSERT INTO api_key (name, secret_hash, scopes, created_by, created_at_ms, expires_at_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (key.name, key.secret_hash, " ".join(key.scopes), key.by, now_ms, key.expires_at_ms),
        ).lastrowid
        assert number is not None
        self._backend.created("api_key", number)
        self._changed()
        return number

    def _changed(self) -> None:
        self._db.execute(f"UPDATE meta SET value = value + 1 WHERE {_VERSION}")


def _key(row: tuple[int, str, str, str, str, int, int, int, int]) -> ApiKey:
    number, name, secret_hash, scopes, by, created_at_ms, expires_at_ms, revoked_at_ms, used_at_ms = row
    return ApiKey(
        id=number,
        name=name,
        secret_hash=secret_hash,
        scopes=tuple(scopes.split()),
        by=by,
        created_at_ms=created_at_ms,
        expires_at_ms=expires_at_ms,
        revoked_at_ms=revoked_at_ms,
        used_at_ms=used_at_ms,
    )
