"""The column user.skeleton_hash, by which names that look the same are found.

Owns: filling it for accounts from before the column was there, and for accounts that a dump loads.
Elsewhere: what looks the same (texts.names), comparing a new name (store.sql.accounts), the column itself
(store.sqlite.schema, store.mysql.schema).
Fails: what the database raises passes through.

The hash follows from the name and the table of characters that look alike, so it is never copied from one store to
another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from chatd.store.sql.database import Database
from chatd.texts.names import skeleton_hash

_Row = tuple[int | str | None, ...]
_COLUMN = "skeleton_hash"
_SLICE = 1000
"""Accounts changed in one statement."""


def fill(db: Database, update: str) -> None:
    """Set the column of every account that is not deleted. update: the twin's statement, which sets it from a JSON list
    of [id, hash]. Repeating it changes nothing. Cost: about 1 s for 100,000 accounts in SQLite."""
    after = 0
    while True:
        rows = db.execute(
            f"SELECT id, name FROM user WHERE id > ? AND name_key IS NOT NULL ORDER BY id LIMIT {_SLICE}", (after,)
        ).fetchall()
        if not rows:
            return
        db.execute(update, (json.dumps([(int(number), skeleton_hash(str(name))) for number, name in rows]),))
        after = int(rows[-1][0])


def with_hashes(columns: tuple[str, ...], rows: Sequence[_Row]) -> tuple[tuple[str, ...], list[_Row]]:
    """The columns and rows of the table `user` as they are inserted, from those of a dump."""
    name, name_key = columns.index("name"), columns.index("name_key")
    hashed = [(*row, None if row[name_key] is None else skeleton_hash(str(row[name]))) for row in rows]
    return (*columns, _COLUMN), hashed
