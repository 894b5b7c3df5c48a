"""A store of schema 1 with data in it, and what must be true of it after it was brought up.

Owns: the rows, written as schema 1 had them, in SQL that both twins take; and `check`, for the newest schema.
"""

from __future__ import annotations

from chatd.errors import ErrorCode
from chatd.model import Role, User
from chatd.store.account_contract import NewInvite
from chatd.store.contract import FIRST_VERSION, Account, Stored, Tables, text_hash
from chatd.store.sql.send_keys import SendKeys
from tests.store.steps import ANY, done, join, make, refused, send, sent, to, to_group

ALICE, BOB, CAROL = User(1, "alice"), User(2, "bob"), User(3, "carol")
GROUP = 1
PAIR = 1
"""Carol's notes to herself."""
ROWS = (
    *(
        f"INSERT INTO user (id, name, name_key, password, created_at_ms, profile)"
        f" VALUES ({user.id}, '{user.name}', '{user.name}', 'hash of {user.name}', 1, '{{}}')"
        for user in (ALICE, BOB, CAROL)
    ),
    f"INSERT INTO team (id, name, description, created_at_ms) VALUES ({GROUP}, 'team', 'of old', 5)",
    f"INSERT INTO member VALUES ({GROUP}, 1, 1, 5), ({GROUP}, 2, 3, 6)",
    "INSERT INTO `cursor` (user_id, conversation, delivered) VALUES (1, -1, 1), (2, -1, 0)",
    "INSERT INTO message (id, conversation, seq, sender_id, fp, sent_at_ms, qos, typeu, body)"
    " VALUES (1, -1, 1, 1, '', 7, 0, -1, 'from before')",
    f"INSERT INTO pair (id, low, high) VALUES ({PAIR}, 3, 3)",
    "INSERT INTO message (id, conversation, seq, sender_id, send_key, fp, sent_at_ms, qos, typeu, body)"
    f" VALUES (2, {PAIR}, 1, 3, {SendKeys.first(3, 'fp')}, 'fp', 8, 0, -1, 'with an fp')",
    "INSERT INTO request (send_key, sender_id, fp, answer, at_ms)"
    f" VALUES ({SendKeys.first(2, 'fp')}, 2, 'fp', 'answered before', 9)",
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
    assert done(tables, lambda inside: inside.groups.kick(ALICE.id, GROUP, BOB.id, 1)) == first + 2
    assert tables.groups.members_among(GROUP, [1, 2, 3]) == (first + 2, {ALICE.id: first, CAROL.id: first + 1})
    last, outsider = send(tables, (CAROL, to_group(GROUP)), (BOB, to_group(GROUP)))
    assert isinstance(last, Stored)
    assert (last.message.seq, last.members_version, outsider) == (3, first + 2, ErrorCode.NOT_A_MEMBER)
    (dave,) = make(tables, "dave")
    assert sent(tables, dave, to(ALICE)).message.seq == 1
    _check_fps(tables)
    _check_credentials(tables)
    _check_names(tables)


def _check_fps(tables: Tables) -> None:
    """What was sent and asked before is known again; what an earlier request said is not."""
    again, other = send(tables, (CAROL, to(CAROL, "with an fp", "fp")), (CAROL, to(CAROL, "other", "fp")))
    assert isinstance(again, Stored)
    assert (again.fresh, again.message.seq, other) == (False, 1, ErrorCode.FP_REUSED)
    for body_hash in (None, text_hash("whatever")):
        assert tables.request_log.answered(BOB.id, "fp", body_hash) == "answered before"
    done(tables, lambda inside: inside.request_log.remember(BOB.id, "new", "answer", 10, text_hash("request")))
    assert tables.request_log.answered(BOB.id, "new", text_hash("request")) == "answer"
    refused(ErrorCode.FP_REUSED, tables, lambda inside: inside.request_log.answered(BOB.id, "new", text_hash("other")))


def _check_credentials(tables: Tables) -> None:
    """Passwords are kept, nobody is locked, there is no invite, and changes count from the first version."""
    for user in (ALICE, BOB, CAROL):
        assert tables.accounts.find("", user.id) == Account(user, f"hash of {user.name}", 0, 0)
        assert tables.accounts.details(user.id).lock_reason == ""
    assert (tables.accounts.newest_credentials(), tables.accounts.changed_credentials(0, ANY)) == (0, [])
    assert done(tables, lambda inside: inside.accounts.set_password(BOB.id, "new", 0)) == 1
    assert done(tables, lambda inside: inside.accounts.lock(ALICE.id, "spam", 20)) == 2
    assert tables.accounts.changed_credentials(0, ANY) == [(BOB.id, 1), (ALICE.id, 2)]
    assert tables.accounts.find("alice", 0) == Account(ALICE, "hash of alice", 2, 20)
    assert tables.accounts.find("bob", 0) == Account(BOB, "new", 1, 0)
    assert tables.accounts.details(ALICE.id).lock_reason == "spam"
    assert tables.invites.all() == []
    done(tables, lambda inside: inside.invites.add(NewInvite("of a code", 2, 100, "for dave"), 30))
    found = done(tables, lambda inside: inside.invites.check("of a code", 40))
    done(tables, lambda inside: inside.invites.use(found))
    (invite,) = tables.invites.all()
    assert (invite.uses, invite.used, invite.revoked_at_ms, invite.note) == (2, 1, 0, "for dave")


def _check_names(tables: Tables) -> None:
    """Names from before are compared with new ones, except those of deleted accounts."""
    for name in ("car0l", "\u0441arol", "aIice", "b\u043eb"):
        refused(ErrorCode.NAME_TAKEN, tables, lambda inside, name=name: inside.accounts.create(name, "", 1))
    done(tables, lambda inside: inside.accounts.delete(CAROL.id))
    make(tables, "car0l")
