"""Checking an SQLite store: its pages, and its index tables against its messages.

Owns: what is read page by page, and the rules about tables that only this twin has.
Elsewhere: the rules of both twins (store.sql.rules), running them (store.check).
Fails: sqlite3.Error passes through.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from chatd.store.sql.rules import RULES, Rule
from chatd.store.sqlite import file as sqlite_file
from chatd.store.sqlite import schema

_MERGED = "(SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'merged')"
_MOST = 20
"""Damages that SQLite is asked for."""

OWN_RULES = (
    Rule(
        "every indexed message is found by its number",
        "SELECT m.id, m.conversation, m.seq FROM message AS m LEFT JOIN place AS p ON p.conversation = m.conversation"
        f" AND p.seq = m.seq WHERE m.id <= {_MERGED} AND (p.id IS NULL OR p.id <> m.id)",
    ),
    Rule(
        "every indexed message is found by the fp of its sender",
        "SELECT m.id, m.send_key FROM message AS m LEFT JOIN sent AS s ON s.send_key = m.send_key"
        f" WHERE m.id <= {_MERGED} AND m.send_key IS NOT NULL AND (s.id IS NULL OR s.id <> m.id)",
    ),
    Rule(
        "the index names no message that does not exist",
        "SELECT 'place' AS place, p.id FROM place AS p LEFT JOIN message AS m ON m.id = p.id WHERE m.id IS NULL"
        " UNION ALL SELECT 'sent', s.id FROM sent AS s LEFT JOIN message AS m ON m.id = s.id WHERE m.id IS NULL",
    ),
)


class SqliteCheck:
    """store.check.StoreCheck on one open database. It shows the moment at which it was made."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self.name = f"sqlite:{path}"
        self.rules = (*RULES, *OWN_RULES)
        self._db = db
        self.newest = len(schema.MIGRATIONS)

    def version(self) -> int:
        return sqlite_file.version_of(self._db)

    def damages(self) -> list[str]:
        """Of the pages and the indexes of SQLite. Cost: the whole file is read."""
        try:
            found = [str(row[0]) for row in self._db.execute(f"PRAGMA integrity_check({_MOST})").fetchall()]
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [] if found == ["ok"] else found

    def begin(self) -> None:
        """From now on, one moment."""
        self._db.execute("BEGIN")

    def broken(self, rule: Rule, most: int) -> list[tuple[object, ...]]:
        return [tuple(row) for row in self._db.execute(f"{rule.broken} LIMIT {most}").fetchall()]

    def note(self, key: str) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def count(self, table: str) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
