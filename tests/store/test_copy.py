"""A store brought to another one: every row, every number, whatever interrupts it; and what servers and chatctl see of
a store that is half-way."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from chatd.address_bans import AddressBan
from chatd.config.urls import parse_mysql
from chatd.errors import BootError, ErrorCode, Exit
from chatd.model import User
from chatd.store import copy as store_copy
from chatd.store.contract import Draft, KnownSource, NewInvite, Stored, Tables, text_hash
from chatd.store.copy import TABLES, DestinationInUse, Row, StoreDump, Table
from chatd.store.mysql import tables as mysql_tables
from chatd.store.mysql.dump import MysqlDump
from chatd.store.sql import address_bans
from chatd.store.sql.send_keys import SendKeys
from chatd.store.sqlite import tables as sqlite_tables
from chatd.store.sqlite.dump import SqliteDump
from tests.harness.mariadb import MariaDB
from tests.store import every_column
from tests.store.steps import ANY, ASKING, advance, done, make, refused, send, sent, team, to, to_group


class Place(Protocol):
    """A store that is not open yet: as a server opens it, and as chatctl does."""

    def tables(self) -> Tables: ...

    def dump(self, make: bool = True) -> StoreDump: ...

    def fill(self) -> None:
        """every_column.FILL, in a store that has the rows of populate()."""

    def columns(self) -> dict[str, dict[str, object]]:
        """Of every table, with their defaults."""
        ...


class SqlitePlace:
    def __init__(self, path: Path) -> None:
        self.path = path

    def tables(self) -> Tables:
        return sqlite_tables.open_tables(self.path, create=True)

    def dump(self, make: bool = True) -> StoreDump:
        return SqliteDump(self.path, make)

    def fill(self) -> None:
        every_column.fill_sqlite(self.path)

    def columns(self) -> dict[str, dict[str, object]]:
        return every_column.sqlite_columns(self.path)


Make = Callable[[], Place]


class MysqlPlace:
    def __init__(self, server: MariaDB, url: str = "") -> None:
        """url: of an existing database."""
        self.address = parse_mysql(url or server.url())

    def tables(self) -> Tables:
        return mysql_tables.open_tables(self.address, 20.0, create=True)

    def dump(self, make: bool = True) -> StoreDump:
        return MysqlDump(self.address, make)

    def fill(self) -> None:
        every_column.fill_mysql(self.address)

    def columns(self) -> dict[str, dict[str, object]]:
        return every_column.mysql_columns(self.address)


@pytest.fixture
def places(tmp_path: Path, mariadb: MariaDB) -> dict[str, Make]:
    numbers = iter(range(100))
    return {"sqlite": lambda: SqlitePlace(tmp_path / f"{next(numbers)}.db"), "mysql": lambda: MysqlPlace(mariadb)}


@pytest.fixture(params=["sqlite>sqlite", "sqlite>mysql", "mysql>sqlite", "mysql>mysql"])
def way(request: pytest.FixtureRequest, places: dict[str, Make]) -> tuple[Place, Place]:
    source, target = request.param.split(">")
    return places[source](), places[target]()


def quiet(_what: str, _done: int, _total: int) -> None:
    """Nobody watches."""


def copied(source: Place, target: Place, watch: store_copy.OnProgress = quiet) -> list[store_copy.Comparison]:
    with contextlib.closing(source.dump(False)) as one, contextlib.closing(target.dump()) as other:
        return store_copy.copy(one, other, watch)


def everything(place: Place) -> dict[str, list[Row]]:
    with contextlib.closing(place.dump(False)) as dump:
        dump.snapshot()
        return {table.name: list(dump.rows(table, ())) for table in TABLES}


def notes(place: Place) -> dict[str, str]:
    with contextlib.closing(place.dump(False)) as dump:
        return {key: dump.read_note(key) for key in store_copy.NOTES} | dump.notes(address_bans.PREFIX)


def populate(place: Place, messages: int = 40) -> None:
    """A little of everything a store can hold, with every column set."""
    with contextlib.closing(place.tables()) as tables:
        alice, bob, carol, gone = make(tables, "Älice 😀", "bob", "carol", "gone")
        group = team(tables, alice, bob, gone)
        empty = team(tables, carol)
        done(
            tables, lambda inside: inside.accounts.set_password(alice.id, "$argon2id$v=19$m=1024,t=1,p=1$c2FsdA$aGFzaA")
        )
        done(tables, lambda inside: inside.accounts.set_profile(bob.id, {"nick": 'B "o" \\ b\n', "x": "\0😀"}))
        done(tables, lambda inside: inside.update_last_seen([(carol.id, 1_700_000_000_123)]))
        done(tables, lambda inside: inside.friends.request(alice, bob.id, ASKING, 5))
        done(tables, lambda inside: inside.friends.answer(bob.id, alice.id, True, ANY, 6))
        done(tables, lambda inside: inside.friends.request(carol, alice.id, ASKING, 7))
        for number in range(messages):
            text = "".join(("é😀\0\n'\"\\", str(number)))
            mine, theirs = (alice, to(bob, text, f"a:{number}")), (bob, to(alice, text))
            note = (carol, to(carol, "note", f"{number}", qos=True))
            send(tables, mine, theirs, (bob, to_group(group, "x" * 999)), note, now_ms=1_700_000_000_000 + number)
        advance(tables, bob, -group, messages // 2)
        done(tables, lambda inside: inside.history.mark_seen(bob.id, -group, 3))
        done(tables, lambda inside: inside.request_log.remember(alice.id, "r:1", '{"made": 1}', 1_700_000_000_000))
        done(tables, lambda inside: inside.request_log.remember(alice.id, "r:1 ", '{"made": 2}', 1_700_000_000_000))
        done(tables, lambda inside: inside.known_sources.remember(alice.id, KnownSource("00ff", 20_000), 1))
        done(tables, lambda inside: inside.known_sources.remember(gone.id, KnownSource("00ee", 20_000), 0))
        done(tables, lambda inside: inside.invites.add(NewInvite("hash", 3, 1_900_000_000_000, "for ü"), 5))
        done(tables, lambda inside: inside.accounts.set_stand_in_key("00ff"))
        done(tables, lambda inside: inside.accounts.lock(carol.id, "a reason", 8))
        done(tables, lambda inside: inside.accounts.delete(gone.id))
        done(tables, lambda inside: inside.groups.leave(carol.id, empty))
        done(tables, lambda inside: inside.address_bans.add(AddressBan(network="192.0.2.0/24", reason="é"), 9))
    place.fill()


@pytest.mark.parametrize("twin", ["sqlite", "mysql"])
def test_every_column_of_the_schema_is_copied_or_made_anew(places: dict[str, Make], twin: str) -> None:
    place = places[twin]()
    place.tables().close()
    columns = place.columns()
    assert every_column.forgotten(columns) == [], "name it in store.copy.TABLES, or in every_column.DERIVED"
    made = {table.name for table in TABLES} | every_column.DERIVED.keys()
    assert columns.keys() <= made
    columns["user"]["shoe_size"] = columns.setdefault("shoe", {})["size"] = None
    assert every_column.forgotten(columns) == ["shoe.size", "user.shoe_size"], "what the schema has not, is not found"


@pytest.mark.parametrize("twin", ["sqlite", "mysql"])
def test_the_rows_of_these_tests_have_a_value_in_every_column(places: dict[str, Make], twin: str) -> None:
    """Otherwise a column that is forgotten somewhere between the two stores would look the same in both."""
    place = places[twin]()
    populate(place)
    assert every_column.never_set(place.columns(), everything(place)) == [], "set it in every_column.FILL"


def test_everything_arrives_and_goes_on(way: tuple[Place, Place]) -> None:
    source, target = way
    populate(source)
    compared = copied(source, target)
    assert all(one.same for one in compared)
    counts = {one.table: one.target.rows for one in compared}
    assert counts == {
        "user": 4, "friend": 3, "team": 1, "member": 2, "pair": 2, "message": 160, "cursor": 5, "request": 2,
        "known_source": 1, "invite": 1, "api_key": 1, "push_subscription": 1,
        "administrator": 1, "admin_session": 1, "file": 1, "doomed_blob": 1,
        "bridged": 1, "block": 2, "refusal": 1, "ban": 1, "admission": 1, "revision": 2,
        "hidden": every_column.MANY, "mention": every_column.MANY, "erasure": 1, "dissolved": 2,
        "correspondent": 1, "event": 1, "webhook": 1,
    }  # fmt: skip
    assert everything(source) == everything(target)
    assert notes(target) == notes(source)
    assert "" not in notes(target).values()
    with contextlib.closing(source.tables()) as old, contextlib.closing(target.tables()) as new:
        alice, bob = (User(number, old.accounts.find("", number).user.name) for number in (1, 2))  # type: ignore[union-attr]
        assert old.accounts.newest_credentials() == new.accounts.newest_credentials() == 3
        assert old.accounts.stand_in_key() == new.accounts.stand_in_key() == "00ff"
        assert old.history.waiting(2, ANY) == new.history.waiting(2, ANY)
        assert old.groups.of(2, ANY) == new.groups.of(2, ANY)
        assert old.history.heads(2, -1000, ANY) == new.history.heads(2, -1000, ANY)
        assert old.accounts.profile(2) == new.accounts.profile(2)
        assert [one.sender.id for one in new.friends.requests_to(1)] == [3]
        assert new.known_sources.of(1) == (KnownSource("00ff", 20_000),)
        assert new.request_log.answered(1, "r:1") == '{"made": 1}'
        for tables in (old, new):
            again = sent(tables, alice, to(bob, "é😀\0\n'\"\\7", "a:7"))
            assert (again.fresh, again.message.body[-1]) == (False, "7")
            assert sent(tables, alice, to(bob, "next", "a:new")).message.seq == 81
            (newcomer,) = make(tables, "newcomer")
            assert newcomer.id == 5
            assert team(tables, bob) == 3, "the number of a group that is gone has messages"
            assert sent(tables, newcomer, to(bob)).message.seq == 1
            refused_name(tables)


def refused_name(tables: Tables) -> None:

    refused(ErrorCode.NAME_TAKEN, tables, lambda inside: inside.accounts.create("BOB", "", 1))


class Stop(Exception):
    pass


class Interrupted:
    """A dump that dies at its n-th call of load, begin, commit or write_note."""

    def __init__(self, dump: StoreDump, calls: int) -> None:
        self._dump, self._left = dump, calls

    def __getattr__(self, name: str) -> object:
        if name in ("load", "begin", "commit", "write_note"):
            self._left -= 1
            if self._left == 0:
                raise Stop
        return getattr(self._dump, name)


def test_a_copy_that_is_ended_anywhere_is_taken_up(
    way: tuple[Place, Place], places: dict[str, Make], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small batches, so that there are many moments."""
    monkeypatch.setattr(store_copy, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(store_copy, "batches", sevens)
    source, target = way
    populate(source, 6)
    ended = 0
    for calls in range(1, 400, 3):
        try:
            with contextlib.closing(source.dump(False)) as one, contextlib.closing(target.dump()) as other:
                compared = store_copy.copy(one, Interrupted(other, calls), quiet)  # type: ignore[arg-type]
            break
        except Stop:
            ended += 1
            with contextlib.suppress(BootError), contextlib.closing(target.tables()):
                assert everything(target)["user"] == [], "a server opened a store that is not complete"
    assert ended > 5
    assert all(one.same for one in compared)
    assert everything(source) == everything(target)
    with contextlib.closing(target.tables()) as tables:
        assert len(tables.accounts.all()) == 3


def sevens(rows: object) -> Iterator[list[Row]]:
    import itertools

    rows = iter(rows)  # type: ignore[call-overload]
    while batch := list(itertools.islice(rows, 7)):
        yield batch


def half_way(source: Place, target: Place) -> None:
    def stop(what: str, rows: int, _total: int) -> None:
        if what == "message" and rows:
            raise Stop

    with pytest.raises(Stop):
        copied(source, target, stop)


def test_a_store_half_way_is_not_served(way: tuple[Place, Place]) -> None:
    source, target = way
    populate(source)
    half_way(source, target)
    with pytest.raises(BootError, match=r"is not complete: chatctl copy-store from .* has not ended") as caught:
        target.tables()
    assert caught.value.exit_code is Exit.CONFIG
    assert all(one.same for one in copied(source, target))
    target.tables().close()


def test_only_an_empty_store_or_ones_own_is_filled(way: tuple[Place, Place], places: dict[str, Make]) -> None:
    source, target = way
    populate(source)
    other = places["sqlite"]()
    populate(other)
    with pytest.raises(DestinationInUse, match="is not empty"):
        copied(source, other)
    half_way(source, target)
    with pytest.raises(DestinationInUse, match="is being filled by something else"):
        copied(other, target)
    copied(source, target)
    with pytest.raises(DestinationInUse, match="is not empty"):
        copied(source, target)


def test_a_difference_is_found_and_named(way: tuple[Place, Place]) -> None:
    """The source changed between two halves of a copy, where the copy had been already."""
    source, target = way
    populate(source)
    half_way(source, target)
    with contextlib.closing(source.tables()) as tables:
        done(tables, lambda inside: inside.accounts.set_profile(2, {"nick": "other"}))
    compared = copied(source, target)
    assert [one.table for one in compared if not one.same] == ["user"]
    with pytest.raises(BootError, match="is not complete"):
        target.tables()


def test_the_digest_sees_every_column() -> None:
    for table in TABLES:
        row: Row = tuple(range(len(table.columns)))
        plain = store_copy.digest([row], lambda _: None)
        for column in range(len(row)):
            changed = tuple(None if place == column else value for place, value in enumerate(row))
            assert store_copy.digest([changed], lambda _: None) != plain
        assert store_copy.digest([row, row], lambda _: None) != plain
    one, other = (1, "a"), (2, "b")
    forth, back = ([one, other], [other, one])
    assert store_copy.digest(forth, lambda _: None) == store_copy.digest(back, lambda _: None)


def test_batches_are_bounded_by_rows_and_by_text() -> None:
    short = [(number, "x") for number in range(12_000)]
    assert max(map(len, store_copy.batches(short))) == 5000
    assert [row for batch in store_copy.batches(short) for row in batch] == short
    long = [(number, "x" * 1_000_000) for number in range(260)]
    sizes = list(map(len, store_copy.batches(long)))
    assert sizes[0] == 250
    assert sizes[1:] == [4, 4, 2]


# ---------------------------------------------------------------- who else is there


def test_a_source_that_is_not_there(places: dict[str, Make]) -> None:
    with pytest.raises(BootError, match="does not exist"):
        places["sqlite"]().dump(False)


def test_a_file_that_a_process_has_open_is_left_alone(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = tmp_path / "chatd.db"
    sqlite_tables.open_tables(path, create=True).close()
    code = (
        "import sys, pathlib\nfrom chatd.store.sqlite.tables import open_tables\n"
        "t = open_tables(pathlib.Path(sys.argv[1]), create=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code + "print('open', flush=True); input()", str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(BootError, match=f"is in use by process {other.pid}") as caught:
            SqliteDump(path, create=False)
        assert caught.value.exit_code is Exit.TRY_AGAIN
        other.communicate("\n", timeout=30)
    SqliteDump(path, create=False).close()


def test_a_reused_fp_is_recognised_in_the_copy(way: tuple[Place, Place]) -> None:
    source, target = way
    first, other = text_hash("as alice sent it"), text_hash("other")
    with contextlib.closing(source.tables()) as tables:
        alice, bob = make(tables, "alice", "bob")
        done(tables, lambda inside: inside.append([Draft(alice, to(bob, "changed by a plug-in", "fp"), first)], 1))
        done(tables, lambda inside: inside.request_log.remember(alice.id, "fp", "answer", 1, first))
    assert all(one.same for one in copied(source, target))
    with contextlib.closing(target.tables()) as tables:
        drafts = [Draft(alice, to(bob, "changed again", "fp"), sent_hash) for sent_hash in (first, other)]
        again, reused = done(tables, lambda inside: inside.append(drafts, 2))
        assert isinstance(again, Stored)
        assert (again.fresh, again.message.body, reused) == (False, "changed by a plug-in", ErrorCode.FP_REUSED)
        assert tables.request_log.answered(alice.id, "fp", first) == "answer"
        refused(ErrorCode.FP_REUSED, tables, lambda inside: inside.request_log.answered(alice.id, "fp", other))


def test_keys_that_collide_are_kept_apart(way: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SendKeys, "first", lambda self, sender, fp: sender << 32 | 0xFFFFFFFE)
    source, target = way
    with contextlib.closing(source.tables()) as tables:
        alice, bob = make(tables, "alice", "bob")
        send(tables, *((alice, to(bob, str(number), f"fp{number}")) for number in range(9)))
        done(
            tables, lambda inside: [inside.request_log.remember(1, f"r{number}", str(number), 1) for number in range(5)]
        )
    assert all(one.same for one in copied(source, target))
    with contextlib.closing(target.tables()) as tables:
        assert [tables.request_log.answered(1, f"r{number}") for number in range(5)] == ["0", "1", "2", "3", "4"]
        for number in range(9):
            again = sent(tables, alice, to(bob, str(number), f"fp{number}"))
            assert (again.fresh, again.message.body) == (False, str(number))


def test_the_index_of_what_arrived_is_complete(tmp_path: Path) -> None:
    source, target = SqlitePlace(tmp_path / "a.db"), SqlitePlace(tmp_path / "b.db")
    populate(source)
    copied(source, target)
    with contextlib.closing(sqlite3.connect(target.path)) as db:
        rows = db.execute("SELECT conversation, seq, id FROM message ORDER BY 1, 2").fetchall()
        assert db.execute("SELECT * FROM place").fetchall() == rows
        assert db.execute("SELECT value FROM meta WHERE key = 'merged'").fetchone() == (str(len(rows)),)
        assert db.execute("SELECT count(*) FROM sent").fetchone() == (80,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        keys = {row[0] for row in db.execute("SELECT key FROM meta")}
    assert keys == {"directory", "merged", "api_keys", "files", "ban 192.0.2.0/24", *store_copy.NOTES}


def test_canonical_rows_are_plain(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path / "a.db")
    populate(place, 2)
    for name, rows in everything(place).items():
        table: Table = store_copy.BY_NAME[name]
        assert all(len(row) == len(table.columns) for row in rows)
        assert all(type(value) in (int, str, type(None)) for row in rows for value in row)
        assert json.loads(json.dumps(rows)) == [list(row) for row in rows]
