"""The tables, as numbered migrations for MySQL and MariaDB, and running them.

Owns: MIGRATIONS: number n brings a store from version n-1 to n; a released migration is never edited. migrate(), which
takes a lock named after the database, so that many hosts may start on an empty database at once.
Elsewhere: which schemas are served (store.versions).
Fails: Unavailable.

DDL cannot be rolled back: so every step can be repeated, and the version is written after the last step of a
migration. MySQL has no ADD COLUMN IF NOT EXISTS, so _add_column() looks first, and so does _add_index().
Differences from store.sqlite.schema: `conversation` has one row per conversation with its last seq, which is locked by
every transaction that numbers messages in it. message.id rises with seq within a conversation, but not in commit order
over all of them. name_key is bytes, because every collation that both servers have takes "a" and "a " for the same.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd.errors import Unavailable
from chatd.store.contract import Again
from chatd.store.sql import skeletons
from chatd.store.sql.database import Database

Step = str | Callable[[Database], None]
"""A statement, or a function that runs statements."""

_TABLE = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC"
MIGRATION_LOCK = "CONCAT('chatd.migrate:', MD5(DATABASE()))"
_WAIT_S = 60
BARRIER_SLOTS = 8
"""Rows of `barrier`. See store.mysql.barrier."""


def _add_column(table: str, column: str, definition: str) -> tuple[str, ...]:
    """Add it unless it exists."""
    exists = f"information_schema.columns WHERE table_name = '{table}' AND column_name = '{column}'"
    return _unless(exists, f"ALTER TABLE `{table}` ADD COLUMN {column} {definition}")


def _add_index(table: str, index: str, columns: str) -> tuple[str, ...]:
    """Add it unless it exists."""
    exists = f"information_schema.statistics WHERE table_name = '{table}' AND index_name = '{index}'"
    return _unless(exists, f"CREATE INDEX {index} ON {table} ({columns})")


def _unless(exists: str, statement: str) -> tuple[str, ...]:
    return (
        f"SET @chatd_step = IF(EXISTS (SELECT 1 FROM {exists} AND table_schema = DATABASE()), 'DO 0', '{statement}')",
        "PREPARE chatd_step FROM @chatd_step",
        "EXECUTE chatd_step",
        "DEALLOCATE PREPARE chatd_step",
    )


_SET_HASHES = (
    "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$[0]', hash BIGINT PATH '$[1]')) AS n"
    " STRAIGHT_JOIN user AS u ON u.id = n.id SET u.skeleton_hash = n.hash"
)


def _fill_skeletons(db: Database) -> None:
    skeletons.fill(db, _SET_HASHES)


MIGRATIONS: tuple[tuple[Step, ...], ...] = (
    (
        "CREATE TABLE IF NOT EXISTS user (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(255) NOT NULL,"
        " name_key VARBINARY(3000) NULL UNIQUE, password VARCHAR(255) NOT NULL, created_at_ms BIGINT NOT NULL,"
        f" seen_at_ms BIGINT NOT NULL DEFAULT 0, profile MEDIUMTEXT NULL) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS friend (user_id BIGINT NOT NULL, friend_id BIGINT NOT NULL,"
        " accepted TINYINT NOT NULL, at_ms BIGINT NOT NULL, PRIMARY KEY (user_id, friend_id),"
        f" KEY friend_asked (friend_id, accepted, at_ms)) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS team (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, name TEXT NOT NULL,"
        f" description TEXT NOT NULL, created_at_ms BIGINT NOT NULL) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS member (team_id BIGINT NOT NULL, user_id BIGINT NOT NULL, role TINYINT NOT NULL,"
        f" joined_at_ms BIGINT NOT NULL, PRIMARY KEY (team_id, user_id), KEY member_user (user_id, team_id)) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS pair (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, low BIGINT NOT NULL,"
        f" high BIGINT NOT NULL, UNIQUE KEY pair_users (low, high)) {_TABLE}",
        f"CREATE TABLE IF NOT EXISTS conversation (id BIGINT NOT NULL PRIMARY KEY, last BIGINT NOT NULL) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS message (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,"
        " conversation BIGINT NOT NULL, seq BIGINT NOT NULL, sender_id BIGINT NOT NULL, send_key BIGINT NULL,"
        " fp VARCHAR(255) NOT NULL, sent_at_ms BIGINT NOT NULL, qos TINYINT NOT NULL, typeu BIGINT NOT NULL,"
        f" body MEDIUMTEXT NOT NULL, UNIQUE KEY place (conversation, seq), UNIQUE KEY sent (send_key)) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS `cursor` (user_id BIGINT NOT NULL, conversation BIGINT NOT NULL,"
        " delivered BIGINT NOT NULL, seen BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (user_id, conversation))"
        f" {_TABLE}",
        "CREATE TABLE IF NOT EXISTS request (send_key BIGINT NOT NULL PRIMARY KEY, sender_id BIGINT NOT NULL,"
        " fp VARCHAR(255) NOT NULL, answer MEDIUMTEXT NOT NULL, at_ms BIGINT NOT NULL, KEY request_at (at_ms))"
        f" {_TABLE}",
        f"CREATE TABLE IF NOT EXISTS meta (`key` VARCHAR(64) NOT NULL PRIMARY KEY, value TEXT NOT NULL) {_TABLE}",
        "INSERT IGNORE INTO meta VALUES ('directory', '0')",
    ),
    (
        *_add_column("team", "members_version", "BIGINT NOT NULL DEFAULT 1"),
        *_add_column("member", "since_version", "BIGINT NOT NULL DEFAULT 1"),
    ),
    (
        *_add_column("message", "body_hash", "BIGINT NULL"),
        *_add_column("request", "body_hash", "BIGINT NULL"),
    ),
    (
        *_add_column("user", "skeleton_hash", "BIGINT NULL"),
        _fill_skeletons,
        *_add_index("user", "user_skeleton", "skeleton_hash"),
        "INSERT IGNORE INTO meta VALUES ('names', '0')",
    ),
    (
        "CREATE TABLE IF NOT EXISTS known_source (user_id BIGINT NOT NULL, hidden VARCHAR(64) NOT NULL,"
        f" seen_day BIGINT NOT NULL, PRIMARY KEY (user_id, hidden)) {_TABLE}",
    ),
    (
        *_add_column("user", "credentials", "BIGINT NOT NULL DEFAULT 0, ADD KEY user_credentials (credentials)"),
        *_add_column("user", "locked_at_ms", "BIGINT NOT NULL DEFAULT 0"),
        *_add_column("user", "lock_reason", "VARCHAR(255) NOT NULL DEFAULT ''''"),
        "CREATE TABLE IF NOT EXISTS invite (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,"
        " code_hash VARCHAR(64) NOT NULL UNIQUE, uses BIGINT NOT NULL, used BIGINT NOT NULL DEFAULT 0,"
        " created_at_ms BIGINT NOT NULL, expires_at_ms BIGINT NOT NULL, revoked_at_ms BIGINT NOT NULL DEFAULT 0,"
        f" note VARCHAR(255) NOT NULL) {_TABLE}",
        "INSERT IGNORE INTO meta VALUES ('credentials', '0')",
        "INSERT IGNORE INTO meta VALUES ('stand_in_key', '')",
    ),
    (
        *_add_column("user", "may_write", "TINYINT NOT NULL DEFAULT 0"),
        *_add_column("user", "may_ask", "TINYINT NOT NULL DEFAULT 0"),
        *_add_column("user", "may_see", "TINYINT NOT NULL DEFAULT 0"),
        *_add_column("user", "may_add", "TINYINT NOT NULL DEFAULT 0"),
        "CREATE TABLE IF NOT EXISTS block (user_id BIGINT NOT NULL, blocked_id BIGINT NOT NULL, at_ms BIGINT NOT NULL,"
        f" PRIMARY KEY (user_id, blocked_id), KEY block_blocked (blocked_id)) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS refusal (user_id BIGINT NOT NULL, friend_id BIGINT NOT NULL,"
        " at_ms BIGINT NOT NULL, withdrawn TINYINT NOT NULL DEFAULT 0, PRIMARY KEY (user_id, friend_id),"
        f" KEY refusal_friend (friend_id, at_ms)) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS correspondent (user_id BIGINT NOT NULL, other_id BIGINT NOT NULL,"
        f" PRIMARY KEY (user_id, other_id), KEY correspondent_other (other_id)) {_TABLE}",
        "INSERT IGNORE INTO meta VALUES ('consent', '0')",
    ),
    (
        *_add_column("team", "join_policy", "TINYINT NOT NULL DEFAULT 1"),
        *_add_column("team", "whole_history", "TINYINT NOT NULL DEFAULT 0"),
        *_add_column("team", "announcements", "TINYINT NOT NULL DEFAULT 0"),
        *_add_column("team", "member_count", "BIGINT NOT NULL DEFAULT 0"),
        "UPDATE team SET member_count = (SELECT count(*) FROM member WHERE team_id = team.id)",
        *_add_column("member", "muted_until_ms", "BIGINT NOT NULL DEFAULT 0"),
        *_add_column("member", "first_seq", "BIGINT NOT NULL DEFAULT 1"),
        "CREATE TABLE IF NOT EXISTS ban (team_id BIGINT NOT NULL, user_id BIGINT NOT NULL, by_id BIGINT NOT NULL,"
        f" at_ms BIGINT NOT NULL, PRIMARY KEY (team_id, user_id), KEY ban_user (user_id)) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS admission (team_id BIGINT NOT NULL, user_id BIGINT NOT NULL,"
        " state TINYINT NOT NULL, by_id BIGINT NOT NULL, at_ms BIGINT NOT NULL, muted_until_ms BIGINT NOT NULL,"
        f" PRIMARY KEY (team_id, user_id), KEY admission_user (user_id, state)) {_TABLE}",
    ),
    (
        *_add_column("message", "state", "TINYINT NOT NULL DEFAULT 0"),
        *_add_column("message", "version", "BIGINT NOT NULL DEFAULT 0"),
        *_add_column("message", "meta", "MEDIUMTEXT NULL"),
        *_add_column("cursor", "cleared", "BIGINT NOT NULL DEFAULT 0"),
        "CREATE TABLE IF NOT EXISTS revision (conversation BIGINT NOT NULL, number BIGINT NOT NULL,"
        " seq BIGINT NOT NULL, by_id BIGINT NOT NULL, at_ms BIGINT NOT NULL, PRIMARY KEY (conversation, number))"
        f" {_TABLE}",
        "CREATE TABLE IF NOT EXISTS hidden (user_id BIGINT NOT NULL, conversation BIGINT NOT NULL,"
        f" seq BIGINT NOT NULL, PRIMARY KEY (user_id, conversation, seq)) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS mention (user_id BIGINT NOT NULL, conversation BIGINT NOT NULL,"
        f" seq BIGINT NOT NULL, PRIMARY KEY (user_id, conversation, seq)) {_TABLE}",
    ),
    (
        "CREATE TABLE IF NOT EXISTS erasure (user_id BIGINT NOT NULL PRIMARY KEY, position BIGINT NOT NULL,"
        f" asked_at_ms BIGINT NOT NULL) {_TABLE}",
        "INSERT IGNORE INTO meta VALUES ('retained_private', '0')",
        "INSERT IGNORE INTO meta VALUES ('retained_groups', '0')",
        "INSERT IGNORE INTO meta VALUES ('retention_clock', '0')",
        *_add_index("revision", "revision_seq", "conversation, seq"),
        *_add_index("hidden", "hidden_place", "conversation, seq"),
        *_add_index("mention", "mention_place", "conversation, seq"),
        f"CREATE TABLE IF NOT EXISTS dissolved (team_id BIGINT NOT NULL PRIMARY KEY, at_ms BIGINT NOT NULL) {_TABLE}",
        "INSERT IGNORE INTO dissolved SELECT -v.id, 0 FROM conversation AS v"
        " LEFT JOIN team AS t ON t.id = -v.id WHERE v.id < 0 AND t.id IS NULL",
    ),
    (
        "CREATE TABLE IF NOT EXISTS event (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,"
        " after_message BIGINT NOT NULL, at_ms BIGINT NOT NULL, kind VARCHAR(64) NOT NULL, message_id BIGINT NOT NULL,"
        f" details MEDIUMTEXT NOT NULL) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS webhook (name VARCHAR(255) NOT NULL PRIMARY KEY, kinds TEXT NOT NULL,"
        " holder VARCHAR(255) NOT NULL DEFAULT '', fence BIGINT NOT NULL DEFAULT 0,"
        " lease_until_ms BIGINT NOT NULL DEFAULT 0, message BIGINT NOT NULL, event BIGINT NOT NULL,"
        " claimed_message BIGINT NOT NULL, claimed_event BIGINT NOT NULL, created_at_ms BIGINT NOT NULL,"
        " seen_at_ms BIGINT NOT NULL, delivered BIGINT NOT NULL DEFAULT 0, delivered_at_ms BIGINT NOT NULL DEFAULT 0,"
        " failures BIGINT NOT NULL DEFAULT 0, failed_at_ms BIGINT NOT NULL DEFAULT 0,"
        " error VARCHAR(500) NOT NULL DEFAULT '', disabled_at_ms BIGINT NOT NULL DEFAULT 0,"
        " replays BIGINT NOT NULL DEFAULT 0,"
        f" dropped BIGINT NOT NULL DEFAULT 0) {_TABLE}",
        f"CREATE TABLE IF NOT EXISTS barrier (id BIGINT NOT NULL PRIMARY KEY) {_TABLE}",
        f"INSERT IGNORE INTO barrier VALUES {', '.join(f'({slot})' for slot in range(BARRIER_SLOTS))}",
    ),
    (
        "CREATE TABLE IF NOT EXISTS api_key (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(255) NOT NULL,"
        " secret_hash VARCHAR(64) NOT NULL UNIQUE, scopes VARCHAR(1000) NOT NULL, created_by VARCHAR(255) NOT NULL,"
        " created_at_ms BIGINT NOT NULL, expires_at_ms BIGINT NOT NULL, revoked_at_ms BIGINT NOT NULL DEFAULT 0,"
        f" used_at_ms BIGINT NOT NULL DEFAULT 0) {_TABLE}",
        "INSERT IGNORE INTO meta VALUES ('api_keys', '0')",
    ),
    (
        "CREATE TABLE IF NOT EXISTS bridged (user_id BIGINT NOT NULL PRIMARY KEY, bridge VARCHAR(64) NOT NULL,"
        " remote VARCHAR(255) NOT NULL, heard_at_ms BIGINT NOT NULL, UNIQUE KEY bridged_remote (bridge, remote))"
        f" {_TABLE}",
    ),
    (
        "CREATE TABLE IF NOT EXISTS file (id VARCHAR(64) NOT NULL PRIMARY KEY, owner BIGINT NOT NULL,"
        " name VARCHAR(255) NOT NULL, size BIGINT NOT NULL, media_type VARCHAR(255) NOT NULL,"
        " sha256 VARCHAR(64) NOT NULL, `blob` VARCHAR(255) NOT NULL DEFAULT '', width BIGINT NOT NULL DEFAULT 0,"
        " height BIGINT NOT NULL DEFAULT 0, state TINYINT NOT NULL DEFAULT 0, created_at_ms BIGINT NOT NULL,"
        " conversation BIGINT NOT NULL DEFAULT 0, seq BIGINT NOT NULL DEFAULT 0, KEY file_owner (owner, id, size),"
        " KEY file_content (sha256, state), KEY file_waiting (state, created_at_ms),"
        f" KEY file_place (conversation, seq)) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS doomed_blob (name VARCHAR(255) NOT NULL PRIMARY KEY, due_ms BIGINT NOT NULL)"
        f" {_TABLE}",
        "INSERT IGNORE INTO meta VALUES ('files', '0')",
    ),
    (
        "CREATE TABLE IF NOT EXISTS administrator (user_id BIGINT NOT NULL PRIMARY KEY, role VARCHAR(16) NOT NULL,"
        " totp_secret VARCHAR(64) NOT NULL, last_step BIGINT NOT NULL DEFAULT 0, created_by VARCHAR(255) NOT NULL,"
        f" created_at_ms BIGINT NOT NULL, used_at_ms BIGINT NOT NULL DEFAULT 0) {_TABLE}",
        "CREATE TABLE IF NOT EXISTS admin_session (token_hash VARCHAR(64) NOT NULL PRIMARY KEY,"
        " user_id BIGINT NOT NULL, credentials BIGINT NOT NULL, began_at_ms BIGINT NOT NULL,"
        " seen_at_ms BIGINT NOT NULL, ends_at_ms BIGINT NOT NULL, address VARCHAR(64) NOT NULL,"
        f" KEY admin_session_user (user_id)) {_TABLE}",
    ),
    (
        "CREATE TABLE IF NOT EXISTS push_subscription (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,"
        " user_id BIGINT NOT NULL, place VARCHAR(64) NOT NULL UNIQUE, gateway VARCHAR(64) NOT NULL,"
        " endpoint TEXT NOT NULL, p256dh VARCHAR(128) NOT NULL, auth VARCHAR(64) NOT NULL, credentials BIGINT NOT NULL,"
        " created_at_ms BIGINT NOT NULL, worked_at_ms BIGINT NOT NULL DEFAULT 0, due_at_ms BIGINT NOT NULL DEFAULT 0,"
        " conversation BIGINT NOT NULL DEFAULT 0, seq BIGINT NOT NULL DEFAULT 0, waiting BIGINT NOT NULL DEFAULT 0,"
        " failures BIGINT NOT NULL DEFAULT 0, KEY push_subscription_user (user_id),"
        f" KEY push_subscription_due (due_at_ms)) {_TABLE}",
    ),
)

WORDS: tuple[str, ...] = (
    "accounts, friends, groups, conversations, messages, cursors, and answers to requests",
    "a version for the memberships of every group",
    "a hash of every request, and of messages changed by a plug-in, by which a reused fp is recognised",
    "a hash of what every name looks like, by which a new name that looks like an existing one is recognised",
    "the networks from which users have logged in",
    "versions of credentials, locked accounts, and invite codes",
    "who may write to a user, ask, see and add them; blocked users; refused friend requests",
    "how a group is joined, who reads its past, who may write in it; bans, invitations and requests to join",
    "messages that were edited, recalled or removed; mentions; messages removed from one's own history",
    "accounts that are being erased, dissolved groups, and how far old messages were deleted",
    "events for applications, and how far each webhook has come",
    "keys of the HTTP API",
    "users of other servers, who are reached over a bridge",
    "files that people upload and send",
    "administrators of the operator's page, and their sessions",
    "where users are notified while they are away",
)
"""A description of each migration, for the operator."""


def run_step(db: Database, step: Step) -> None:
    """Repeating it changes nothing."""
    if callable(step):
        step(db)
    else:
        db.execute(step)


def version_of(db: Database) -> int:
    """Version of the schema; 0: there are no tables."""
    made = db.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'meta'"
    ).fetchone()[0]
    if not made:
        return 0
    row = db.execute("SELECT value FROM meta WHERE `key` = 'schema'").fetchone()
    return int(row[0]) if row else 0


def migrate(db: Database, upto: int) -> None:
    """Run the missing migrations, outside a transaction; wait while another host migrates. A crash leaves the store at
    the migration before. Raises Unavailable if another host takes too long, or if a migration conflicts with a
    transaction."""
    if db.execute(f"SELECT GET_LOCK({MIGRATION_LOCK}, {_WAIT_S})").fetchone()[0] != 1:
        raise Unavailable(f"mysql: another chatd has been migrating this database for {_WAIT_S} s")
    try:
        for number in range(version_of(db) + 1, upto + 1):
            for step in MIGRATIONS[number - 1]:
                run_step(db, step)
            db.execute("REPLACE INTO meta VALUES ('schema', ?)", (str(number),))
    except Again as error:
        raise Unavailable(f"mysql: a migration conflicted with another transaction ({error})") from error
    finally:
        db.execute(f"SELECT RELEASE_LOCK({MIGRATION_LOCK})")
