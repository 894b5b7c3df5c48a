"""Deleting old messages in SQLite, and giving the space back.

Owns: the index entries of deleted messages, old messages that have none yet, unused pages of the file.
Elsewhere: which messages go (store.sql.retention), the rows without an index entry (store.sqlite.unindexed).
Fails: sqlite3.Error passes through.

Rows without an index entry are in the memory of every worker, so they are not deleted: an old one loses its text, and
is deleted when it has been merged.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence

from chatd.model import ConversationId, Seq
from chatd.store.retention_contract import Kind, Slice, Space
from chatd.store.sql.retention import CursorRow, OldRow, SqlRetention, numbers, old_rows, tops_of
from chatd.store.sqlite.backend import SqliteBackend
from chatd.store.sqlite.file import INCREMENTAL

_CURSORS_BELOW = (
    "WITH top AS MATERIALIZED (SELECT json_extract(value, '$[0]') AS conversation, json_extract(value, '$[1]') AS seq"
    " FROM json_each(?)), person AS (SELECT p.low AS id, t.conversation, t.seq FROM top AS t CROSS JOIN pair AS p"
    " ON p.id = t.conversation UNION ALL SELECT p.high, t.conversation, t.seq FROM top AS t CROSS JOIN pair AS p"
    " ON p.id = t.conversation UNION ALL SELECT m.user_id, t.conversation, t.seq FROM top AS t CROSS JOIN member AS m"
    " ON m.team_id = -t.conversation) SELECT c.user_id, c.conversation, c.delivered, c.seen FROM person AS n"
    " CROSS JOIN cursor AS c ON c.user_id = n.id AND c.conversation = n.conversation"
    " WHERE c.delivered < n.seq OR c.seen < n.seq"
)
_SET_CURSORS = (
    "UPDATE cursor SET delivered = max(cursor.delivered, n.delivered), seen = max(cursor.seen, n.seen)"
    " FROM (SELECT json_extract(value, '$[0]') AS user_id, json_extract(value, '$[1]') AS conversation,"
    " json_extract(value, '$[2]') AS delivered, json_extract(value, '$[3]') AS seen FROM json_each(?)) AS n"
    " WHERE cursor.user_id = n.user_id AND cursor.conversation = n.conversation"
)
KEPT_PAGES = 2048
"""Unused pages that stay in the file for new messages: 8 MiB."""


class SqliteRetention(SqlRetention):
    """store.contract.RetentionTables."""

    _backend: SqliteBackend

    def __init__(self, db: sqlite3.Connection, backend: SqliteBackend) -> None:
        super().__init__(db, backend)
        self._unindexed = backend.unindexed
        self._blanked = {Kind.PRIVATE: 0, Kind.GROUPS: 0}
        """The highest message.id without an index entry that this connection has looked at."""

    def transaction_lost(self) -> None:
        super().transaction_lost()
        self._blanked = dict.fromkeys(self._blanked, 0)

    def _highest(self) -> int:
        return self._unindexed.merged

    def _rows_upto(self, tops: dict[ConversationId, Seq], limit: int) -> list[OldRow]:
        rows = self._db.execute(
            "SELECT m.id, m.conversation, m.seq, m.send_key, m.state FROM json_each(?) AS j CROSS JOIN place AS p"
            " ON p.conversation = json_extract(j.value, '$[0]') AND p.seq <= json_extract(j.value, '$[1]')"
            " CROSS JOIN message AS m ON m.id = p.id WHERE p.id <= ? LIMIT ?",
            (json.dumps(list(tops.items())), self._unindexed.merged, limit),
        )
        return [OldRow(*row) for row in rows]

    def _first_rows(self, conversation: ConversationId, after: Seq, limit: int) -> list[OldRow]:
        rows = self._db.execute(
            "SELECT m.id, m.conversation, m.seq, m.send_key, m.state FROM place AS p"
            " CROSS JOIN message AS m ON m.id = p.id"
            " WHERE p.conversation = ? AND p.seq > ? AND p.id <= ? ORDER BY p.seq LIMIT ?",
            (conversation, after, self._unindexed.merged, limit),
        )
        return [OldRow(*row) for row in rows]

    def _last_seqs(self, conversations: Collection[ConversationId]) -> dict[ConversationId, Seq]:
        rows = self._db.execute(
            "SELECT value, (SELECT max(seq) FROM place WHERE conversation = value) FROM json_each(?)",
            (json.dumps(list(conversations)),),
        )
        indexed = {conversation: seq or 0 for conversation, seq in rows}
        return {conversation: self._unindexed.last_seq(conversation) or seq for conversation, seq in indexed.items()}

    def _cursors_below(self, tops: dict[ConversationId, Seq]) -> list[CursorRow]:
        rows = self._db.execute(_CURSORS_BELOW, (json.dumps(list(tops.items())),))
        return [CursorRow(*row) for row in rows]

    def _set_cursors(self, rows: Sequence[CursorRow]) -> None:
        self._db.execute(_SET_CURSORS, (json.dumps(rows),))

    def _looked_at(self, kind: Kind) -> int:
        return max(super()._looked_at(kind), self._blanked[kind])

    def _keys_in_use(self, keys: Collection[int]) -> set[int]:
        found = self._db.execute(f"SELECT send_key FROM sent WHERE send_key IN ({numbers(keys)})")
        return {row[0] for row in found} | self._unindexed.known(set(keys))

    def _delete(self, rows: Sequence[OldRow]) -> None:
        keys = [row.send_key for row in rows if row.send_key is not None]
        places = json.dumps([(row.conversation, row.seq) for row in rows])
        self._db.execute(
            "DELETE FROM place WHERE (conversation, seq) IN (SELECT json_extract(value, '$[0]'),"
            " json_extract(value, '$[1]') FROM json_each(?))",
            (places,),
        )
        self._db.execute(f"DELETE FROM sent WHERE send_key IN ({numbers(keys)})")
        self._db.execute(f"DELETE FROM message WHERE id IN ({numbers([row.id for row in rows])})")

    # ---------------------------------------------------------------- rows without an index entry

    def _blank_undeletable(self, kind: Kind, before_ms: int, now_ms: int, limit: int) -> Slice:
        begin = max(self._blanked[kind], self._unindexed.merged)
        rows = self._db.execute(
            "SELECT id, conversation, seq, sent_at_ms FROM message WHERE id > ? ORDER BY id LIMIT ?", (begin, limit)
        ).fetchall()
        old = old_rows(rows, before_ms, now_ms)
        if not old:
            return Slice(len(rows))
        private = kind is Kind.PRIVATE
        blanked = self._blank([number for number, conversation, _, _ in old if (conversation > 0) is private])
        tops = tops_of(kind, old)
        self._forget(tops)
        self._move_cursors(tops)
        self._blanked[kind] = old[-1][0]
        return Slice(len(old), 0, blanked, len(old) == limit)

    def _is_empty(self, conversation: ConversationId) -> bool:
        """Its messages without an index entry lose their text now, and are deleted when they are merged."""
        waiting = self._unindexed.after(conversation, 0, 1 << 30)
        self._blank(waiting)
        return not waiting

    # ---------------------------------------------------------------- space

    def reclaim(self, pages: int) -> int:
        if self._pragma("auto_vacuum") != INCREMENTAL:
            return 0
        unused = min(pages, self._pragma("freelist_count") - KEPT_PAGES)
        if unused <= 0:
            return 0
        self._db.execute(f"PRAGMA incremental_vacuum({unused})").fetchall()
        return unused

    def space(self) -> Space:
        page = self._pragma("page_size")
        return Space(
            total=page * self._pragma("page_count"),
            free=page * self._pragma("freelist_count"),
            reclaims=self._pragma("auto_vacuum") == INCREMENTAL,
            oldest_ms=self._oldest_ms(),
        )

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
