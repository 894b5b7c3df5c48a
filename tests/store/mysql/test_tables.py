"""The store of a cluster on a real MariaDB: the contract, and what only a server has: addresses, limits, schema."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import chatd.store
from chatd.config import validate
from chatd.config.schema import Config, StoreOptions
from chatd.config.urls import MysqlAddress, parse_mysql
from chatd.errors import BootError, ConfigError, ErrorCode, Exit
from chatd.model import Group, User
from chatd.store import open as store_open
from chatd.store.contract import Advance, Stored, Tables
from chatd.store.mysql import backend as mysql_backend
from chatd.store.mysql import messages as mysql_messages
from chatd.store.mysql import recipients as mysql_recipients
from chatd.store.mysql import schema as mysql_schema
from chatd.store.mysql import tables as mysql_tables
from chatd.store.mysql.connection import MysqlConnection
from chatd.store.mysql.tables import MysqlTables
from chatd.store.sql.send_keys import SendKeys
from tests.harness.mariadb import PASSWORD, USER, MariaDB
from tests.harness.proxy import Proxy
from tests.harness.redis import Certificates
from tests.store.contract import StoreContract
from tests.store.steps import ANY, advance, done, make, send, sent, team, to, to_group, to_name

LIMIT_S = 20.0
"""Generous: what is tested here is not how busy the machine is."""


class MysqlTwin:
    def __init__(self, server: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = server.url()
        self._monkeypatch = monkeypatch

    def open(self) -> Tables:
        return mysql_tables.open_tables(parse_mysql(self.url), LIMIT_S, create=True)

    def collide(self) -> None:
        self._monkeypatch.setattr(SendKeys, "first", lambda self, sender, fp: sender << 32 | 0xFFFFFFFE)


class TestContract(StoreContract):
    @pytest.fixture
    def twin(self, mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> MysqlTwin:
        return MysqlTwin(mariadb, monkeypatch)


@contextlib.contextmanager
def opened(url: str, limit_s: float = LIMIT_S) -> Iterator[MysqlTables]:
    tables = mysql_tables.open_tables(parse_mysql(url), limit_s, create=True)
    try:
        yield tables
    finally:
        tables.close()


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize(
    "text",
    ["\U0001f600 \U0001d11e", "\0 \x1a \\ ' \" % %s ? `", "x\\", "e\u0301 é", "\ufeff\u200b", " ends in blanks  ", ""],
)
def test_a_text_comes_back_as_it_was(mariadb: MariaDB, text: str) -> None:
    with opened(mariadb.url()) as tables:
        alice, bob = make(tables, "alice", "bob")
        first = sent(tables, alice, to(bob, text, f"{text}fp")).message
        done(tables, lambda inside: inside.accounts.set_profile(alice.id, {"about": text, text: "x"}))
        done(tables, lambda inside: inside.request_log.remember(alice.id, f"{text}fp", text, 1))
        group = done(tables, lambda inside: inside.groups.create(alice.id, text, text, ANY, 1))
        assert first.body == text
        assert tables.history.waiting(bob.id, ANY).messages == [first]
        assert sent(tables, alice, to(bob, text, f"{text}fp")).message == first
        assert tables.accounts.profile(alice.id) == {"about": text, text: "x"}
        assert tables.request_log.answered(alice.id, f"{text}fp") == text
        assert tables.groups.find(group) == Group(group, text, text)


def test_fps_and_names_that_differ_in_blanks_or_accents_are_different(mariadb: MariaDB) -> None:
    """Collations of MySQL take some of these for the same."""
    with opened(mariadb.url()) as tables:
        users = make(tables, "bob", "bob ", "böb", "from before")
        old = User(users.pop().id, "b\u200bob")  # looks like "bob": nobody can register it any more
        tables.connection.execute("UPDATE user SET name = ?, name_key = ? WHERE id = ?", (old.name, old.name, old.id))
        users.append(old)
        assert [tables.accounts.find(user.name, 0).user for user in users] == users  # type: ignore[union-attr]
        for fp in ("a", "a ", "A", "á", "a\0"):
            assert sent(tables, users[0], to(users[1], fp, fp)).fresh
            done(tables, lambda inside, fp=fp: inside.request_log.remember(users[0].id, fp, fp, 1))
        assert [tables.request_log.answered(users[0].id, fp) for fp in ("a", "a ", "A", "á", "a\0")] == [
            "a",
            "a ",
            "A",
            "á",
            "a\0",
        ]


def test_half_a_surrogate_pair_harms_nobody_else_in_the_batch(mariadb: MariaDB) -> None:
    with opened(mariadb.url()) as tables:
        alice, bob = make(tables, "alice", "bob")
        send(tables, (alice, to(bob, "one")), (alice, to(bob, "x\ud83d")), (alice, to(bob, "three")))
        assert [message.body for message in tables.history.waiting(bob.id, ANY).messages] == ["one", "x?", "three"]


def test_a_batch_that_is_longer_than_a_statement_may_be(mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_messages, "STATEMENT_BYTES", 200_000)
    with opened(mariadb.url()) as tables:
        alice, bob = make(tables, "alice", "bob")
        bodies = ["\U0001f600" * 5000, "a", "b" * 1_000_000, "c" * 150_000, "'" * 90_000, "d"] * 3
        results = send(tables, *((alice, to(bob, body, str(number))) for number, body in enumerate(bodies)))
        assert [result.message.seq for result in results if isinstance(result, Stored)] == list(range(1, 19))
        assert [message.body for message in tables.history.waiting(bob.id, ANY).messages] == bodies


def test_many_recipients_pairs_and_cursors_in_one_batch(mariadb: MariaDB) -> None:
    """More than fit into one IN (…), some of them nobody."""
    with opened(mariadb.url()) as tables, opened(mariadb.url(tables.connection.address.database)) as other:
        alice, *users = make(tables, "alice", *(f"user {number}" for number in range(1200)))
        drafts = [(alice, to_name(f"USER {number}", str(number))) for number in range(1300)]
        drafts += [(alice, to(user, "by id")) for user in users]
        for number, tables_ in enumerate((tables, other)):
            results = send(tables_, *drafts)
            assert results[1200:1300] == [ErrorCode.UNKNOWN_RECIPIENT] * 100
            stored = [result.message for result in results if isinstance(result, Stored)]
            assert [message.to_id for message in stored] == [user.id for user in users] * 2
            assert {message.seq for message in stored} == {2 * number + 1, 2 * number + 2}
        done(other, lambda inside: inside.advance([Advance(alice.id, one.conversation, one.seq) for one in stored]))
        assert other.history.waiting(alice.id, ANY).messages == []
        assert len(other.history.heads(alice.id, 0, 5000)) == 1200
        done(other, lambda inside: inside.update_last_seen([(user.id, user.id) for user in users]))
        assert [other.accounts.last_seen(user.id) for user in users[::100]] == [user.id for user in users[::100]]


def test_what_memory_holds_is_bounded_also_within_a_batch(mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_recipients, "CACHED", 5)
    monkeypatch.setattr(mysql_backend, "CACHED", 5)
    with opened(mariadb.url()) as tables:
        users = make(tables, *(f"user {number}" for number in range(12)))
        for _ in range(3):
            results = send(tables, *((one, to(other)) for one in users for other in users))
            assert all(isinstance(result, Stored) for result in results)
        assert {message.seq for message in tables.history.waiting(users[0].id, ANY).messages} == set(range(1, 7))


# ---------------------------------------------------------------- the schema


def test_a_newer_schema_is_refused_and_left_alone(mariadb: MariaDB) -> None:
    url = mariadb.url()
    with opened(url) as tables:
        make(tables, "alice")
    meta = f"`{parse_mysql(url).database}`.meta"
    mariadb.execute(f"UPDATE {meta} SET value = %s WHERE `key` = 'schema'", len(mysql_schema.MIGRATIONS) + 1)
    with pytest.raises(BootError, match="newer") as caught:
        mysql_tables.open_tables(parse_mysql(url), LIMIT_S, create=True)
    assert caught.value.exit_code is Exit.CONFIG
    mariadb.execute(f"UPDATE {meta} SET value = %s WHERE `key` = 'schema'", len(mysql_schema.MIGRATIONS))
    with opened(url) as tables:
        assert [name for _, name, _ in tables.accounts.all()] == ["alice"]


STEPS = [step for migration in mysql_schema.MIGRATIONS for step in migration]


@pytest.mark.parametrize("done_steps", range(len(STEPS) + 1))
def test_a_migration_that_was_interrupted_is_taken_up(mariadb: MariaDB, done_steps: int) -> None:
    """Interrupted before it noted any step: everything is repeated."""
    url = mariadb.url()
    connection = MysqlConnection(parse_mysql(url), LIMIT_S)
    for step in STEPS[:done_steps]:
        mysql_schema.run_step(connection, step)
    connection.discard()
    with opened(url) as tables:
        assert mysql_schema.version_of(tables.connection) == len(mysql_schema.MIGRATIONS)
        make(tables, "alice")


def test_who_migrates_is_waited_for(mariadb: MariaDB) -> None:
    url = mariadb.url()
    with contextlib.closing(mariadb.connect(parse_mysql(url).database)) as db, db.cursor() as cursor:
        cursor.execute(f"SELECT GET_LOCK({mysql_schema.MIGRATION_LOCK}, 0)")
        opening = threading.Thread(target=lambda: mysql_tables.open_tables(parse_mysql(url), 1.0, create=True).close())
        opening.start()
        opening.join(2.5)  # longer than its limit for a statement
        assert opening.is_alive()
        assert mariadb.execute(f"SHOW TABLES IN `{parse_mysql(url).database}`") == []
    opening.join(20)
    with opened(url) as tables:
        assert tables.accounts.all() == []


# ---------------------------------------------------------------- addresses, and servers that cannot be used


def refused(url: str, limit_s: float = 2.0) -> str:
    with pytest.raises(BootError) as caught:
        mysql_tables.open_tables(parse_mysql(url), limit_s, create=True)
    assert caught.value.exit_code is Exit.UNAVAILABLE
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_what_is_wrong_with_a_server_is_one_line_without_the_password(mariadb: MariaDB) -> None:
    good = mariadb.url()
    secret = quote(PASSWORD, safe="")
    texts = {
        "Access denied": good.replace(secret, "not%20it"),
        "Unknown database": mariadb.url("nowhere"),
        "Can't connect": mariadb.url("x", port=1),
        "nowhere.invalid": mariadb.url("x", host="nowhere.invalid"),
        "No such file": f"mysql://{USER}:{secret}@/x?unix_socket=/nowhere/mysql.sock",
    }
    for reason, url in texts.items():
        text = refused(url)
        assert text.startswith(f"store mysql://{USER}@"), text
        assert reason in text or "(2" in text, text
        assert PASSWORD not in text
        assert secret not in text
        assert "not it" not in text


def test_a_server_that_does_not_speak_is_given_up(mariadb: MariaDB) -> None:
    with Proxy(mariadb.port) as proxy:
        proxy.freeze()
        begun = time.monotonic()
        refused(mariadb.url("x", port=proxy.port), 1.0)
        assert time.monotonic() - begun < 10.0


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_by_name_by_number_and_by_socket(mariadb: MariaDB, host: str) -> None:
    """localhost is a host, not a hint to look for a socket somewhere."""
    url = mariadb.url()
    database = parse_mysql(url).database
    with opened(mariadb.url(database, host=host)) as tables:
        make(tables, "alice")
    with opened(f"mysql://{USER}:{quote(PASSWORD, safe='')}@/{database}?unix_socket={mariadb.socket}") as tables:
        assert [name for _, name, _ in tables.accounts.all()] == ["alice"]


def test_the_server_must_prove_who_it_is_where_ssl_ca_is_given(mariadb: MariaDB, tmp_path: Path) -> None:
    own, another = (Certificates.make(tmp_path / name) for name in ("own", "another"))
    server = MariaDB(options=[f"--ssl-cert={own.certificate}", f"--ssl-key={own.key}"])
    try:
        server.start()
        with opened(server.url(ssl_ca=str(own.certificate))) as tables:
            assert tables.connection.execute("SHOW STATUS LIKE 'Ssl_cipher'").fetchone()[1]
        assert "self-signed" in refused(server.url("x", ssl_ca=str(another.certificate)))
        assert "does not support" in refused(mariadb.url("x", ssl_ca=str(own.certificate)))
    finally:
        server.discard()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://u:p@h/d", MysqlAddress("h", 3306, "u", "p", "d")),
        ("mysql://u%40x:p%2F%3A%25@[::1]:33/d%20d", MysqlAddress("::1", 33, "u@x", "p/:%", "d d")),
        ("mysql://u@/d?unix_socket=/a%20b&ssl_ca=/c", MysqlAddress("", 3306, "u", "", "d", "/a b", "/c")),
    ],
)
def test_an_address_is_read(url: str, expected: MysqlAddress) -> None:
    assert parse_mysql(url) == expected
    assert ":p" not in f"{expected} {expected!r}"


def test_without_mysqlclient_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("MySQLdb", "chatd.store.mysql"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(chatd.store, "mysql", raising=False)
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    config = Config(store=StoreOptions(url="mysql://u:secret@h/d"))
    with pytest.raises(BootError, match=r"pip install 'chatd\[mysql\]'") as caught:
        store_open.open_tables(store_open.configured(config), 1.0, create=True)
    assert caught.value.exit_code is Exit.CONFIG
    monkeypatch.setattr(validate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"file: store.url: mysql needs mysqlclient: pip install 'chatd\[mysql\]'"):
        validate.check_host(config, "file")


# ---------------------------------------------------------------- what a question costs


def rows_read(tables: MysqlTables, question: Callable[[], object]) -> int:
    """How many rows the server has looked at for it."""
    handlers = "SHOW SESSION STATUS LIKE 'Handler_read%'"

    def total() -> int:
        return sum(int(count) for _, count in tables.connection.execute(handlers))

    before = total()
    idle = total() - before
    before = total()
    question()
    return total() - before - idle


def test_a_login_does_not_read_what_was_delivered_long_ago(mariadb: MariaDB) -> None:
    with opened(mariadb.url()) as tables:
        alice, bob, *others = make(tables, "alice", "bob", *(f"user {number}" for number in range(20)))
        group = team(tables, alice, bob)
        for _ in range(4):
            send(tables, *((alice, to_group(group, "x")) for _ in range(1000)))
        send(tables, *((other, to(bob)) for other in others))
        advance(tables, bob, -group, 3998)
        assert len(tables.history.waiting(bob.id, 50).messages) == 22
        assert rows_read(tables, lambda: tables.history.waiting(bob.id, 50)) < 500
        assert rows_read(tables, lambda: tables.history.messages(alice.id, -group, 3990, 0, 5)) < 50
        assert rows_read(tables, lambda: tables.history.heads(bob.id, -(1 << 61), 100)) < 500
        assert rows_read(tables, lambda: tables.history.waiting(alice.id, 50)) < 500, "a page, not all that waits"
