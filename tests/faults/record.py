"""What the store's file itself says after an ordeal: whole, numbered without holes, each (sender, fp) once."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def inspect(database: Path) -> int:
    """How many messages there are; AssertionError when the file is damaged or the record has a defect."""
    with sqlite3.connect(database) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        broken = db.execute(
            "SELECT conversation, COUNT(*), COUNT(DISTINCT seq), MIN(seq), MAX(seq) FROM message GROUP BY conversation"
            " HAVING COUNT(DISTINCT seq) <> COUNT(*) OR MIN(seq) <> 1 OR MAX(seq) <> COUNT(*)"
        ).fetchall()
        assert broken == [], f"conversations with holes or double numbers: {broken[:5]}"
        twice = db.execute(
            "SELECT sender_id, fp, COUNT(*) FROM message WHERE fp <> '' GROUP BY sender_id, fp HAVING COUNT(*) > 1"
        ).fetchall()
        assert twice == [], f"stored twice: {twice[:5]}"
        disorder = db.execute(
            "SELECT a.conversation, a.seq FROM message a JOIN message b"
            " ON b.conversation = a.conversation AND b.seq = a.seq + 1 WHERE b.id < a.id"
        ).fetchall()
        assert disorder == [], f"numbers not in the order of commits: {disorder[:5]}"
        beyond = db.execute(
            "SELECT user_id, conversation, delivered FROM cursor AS c WHERE delivered >"
            " (SELECT COUNT(*) FROM message AS m WHERE m.conversation = c.conversation)"
        ).fetchall()
        assert beyond == [], f"cursors beyond the end: {beyond[:5]}"
        return int(db.execute("SELECT COUNT(*) FROM message").fetchone()[0])
