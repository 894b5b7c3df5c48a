"""Deleting old messages in MySQL.

Owns: the statements of this twin; whose turn it is, where several hosts share the database.
Elsewhere: which messages go (store.sql.retention).
Fails: Again and Unavailable as store.mysql.connection.

The position in `meta` is locked until the commit. So that no batch of messages waits there for another host, a host
that finds another one at work does nothing: a named lock tells, without waiting.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from chatd.model import ConversationId, Seq
from chatd.store.mysql.backend import MysqlBackend
from chatd.store.mysql.connection import MysqlConnection
from chatd.store.retention_contract import Space
from chatd.store.sql.retention import CursorRow, OldRow, SqlRetention, numbers

_LOCK = "CONCAT(LEFT(DATABASE(), 40), '.chatd-retention')"
_COLUMNS = "id, conversation, seq, send_key, state"
_UNION = 100
"""Maximum parts of one UNION."""
_NO_LIMIT = 1 << 62


class MysqlRetention(SqlRetention):
    """store.contract.RetentionTables."""

    _db: MysqlConnection
    _backend: MysqlBackend
    _for_update = " FOR UPDATE"

    def __init__(self, db: MysqlConnection, backend: MysqlBackend) -> None:
        super().__init__(db, backend)

    def _take_turn(self) -> bool:
        return bool(self._db.execute(f"SELECT GET_LOCK({_LOCK}, 0)").fetchone()[0] == 1)

    def _end_turn(self) -> None:
        self._db.execute(f"SELECT RELEASE_LOCK({_LOCK})")

    def _highest(self) -> int:
        return _NO_LIMIT

    def _rows_upto(self, tops: dict[ConversationId, Seq], limit: int) -> list[OldRow]:
        """Each conversation has its own SELECT: in one join, the server would read every conversation to its end."""
        left = sorted(tops.items())
        found: list[OldRow] = []
        one = (
            f"(SELECT {_COLUMNS} FROM message FORCE INDEX (place) WHERE conversation = %d AND seq <= %d LIMIT {limit})"
        )
        while left and len(found) < limit:
            part, left = left[:_UNION], left[_UNION:]
            union = " UNION ALL ".join(one % top for top in part)
            rows = self._db.query(f"{union} LIMIT {limit - len(found)}".encode())
            found += [OldRow(*row) for row in rows]
        return found

    def _first_rows(self, conversation: ConversationId, after: Seq, limit: int) -> list[OldRow]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM message FORCE INDEX (place) WHERE conversation = ? AND seq > ?"
            " ORDER BY seq LIMIT ?",
            (conversation, after, limit),
        )
        return [OldRow(*row) for row in rows]

    def _last_seqs(self, conversations: Collection[ConversationId]) -> dict[ConversationId, Seq]:
        return dict(self._backend.select_in("SELECT id, last FROM conversation WHERE id IN", conversations))

    def _cursors_below(self, tops: dict[ConversationId, Seq]) -> list[CursorRow]:
        """One statement per kind of conversation, and those of the rows that are below are found here: few are."""
        pairs, groups = [one for one in tops if one > 0], [-one for one in tops if one < 0]
        columns = "c.user_id, c.conversation, c.delivered, c.seen"
        rows = []
        for user in ("low", "high") if pairs else ():
            rows += self._backend.select_in(
                f"SELECT {columns} FROM pair AS p JOIN `cursor` AS c ON c.user_id = p.{user} AND c.conversation = p.id"
                " WHERE p.id IN",
                pairs,
            )
        for group_id in groups:
            top = tops[-group_id]
            rows += self._db.execute(
                f"SELECT {columns} FROM member AS m JOIN `cursor` AS c ON c.user_id = m.user_id AND c.conversation = ?"
                " WHERE m.team_id = ? AND (c.delivered < ? OR c.seen < ?)",
                (-group_id, group_id, top, top),
            ).fetchall()
        found = [CursorRow(*row) for row in rows]
        return [row for row in found if row.delivered < tops[row.conversation] or row.seen < tops[row.conversation]]

    def _set_cursors(self, rows: Sequence[CursorRow]) -> None:
        self._db.execute(
            "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (user_id BIGINT PATH '$[0]', conversation BIGINT PATH '$[1]',"
            " delivered BIGINT PATH '$[2]', seen BIGINT PATH '$[3]')) AS n STRAIGHT_JOIN `cursor` AS c"
            " ON c.user_id = n.user_id AND c.conversation = n.conversation"
            " SET c.delivered = greatest(c.delivered, n.delivered), c.seen = greatest(c.seen, n.seen)",
            (json.dumps(rows),),
        )

    def _keys_in_use(self, keys: Collection[int]) -> set[int]:
        rows = self._backend.select_in("SELECT send_key FROM message WHERE send_key IN", keys)
        return {row[0] for row in rows}

    def _delete(self, rows: Sequence[OldRow]) -> None:
        self._db.query(f"DELETE FROM message WHERE id IN ({numbers(sorted(row.id for row in rows))})".encode())

    def _forget_group(self, conversation: ConversationId) -> None:
        self._db.execute("DELETE FROM conversation WHERE id = ?", (conversation,))

    # ---------------------------------------------------------------- space

    def reclaim(self, pages: int) -> int:
        return 0

    def space(self) -> Space:
        total, free = self._db.execute(
            "SELECT sum(data_length + index_length), sum(data_free) FROM information_schema.tables"
            " WHERE table_schema = DATABASE()"
        ).fetchone()
        return Space(int(total or 0), int(free or 0), False, self._oldest_ms())
