"""The events of a store are looked for while somebody reads, and only then."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from typing import Any

import pytest

from chatd.errors import Unavailable
from chatd.feeds.feed import Feed
from chatd.store.event_contract import Position
from tests.harness.deadline import run, until


class Reader:
    """A store to which something is added with every look. fails: it does not answer."""

    def __init__(self) -> None:
        self.events: Any = self
        self.looks = 0
        self.opened = self.closed = 0
        self.fails = False
        self._numbers = itertools.count(1)

    def open(self) -> Any:
        self.opened += 1
        return self

    def marks(self) -> Position:
        if self.fails:
            raise sqlite3.OperationalError("disk I/O error")
        self.looks += 1
        return Position(next(self._numbers))

    def slots(self) -> frozenset[int]:
        return frozenset()

    def close(self) -> None:
        self.closed += 1


def test_events_are_looked_for_while_at_least_one_reads() -> None:
    reader = Reader()

    async def story() -> None:
        feed = Feed(reader.open)
        assert not await feed.beyond(Position(), 0.2)
        assert reader.looks == 0
        with feed.followed():
            assert await feed.beyond(Position(), 5)
            with feed.followed():
                pass
            assert await feed.beyond(feed.settled, 5), "the first one still reads"
        settled = feed.settled
        assert not await feed.beyond(settled, 0.2)
        assert feed.settled == settled
        with feed.followed():
            assert await feed.beyond(settled, 5)
        await feed.close()
        await until(5, "the store is closed", lambda: reader.closed == 1)

    run(story())


def test_a_store_that_does_not_answer_is_opened_again() -> None:
    reader = Reader()

    async def story() -> None:
        feed = Feed(reader.open)
        with feed.followed():
            assert await feed.beyond(Position(), 5)
            reader.fails = True
            await until(5, "it is noticed", lambda: feed.trouble)
            assert "disk I/O error" in feed.trouble
            with pytest.raises(Unavailable, match="disk I/O error"):
                await feed.ask(lambda one: one.events.marks())
            reader.fails = False
            assert await feed.beyond(feed.settled, 5)
            assert (feed.trouble, reader.opened > 1) == ("", True)
        await feed.close()

    run(story())


def test_whoever_waits_is_told_at_once_and_whoever_reads_behind_the_end_gets_nothing() -> None:
    """Between two looks, nothing is beyond what has settled."""
    reader = Reader()

    async def story() -> None:
        feed = Feed(reader.open)
        with feed.followed():
            waits = [asyncio.create_task(feed.beyond(Position(), 5)) for _ in range(3)]
            assert await asyncio.gather(*waits) == [True] * 3
        assert not await feed.beyond(Position(10_000), 0.05)
        await feed.close()

    run(story())
