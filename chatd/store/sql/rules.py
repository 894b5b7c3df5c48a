"""What must be true of the rows of every store, in the SQL of both twins; for `chatctl verify`.

Owns: RULES, each a query that gives the rows that break it.
Elsewhere: rules about what only one twin keeps (store.sqlite.check, store.mysql.check), running them (store.check).
Fails: never.

Rules hold between transactions, in every store that chatd has written, imported or migrated. A message that retention
could not delete stays without its text (MessageState.EXPIRED), and there may be gaps around it.
"""

from __future__ import annotations

from typing import NamedTuple

from chatd.model import SYSTEM, MessageState, Role
from chatd.store.file_contract import FileState
from chatd.store.sql import administrators


class Rule(NamedTuple):
    """meaning: what is true, for the operator. broken: a SELECT of the rows for which it is not; its columns are shown
    as examples."""

    meaning: str
    broken: str


_LAST = "SELECT conversation, max(seq) AS last FROM message GROUP BY conversation"
_NO_CONVERSATION = (
    "(({0} > 0 AND NOT EXISTS (SELECT 1 FROM pair WHERE pair.id = {0})) OR ({0} < 0"
    " AND NOT EXISTS (SELECT 1 FROM team WHERE team.id = -{0})"
    " AND NOT EXISTS (SELECT 1 FROM dissolved WHERE dissolved.team_id = -{0})))"
)
"""For format(): the conversation in this column does not exist."""
_RETAINED = "(SELECT count(*) FROM meta WHERE `key` IN ('retained_private', 'retained_groups') AND value <> '0')"


def _no_user(*columns: tuple[str, str]) -> str:
    """Rows of these tables whose column names no account. A deleted account keeps its row."""
    return " UNION ALL ".join(
        f"SELECT '{table}.{column}' AS place, {column} AS id FROM `{table}` AS t"
        f" WHERE NOT EXISTS (SELECT 1 FROM user WHERE user.id = t.{column})"
        for table, column in columns
    )


def _no_team(*tables: str) -> str:
    return " UNION ALL ".join(
        f"SELECT '{table}.team_id' AS place, team_id AS id FROM `{table}` AS t"
        " WHERE NOT EXISTS (SELECT 1 FROM team WHERE team.id = t.team_id)"
        for table in tables
    )


RULES = (
    Rule(
        "the messages of each conversation are numbered without gaps",
        "SELECT conversation, count(*) AS messages, min(seq) AS first, max(seq) AS last FROM message"
        f" WHERE state <> {int(MessageState.EXPIRED)} GROUP BY conversation"
        " HAVING count(*) <> max(seq) - min(seq) + 1 OR count(DISTINCT seq) <> count(*)",
    ),
    Rule(
        "they begin with 1, unless old ones were deleted",
        "SELECT conversation, min(seq) AS first FROM message AS m"
        " WHERE NOT EXISTS (SELECT 1 FROM dissolved WHERE dissolved.team_id = -m.conversation)"
        f" GROUP BY conversation HAVING min(seq) < 1 OR (min(seq) > 1 AND 0 = {_RETAINED})",
    ),
    Rule(
        "every message belongs to a conversation, and has a sender",
        f"SELECT DISTINCT 'conversation' AS what, conversation AS id FROM message AS m"
        f" WHERE {_NO_CONVERSATION.format('m.conversation')} UNION ALL SELECT DISTINCT 'sender', sender_id"
        " FROM message AS m WHERE NOT EXISTS (SELECT 1 FROM user WHERE user.id = m.sender_id)"
        f" AND m.sender_id <> {SYSTEM.id}",
    ),
    Rule(
        "no cursor is beyond the last message of its conversation",
        "SELECT c.user_id, c.conversation, c.delivered, c.seen, c.cleared, t.last FROM `cursor` AS c"
        f" LEFT JOIN ({_LAST}) AS t ON t.conversation = c.conversation"
        " WHERE (c.conversation > 0 OR EXISTS (SELECT 1 FROM team WHERE team.id = -c.conversation))"
        " AND (c.delivered > COALESCE(t.last, 0) OR c.seen > COALESCE(t.last, 0) OR c.cleared > COALESCE(t.last, 0)"
        " OR c.delivered < 0 OR c.seen < 0 OR c.cleared < 0)",
    ),
    Rule(
        "every conversation of two has two accounts, or one and the system, in their order",
        "SELECT 'order' AS place, id FROM pair WHERE low > high UNION ALL "
        + _no_user(("pair", "high"), ("pair", "low"))
        + f" AND t.low <> {SYSTEM.id}",
    ),
    Rule(
        "every member, ban, invitation and request to join belongs to an account and a group",
        _no_user(("member", "user_id"), ("ban", "user_id"), ("admission", "user_id"))
        + " UNION ALL "
        + _no_team("member", "ban", "admission"),
    ),
    Rule(
        "every group has one owner, and counts its members rightly",
        "SELECT t.id, t.member_count, count(m.user_id) AS members,"
        f" sum(CASE WHEN m.role = {int(Role.OWNER)} THEN 1 ELSE 0 END) AS owners"
        " FROM team AS t LEFT JOIN member AS m ON m.team_id = t.id GROUP BY t.id, t.member_count"
        f" HAVING t.member_count <> count(m.user_id)"
        f" OR sum(CASE WHEN m.role = {int(Role.OWNER)} THEN 1 ELSE 0 END) <> 1",
    ),
    Rule(
        "friends are friends of each other",
        "SELECT f.user_id, f.friend_id FROM friend AS f WHERE f.accepted = 1 AND NOT EXISTS (SELECT 1 FROM friend AS g"
        " WHERE g.user_id = f.friend_id AND g.friend_id = f.user_id AND g.accepted = 1)",
    ),
    Rule(
        "friends, blocks, refusals, correspondents, known sources and subscriptions belong to accounts",
        _no_user(
            *(("friend", "user_id"), ("friend", "friend_id"), ("block", "user_id"), ("block", "blocked_id")),
            *(("refusal", "user_id"), ("refusal", "friend_id"), ("correspondent", "user_id")),
            *(("correspondent", "other_id"), ("known_source", "user_id"), ("cursor", "user_id")),
            ("push_subscription", "user_id"),
        ),
    ),
    Rule(
        "every file belongs to an account, and every sent one to a message that has its text",
        _no_user(("file", "owner")) + f" AND t.owner <> {SYSTEM.id} UNION ALL SELECT 'file.seq', f.seq FROM file AS f"
        f" WHERE f.state = {int(FileState.SENT)} AND NOT EXISTS (SELECT 1 FROM message AS m"
        f" WHERE m.conversation = f.conversation AND m.seq = f.seq AND m.state <= {int(MessageState.EDITED)})",
    ),
    Rule(
        "files that are complete have content, and no others",
        "SELECT f.id, f.state FROM file AS f"
        f" WHERE (f.state > {int(FileState.UPLOADING)}) <> (f.`blob` <> '') OR f.state > {int(FileState.SENT)}",
    ),
    Rule(
        "revisions, mentions and removed messages belong to conversations",
        " UNION ALL ".join(
            f"SELECT DISTINCT '{table}' AS place, conversation AS id FROM {table} AS t"
            f" WHERE {_NO_CONVERSATION.format('t.conversation')}"
            for table in ("revision", "mention", "hidden")
        ),
    ),
    Rule(
        "users of bridges have accounts, which are locked",
        _no_user(("bridged", "user_id")) + " UNION ALL SELECT"
        " 'locked' AS place, id FROM user WHERE locked_at_ms = 0 AND id IN (SELECT user_id FROM bridged)",
    ),
    Rule(
        "administrators, and sessions on the operator's page, belong to accounts",
        _no_user(*((table, "user_id") for table in administrators.TABLES)),
    ),
    Rule("no invite code was used more often than it may be", "SELECT id, uses, used FROM invite WHERE used > uses"),
)
