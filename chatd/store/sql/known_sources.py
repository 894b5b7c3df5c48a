"""From where users have logged in, in the SQL of both twins.

Owns: the table `known_source`.
Elsewhere: what a row contains and when it is written (core.login_guard); forgetting all rows of a user, when the
password is changed and when the account is locked or deleted (store.sql.accounts).
Fails: what the database raises passes through.
"""

from __future__ import annotations

from chatd.model import UserId
from chatd.store.contract import KNOWN_SOURCES, KnownSource
from chatd.store.sql.database import Backend, Database


class SqlKnownSources:
    """store.contract.KnownSourceTables."""

    def __init__(self, db: Database, backend: Backend) -> None:
        self._db = db
        self._backend = backend

    def of(self, user_id: UserId) -> tuple[KnownSource, ...]:
        rows = self._db.execute("SELECT hidden, seen_day FROM known_source WHERE user_id = ?", (user_id,))
        return tuple(KnownSource(str(hidden), int(seen_day)) for hidden, seen_day in rows.fetchall())

    def remember(self, user_id: UserId, source: KnownSource, credentials: int) -> None:
        self._backend.lock_users(user_id)
        now = self._db.execute("SELECT credentials FROM user WHERE id = ?", (user_id,)).fetchone()
        if now is None or now[0] != credentials:
            return
        others = [one for one in self.of(user_id) if one.hidden != source.hidden]
        others.sort(key=lambda one: one.seen_day)
        self._db.execute("REPLACE INTO known_source (user_id, hidden, seen_day) VALUES (?, ?, ?)", (user_id, *source))
        for surplus in others[: max(0, len(others) + 1 - KNOWN_SOURCES)]:
            self._db.execute("DELETE FROM known_source WHERE user_id = ? AND hidden = ?", (user_id, surplus.hidden))
