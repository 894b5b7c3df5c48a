"""Made the two stores and `said.json` in this directory. It ran with chatd as it was at schema 6, and is kept to show
what is in them; a later chatd has other methods.

    python make.py sqlite:FILE | python make.py mysql://…    fills an empty store and prints what the store then says

Owns: fill() and read(). Elsewhere: what must be true of such a store after it was migrated (tests.store.sixth_schema).
Fails: with the first thing that is not so.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from chatd.config.urls import parse_mysql
from chatd.model import Role
from chatd.protocol import SendMessage
from chatd.store.contract import Advance, Draft, KnownSource, NewInvite, Tables, text_hash

NAMES = ("alice", "bob", "Äsa", "dave", "erin", "frank", "locked", "gone")
NOW_MS = 1_700_000_000_000
ANY = 10_000
MANY = 20
ROWS = 8192 + 400
"""Messages of one group, so many that SQLite is indexing the first ones and has yet to begin with the others."""


def fill(tables: Tables) -> None:
    def done(work: Any) -> Any:
        tables.begin()
        value = work()
        tables.commit()
        return value

    accounts, friends, groups = tables.accounts, tables.friends, tables.groups
    alice, bob, asa, dave, erin, frank, locked, gone = [
        done(lambda name=name, at=at: accounts.create(name, f"hash of {name}", NOW_MS + at))
        for at, name in enumerate(NAMES)
    ]
    done(lambda: accounts.set_profile(asa.id, {"nick": 'Å "quoted" \\ \n', "email": "asa@example.org"}))
    done(lambda: accounts.set_password(bob.id, "newer hash of bob"))
    done(lambda: accounts.lock(locked.id, "spam", NOW_MS + 50))
    done(lambda: tables.update_last_seen([(alice.id, NOW_MS + 60)]))
    done(lambda: tables.known_sources.remember(alice.id, KnownSource("aa11", 19_000)))
    done(lambda: tables.known_sources.remember(bob.id, KnownSource("bb22", 19_001)))
    done(lambda: tables.invites.add(NewInvite("hash of a code", 3, NOW_MS + 10**9, "for grace"), NOW_MS))
    done(lambda: tables.invites.use(tables.invites.check("hash of a code", NOW_MS + 1)))
    done(lambda: tables.invites.add(NewInvite("hash of another", 1, NOW_MS + 10**9, ""), NOW_MS))
    done(lambda: tables.invites.revoke(2, NOW_MS + 2))
    for one, other in ((alice, bob), (asa, bob), (alice, gone)):
        done(lambda one=one, other=other: friends.request(one, other.id, ANY, NOW_MS))
        done(lambda one=one, other=other: friends.answer(other.id, one.id, True, ANY, NOW_MS + 1))
    done(lambda: friends.request(dave, alice.id, ANY, NOW_MS + 2))
    done(lambda: friends.request(erin, alice.id, ANY, NOW_MS + 3))

    def group(owner: Any, name: str, *members: Any) -> int:
        number = done(lambda: groups.create(owner.id, name, f"about {name}", ANY, NOW_MS))
        for member in members:
            done(lambda member=member: groups.join(member.id, number, ANY, ANY, NOW_MS + 1))
        return int(number)

    def send(sender: Any, body: str, *, to: Any = None, team: int = 0, fp: str = "", **more: Any) -> None:
        command = SendMessage("", to.id if to else 0, team, body, fp, more.get("qos", False))
        done(lambda: tables.append([Draft(sender, command, more.get("body_hash"))], NOW_MS + 100))

    lunch = group(alice, "lunch", bob, asa, dave)
    done(lambda: groups.set_role(alice.id, lunch, bob.id, Role.ADMIN))
    for at in range(0, ROWS, 128):
        numbers = range(at, min(ROWS, at + 128))
        batch = [
            Draft((alice, bob, asa, dave)[n % 4], SendMessage("", 0, lunch, f"{n}", f"l{n}", False)) for n in numbers
        ]
        done(lambda batch=batch, at=at: tables.append(batch, NOW_MS + at))
    done(lambda: groups.join(erin.id, lunch, ANY, ANY, NOW_MS + 5))
    send(alice, "welcome, erin", team=lunch)
    done(lambda: groups.kick(bob.id, lunch, dave.id))
    send(erin, "thanks", team=lunch, fp="e1", qos=True)
    handed = group(gone, "handed over", frank, asa)
    send(gone, "before I go", team=handed)
    done(lambda: groups.leave(gone.id, handed))
    empty = group(frank, "ended")
    send(frank, "to nobody", team=empty)
    done(lambda: groups.leave(frank.id, empty))
    send(alice, "hello bob", to=bob, fp="a1", qos=True)
    send(bob, "hello alice", to=alice, fp="b1")
    send(bob, "changed by a plug-in", to=alice, fp="b2", body_hash=text_hash("as bob sent it"))
    send(asa, "😀 \0 'quotes' \" \\", to=asa, fp="notes")
    send(gone, "from one who is gone", to=bob, fp="g1")
    done(lambda: tables.advance([Advance(bob.id, -lunch, 5), Advance(bob.id, 1, 1), Advance(asa.id, -lunch, 2)]))
    done(lambda: tables.history.mark_seen(bob.id, -lunch, 3))
    done(lambda: tables.request_log.remember(alice.id, "r1", '{"ok":true}', NOW_MS, text_hash("a request")))
    done(lambda: accounts.delete(gone.id))


def read(tables: Tables) -> dict[str, Any]:
    """What each user is told by the store."""
    return {
        "accounts": tables.accounts.all(),
        "invites": [list(invite) for invite in tables.invites.all()],
        "users": {str(user_id): _user(tables, user_id) for user_id in range(1, len(NAMES))},
    }


def _user(tables: Tables, user_id: int) -> dict[str, Any]:
    account = tables.accounts.find("", user_id)
    assert account is not None
    waiting = tables.history.waiting(user_id, ANY)
    heads = tables.history.heads(user_id, -ANY, ANY)
    return {
        "account": [account.user.name, account.password, account.credentials, account.locked_at_ms],
        "details": list(tables.accounts.details(user_id)),
        "profile": tables.accounts.profile(user_id),
        "known sources": [list(source) for source in tables.known_sources.of(user_id)],
        "friends": [user.name for user in tables.friends.of(user_id)],
        "asked by": [request.sender.name for request in tables.friends.requests_to(user_id)],
        "groups": [
            [
                row.group.id,
                row.group.name,
                row.group.description,
                [[user.name, int(role)] for user, role in row.members],
            ]
            for row in tables.groups.of(user_id, ANY)
        ],
        "memberships": [list(one) for one in tables.groups.memberships([user_id])],
        "heads": [[head.conversation, head.other.name, head.last, head.delivered, head.seen] for head in heads],
        "waiting": short([[one.conversation, one.seq, one.sender_name, one.body] for one in waiting.messages]),
        "history": {
            str(head.conversation): short(
                [
                    [one.seq, one.sender_name, one.body, one.fp, one.sent_at_ms]
                    for one in tables.history.messages(head.conversation, 0, 0, ANY)
                ]
            )
            for head in heads
        },
    }


def short(rows: list[Any]) -> list[Any]:
    """Many rows as their number, the first, the last, and a hash of all."""
    if len(rows) < MANY:
        return rows
    return [len(rows), rows[0], rows[-1], sha256(json.dumps(rows).encode()).hexdigest()]


if __name__ == "__main__":
    if sys.argv[1].startswith("sqlite:"):
        from chatd.store.sqlite.tables import open_tables as open_sqlite

        made: Tables = open_sqlite(Path(sys.argv[1].removeprefix("sqlite:")), create=True)
    else:
        from chatd.store.mysql.tables import open_tables as open_mysql

        made = open_mysql(parse_mysql(sys.argv[1]), 20.0, create=True)
    fill(made)
    json.dump(read(made), sys.stdout, ensure_ascii=False, indent=1, sort_keys=True)
    made.close()
