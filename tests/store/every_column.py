"""Every table and column of a store filled with something that is not its default, and which columns those are.

Owns: FILL, statements that both twins take, for what store.contract alone does not fill; defaults(), what each column
holds when nobody has set it; DERIVED, the tables and columns that a copy makes anew.
Elsewhere: the rows that go through store.contract (tests.store.test_copy.populate).
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from chatd.config.urls import MysqlAddress
from chatd.store.copy import TABLES, Row
from chatd.store.mysql.connection import MysqlConnection

LIMIT_S = 20.0
DERIVED = {
    "user": {"name_key", "skeleton_hash"},
    "message": {"send_key"},
    "request": {"send_key"},
    "place": set[str](),
    "sent": set[str](),
    "conversation": set[str](),
    "meta": set[str](),
    "sqlite_sequence": set[str](),
    "barrier": set[str](),
}
"""Tables (an empty set: the whole table) and columns that are made of others, and `meta`, which is copied by key."""
UNSET = {0, "", None}
"""What a column without a default of its own holds when it says nothing."""

FILL = (
    "UPDATE user SET may_write = 2, may_ask = 3, may_see = 4, may_add = 1 WHERE id = 3",
    "UPDATE invite SET used = 1, revoked_at_ms = 19 WHERE id = 1",
    "INSERT INTO api_key (id, name, secret_hash, scopes, created_by, created_at_ms, expires_at_ms, revoked_at_ms,"
    " used_at_ms) VALUES (3, 'shop', 'ff', 'admin', 'root', 23, 24, 25, 26)",
    "INSERT INTO administrator (user_id, role, totp_secret, last_step, created_by, created_at_ms, used_at_ms)"
    " VALUES (3, 'read', 'ABC', 28, 'root', 29, 30)",
    "INSERT INTO admin_session (token_hash, user_id, credentials, began_at_ms, seen_at_ms, ends_at_ms, address)"
    " VALUES ('ee', 3, 31, 32, 33, 34, '192.0.2.1')",
    "INSERT INTO bridged (user_id, bridge, remote, heard_at_ms) VALUES (3, 'java', 'Ann', 27)",
    "INSERT INTO push_subscription (id, user_id, place, gateway, endpoint, p256dh, auth, credentials, created_at_ms,"
    " worked_at_ms, due_at_ms, conversation, seq, waiting, failures) VALUES (5, 3, 'aa', 'apns', 'token', 'key',"
    " 'auth', 1, 28, 29, 30, 1, 1, 2, 3)",
    "INSERT INTO block (user_id, blocked_id, at_ms) VALUES (2, 3, 11), (3, 1, 12)",
    "INSERT INTO refusal (user_id, friend_id, at_ms, withdrawn) VALUES (3, 2, 13, 1)",
    "INSERT INTO correspondent (user_id, other_id) VALUES (2, 3)",
    "UPDATE team SET description = 'eats', join_policy = 3, whole_history = 1, announcements = 1, member_count = 2"
    " WHERE id = 1",
    "UPDATE member SET muted_until_ms = 1900000000001, first_seq = 7 WHERE team_id = 1 AND user_id = 2",
    "INSERT INTO ban (team_id, user_id, by_id, at_ms) VALUES (1, 3, 1, 14)",
    "INSERT INTO admission (team_id, user_id, state, by_id, at_ms, muted_until_ms) VALUES (1, 3, 2, 2, 15, 16)",
    'UPDATE message SET state = 1, version = 3, body_hash = -77, meta = \'{"mentions":[2],"reply_to":1}\' WHERE id = 1',
    "INSERT INTO file (id, owner, name, size, media_type, sha256, `blob`, width, height, state, created_at_ms,"
    " conversation, seq) VALUES ('AbC', 1, 'a.png', 28, 'image/png', 'ff', 'AbC.ff', 29, 30, 2, 31, 1, 1)",
    "INSERT INTO doomed_blob (name, due_ms) VALUES ('gone.ee', 32)",
    "INSERT INTO revision (conversation, number, seq, by_id, at_ms) VALUES (1, 1, 1, 1, 16), (-1, 1, 2, 2, 17)",
    "UPDATE `cursor` SET cleared = 2 WHERE user_id = 2 AND conversation = -1",
    "INSERT INTO erasure (user_id, position, asked_at_ms) VALUES (4, 21, 18)",
    "INSERT INTO dissolved (team_id, at_ms) VALUES (77, 22)",
    "INSERT INTO event (after_message, at_ms, kind, message_id, details) VALUES (1, 23, 'user.login', 1, '{}')",
    "INSERT INTO webhook (name, kinds, holder, fence, lease_until_ms, message, event, claimed_message, claimed_event,"
    " created_at_ms, seen_at_ms, delivered, delivered_at_ms, failures, failed_at_ms, error, disabled_at_ms, replays,"
    " dropped) VALUES ('crm', 'user.login', 'one', 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 'why', 14, 15, 16)",
    "REPLACE INTO meta VALUES ('events', 'user.login')",
    "UPDATE request SET body_hash = 88 WHERE fp = 'r:1 '",
    "UPDATE meta SET value = '9' WHERE `key` IN ('consent', 'retained_private', 'retained_groups', 'retention_clock')",
)
MANY = 300
"""More rows than a store reads in its first page, for the tables whose keys have three columns."""


def fill_sqlite(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        for statement in (*FILL, *_many()):
            db.execute(statement)
        db.commit()


def fill_mysql(address: MysqlAddress) -> None:
    db = MysqlConnection(address, LIMIT_S)
    try:
        for statement in (*FILL, *_many()):
            db.execute(statement)
    finally:
        db.discard()


def _many() -> list[str]:
    """Keys that differ in the first, in the second and in the third column, also around the end of a page."""
    rows = [(1 + number // 100, -1 - number // 10 % 10, 1 + number % 10) for number in range(MANY)]
    values = ", ".join(map(str, rows))
    return [f"INSERT INTO {table} (user_id, conversation, seq) VALUES {values}" for table in ("hidden", "mention")]


def sqlite_columns(path: Path) -> dict[str, dict[str, object]]:
    """For each table its columns, and what each holds when nobody has set it."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: db.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
    return {name: {row[1]: _default(row[4]) for row in columns} for name, columns in rows.items()}


def mysql_columns(address: MysqlAddress) -> dict[str, dict[str, object]]:
    db = MysqlConnection(address, LIMIT_S)
    try:
        rows = db.execute(
            "SELECT table_name, column_name, column_default FROM information_schema.columns"
            " WHERE table_schema = DATABASE()"
        ).fetchall()
    finally:
        db.discard()
    found: dict[str, dict[str, object]] = {}
    for table, column, default in rows:
        found.setdefault(table, {})[column] = _default(default)
    return found


def _default(written: str | None) -> object:
    """As SQL writes it."""
    if written is None or written == "NULL":
        return None
    return int(written) if written.lstrip("-").isdigit() else written.strip("'")


def never_set(columns: dict[str, dict[str, object]], rows: dict[str, list[Row]]) -> list[str]:
    """table.column of those of TABLES in which every row has the default, or nothing."""
    return [
        f"{table.name}.{column}"
        for table in TABLES
        for place, column in enumerate(table.columns)
        if {row[place] for row in rows[table.name]} <= UNSET | {columns[table.name].get(column)}
    ]


def forgotten(columns: dict[str, dict[str, object]]) -> list[str]:
    """table.column of the schema that a copy neither takes nor makes."""
    copied = {(table.name, column) for table in TABLES for column in table.columns}
    return sorted(
        f"{table}.{column}"
        for table, names in columns.items()
        for column in names
        if (table, column) not in copied and (DERIVED.get(table) is None or column not in (DERIVED[table] or names))
    )
