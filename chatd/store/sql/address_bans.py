"""Address bans, in the SQL of both twins.

Owns: their rows in `meta`: the key "ban NETWORK" with the rest of the ban as JSON, and the key "bans" with their
version, a random word.
Elsewhere: what they mean (address_bans), applying them (core.bans).
Fails: Refused before anything is written; what the database raises passes through.
"""

from __future__ import annotations

import secrets

import msgspec

from chatd.address_bans import MAX_BANS, AddressBan
from chatd.errors import ErrorCode, Refused
from chatd.store.sql.database import Database

VERSION = "bans"
PREFIX = "ban "
_VERSION_BYTES = 8

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AddressBan).decode


class SqlAddressBans:
    """store.ban_contract.AddressBanTables."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def version(self) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE `key` = ?", (VERSION,)).fetchone()
        return str(row[0]) if row else ""

    def all(self) -> list[AddressBan]:
        rows = self._db.execute(f"SELECT value FROM meta WHERE `key` LIKE '{PREFIX}%' ORDER BY `key`")
        return [_decode(str(row[0])) for row in rows.fetchall()]

    def add(self, ban: AddressBan, now_ms: int) -> None:
        others = [one for one in self._tidied(now_ms) if one.network != ban.network]
        if len(others) >= MAX_BANS:
            raise Refused(ErrorCode.LIMIT_REACHED, f"there are {len(others)} bans, the limit is {MAX_BANS}")
        self._db.execute("REPLACE INTO meta VALUES (?, ?)", (PREFIX + ban.network, _encode(ban).decode()))
        self._changed()

    def remove(self, network: str, now_ms: int) -> bool:
        known = [one for one in self._tidied(now_ms) if one.network == network]
        if known:
            self._db.execute("DELETE FROM meta WHERE `key` = ?", (PREFIX + network,))
            self._changed()
        return bool(known)

    def _tidied(self, now_ms: int) -> list[AddressBan]:
        """Those in force; the others are deleted."""
        bans = self.all()
        for ban in bans:
            if not ban.in_force(now_ms):
                self._db.execute("DELETE FROM meta WHERE `key` = ?", (PREFIX + ban.network,))
        return [ban for ban in bans if ban.in_force(now_ms)]

    def _changed(self) -> None:
        self._db.execute("REPLACE INTO meta VALUES (?, ?)", (VERSION, secrets.token_hex(_VERSION_BYTES)))
