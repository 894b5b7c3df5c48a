"""Blanking the messages of erased accounts in slices, in the SQL of both twins.

Owns: the table `erasure`, and what a message of an erased user loses.
Elsewhere: erasing the account itself, which begins it (store.sql.accounts), pace (core.retention).
Fails: what the database raises passes through.

There is no index of messages by sender: all messages are looked at once, in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd.model import MessageState, UserId
from chatd.store.retention_contract import SCANNED, SETTLE_MS, Erasure, Slice
from chatd.store.sql.database import Database
from chatd.store.sql.files import forget
from chatd.store.sql.retention import numbers


def _nothing() -> None:
    pass


class SqlErasure:
    """store.contract.ErasureTables. for_update: appended to a SELECT whose row must not change until the commit.
    on_end: called in the transaction that ends an erasure."""

    def __init__(self, db: Database, for_update: str = "", on_end: Callable[[], None] = _nothing) -> None:
        self._db = db
        self._for_update = for_update
        self._on_end = on_end

    def pending(self) -> list[Erasure]:
        rows = self._db.execute("SELECT user_id, position, asked_at_ms FROM erasure ORDER BY user_id").fetchall()
        if not rows:
            return []
        (end,) = self._db.execute("SELECT max(id) FROM message").fetchone()
        return [Erasure(user_id, position, max(position, end or 0), asked) for user_id, position, asked in rows]

    def blank(self, user_id: UserId, limit: int, now_ms: int) -> Slice:
        row = self._db.execute(
            f"SELECT position, asked_at_ms FROM erasure WHERE user_id = ?{self._for_update}", (user_id,)
        ).fetchone()
        if row is None:
            return Slice()
        position, asked_at_ms = row
        scanned, upto = self._db.execute(
            "SELECT count(*), max(id) FROM (SELECT id FROM message WHERE id > ? ORDER BY id LIMIT ?) AS m",
            (position, SCANNED),
        ).fetchone()
        if not scanned:
            if now_ms >= asked_at_ms + SETTLE_MS:
                forget(self._db, "owner = ?", (user_id,))  # what a session has sent since
                self._db.execute("DELETE FROM erasure WHERE user_id = ?", (user_id,))
                self._on_end()
            return Slice()
        found = self._db.execute(
            "SELECT id, state FROM message WHERE id > ? AND id <= ? AND sender_id = ? ORDER BY id LIMIT ?",
            (position, upto, user_id, limit),
        ).fetchall()
        blanked = self._blank([number for number, state in found if state != MessageState.EXPIRED])
        if len(found) == limit:
            upto = found[-1][0]
        self._db.execute("UPDATE erasure SET position = ? WHERE user_id = ?", (upto, user_id))
        return Slice(upto - position, 0, blanked, True)

    def _blank(self, ids: list[int]) -> int:
        if ids:
            self._db.execute(
                "UPDATE message SET body = '', body_hash = NULL, meta = NULL, fp = '', version = version + 1,"
                f" state = {int(MessageState.ERASED)} WHERE id IN ({numbers(ids)})"
            )
        return len(ids)
