"""Answers given to requests that changed something, so that a repeated request changes nothing and has the same answer.

Owns: the table `request`. An answer is kept for 7 days (P2); every new one deletes a few that are older.
Elsewhere: which requests are remembered (core.requests.dispatch), the keys (store.sql.send_keys).
Fails: Refused FP_REUSED for an fp that another request has; Refused LIMIT_REACHED when none of a sender's keys for an
fp is free; what the database raises passes through.
"""

from __future__ import annotations

from chatd.errors import ErrorCode, Refused
from chatd.model import UserId
from chatd.store.sql.database import Backend, Database
from chatd.store.sql.send_keys import PROBES, SendKeys

_KEEP_MS = 7 * 24 * 3600 * 1000
_EXPIRE_AT_ONCE = 10
"""Maximum old answers that one new answer deletes."""


class SqlRequestLog:
    """store.contract.RequestLog."""

    def __init__(self, db: Database, backend: Backend) -> None:
        self._db = db
        self._backend = backend
        self._keys = SendKeys()

    def answered(self, sender: UserId, fp: str, body_hash: int | None = None) -> str | None:
        _, found = self._look_up(sender, fp)
        if found is None:
            return None
        answer, answered_hash = found
        if body_hash is not None and answered_hash is not None and answered_hash != body_hash:
            raise Refused(ErrorCode.FP_REUSED)
        return answer

    def remember(self, sender: UserId, fp: str, answer: str, now_ms: int, body_hash: int | None = None) -> None:
        key, _ = self._look_up(sender, fp)
        self._db.execute(
            "INSERT INTO request (send_key, sender_id, fp, answer, at_ms, body_hash) VALUES (?, ?, ?, ?, ?, ?)",
            (key, sender, fp, answer, now_ms, body_hash),
        )
        expired = self._db.execute(
            f"SELECT send_key FROM request WHERE at_ms < ? LIMIT {_EXPIRE_AT_ONCE}", (now_ms - _KEEP_MS,)
        ).fetchall()
        if expired:
            marks = ",".join("?" * len(expired))
            self._db.execute(f"DELETE FROM request WHERE send_key IN ({marks})", [row[0] for row in expired])
        self._backend.created("request", key)

    def _look_up(self, sender: UserId, fp: str) -> tuple[int, tuple[str, int | None] | None]:
        """(the key that the request has, its answer and body_hash), or (the key to insert it with, None)."""
        keys = [self._keys.first(sender, fp)]
        while len(keys) < PROBES:
            keys.append(SendKeys.after(keys[-1]))
        marks = ",".join("?" * PROBES)
        rows = self._db.execute(
            f"SELECT send_key, sender_id, fp, answer, body_hash FROM request WHERE send_key IN ({marks})", keys
        ).fetchall()  # all of them: one that lay between may have expired
        for key, *row in rows:
            if row[:2] == [sender, fp]:
                return key, (row[2], row[3])
        taken = {row[0] for row in rows}
        free = next((key for key in keys if key not in taken), None)
        if free is None:
            raise Refused(ErrorCode.LIMIT_REACHED)
        return free, None
