"""Checking a MySQL store: its tables, and the last numbers of its conversations.

Owns: what the database server is asked to check, and the rules about tables that only this twin has.
Elsewhere: the rules of both twins (store.sql.rules), running them (store.check).
Fails: Unavailable passes through.
"""

from __future__ import annotations

from chatd.config.urls import MysqlAddress
from chatd.store.mysql import schema
from chatd.store.mysql.dump import patient
from chatd.store.sql.rules import RULES, Rule

OWN_RULES = (
    Rule(
        "the last number of each conversation is that of its last message",
        "SELECT c.id, c.last, t.last AS found FROM conversation AS c JOIN (SELECT conversation, max(seq) AS last"
        " FROM message GROUP BY conversation) AS t ON t.conversation = c.id WHERE c.last <> t.last",
    ),
    Rule(
        "every conversation that has messages has a last number",
        "SELECT DISTINCT m.conversation FROM message AS m LEFT JOIN conversation AS c ON c.id = m.conversation"
        " WHERE c.id IS NULL",
    ),
)


class MysqlCheck:
    """store.check.StoreCheck on a connection of its own."""

    def __init__(self, address: MysqlAddress) -> None:
        self.name = str(address)
        self.rules = (*RULES, *OWN_RULES)
        self.newest = len(schema.MIGRATIONS)
        self._db = patient(address)

    def close(self) -> None:
        self._db.discard()

    def version(self) -> int:
        return schema.version_of(self._db)

    def damages(self) -> list[str]:
        """What CHECK TABLE says. Cost: every index is read."""
        tables = self._db.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1"
        ).fetchall()
        found = []
        for (table,) in tables:
            for row in self._db.execute(f"CHECK TABLE `{table}`").fetchall():
                kind, text = str(row[2]), str(row[3])
                if kind == "error" or (kind == "status" and text != "OK"):
                    found.append(f"{table}: {text}")
        return found

    def begin(self) -> None:
        """From now on, one moment."""
        self._db.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self._db.begin("SELECT count(*) FROM meta")

    def broken(self, rule: Rule, most: int) -> list[tuple[object, ...]]:
        return [tuple(row) for row in self._db.execute(f"{rule.broken} LIMIT {most}").fetchall()]

    def note(self, key: str) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE `key` = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def count(self, table: str) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM `{table}`").fetchone()[0])
