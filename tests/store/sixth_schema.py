"""A store as chatd left it at schema 6, and what must be true of it after it was migrated.

Owns: unpacking the stores of schema_6/ (which says how they were made), SAID, what chatd said about them then, and the
checks, for the newest schema.
"""

from __future__ import annotations

import json
import lzma
import subprocess
from pathlib import Path
from typing import Any

from chatd.errors import ErrorCode
from chatd.model import Group, Role, User
from chatd.store.contract import Stored, Tables, text_hash
from chatd.store.copy import TABLES, Row
from tests.harness.mariadb import PASSWORD, USER, MariaDB
from tests.store.schema_6.make import NAMES, NOW_MS, short
from tests.store.steps import ANY, done, join, make, refused, send, sent, team, to, to_group

FOLDER = Path(__file__).parent / "schema_6"
VERSION = 6
SAID: dict[str, Any] = json.loads((FOLDER / "said.json").read_text())
ALICE, BOB, ASA, DAVE, ERIN, FRANK = (User(number, name) for number, name in enumerate(NAMES[:6], 1))
LUNCH, HANDED_OVER, ENDED = 1, 2, 3
MANY = 100_000
COUNTED = {"team.member_count"}
"""New columns that a migration fills from what is there."""
FOUND = {"dissolved": [(ENDED, 0)]}
"""Rows of new tables that a migration makes of what is there."""


def unpack_sqlite(path: Path) -> None:
    path.write_bytes(lzma.decompress((FOLDER / "sqlite.db.xz").read_bytes()))


def unpack_mysql(server: MariaDB) -> str:
    """Returns the URL of a new database."""
    name = server.database()
    command = [
        "mariadb",
        "--no-defaults",
        f"--socket={server.socket}",
        f"--user={USER}",
        f"--password={PASSWORD}",
        name,
    ]
    subprocess.run(command, input=lzma.decompress((FOLDER / "mysql.sql.xz").read_bytes()), check=True, timeout=60)
    return server.url(name)


def read(tables: Tables) -> dict[str, Any]:
    """The same questions as schema_6.make.read()."""
    return {
        "accounts": [list(account) for account in tables.accounts.all()],
        "invites": [list(invite) for invite in tables.invites.all()],
        "users": {str(user_id): _user(tables, user_id) for user_id in range(1, len(NAMES))},
    }


def _user(tables: Tables, user_id: int) -> dict[str, Any]:
    account = tables.accounts.find("", user_id)
    assert account is not None
    details = tables.accounts.details(user_id)
    waiting = tables.history.waiting(user_id, MANY)
    heads = tables.history.heads(user_id, -MANY, MANY)
    return {
        "account": [account.user.name, account.password, account.credentials, account.locked_at_ms],
        "details": [
            details.created_at_ms, details.seen_at_ms, details.locked_at_ms, details.lock_reason, details.friends,
            details.groups,
        ],
        "profile": tables.accounts.profile(user_id),
        "known sources": [list(source) for source in tables.known_sources.of(user_id)],
        "friends": [user.name for user in tables.friends.of(user_id)],
        "asked by": [request.sender.name for request in tables.friends.requests_to(user_id)],
        "groups": [
            [*_about(row.group), [[user.name, int(role)] for user, role in row.members]]
            for row in tables.groups.of(user_id, ANY)
        ],
        "memberships": [list(one)[:4] for one in tables.groups.memberships([user_id])],
        "heads": [[head.conversation, head.other.name, head.last, head.delivered, head.seen] for head in heads],
        "waiting": short([[one.conversation, one.seq, one.sender_name, one.body] for one in waiting.messages]),
        "history": {
            str(head.conversation): short(
                [
                    [one.seq, one.sender_name, one.body, one.fp, one.sent_at_ms]
                    for one in tables.history.messages(user_id, head.conversation, 0, 0, MANY)
                ]
            )
            for head in heads
        },
    }  # fmt: skip


def _about(group: Group) -> list[Any]:
    return [group.id, group.name, group.description]


def check_columns(
    before: dict[str, dict[str, object]], after: dict[str, dict[str, object]], rows: dict[str, list[Row]]
) -> None:
    """before, after: the columns of every table, with their defaults. In every row a new column says nothing yet."""
    for table in TABLES:
        for place, column in enumerate(table.columns):
            if table.name in before and column not in before[table.name] and f"{table.name}.{column}" not in COUNTED:
                found = {row[place] for row in rows[table.name]}
                assert found <= {after[table.name][column]}, f"{table.name}.{column}"
        if table.name not in before:
            assert rows[table.name] == FOUND.get(table.name, []), table.name
    columns = next(table.columns for table in TABLES if table.name == "team")
    counts = {row[0]: row[columns.index("member_count")] for row in rows["team"]}
    members = [row[0] for row in rows["member"]]
    assert counts == {group: members.count(group) for group in counts} == {LUNCH: 4, HANDED_OVER: 2}


def check(tables: Tables) -> None:
    """Everything that was said is still said, and everybody goes on from there."""
    assert read(tables) == SAID
    _check_messages(tables)
    _check_groups(tables)
    _check_people(tables)


def _check_messages(tables: Tables) -> None:
    """Numbers go on, and what was sent and asked before is known again."""
    again, other, fresh, note = send(
        tables, (BOB, to_group(LUNCH, "1", "l1")), (BOB, to_group(LUNCH, "other", "l1")),
        (ALICE, to(BOB, "next", "a2")), (ASA, to(ASA, "😀 \0 'quotes' \" \\", "notes")),
    )  # fmt: skip
    assert isinstance(again, Stored)
    assert isinstance(fresh, Stored)
    assert isinstance(note, Stored)
    assert (again.fresh, again.message.seq, again.message.sent_at_ms) == (False, 2, NOW_MS)
    assert (other, fresh.message.seq, note.fresh, note.message.body[2]) == (ErrorCode.FP_REUSED, 4, False, "\0")
    assert tables.request_log.answered(ALICE.id, "r1", text_hash("a request")) == '{"ok":true}'
    assert sent(tables, FRANK, to(DAVE)).message.conversation == 4


def _check_groups(tables: Tables) -> None:
    """They are open: who knows the number joins. Their members write, run them, and read what they could."""
    heard = sent(tables, ALICE, to_group(LUNCH, "as ever"))
    assert heard.message.seq == 8595
    refused(ErrorCode.NOT_A_MEMBER, tables, lambda inside: inside.groups.role(LUNCH, DAVE.id))
    join(tables, DAVE, LUNCH)
    (row,) = [row for row in tables.groups.of(DAVE.id, ANY) if row.group.id == LUNCH]
    assert row.members == [
        (ALICE, Role.OWNER), (BOB, Role.ADMIN), (ASA, Role.MEMBER), (DAVE, Role.MEMBER), (ERIN, Role.MEMBER),
    ]  # fmt: skip
    assert done(tables, lambda inside: inside.groups.kick(BOB.id, LUNCH, ERIN.id, 1)) == heard.members_version + 2
    done(tables, lambda inside: inside.groups.rename(BOB.id, LUNCH, "dinner", None, 0))
    done(tables, lambda inside: inside.groups.set_role(ASA.id, HANDED_OVER, FRANK.id, Role.OWNER))
    for reader in (ALICE, BOB, ASA):
        found = tables.history.messages(reader.id, -LUNCH, 0, 0, MANY)
        assert [message.seq for message in found] == list(range(1, 8596))
    assert team(tables, BOB) == ENDED + 1


def _check_people(tables: Tables) -> None:
    (newcomer,) = make(tables, "newcomer")
    assert newcomer.id == len(NAMES) + 1
    refused(ErrorCode.NAME_TAKEN, tables, lambda inside: inside.accounts.create("a1ice", "", 1))
    make(tables, "gone")
    done(tables, lambda inside: inside.friends.answer(ALICE.id, DAVE.id, True, ANY, 1))
    assert [user.name for user in tables.friends.of(ALICE.id)] == ["bob", "dave"]
    assert done(tables, lambda inside: inside.accounts.set_password(ERIN.id, "new")) == 4
    found = done(tables, lambda inside: inside.invites.check("hash of a code", NOW_MS))
    done(tables, lambda inside: inside.invites.use(found))
    assert [invite.used for invite in tables.invites.all()] == [2, 0]
