"""A store of schema 1 with data in it, and what must be true of it after it was brought up.

Owns: the rows, written as schema 1 had them, in SQL that both twins take; and `check`, for the newest schema.
"""

from __future__ import annotations

from chatd.errors import ErrorCode
from chatd.model import Role, User
from chatd.store.contract import FIRST_VERSION, Stored, Tables
from tests.store.steps import ANY, done, join, make, send, sent, to, to_group

ALICE, BOB, CAROL = User(1, "alice"), User(2, "bob"), User(3, "carol")
GROUP = 1
ROWS = (
    *(
        f"INSERT INTO user (id, name, name_key, password, created_at_ms, profile)"
        f" VALUES ({user.id}, '{user.name}', '{user.name}', '', 1, '{{}}')"
        for user in (ALICE, BOB, CAROL)
    ),
    f"INSERT INTO team (id, name, description, created_at_ms) VALUES ({GROUP}, 'team', 'of old', 5)",
    f"INSERT INTO member VALUES ({GROUP}, 1, 1, 5), ({GROUP}, 2, 3, 6)",
    "INSERT INTO `cursor` (user_id, conversation, delivered) VALUES (1, -1, 1), (2, -1, 0)",
    "INSERT INTO message (id, conversation, seq, sender_id, fp, sent_at_ms, qos, typeu, body)"
    " VALUES (1, -1, 1, 1, '', 7, 0, -1, 'from before')",
)


def check(tables: Tables) -> None:
    """Everything is there, everybody's membership has the first version, and changes count from there."""
    assert [name for _, name, _ in tables.accounts.all()] == ["alice", "bob", "carol"]
    (row,) = tables.groups.of(BOB.id, ANY)
    assert (row.group.name, row.group.description) == ("team", "of old")
    assert row.members == [(ALICE, Role.OWNER), (BOB, Role.MEMBER)]
    first = FIRST_VERSION
    assert tables.groups.members_among(GROUP, [1, 2, 3]) == (first, {ALICE.id: first, BOB.id: first})
    assert [message.body for message in tables.history.waiting(BOB.id, ANY).messages] == ["from before"]
    assert sent(tables, ALICE, to_group(GROUP)).members_version == first
    join(tables, CAROL, GROUP)
    assert done(tables, lambda inside: inside.groups.kick(ALICE.id, GROUP, BOB.id)) == first + 2
    assert tables.groups.members_among(GROUP, [1, 2, 3]) == (first + 2, {ALICE.id: first, CAROL.id: first + 1})
    last, refused = send(tables, (CAROL, to_group(GROUP)), (BOB, to_group(GROUP)))
    assert isinstance(last, Stored)
    assert (last.message.seq, last.members_version, refused) == (3, first + 2, ErrorCode.NOT_A_MEMBER)
    (dave,) = make(tables, "dave")
    assert sent(tables, dave, to(ALICE)).message.seq == 1
