"""The tables, as numbered migrations for SQLite.

Owns: MIGRATIONS: number n brings a store from version n-1 to n; a released migration is never edited. WORDS: a
description of each, for the operator.
Elsewhere: running them (store.sqlite.file.migrate).
Fails: never.

conversation: > 0 is pair.id, < 0 is the group -conversation. message.id rises in commit order.
place and sent index the messages up to meta.merged; the others are held by store.sqlite.unindexed.UnindexedRows.
send_key makes (sender, fp) unique at the price of an integer index: see store.sql.send_keys.SendKeys.
cursor: one row per user and conversation; `delivered` is the highest seq below which nothing is missing,
`seen` the highest the user has marked as read. request: answers to requests that changed something.
team.members_version: raised by one in every transaction that changes who is in the group, once per change.
member.since_version: what it was raised to when this member joined.
body_hash: store.contract.text_hash of the text as the client sent it. message: NULL unless a plug-in changed the text.
request: NULL in answers given before this column was there.
skeleton_hash: texts.names.skeleton_hash of the name; NULL like name_key when the account is deleted. Not unique: names
from before it was there may look the same.
known_source: at most store.contract.KNOWN_SOURCES rows per user. hidden: see core.login_guard.hidden.
user.credentials: store.account_contract.Account; the highest credentials so far: meta.credentials.
meta.stand_in_key: see core.stand_in_hashes; '' until a worker makes it.
user.may_write, may_ask, may_see, may_add: model.Audience. block: user_id has blocked blocked_id. refusal: friend_id has
refused a friend request of user_id, or (withdrawn 1) was told of one that user_id has withdrawn. correspondent: user_id
does not let everybody write, has written to other_id, and accepts answers. meta.consent: see
store.consent_contract.ConsentTables.version.
team.join_policy: model.JoinPolicy. team.member_count: rows of `member`. member.first_seq: the first message that the
member may read, unless team.whole_history. member.muted_until_ms: epoch. ban: cannot join until invited. admission: how
a user who is not a member stands to a group: store.group_contract.AdmissionState; by_id: who invited the user;
muted_until_ms: of the membership that ended, for the next one.
message.state: model.MessageState; version: how often it was changed. message.meta: JSON, see store.sql.meta.
revision: one row per change of a message, numbered without gaps in each conversation. cursor.cleared: up to this seq
the user has removed everything from their own history; hidden: a single message removed from it.
erasure: an account that is being erased; position: the highest message.id that was looked at. meta.retained_private,
retained_groups: the highest message.id up to which old messages were deleted. meta.retention_clock: see
store.retention_contract.RetentionTables.clock. dissolved: a group that is no more and may have
messages; at_ms: since when, 0 = retention has not seen it yet.
event, webhook: see store.event_contract. event.after_message: see store.sql.event_log; message_id: of the message that
it is about, or 0. webhook.message, event: WebhookState.position. meta.events: the kinds of events that are wanted.
api_key: see store.api_key_contract.ApiKey; meta.api_keys: the version of them all.
administrator, admin_session: see store.administrator_contract.
bridged: see store.bridge_contract.NewBridged. heard_at_ms: since when the other side is known to have this user; 0 = it
has not named them.
file, doomed_blob: see store.file_contract. file.conversation, seq: the message that sent it, or 0. doomed_blob.due_ms:
when its content is to be deleted. meta.files: locked by whoever completes a file, and otherwise unused.
push_subscription: see store.push_contract. place: a hash of gateway and endpoint. credentials: of the user when it was
made. worked_at_ms: when it last took a notification. due_at_ms: of the notification that waits, 0 = none does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from chatd.store.sql import skeletons

Step = str | Callable[[sqlite3.Connection], None]
"""A statement, or a function that runs statements."""

_SET_HASHES = (
    "UPDATE user SET skeleton_hash = n.hash FROM (SELECT json_extract(value, '$[0]') AS id,"
    " json_extract(value, '$[1]') AS hash FROM json_each(?)) AS n WHERE user.id = n.id"
)


def _fill_skeletons(db: sqlite3.Connection) -> None:
    skeletons.fill(db, _SET_HASHES)


_FIND_DISSOLVED = (
    "INSERT INTO dissolved WITH RECURSIVE talk (id) AS (SELECT min(conversation) FROM place"
    " UNION ALL SELECT (SELECT min(conversation) FROM place WHERE conversation > talk.id) FROM talk WHERE talk.id < 0)"
    " SELECT -id, 0 FROM talk WHERE id < 0 AND -id NOT IN (SELECT id FROM team)"
)
"""Groups that have messages and were dissolved before there was a record of it. One probe of the index per group."""

MIGRATIONS: tuple[tuple[Step, ...], ...] = (
    (
        "CREATE TABLE user (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, name_key TEXT UNIQUE,"
        " password TEXT NOT NULL, created_at_ms INTEGER NOT NULL, seen_at_ms INTEGER NOT NULL DEFAULT 0,"
        " profile TEXT NOT NULL DEFAULT '{}')",
        "CREATE TABLE friend (user_id INTEGER NOT NULL, friend_id INTEGER NOT NULL, accepted INTEGER NOT NULL,"
        " at_ms INTEGER NOT NULL, PRIMARY KEY (user_id, friend_id)) WITHOUT ROWID",
        "CREATE INDEX friend_asked ON friend (friend_id, at_ms) WHERE accepted = 0",
        "CREATE TABLE team (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, description TEXT NOT NULL,"
        " created_at_ms INTEGER NOT NULL)",
        "CREATE TABLE member (team_id INTEGER NOT NULL, user_id INTEGER NOT NULL, role INTEGER NOT NULL,"
        " joined_at_ms INTEGER NOT NULL, PRIMARY KEY (team_id, user_id)) WITHOUT ROWID",
        "CREATE INDEX member_user ON member (user_id, team_id)",
        "CREATE TABLE pair (id INTEGER PRIMARY KEY, low INTEGER NOT NULL, high INTEGER NOT NULL, UNIQUE (low, high))",
        "CREATE TABLE message (id INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, seq INTEGER NOT NULL,"
        " sender_id INTEGER NOT NULL, send_key INTEGER, fp TEXT NOT NULL, sent_at_ms INTEGER NOT NULL,"
        " qos INTEGER NOT NULL, typeu INTEGER NOT NULL, body TEXT NOT NULL)",
        "CREATE TABLE place (conversation INTEGER NOT NULL, seq INTEGER NOT NULL, id INTEGER NOT NULL,"
        " PRIMARY KEY (conversation, seq)) WITHOUT ROWID",
        "CREATE TABLE sent (send_key INTEGER PRIMARY KEY, id INTEGER NOT NULL)",
        "CREATE TABLE cursor (user_id INTEGER NOT NULL, conversation INTEGER NOT NULL, delivered INTEGER NOT NULL,"
        " seen INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (user_id, conversation)) WITHOUT ROWID",
        "CREATE TABLE request (send_key INTEGER PRIMARY KEY, sender_id INTEGER NOT NULL, fp TEXT NOT NULL,"
        " answer TEXT NOT NULL, at_ms INTEGER NOT NULL)",
        "CREATE INDEX request_at ON request (at_ms)",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('directory', '0')",
        "INSERT INTO meta VALUES ('merged', '0')",
    ),
    (
        "ALTER TABLE team ADD COLUMN members_version INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE member ADD COLUMN since_version INTEGER NOT NULL DEFAULT 1",
    ),
    (
        "ALTER TABLE message ADD COLUMN body_hash INTEGER",
        "ALTER TABLE request ADD COLUMN body_hash INTEGER",
    ),
    (
        "ALTER TABLE user ADD COLUMN skeleton_hash INTEGER",
        _fill_skeletons,
        "CREATE INDEX user_skeleton ON user (skeleton_hash)",
    ),
    (
        "CREATE TABLE known_source (user_id INTEGER NOT NULL, hidden TEXT NOT NULL, seen_day INTEGER NOT NULL,"
        " PRIMARY KEY (user_id, hidden)) WITHOUT ROWID",
    ),
    (
        "ALTER TABLE user ADD COLUMN credentials INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE user ADD COLUMN locked_at_ms INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE user ADD COLUMN lock_reason TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX user_credentials ON user (credentials) WHERE credentials > 0",
        "CREATE TABLE invite (id INTEGER PRIMARY KEY AUTOINCREMENT, code_hash TEXT NOT NULL UNIQUE,"
        " uses INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0, created_at_ms INTEGER NOT NULL,"
        " expires_at_ms INTEGER NOT NULL, revoked_at_ms INTEGER NOT NULL DEFAULT 0, note TEXT NOT NULL)",
        "INSERT INTO meta VALUES ('credentials', '0')",
        "INSERT INTO meta VALUES ('stand_in_key', '')",
    ),
    (
        "ALTER TABLE user ADD COLUMN may_write INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE user ADD COLUMN may_ask INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE user ADD COLUMN may_see INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE user ADD COLUMN may_add INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE block (user_id INTEGER NOT NULL, blocked_id INTEGER NOT NULL, at_ms INTEGER NOT NULL,"
        " PRIMARY KEY (user_id, blocked_id)) WITHOUT ROWID",
        "CREATE INDEX block_blocked ON block (blocked_id)",
        "CREATE TABLE refusal (user_id INTEGER NOT NULL, friend_id INTEGER NOT NULL, at_ms INTEGER NOT NULL,"
        " withdrawn INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (user_id, friend_id)) WITHOUT ROWID",
        "CREATE INDEX refusal_friend ON refusal (friend_id, at_ms)",
        "CREATE TABLE correspondent (user_id INTEGER NOT NULL, other_id INTEGER NOT NULL,"
        " PRIMARY KEY (user_id, other_id)) WITHOUT ROWID",
        "CREATE INDEX correspondent_other ON correspondent (other_id)",
        "INSERT INTO meta VALUES ('consent', '0')",
    ),
    (
        "ALTER TABLE team ADD COLUMN join_policy INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE team ADD COLUMN whole_history INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE team ADD COLUMN announcements INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE team ADD COLUMN member_count INTEGER NOT NULL DEFAULT 0",
        "UPDATE team SET member_count = (SELECT count(*) FROM member WHERE team_id = team.id)",
        "ALTER TABLE member ADD COLUMN muted_until_ms INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE member ADD COLUMN first_seq INTEGER NOT NULL DEFAULT 1",
        "CREATE TABLE ban (team_id INTEGER NOT NULL, user_id INTEGER NOT NULL, by_id INTEGER NOT NULL,"
        " at_ms INTEGER NOT NULL, PRIMARY KEY (team_id, user_id)) WITHOUT ROWID",
        "CREATE INDEX ban_user ON ban (user_id)",
        "CREATE TABLE admission (team_id INTEGER NOT NULL, user_id INTEGER NOT NULL, state INTEGER NOT NULL,"
        " by_id INTEGER NOT NULL, at_ms INTEGER NOT NULL, muted_until_ms INTEGER NOT NULL,"
        " PRIMARY KEY (team_id, user_id)) WITHOUT ROWID",
        "CREATE INDEX admission_user ON admission (user_id, state)",
    ),
    (
        "ALTER TABLE message ADD COLUMN state INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE message ADD COLUMN version INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE message ADD COLUMN meta TEXT",
        "ALTER TABLE cursor ADD COLUMN cleared INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE revision (conversation INTEGER NOT NULL, number INTEGER NOT NULL, seq INTEGER NOT NULL,"
        " by_id INTEGER NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (conversation, number)) WITHOUT ROWID",
        "CREATE TABLE hidden (user_id INTEGER NOT NULL, conversation INTEGER NOT NULL, seq INTEGER NOT NULL,"
        " PRIMARY KEY (user_id, conversation, seq)) WITHOUT ROWID",
        "CREATE TABLE mention (user_id INTEGER NOT NULL, conversation INTEGER NOT NULL, seq INTEGER NOT NULL,"
        " PRIMARY KEY (user_id, conversation, seq)) WITHOUT ROWID",
    ),
    (
        "CREATE TABLE erasure (user_id INTEGER PRIMARY KEY, position INTEGER NOT NULL, asked_at_ms INTEGER NOT NULL)",
        "INSERT INTO meta VALUES ('retained_private', '0')",
        "INSERT INTO meta VALUES ('retained_groups', '0')",
        "INSERT INTO meta VALUES ('retention_clock', '0')",
        "CREATE INDEX revision_seq ON revision (conversation, seq)",
        "CREATE INDEX hidden_place ON hidden (conversation, seq)",
        "CREATE INDEX mention_place ON mention (conversation, seq)",
        "CREATE TABLE dissolved (team_id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL)",
        _FIND_DISSOLVED,
        "INSERT OR IGNORE INTO dissolved SELECT DISTINCT -conversation, 0 FROM message"
        " WHERE id > (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'merged') AND conversation < 0"
        " AND -conversation NOT IN (SELECT id FROM team)",
    ),
    (
        "CREATE TABLE event (id INTEGER PRIMARY KEY AUTOINCREMENT, after_message INTEGER NOT NULL,"
        " at_ms INTEGER NOT NULL, kind TEXT NOT NULL, message_id INTEGER NOT NULL, details TEXT NOT NULL)",
        "CREATE TABLE webhook (name TEXT PRIMARY KEY, kinds TEXT NOT NULL, holder TEXT NOT NULL DEFAULT '',"
        " fence INTEGER NOT NULL DEFAULT 0, lease_until_ms INTEGER NOT NULL DEFAULT 0, message INTEGER NOT NULL,"
        " event INTEGER NOT NULL, claimed_message INTEGER NOT NULL, claimed_event INTEGER NOT NULL,"
        " created_at_ms INTEGER NOT NULL, seen_at_ms INTEGER NOT NULL, delivered INTEGER NOT NULL DEFAULT 0,"
        " delivered_at_ms INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0,"
        " failed_at_ms INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',"
        " disabled_at_ms INTEGER NOT NULL DEFAULT 0, replays INTEGER NOT NULL DEFAULT 0,"
        " dropped INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
    ),
    (
        "CREATE TABLE api_key (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL,"
        " secret_hash TEXT NOT NULL UNIQUE, scopes TEXT NOT NULL, created_by TEXT NOT NULL,"
        " created_at_ms INTEGER NOT NULL, expires_at_ms INTEGER NOT NULL, revoked_at_ms INTEGER NOT NULL DEFAULT 0,"
        " used_at_ms INTEGER NOT NULL DEFAULT 0)",
        "INSERT INTO meta VALUES ('api_keys', '0')",
    ),
    (
        "CREATE TABLE bridged (user_id INTEGER PRIMARY KEY, bridge TEXT NOT NULL, remote TEXT NOT NULL,"
        " heard_at_ms INTEGER NOT NULL, UNIQUE (bridge, remote))",
    ),
    (
        "CREATE TABLE file (id TEXT PRIMARY KEY, owner INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL,"
        " media_type TEXT NOT NULL, sha256 TEXT NOT NULL, blob TEXT NOT NULL DEFAULT '',"
        " width INTEGER NOT NULL DEFAULT 0, height INTEGER NOT NULL DEFAULT 0, state INTEGER NOT NULL DEFAULT 0,"
        " created_at_ms INTEGER NOT NULL, conversation INTEGER NOT NULL DEFAULT 0, seq INTEGER NOT NULL DEFAULT 0)"
        " WITHOUT ROWID",
        "CREATE INDEX file_owner ON file (owner, id, size)",
        "CREATE INDEX file_content ON file (sha256, state)",
        "CREATE INDEX file_waiting ON file (state, created_at_ms)",
        "CREATE INDEX file_place ON file (conversation, seq)",
        "CREATE TABLE doomed_blob (name TEXT PRIMARY KEY, due_ms INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('files', '0')",
    ),
    (
        "CREATE TABLE administrator (user_id INTEGER PRIMARY KEY, role TEXT NOT NULL, totp_secret TEXT NOT NULL,"
        " last_step INTEGER NOT NULL DEFAULT 0, created_by TEXT NOT NULL, created_at_ms INTEGER NOT NULL,"
        " used_at_ms INTEGER NOT NULL DEFAULT 0)",
        "CREATE TABLE admin_session (token_hash TEXT PRIMARY KEY, user_id INTEGER NOT NULL,"
        " credentials INTEGER NOT NULL, began_at_ms INTEGER NOT NULL, seen_at_ms INTEGER NOT NULL,"
        " ends_at_ms INTEGER NOT NULL, address TEXT NOT NULL) WITHOUT ROWID",
        "CREATE INDEX admin_session_user ON admin_session (user_id)",
    ),
    (
        "CREATE TABLE push_subscription (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER NOT NULL,"
        " place TEXT NOT NULL UNIQUE, gateway TEXT NOT NULL, endpoint TEXT NOT NULL, p256dh TEXT NOT NULL,"
        " auth TEXT NOT NULL, credentials INTEGER NOT NULL, created_at_ms INTEGER NOT NULL,"
        " worked_at_ms INTEGER NOT NULL DEFAULT 0, due_at_ms INTEGER NOT NULL DEFAULT 0,"
        " conversation INTEGER NOT NULL DEFAULT 0, seq INTEGER NOT NULL DEFAULT 0, waiting INTEGER NOT NULL DEFAULT 0,"
        " failures INTEGER NOT NULL DEFAULT 0)",
        "CREATE INDEX push_subscription_user ON push_subscription (user_id)",
        "CREATE INDEX push_subscription_due ON push_subscription (due_at_ms) WHERE due_at_ms > 0",
    ),
)

WORDS: tuple[str, ...] = (
    "accounts, friends, groups, conversations of two, messages, cursors, and answers to requests",
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
