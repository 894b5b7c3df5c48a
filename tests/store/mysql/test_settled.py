"""Ids that become visible out of their order: nobody reads past a row that is still to come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from chatd.config.urls import MysqlAddress, parse_mysql
from chatd.store.contract import Draft, EventKind, Tables
from chatd.store.event_contract import ALL_KINDS, EventTables, Position, ReadLimits, StoredEvent
from chatd.store.mysql import messages as mysql_messages
from chatd.store.mysql.tables import open_reader, open_tables
from tests.harness.mariadb import MariaDB
from tests.store.steps import done, make, sent, to

LIMIT_S = 20.0
Open = Callable[[], Tables]


@pytest.fixture
def address(mariadb: MariaDB) -> MysqlAddress:
    """Of an empty database."""
    return parse_mysql(mariadb.url())


@pytest.fixture
def opened(address: MysqlAddress) -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(open_tables(address, LIMIT_S, create=True)))


@pytest.fixture
def reader(opened: Open, address: MysqlAddress) -> Iterator[EventTables]:
    opened()
    with closing(open_reader(address, LIMIT_S)) as tables:
        yield tables.events


def settles(events: EventTables, within_s: float) -> bool:
    """Whether all that is visible now may be read, within this time."""
    left, ends = set(events.slots()), time.monotonic() + within_s
    while left and time.monotonic() < ends:
        left -= events.free()
        time.sleep(0.01)
    return not left


def test_a_low_id_that_is_not_committed_keeps_higher_ones_from_being_read(opened: Open, reader: EventTables) -> None:
    slow, quick = opened(), opened()
    ann, bob, cyd, dan = make(slow, "ann", "bob", "cyd", "dan")
    done(slow, lambda inside: inside.webhooks.register("crm", ALL_KINDS))
    start = reader.marks()
    slow.begin()
    slow.append([Draft(ann, to(bob, "first"))], 1)  # has the lower id
    sent(quick, cyd, to(dan, "second"))
    upto = reader.marks()
    assert upto.message >= start.message + 2  # this would lose "first"
    assert [one.message.body for one in read(reader, start, upto) if one.message] == ["second"]
    assert not settles(reader, 1.0)
    slow.commit()
    assert settles(reader, 5.0)
    assert [one.message.body for one in read(reader, start, upto) if one.message] == ["first", "second"]


def test_without_the_lock_the_message_would_be_lost(
    opened: Open, reader: EventTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above sees it if transactions do not enter the barrier."""
    monkeypatch.setattr(mysql_messages, "_ENTER", b"SELECT 1 FROM DUAL WHERE FALSE")
    with pytest.raises(AssertionError):
        test_a_low_id_that_is_not_committed_keeps_higher_ones_from_being_read(opened, reader)


def test_an_event_that_is_not_committed_keeps_higher_ones_from_being_read(opened: Open, reader: EventTables) -> None:
    slow, quick = opened(), opened()
    ann, bob = make(slow, "ann", "bob")
    done(slow, lambda inside: inside.webhooks.register("crm", ALL_KINDS))
    slow.begin()
    slow.events.record(EventKind.USER_LOGIN, {"user": ann.id})
    done(quick, lambda inside: inside.events.record(EventKind.USER_LOGIN, {"user": bob.id}))
    assert not settles(reader, 0.6)
    slow.rollback()
    assert settles(reader, 5.0)


def test_a_client_that_vanishes_in_a_transaction_holds_nobody_up(opened: Open, reader: EventTables) -> None:
    slow = opened()
    ann, bob = make(slow, "ann", "bob")
    done(slow, lambda inside: inside.webhooks.register("crm", ALL_KINDS))
    slow.begin()
    slow.append([Draft(ann, to(bob))], 1)
    assert not settles(reader, 0.6)
    slow.close()
    assert settles(reader, 5.0)


def test_waiting_for_transactions_keeps_none_from_writing(opened: Open, reader: EventTables) -> None:
    """While one transaction does not end, others begin and end as always."""
    slow, quick = opened(), opened()
    ann, bob, cyd, dan = make(slow, "ann", "bob", "cyd", "dan")
    done(slow, lambda inside: inside.webhooks.register("crm", ALL_KINDS))
    slow.begin()
    slow.append([Draft(ann, to(bob))], 1)
    waits = threading.Thread(target=settles, args=(reader, 2.0))
    waits.start()
    longest = 0.0
    for _ in range(40):
        begun = time.monotonic()
        sent(quick, cyd, to(dan))
        longest = max(longest, time.monotonic() - begun)
        time.sleep(0.02)
    slow.commit()
    waits.join()
    assert longest < 1.0


def test_everything_is_read_once_while_many_write(opened: Open, reader: EventTables) -> None:
    """Transactions that overlap, some of which are undone: a reader that goes on from where it was misses nothing."""
    writers, each = 4, 60
    people = make(opened(), *[f"u{number}" for number in range(2 * writers)])
    done(opened(), lambda inside: inside.webhooks.register("crm", ALL_KINDS))
    position, got = reader.marks(), list[str]()
    stores = [opened() for _ in range(writers)]

    def write(number: int) -> None:
        tables, ann, bob = stores[number], people[2 * number], people[2 * number + 1]
        for count in range(each):
            tables.begin()
            tables.append([Draft(ann, to(bob, f"{number} {count}")), Draft(ann, to(bob, f"{number} {count}+"))], 1)
            time.sleep(0.003 * (count % 4))
            if count % 7 == 3:
                tables.rollback()
            else:
                tables.commit()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()

    def follow() -> None:
        nonlocal position
        upto = reader.marks()
        assert settles(reader, 10.0)
        got.extend(one.message.body for one in read(reader, position, upto) if one.message)
        position = upto

    while any(thread.is_alive() for thread in threads):
        follow()
    follow()
    kept = [count for count in range(each) if count % 7 != 3]
    for number in range(writers):
        wanted = [f"{number} {count}{more}" for count in kept for more in ("", "+")]
        assert [one for one in got if one.startswith(f"{number} ")] == wanted


def read(events: EventTables, after: Position, upto: Position) -> list[StoredEvent]:
    return events.read(after, upto, ALL_KINDS, ReadLimits(events=10_000)).events
