"""What happens to transactions on MySQL when something breaks: the answer to COMMIT is lost, the server dies,
stops or forgets a connection, and two transactions meet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatd.config.urls import parse_mysql
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import User
from chatd.store.contract import Again, Asked, Draft, Stored, Tables
from chatd.store.mysql import messages as mysql_messages
from chatd.store.mysql import tables as mysql_tables
from chatd.store.mysql.tables import MysqlTables
from tests.harness.deadline import wait_until
from tests.harness.mariadb import MariaDB
from tests.harness.proxy import LosesAnswer, Proxy
from tests.store.steps import ANY, ASKING, done, join, make, send, sent, team, to, to_group

LIMIT_S = 1.0
PATIENT_S = 20.0
SLACK_S = 4.0
"""What a busy machine may add to a limit."""
Open = Callable[..., MysqlTables]


@pytest.fixture
def opened() -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def open_one(url: str, limit_s: float = PATIENT_S) -> MysqlTables:
            return stack.enter_context(
                contextlib.closing(mysql_tables.open_tables(parse_mysql(url), limit_s, create=True))
            )

        yield open_one


class Cut:
    """Tables whose connection goes through a proxy, beside tables that see what is stored."""

    def __init__(self, server: MariaDB, opened: Open) -> None:
        self.hook = LosesAnswer(b"COMMIT")
        self.proxy = Proxy(server.port, hook=self.hook)
        url = server.url()
        self.judge = opened(url)
        self.alice, self.bob = make(self.judge, "alice", "bob")
        self.tables = opened(server.url(parse_mysql(url).database, port=self.proxy.port))

    def waiting(self) -> list[str]:
        return [message.body for message in self.judge.history.waiting(self.bob.id, ANY).messages]


@pytest.fixture
def cut(mariadb: MariaDB, opened: Open) -> Iterator[Cut]:
    cut = Cut(mariadb, opened)
    yield cut
    cut.proxy.close()


# ---------------------------------------------------------------- the answer to COMMIT is lost


def test_a_commit_that_happened_is_told_as_one_though_its_answer_was_lost(cut: Cut) -> None:
    for number in range(1, 4):
        cut.hook.arm(reached=True)
        stored = sent(cut.tables, cut.alice, to(cut.bob, str(number), f"fp {number}"))
        assert cut.hook.struck.is_set()
        assert (stored.message.seq, stored.fresh) == (number, True)
    assert cut.waiting() == ["1", "2", "3"]


def test_a_commit_that_did_not_happen_is_refused_and_may_be_repeated(cut: Cut) -> None:
    for number in range(1, 4):
        cut.hook.arm(reached=False)
        with pytest.raises(Unavailable):
            sent(cut.tables, cut.alice, to(cut.bob, str(number), f"fp {number}"))
        assert cut.hook.struck.is_set()
        assert len(cut.waiting()) == number - 1
        stored = sent(cut.tables, cut.alice, to(cut.bob, str(number), f"fp {number}"))
        assert (stored.message.seq, stored.fresh) == (number, True)
    assert cut.waiting() == ["1", "2", "3"]


@pytest.mark.parametrize("reached", [True, False])
def test_what_cannot_be_known_is_refused_and_its_repeat_is_the_first_one(cut: Cut, reached: bool) -> None:
    """P2: the server cannot be asked what became of the transaction."""

    def unreachable(link: object, from_client: bool, data: bytes) -> bytes | None:
        passed = hook(link, from_client, data)
        if passed is None:
            cut.proxy.refusing = True
        return passed

    hook, cut.proxy.hook = cut.hook, unreachable
    cut.hook.arm(reached=reached)
    with pytest.raises(Unavailable):
        sent(cut.tables, cut.alice, to(cut.bob, "once", "fp"))
    cut.proxy.allow()
    wait_until(10, "the server is asked again", lambda: _answers(cut.tables))
    again = sent(cut.tables, cut.alice, to(cut.bob, "once", "fp"))
    assert (again.fresh, again.message.seq) == (not reached, 1)
    assert cut.waiting() == ["once"]


def _answers(tables: Tables) -> bool:
    try:
        tables.begin()
    except Unavailable:
        return False
    tables.rollback()
    return True


def _remember(cut: Cut) -> None:
    cut.tables.request_log.remember(cut.alice.id, "fp", "answer", 1)


WRITES: dict[str, tuple[Callable[[Cut], object], Callable[[Cut], object]]] = {
    "account": (
        lambda cut: cut.tables.accounts.create("carol", "", 1),
        lambda cut: cut.judge.accounts.find("carol", 0),
    ),
    "group": (
        lambda cut: cut.tables.groups.create(cut.alice.id, "team", "", ANY, 1),
        lambda cut: cut.judge.groups.ids_of(cut.alice.id),
    ),
    "request": (_remember, lambda cut: cut.judge.request_log.answered(cut.alice.id, "fp")),
}


@pytest.mark.parametrize("reached", [True, False])
@pytest.mark.parametrize("name", WRITES)
def test_what_makes_something_is_looked_for_too(cut: Cut, name: str, reached: bool) -> None:
    write, look = WRITES[name]
    cut.hook.arm(reached=reached)
    if reached:
        done(cut.tables, lambda _: write(cut))
        assert look(cut)
    else:
        with pytest.raises(Unavailable):
            done(cut.tables, lambda _: write(cut))
        assert not look(cut)
        done(cut.tables, lambda _: write(cut))
        assert look(cut)


def test_a_commit_that_hangs_is_ended_before_it_is_looked_for(cut: Cut, opened: Open, mariadb: MariaDB) -> None:
    """The server has not got it when this side gives up: it must not happen afterwards."""
    tables = opened(mariadb.url(cut.judge.connection.address.database, port=cut.proxy.port), LIMIT_S)
    tables.begin()
    (result,) = tables.append([Draft(cut.alice, to(cut.bob, "late", "fp"))], 1)
    assert isinstance(result, Stored)
    held = threading.Event()

    def hold(link: object, from_client: bool, data: bytes) -> bytes | None:
        """The request stays in the network; other connections go through."""
        if from_client and b"COMMIT" in data:
            held.set()
            return b""
        return data

    cut.proxy.hook = hold
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        tables.commit()
    assert held.is_set()
    assert time.monotonic() - begun < 2 * LIMIT_S + SLACK_S
    cut.proxy.hook = None
    assert cut.waiting() == []
    assert sent(cut.judge, cut.alice, to(cut.bob, "again", "fp")).fresh


# ---------------------------------------------------------------- the server, or the way to it, is gone


def test_a_connection_that_was_closed_meanwhile_is_replaced_unseen(cut: Cut) -> None:
    sent(cut.tables, cut.alice, to(cut.bob, "1"))
    cut.proxy.cut()
    sent(cut.tables, cut.alice, to(cut.bob, "2"))
    cut.proxy.cut()
    assert [message.body for message in cut.tables.history.waiting(cut.bob.id, ANY).messages] == ["1", "2"]


def test_a_transaction_is_not_continued_on_a_new_connection(cut: Cut) -> None:
    cut.tables.begin()
    cut.tables.append([Draft(cut.alice, to(cut.bob, "1"))], 1)
    cut.proxy.cut()
    with pytest.raises(Again):  # nothing is stored, and a new transaction may succeed
        cut.tables.accounts.set_password(cut.alice.id, "x")
    with pytest.raises(Unavailable):
        cut.tables.accounts.set_password(cut.alice.id, "x")
    with pytest.raises(Unavailable):
        cut.tables.commit()
    cut.tables.rollback()
    assert cut.waiting() == []
    account = cut.judge.accounts.find("alice", 0)
    assert account is not None
    assert account.password == ""
    assert sent(cut.tables, cut.alice, to(cut.bob, "2")).message.seq == 1


def test_while_it_cannot_be_reached_it_is_not_asked_all_the_time(cut: Cut) -> None:
    cut.proxy.refuse()
    before = cut.proxy.accepted
    refusals = 0
    begun = time.monotonic()
    while time.monotonic() - begun < 1.0:
        with pytest.raises(Unavailable):
            cut.tables.begin()
        refusals += 1
    assert refusals > 50
    assert 2 <= cut.proxy.accepted - before <= 8
    cut.proxy.allow()
    wait_until(5, "it is reached again", lambda: _answers(cut.tables))


def test_a_server_that_stands_still_is_given_up_in_time(own_mariadb: MariaDB, opened: Open) -> None:
    tables = opened(own_mariadb.url(), LIMIT_S)
    alice, bob = make(tables, "alice", "bob")
    sent(tables, alice, to(bob, "1", "fp 1"))
    for step in ("begin", "append", "commit", "read"):
        if step in ("append", "commit"):
            tables.begin()
        if step == "commit":
            tables.append([Draft(alice, to(bob, "2", "fp 2"))], 1)
        own_mariadb.pause()
        begun = time.monotonic()
        try:
            with pytest.raises(Unavailable):
                _step(tables, step, alice, bob)
            assert time.monotonic() - begun < 2 * LIMIT_S + SLACK_S
        finally:
            own_mariadb.resume()
        tables.rollback()
        wait_until(10, "it answers again", lambda: _answers(tables))
    stored = sent(tables, alice, to(bob, "2", "fp 2"))
    assert stored.message.seq == 2
    assert len(tables.history.waiting(bob.id, ANY).messages) == 2


def _step(tables: Tables, step: str, alice: User, bob: User) -> None:
    match step:
        case "begin":
            tables.begin()
        case "append":
            tables.append([Draft(alice, to(bob, "lost"))], 1)
        case "commit":
            tables.commit()
        case "read":
            tables.history.waiting(bob.id, ANY)


def test_a_statement_that_takes_too_long_is_ended(mariadb: MariaDB, opened: Open) -> None:
    tables = opened(mariadb.url(), LIMIT_S)
    begun = time.monotonic()
    with contextlib.suppress(Unavailable):  # SLEEP may also end early and say so
        assert tables.connection.execute("SELECT SLEEP(30)").fetchone() == (1,)
    assert time.monotonic() - begun < LIMIT_S + SLACK_S
    with pytest.raises(Unavailable):
        tables.connection.execute(
            "SELECT count(*) FROM seq_1_to_1000000 AS a, seq_1_to_1000000 AS b WHERE a.seq * b.seq < 0"
        )
    assert time.monotonic() - begun < 2 * LIMIT_S + SLACK_S
    assert tables.connection.execute("SELECT 1").fetchone() == (1,)


# ---------------------------------------------------------------- transactions that meet


def test_a_deadlock_is_told_as_again_and_the_connection_stays(mariadb: MariaDB, opened: Open) -> None:
    url = mariadb.url()
    tables = opened(url)
    alice, bob, carol = make(tables, "alice", "bob", "carol")
    low, high = (sent(tables, alice, to(user)).message.conversation for user in (bob, carol))
    session = tables.connection.execute("SELECT CONNECTION_ID()").fetchone()[0]
    with _Opponent(mariadb, parse_mysql(url).database, high, low) as opponent:
        tables.begin()
        with pytest.raises(Again):
            tables.append([Draft(alice, to(bob)), Draft(alice, to(carol))], 1)
        tables.rollback()
        opponent.give_way()
    results = send(tables, (alice, to(bob)), (alice, to(carol)))
    assert [result.message.seq for result in results if isinstance(result, Stored)] == [2, 2]
    assert tables.connection.execute("SELECT CONNECTION_ID()").fetchone()[0] == session


class _Opponent:
    """Locks conversations in the wrong order, and has written so much that the server prefers to end the other."""

    def __init__(self, server: MariaDB, database: str, first: int, second: int) -> None:
        self.connection = server.connect(database)
        self._cursor = self.connection.cursor()
        self._cursor.execute("BEGIN")
        rows = ",".join(f"({number}, {number}, '', '', {number})" for number in range(900_000, 900_200))
        self._cursor.execute(f"INSERT INTO request (send_key, sender_id, fp, answer, at_ms) VALUES {rows}")
        self._lock(first)
        self._thread = threading.Thread(target=self._wait_and_lock, args=(server, second))

    def _lock(self, conversation: int) -> None:
        self._cursor.execute(f"SELECT last FROM conversation WHERE id = {conversation} FOR UPDATE")

    def _wait_and_lock(self, server: MariaDB, second: int) -> None:
        with contextlib.closing(server.connect()) as db, db.cursor() as cursor:
            wait_until(10, "the other waits", lambda: _somebody_waits(cursor))
        self._lock(second)

    def give_way(self) -> None:
        self._thread.join(10)
        self._cursor.execute("ROLLBACK")

    def __enter__(self) -> _Opponent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self.connection.close()


def test_two_who_store_the_same_fp_at_once_store_it_once(mariadb: MariaDB, opened: Open) -> None:
    """In different conversations, so that nothing but the key keeps them apart."""
    url = mariadb.url()
    one, other = opened(url), opened(url)
    alice, bob, carol = make(one, "alice", "bob", "carol")
    for user in (bob, carol):
        sent(one, alice, to(user))
    one.begin()
    one.append([Draft(alice, to(bob, "first", "fp"))], 1)
    results: list[Stored | ErrorCode] = []
    drafts = [(alice, to(carol, "2")), (alice, to(carol, "second", "fp")), (alice, to(carol, "3"))]
    second = threading.Thread(target=lambda: results.extend(send(other, *drafts)))
    second.start()
    wait_until(10, "the second waits", lambda: _waits_for_lock(mariadb))
    one.commit()
    second.join(10)
    assert [
        (result.fresh, result.message.body, result.message.seq) if isinstance(result, Stored) else result
        for result in results
    ] == [(True, "2", 2), ErrorCode.FP_REUSED, (True, "3", 3)]
    assert sent(other, alice, to(bob, "first", "fp")).fresh is False
    assert sent(one, alice, to(carol, "4")).message.seq == 4


def test_a_repetition_in_a_batch_of_several_statements(
    mariadb: MariaDB, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rows are written when the key is met: the transaction is begun again."""
    monkeypatch.setattr(mysql_messages, "STATEMENT_BYTES", 1000)
    tables = opened(mariadb.url())
    alice, bob = make(tables, "alice", "bob")
    first = sent(tables, alice, to(bob, "first", "fp"))
    drafts = [(alice, to(bob, f"{number:0500}", f"fp {number}")) for number in range(6)] + [
        (alice, to(bob, "first", "fp"))
    ]
    with pytest.raises(Again):
        send(tables, *drafts)
    results = send(tables, *drafts)
    assert [result.message.seq for result in results if isinstance(result, Stored)] == [2, 3, 4, 5, 6, 7, 1]
    assert results[-1] == Stored(first.message, False)


def _waits_for_lock(server: MariaDB) -> bool:
    with contextlib.closing(server.connect()) as db, db.cursor() as cursor:
        return _somebody_waits(cursor)


def _somebody_waits(cursor: Any) -> bool:
    """innodb_trx would not do: asked often, it repeats its last answer."""
    cursor.execute("SHOW ENGINE INNODB STATUS")
    return "TRX HAS BEEN WAITING" in cursor.fetchone()[2]


def test_a_lock_that_is_not_given_up_is_not_waited_for_for_ever(mariadb: MariaDB, opened: Open) -> None:
    url = mariadb.url()
    one, other = opened(url), opened(url, LIMIT_S)
    alice, bob = make(one, "alice", "bob")
    sent(one, alice, to(bob, "1"))
    one.begin()
    one.append([Draft(alice, to(bob, "2"))], 1)
    begun = time.monotonic()
    other.begin()
    with pytest.raises((Again, Unavailable)):
        other.append([Draft(bob, to(alice, "3"))], 1)
    assert time.monotonic() - begun < LIMIT_S + SLACK_S
    other.rollback()
    one.commit()
    assert sent(other, bob, to(alice, "3")).message.seq == 3


def test_a_kick_and_a_message_happen_one_after_the_other(mariadb: MariaDB, opened: Open) -> None:
    """The message waits for the kick, and is refused."""
    url = mariadb.url()
    one, other = opened(url), opened(url)
    alice, bob = make(one, "alice", "bob")
    group = team(one, alice, bob)
    one.begin()
    one.groups.kick(alice.id, group, bob.id, 1)
    results: list[object] = []
    writing = threading.Thread(target=lambda: results.extend(send(other, (bob, to_group(group)))))
    writing.start()
    wait_until(10, "the message waits", lambda: _waits_for_lock(mariadb))
    one.commit()
    writing.join(10)
    assert results == [ErrorCode.NOT_A_MEMBER]
    assert one.history.messages(alice.id, -group, 0, 0, ANY) == []


def test_who_joins_beside_a_message_gets_it_or_not_but_no_number_is_missing(mariadb: MariaDB, opened: Open) -> None:
    url = mariadb.url()
    one, other = opened(url), opened(url)
    alice, bob = make(one, "alice", "bob")
    group = team(one, alice)
    one.begin()
    one.append([Draft(alice, to_group(group, "1"))], 1)
    joining = threading.Thread(target=join, args=(other, bob, group))
    joining.start()
    wait_until(10, "the join waits", lambda: _waits_for_lock(mariadb))
    one.commit()
    joining.join(10)
    sent(one, alice, to_group(group, "2"))
    waiting = one.history.waiting(bob.id, ANY, [-group])
    assert [message.body for message in waiting.messages] == ["2"]
    assert waiting.delivered == {-group: 1}


def test_friends_who_ask_each_other_at_once_are_friends(mariadb: MariaDB, opened: Open) -> None:
    url = mariadb.url()
    one, other = opened(url), opened(url)
    alice, bob = make(one, "alice", "bob")
    one.begin()
    assert one.friends.request(alice, bob.id, ASKING, 1) is Asked.NEW
    made: list[Asked] = []
    asking = threading.Thread(
        target=lambda: made.append(done(other, lambda t: t.friends.request(bob, alice.id, ASKING, 1)))
    )
    asking.start()
    wait_until(10, "the other waits", lambda: _waits_for_lock(mariadb))
    one.commit()
    asking.join(10)
    assert made == [Asked.FRIENDS]
    assert one.friends.of(alice.id) == [bob]


def test_one_name_is_taken_once(mariadb: MariaDB, opened: Open) -> None:
    url = mariadb.url()
    one, other = opened(url), opened(url)
    one.begin()
    one.accounts.create("carol", "", 1)
    met: list[BaseException] = []

    def take() -> None:
        other.begin()
        try:
            other.accounts.create("Carol", "", 1)
        except (Again, Refused) as error:
            met.append(error)
        other.rollback()

    taking = threading.Thread(target=take)
    taking.start()
    wait_until(10, "the second waits", lambda: _waits_for_lock(mariadb))
    one.commit()
    taking.join(10)
    (error,) = met
    assert isinstance(error, Again) or error.code == ErrorCode.NAME_TAKEN
    with pytest.raises(Refused):
        done(other, lambda tables: tables.accounts.create("Carol", "", 1))
