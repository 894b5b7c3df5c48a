"""`chatctl verify`: sound stores of both twins are called sound, and every damage is found, by its rule alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.address_bans import AddressBan
from chatd.model import User
from chatd.store.check import CheckResult, check
from chatd.store.contract import Kind, NewInvite, Tables
from chatd.store.mysql.connection import MysqlConnection
from chatd.store.open import StoreLocation, open_check
from chatd.store.sqlite import file as sqlite_file
from tests.harness.mariadb import MariaDB
from tests.store.contract_files import begin as begin_file
from tests.store.contract_files import new, uploaded, with_files
from tests.store.steps import ASKING, advance, done, make, send, sent, team, to, to_group
from tests.store.test_copy import MysqlPlace, SqlitePlace

DAY_MS = 24 * 3600 * 1000


def quiet(_what: str, _more: int, _total: int) -> None:
    """Nobody watches."""


class Place:
    """A store of one twin, and any statement on it."""

    def __init__(self, twin: str, path: Path, server: MariaDB) -> None:
        self.twin = twin
        self.made = SqlitePlace(path / "chatd.db") if twin == "sqlite" else MysqlPlace(server)

    def tables(self) -> Tables:
        return self.made.tables()

    def run(self, statement: str) -> None:
        if isinstance(self.made, SqlitePlace):
            with sqlite_file.opening(self.made.path, create=False, exclusive=False) as file:
                file.db.execute(statement)
            file.close()
            return
        db = MysqlConnection(self.made.address, 20.0)
        db.execute(statement)
        db.discard()

    def check(self) -> CheckResult:
        if isinstance(self.made, SqlitePlace):
            location = StoreLocation(path=self.made.path)
        else:
            location = StoreLocation(mysql=self.made.address)
        with open_check(location) as store:
            return check(store, quiet)


@pytest.fixture(params=["sqlite", "mysql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, mariadb: MariaDB) -> Place:
    return Place(request.param, tmp_path, mariadb)


def populate(tables: Tables) -> None:
    """Of everything that a rule is about."""
    alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
    for number in range(4):
        sent(tables, alice, to(bob, f"m{number}", f"fp{number}", qos=True))
    lunch, tennis = team(tables, alice, bob, carol), team(tables, bob, dave)
    for number in range(3):
        sent(tables, bob, to_group(lunch, f"g{number}", f"gfp{number}"))
    sent(tables, dave, to_group(tennis, "over"))
    sent(tables, bob, with_files(to_group(lunch), uploaded(tables, bob)))
    begin_file(tables, new(alice, "half"))
    advance(tables, bob, 1, 2)
    done(tables, lambda inside: inside.friends.request(alice, carol.id, ASKING, 1))
    done(tables, lambda inside: inside.friends.request(carol, alice.id, ASKING, 2))
    done(tables, lambda inside: inside.friends.request(alice, dave.id, ASKING, 1))
    done(tables, lambda inside: inside.groups.dissolve(bob.id, tennis))
    done(tables, lambda inside: inside.accounts.delete(dave.id))
    done(tables, lambda inside: inside.invites.add(NewInvite("hash", 2, 10, ""), 1))
    done(tables, lambda inside: inside.address_bans.add(AddressBan(network="192.0.2.0/24"), 1))


@pytest.fixture
def full(place: Place) -> Place:
    tables = place.tables()
    populate(tables)
    tables.close()
    return place


def broken(result: CheckResult) -> list[str]:
    return [finding.meaning for finding in result.findings if finding.rows]


def test_an_empty_store_and_a_full_one_are_sound(place: Place) -> None:
    tables = place.tables()
    assert (place.check().sound, place.check().counts) == (True, {"user": 0, "team": 0, "message": 0})
    populate(tables)
    result = place.check()
    assert (broken(result), result.sound) == ([], True), "while it is open elsewhere"
    assert result.counts == {"user": 4, "team": 1, "message": 9}
    tables.close()
    assert place.check().sound


def test_what_retention_leaves_is_sound(full: Place) -> None:
    tables = full.tables()
    for kind in Kind:
        while done(tables, lambda inside, kind=kind: inside.retention.expire(kind, DAY_MS, DAY_MS, 3)).more:  # type: ignore[misc]
            assert broken(full.check()) == []
    while done(tables, lambda inside: inside.retention.expire_dissolved(3 * DAY_MS, 2 * DAY_MS, 3)).more:
        assert broken(full.check()) == []
    assert full.check().sound
    (alice, bob) = (User(1, "alice"), User(2, "bob"))
    send(tables, (alice, to(bob, "goes on")), now_ms=2 * DAY_MS)
    assert full.check().sound
    tables.close()


DAMAGE = {
    "numbered without gaps": "DELETE FROM message WHERE conversation = 1 AND seq = 2",
    "begin with 1": "UPDATE message SET seq = seq + 5 WHERE conversation = 1",
    "belongs to a conversation": "UPDATE message SET sender_id = 99 WHERE conversation = 1 AND seq = 1",
    "no cursor is beyond": "UPDATE `cursor` SET delivered = 5 WHERE user_id = 2 AND conversation = 1",
    "conversation of two": "UPDATE pair SET high = 99 WHERE id = 1",
    "every member, ban": "INSERT INTO ban (team_id, user_id, by_id, at_ms) VALUES (1, 99, 1, 1)",
    "one owner": "UPDATE team SET member_count = 9 WHERE id = 1",
    "friends of each other": "DELETE FROM friend WHERE user_id = 1 AND accepted = 1",
    "belong to accounts": "INSERT INTO block (user_id, blocked_id, at_ms) VALUES (1, 99, 1)",
    "every file belongs": "UPDATE file SET seq = 77 WHERE seq > 0",
    "complete have content": "UPDATE file SET `blob` = '' WHERE seq > 0",
    "belong to conversations": "INSERT INTO mention (user_id, conversation, seq) VALUES (1, 77, 1)",
    "invite code": "UPDATE invite SET used = 3",
}
"""By words of the rule that finds it."""
OF_SQLITE = {
    "found by its number": "DELETE FROM place WHERE conversation = 1 AND seq = 1",
    "found by the fp": "DELETE FROM sent WHERE id = 1",
    "names no message": "INSERT INTO sent VALUES (12345, 999)",
}
OF_MYSQL = {
    "last number of each": "UPDATE conversation SET last = 9 WHERE id = 1",
    "has a last number": "DELETE FROM conversation WHERE id = 1",
}
FOLLOWS = {
    "numbered without gaps": {"names no message"},
    "begin with 1": {"found by its number", "last number of each"},
}
"""Rules that are broken with another one."""


@pytest.mark.parametrize("words", [*DAMAGE, *OF_SQLITE, *OF_MYSQL])
def test_every_damage_is_found_by_its_rule(full: Place, words: str) -> None:
    own = OF_SQLITE if full.twin == "sqlite" else OF_MYSQL
    statement = (DAMAGE | own).get(words)
    if statement is None:
        pytest.skip("of the other twin")
    if full.twin == "sqlite":  # everything is indexed
        full.run("INSERT OR IGNORE INTO place SELECT conversation, seq, id FROM message")
        full.run("INSERT OR IGNORE INTO sent SELECT send_key, id FROM message WHERE send_key IS NOT NULL")
        full.run("UPDATE meta SET value = (SELECT max(id) FROM message) WHERE key = 'merged'")
        assert broken(full.check()) == []
    full.run(statement)
    result = full.check()
    found = broken(result)
    assert [meaning for meaning in found if words in meaning], found
    others = [meaning for meaning in found if words not in meaning]
    assert all(any(more in meaning for more in FOLLOWS.get(words, ())) for meaning in others), found
    assert not result.sound
    assert all(finding.examples for finding in result.findings if finding.rows)


def test_a_store_that_is_being_filled_is_not_sound(full: Place) -> None:
    full.run("REPLACE INTO meta VALUES ('filling', 'a copy')")
    result = full.check()
    assert (result.filling, broken(result), result.sound) == ("a copy", [], False)


def test_a_damaged_page_is_found(tmp_path: Path, mariadb: MariaDB) -> None:
    full = Place("sqlite", tmp_path, mariadb)
    tables = full.tables()
    populate(tables)
    tables.close()
    path = tmp_path / "chatd.db"
    data = bytearray(path.read_bytes())
    for begin in range(8 * 4096, len(data), 4096):
        data[begin : begin + 64] = b"\xff" * 64
    path.write_bytes(data)
    result = full.check()
    assert result.damages
    assert not result.sound
