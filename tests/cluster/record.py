"""What the database itself says after an ordeal: numbered without holes, each (sender, fp) once."""

from __future__ import annotations

from tests.harness.mariadb import MariaDB


def inspect(server: MariaDB, schema: str) -> int:
    """How many messages there are; AssertionError when the record has a defect."""
    message = f"`{schema}`.message"
    broken = server.execute(
        f"SELECT conversation, COUNT(*), COUNT(DISTINCT seq), MIN(seq), MAX(seq) FROM {message} GROUP BY conversation"
        " HAVING COUNT(DISTINCT seq) <> COUNT(*) OR MIN(seq) <> 1 OR MAX(seq) <> COUNT(*)"
    )
    assert broken == [], f"conversations with holes or double numbers: {broken[:5]}"
    twice = server.execute(
        f"SELECT sender_id, fp, COUNT(*) FROM {message} WHERE fp <> '' GROUP BY sender_id, fp HAVING COUNT(*) > 1"
    )
    assert twice == [], f"stored twice: {twice[:5]}"
    beyond = server.execute(
        f"SELECT user_id, conversation, delivered FROM `{schema}`.`cursor` AS c WHERE delivered >"
        f" (SELECT COUNT(*) FROM {message} AS m WHERE m.conversation = c.conversation)"
    )
    assert beyond == [], f"cursors beyond the end: {beyond[:5]}"
    return int(server.execute(f"SELECT COUNT(*) FROM {message}")[0][0])
