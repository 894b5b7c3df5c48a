"""Group commit: what is together in a transaction, when it is answered, and what happens when the store is slow or
refuses. The store is a real SQLite file; `Watched` writes down what is asked of it, and holds or breaks a step."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import User
from chatd.scoreboard import ROW_BYTES, Row
from chatd.store import committer
from chatd.store.contract import Advance, Draft, Stored, Tables
from chatd.store.group_commit import DRAFTS_PER_BATCH, Connections, GroupCommit
from chatd.store.sqlite.tables import SqliteTables, open_tables
from tests.harness.deadline import run, until, within
from tests.store.steps import ANY, make, sent, to, to_name

WAIT_S = 0.3


class WatchedPart:
    """One part of watched tables: its calls are remembered with the others, by their own name."""

    def __init__(self, watched: Watched, part: object) -> None:
        self._watched = watched
        self._part = part

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self._watched.recorded(name, getattr(self._part, name))


class Watched:
    """Tables that remember the order of calls.

    hold: steps that wait for their event. broken: steps that raise, once.
    """

    def __init__(self, tables: SqliteTables) -> None:
        self._tables = tables
        self.gather_s = tables.gather_s
        self.accounts, self.friends, self.groups, self.admission, self.history, self.request_log = (
            WatchedPart(self, part)
            for part in (
                tables.accounts,
                tables.friends,
                tables.groups,
                tables.admission,
                tables.history,
                tables.request_log,
            )
        )
        self.calls: list[str] = []
        self.arguments: list[tuple[Any, ...]] = []
        self.hold: dict[str, threading.Event] = {}
        self.broken: dict[str, Exception] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self.recorded(name, getattr(self._tables, name))

    def recorded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            self.arguments.append(arguments)
            if name in self.hold:
                assert self.hold[name].wait(20.0)
            if name in self.broken:
                self._tables.rollback()
                raise self.broken.pop(name)
            return method(*arguments)

        return call

    def transactions(self) -> list[list[str]]:
        """The calls of each transaction, begin and commit left out, and the reads after it."""
        text = " ".join(self.calls)
        return [part.replace("commit", "|").split() for part in text.split("begin")[1:]]


class Desk:
    """A GroupCommit with two users, and everything it has answered."""

    def __init__(self, path: Path) -> None:
        self.tables = open_tables(path, create=True)
        self.alice, self.bob = make(self.tables, "alice", "bob")
        self.talk = sent(self.tables, self.alice, to(self.bob, "0")).message.conversation
        self.watched = Watched(self.tables)
        self.row = Row(memoryview(bytearray(ROW_BYTES)).cast("q"))
        self.answers: list[tuple[object, Stored | ErrorCode]] = []
        self.store = GroupCommit(Connections(self.watched), asyncio.get_running_loop(), self.row, self._answer)

    def _answer(self, drafts: list[Draft], origins: list[Any], results: list[Stored | ErrorCode]) -> None:
        assert len(drafts) == len(origins) == len(results)
        self.answers += zip(origins, results, strict=True)

    def send(self, origin: object, fp: str = "", text: str | None = None) -> None:
        self.store.append(Draft(self.alice, to(self.bob, str(origin) if text is None else text, fp)), origin)

    def outcome(self) -> list[tuple[object, int | ErrorCode]]:
        """(origin, seq or refusal) in the order of the answers."""
        return [
            (origin, result.message.seq if isinstance(result, Stored) else result) for origin, result in self.answers
        ]

    async def stored(self) -> list[str]:
        return [
            message.body for message in (await self.store.read(lambda t: t.history.waiting(self.bob.id, ANY))).messages
        ]

    async def ticking(self) -> None:
        while True:
            self.store.tick(WAIT_S)
            await asyncio.sleep(0.02)


@pytest.fixture
def desk(tmp_path: Path) -> Callable[[], contextlib.AbstractAsyncContextManager[Desk]]:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Desk]:
        desk = Desk(tmp_path / "chatd.db")
        ticks = asyncio.create_task(desk.ticking())
        try:
            yield desk
        finally:
            ticks.cancel()
            for gate in desk.watched.hold.values():
                gate.set()
            await within(10, "the store settles", desk.store.settle())
            desk.store.close()

    return opened


MakeDesk = Callable[[], contextlib.AbstractAsyncContextManager[Desk]]


# ---------------------------------------------------------------- what is together, and in which order


def test_one_turn_is_one_transaction_writes_then_commit_then_reads(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            reading = asyncio.ensure_future(at.store.read(lambda tables: tables.history.waiting(at.bob.id, ANY)))
            writing = asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.set_password(at.bob.id, "x")))
            await asyncio.sleep(0)
            at.store.advance(at.bob.id, at.talk, 1)
            at.send("a")
            at.store.flush_cursors()
            at.send("b")
            await asyncio.gather(reading, writing)
            assert at.watched.transactions() == [["append", "advance", "set_password", "|", "waiting"]]
            assert [message.body for message in reading.result().messages] == ["a", "b"]
            assert at.outcome() == [("a", 2), ("b", 3)]

    run(story())


def test_nothing_is_told_before_the_commit_is_done(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            gate = at.watched.hold["commit"] = threading.Event()
            at.send("a")
            writing = asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.set_password(at.bob.id, "x")))
            reading = asyncio.ensure_future(at.stored())
            await until(5, "the commit begins", lambda: "commit" in at.watched.calls)
            assert (at.answers, writing.done(), reading.done()) == ([], False, False)
            assert "waiting" not in at.watched.calls
            assert at.store.queued == 1
            gate.set()
            assert await reading == ["0", "a"]
            assert at.outcome() == [("a", 2)]
            assert writing.done()
            assert at.store.queued == 0

    run(story())


def test_what_comes_during_a_commit_goes_into_the_next_one_together(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            gate = at.watched.hold["commit"] = threading.Event()
            at.send(0)
            await until(5, "the commit begins", lambda: "commit" in at.watched.calls)
            for number in range(1, 6):
                at.send(number)
                await asyncio.sleep(0.001)
            assert at.store.queued == 6
            gate.set()
            await at.store.settle()
            assert at.watched.transactions() == [["append", "|"], ["append", "|"]]
            assert at.outcome() == [(number, number + 2) for number in range(6)]

    run(story())


def test_a_long_queue_is_cut_into_transactions_and_keeps_its_order(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            count = 2 * DRAFTS_PER_BATCH + 10
            for number in range(count):
                at.send(number)
            writing = asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.set_password(at.bob.id, "x")))
            await at.store.settle()
            await writing
            sizes = [len(arguments[0]) for name, arguments in zip(at.watched.calls, at.watched.arguments, strict=True)
                     if name == "append"]  # fmt: skip
            assert sizes == [DRAFTS_PER_BATCH, DRAFTS_PER_BATCH, 10]
            assert at.outcome() == [(number, number + 2) for number in range(count)]

    run(story())


def test_a_clock_that_is_set_back_does_not_turn_messages_back(desk: MakeDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with desk() as at:
            for now_ms in (5_000, 4_000, 6_000):
                monkeypatch.setattr(committer.time, "time_ns", lambda now_ms=now_ms: now_ms * 1_000_000)
                at.send(now_ms)
                await at.store.settle()
            times = [result.message.sent_at_ms for _, result in at.answers if isinstance(result, Stored)]
            assert times == [5_000, 5_000, 6_000]

    run(story())


# ---------------------------------------------------------------- one that fails, and the others


def test_a_refusal_hurts_nobody_else_in_the_batch(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            taken = asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.create("ALICE", "", 1)))
            made = asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.create("carol", "", 1)))
            await asyncio.sleep(0)
            at.send("a")
            at.store.append(Draft(at.alice, to_name("nobody")), "b")
            at.send("c")
            await at.store.settle()
            with pytest.raises(Refused, match="taken"):
                await taken
            assert (await made).name == "carol"
            assert at.outcome() == [("a", 2), ("b", ErrorCode.UNKNOWN_RECIPIENT), ("c", 3)]
            assert len(at.watched.transactions()) == 1
            assert at.row.store_ok == 1

    run(story())


def _break_down(tables: Tables) -> None:
    tables.accounts.set_password(1, "half done")
    raise KeyError("a bug")


@pytest.mark.parametrize("step", ["begin", "append", "advance", "work", "commit"])
def test_a_transaction_that_fails_is_refused_as_a_whole(desk: MakeDesk, step: str) -> None:
    async def story() -> None:
        async with desk() as at:
            if step != "work":
                at.watched.broken[step] = Unavailable("out of order")
            calls = [
                asyncio.ensure_future(at.store.write(_break_down if step == "work" else lambda tables: None)),
                asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.create("carol", "", 1))),
                asyncio.ensure_future(at.stored()),
            ]
            await asyncio.sleep(0)
            at.store.advance(at.bob.id, at.talk, 1)
            at.send("a", "fp a")
            at.send("b")
            at.store.flush_cursors()
            await at.store.settle()
            for call in calls:
                with pytest.raises(Unavailable):
                    await call
            assert at.outcome() == [("a", ErrorCode.UNAVAILABLE), ("b", ErrorCode.UNAVAILABLE)]
            assert at.row.store_ok == 0
            at.answers.clear()
            at.send("a", "fp a")
            assert await at.stored() == ["a"]  # the cursor that was in the failed transaction is in this one
            assert at.outcome() == [("a", 2)]
            assert at.row.store_ok == 1
            account = await at.store.read(lambda tables: tables.accounts.find("alice", 0))
            assert account is not None
            assert account.password == ""
            assert await at.store.read(lambda tables: tables.accounts.find("carol", 0)) is None

    run(story())


def test_cursors_of_a_failed_transaction_are_stored_without_being_asked_for(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            at.watched.broken["commit"] = Unavailable("out of order")
            at.store.advance(at.bob.id, at.talk, 1)
            at.store.flush_cursors()
            await at.store.settle()
            await until(5, "the cursor is stored", lambda: len(at.watched.transactions()) == 2)
            await at.store.settle()
            assert at.watched.transactions() == [["advance", "|"], ["advance", "|"]]
            assert await at.stored() == []

    run(story())


def test_a_read_that_fails_is_told_to_its_caller_alone(desk: MakeDesk) -> None:
    def fail(tables: Tables) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async def story() -> None:
        async with desk() as at:
            failing = asyncio.ensure_future(at.store.read(fail))
            reading = asyncio.ensure_future(at.stored())
            at.send("a")
            with pytest.raises(Unavailable, match="I/O"):
                await failing
            assert await reading == ["0", "a"]
            assert at.outcome() == [("a", 2)]

    run(story())


def test_a_caller_that_has_gone_disturbs_nobody(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            gone = [asyncio.ensure_future(at.stored()) for _ in range(2)]
            gone.append(asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.create("carol", "", 1))))
            await asyncio.sleep(0)
            for call in gone:
                call.cancel()
            assert await at.stored() == ["0"]

    run(story())


# ---------------------------------------------------------------- a store that does not answer (P10)


@contextlib.contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Held as by another worker."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def test_a_lock_held_too_long_refuses_in_time_and_stores_nothing_afterwards(desk: MakeDesk, tmp_path: Path) -> None:
    async def story() -> None:
        async with desk() as at:
            loop = asyncio.get_running_loop()
            with write_lock(tmp_path / "chatd.db"):
                begun = loop.time()
                calls = [
                    asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.create("carol", "", 1))),
                    asyncio.ensure_future(at.stored()),
                ]
                await asyncio.sleep(0)
                at.store.advance(at.bob.id, at.talk, 1)
                at.send("a", "fp a")
                at.store.flush_cursors()
                await asyncio.sleep(WAIT_S / 2)
                at.send("b", "fp b")
                calls.append(asyncio.ensure_future(at.stored()))
                for call in calls:
                    with pytest.raises(Unavailable):
                        await within(5, "the refusal", call)
                assert WAIT_S * 1.5 <= loop.time() - begun < WAIT_S * 1.5 + 1.0
                assert at.outcome() == [("a", ErrorCode.UNAVAILABLE), ("b", ErrorCode.UNAVAILABLE)]
                assert at.row.store_ok == 0
            assert await at.stored() == []  # the cursor is kept and stored after all
            at.answers.clear()
            at.send("a again", "fp a")
            at.send("b again", "fp b")
            assert await at.stored() == ["a again", "b again"]
            assert [result.fresh for _, result in at.answers if isinstance(result, Stored)] == [True, True]
            assert at.row.store_ok == 1

    run(story())


def test_a_commit_that_is_slow_is_refused_first_and_then_told_after_all(desk: MakeDesk) -> None:
    """P2: the sender does not know, and may send again; the answer is then the first message."""

    async def story() -> None:
        async with desk() as at:
            gate = at.watched.hold["commit"] = threading.Event()
            at.send("a", "fp a")
            writing = asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.create("carol", "", 1)))
            with pytest.raises(Unavailable):
                await within(5, "the refusal", writing)
            assert at.outcome() == [("a", ErrorCode.UNAVAILABLE)]
            gate.set()
            at.send("a again", "fp a", "a")
            assert await at.stored() == ["0", "a"]
            assert at.outcome() == [("a", ErrorCode.UNAVAILABLE), ("a", 2), ("a again", 2)]
            assert at.row.store_ok == 1

    run(story())


def test_a_slow_transaction_that_fails_is_refused_once(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            gate = at.watched.hold["commit"] = threading.Event()
            at.watched.broken["commit"] = Unavailable("out of order")
            at.send("a", "fp a")
            await until(5, "the refusal", lambda: at.answers)
            gate.set()
            await at.store.settle()
            assert at.outcome() == [("a", ErrorCode.UNAVAILABLE)]
            at.send("a again", "fp a")
            assert await at.stored() == ["0", "a again"]

    run(story())


# ---------------------------------------------------------------- cursors


def test_cursors_wait_for_company_and_only_the_highest_is_written(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            for number in range(1, 100):
                at.send(number)
            await at.store.settle()
            at.watched.calls.clear()
            at.watched.arguments.clear()
            for seq in (*range(1, 60), 20, 3):  # two sessions of one user, one of them slower
                at.store.advance(at.bob.id, at.talk, seq)
                await asyncio.sleep(0)
            at.store.advance(at.alice.id, at.talk, 7)
            assert at.watched.calls == []
            await until(5, "the cursors are stored", lambda: "commit" in at.watched.calls)
            assert at.watched.calls == ["begin", "advance", "commit"]
            written = at.watched.arguments[1][0]
            assert sorted(written) == sorted([Advance(at.bob.id, at.talk, 59), Advance(at.alice.id, at.talk, 7)])

    run(story())


def test_cursors_are_stored_before_anything_that_is_read_after_them(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            at.store.advance(at.bob.id, at.talk, 1)
            assert await at.stored() == []
            at.send("a")
            at.store.advance(at.bob.id, at.talk, 2)
            await at.store.write(lambda tables: None)
            assert await at.stored() == []

    run(story())


# ---------------------------------------------------------------- the end


def test_settle_waits_for_everything_and_close_ends_the_thread(tmp_path: Path) -> None:
    async def story() -> None:
        at = Desk(tmp_path / "chatd.db")
        await within(5, "nothing to settle", at.store.settle())
        for number in range(DRAFTS_PER_BATCH + 5):
            at.send(number)
        at.store.advance(at.bob.id, at.talk, 1)
        await at.store.settle()
        assert len(at.answers) == DRAFTS_PER_BATCH + 5
        at.store.close()
        assert "store" not in [thread.name for thread in threading.enumerate()]
        with pytest.raises(sqlite3.ProgrammingError):
            at.tables.accounts.all()

    run(story())
    again = open_tables(tmp_path / "chatd.db", create=True)
    assert len(again.history.waiting(User(2, "bob").id, 10**6).messages) == DRAFTS_PER_BATCH + 5
    again.close()
