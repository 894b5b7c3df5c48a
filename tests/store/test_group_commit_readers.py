"""Group commit beside other workers and hosts: a transaction that met another is run again and nobody is told, and
threads that read do not hold up the commits. The stores are real SQLite files; `Watched` plants what is met."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.store.committer import ATTEMPTS
from chatd.store.contract import Again, Tables
from chatd.store.group_commit import Connections, GroupCommit
from chatd.store.sqlite.tables import open_tables
from tests.harness.deadline import run, until, within
from tests.store.steps import ANY
from tests.store.test_group_commit import WAIT_S, Desk, Watched, write_lock


class Office(Desk):
    """A desk with so many readers, each with tables of its own."""

    def __init__(self, path: Path, readers: int) -> None:
        super().__init__(path)
        self.store.close()
        self.watched = Watched(open_tables(path, create=True))
        self.readers = [Watched(open_tables(path, create=True)) for _ in range(readers)]
        loop = asyncio.get_running_loop()
        self.store = GroupCommit(Connections(self.watched, self.readers), loop, self.row, self._answer)  # type: ignore[arg-type]

    def reads(self) -> list[str]:
        return [name for reader in self.readers for name in reader.calls]


MakeOffice = Callable[..., contextlib.AbstractAsyncContextManager[Office]]


@pytest.fixture
def office(tmp_path: Path) -> MakeOffice:
    @contextlib.asynccontextmanager
    async def opened(readers: int = 2) -> AsyncIterator[Office]:
        office = Office(tmp_path / "chatd.db", readers)
        ticks = asyncio.create_task(office.ticking())
        try:
            yield office
        finally:
            ticks.cancel()
            for watched in (office.watched, *office.readers):
                for gate in watched.hold.values():
                    gate.set()
            await within(10, "the store settles", office.store.settle())
            office.store.close()

    return opened


# ---------------------------------------------------------------- transactions that meet


class Meets:
    """Raises Again at `step`, so many times."""

    def __init__(self, watched: Watched, step: str, times: int) -> None:
        self.left = times
        self._watched = watched
        self._plant(step)

    def _plant(self, step: str) -> None:
        part, _, name = step.rpartition(".")
        owner = getattr(self._watched, part) if part else self._watched
        method = getattr(owner, name)

        def met(*arguments: object) -> object:
            if self.left:
                self.left -= 1
                self._watched.calls.append(name)
                raise Again("1213")
            return method(*arguments)

        setattr(owner, name, met)


@pytest.mark.parametrize("step", ["append", "advance", "update_last_seen", "accounts.set_password", "commit"])
def test_a_transaction_that_met_another_is_run_again_and_nobody_is_told(office: MakeOffice, step: str) -> None:
    async def story() -> None:
        async with office(0) as at:
            meets = Meets(at.watched, step, 3)
            writing = asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.set_password(at.bob.id, "x")))
            made = asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.create("carol", "", 1)))
            taken = asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.create("ALICE", "", 1)))
            await asyncio.sleep(0)
            at.store.saw(at.bob.id, 5)
            at.store.advance(at.bob.id, at.talk, 1)
            at.send("a", "fp a")
            at.send("b")
            assert await at.stored() == ["a", "b"]
            await writing
            assert (await made).name == "carol"
            with pytest.raises(Refused):
                await taken
            assert meets.left == 0
            assert len(at.watched.transactions()) == 4
            assert at.outcome() == [("a", 2), ("b", 3)]
            assert at.row.store_ok == 1

    run(story())


def test_who_always_meets_others_is_refused_in_the_end(office: MakeOffice) -> None:
    async def story() -> None:
        async with office(0) as at:
            meets = Meets(at.watched, "append", 10**6)
            writing = asyncio.ensure_future(at.store.write(lambda tables: tables.accounts.create("carol", "", 1)))
            await asyncio.sleep(0)
            at.send("a", "fp a")
            with pytest.raises(Unavailable):
                await within(10, "the refusal", writing)
            assert at.outcome() == [("a", ErrorCode.UNAVAILABLE)]
            assert 1 <= 10**6 - meets.left <= ATTEMPTS
            meets.left = 0
            at.send("a", "fp a")
            assert await at.stored() == ["0", "a"]

    run(story())


# ---------------------------------------------------------------- readers


def test_reads_are_the_readers_and_see_what_was_asked_for_before(office: MakeOffice) -> None:
    async def story() -> None:
        async with office() as at:
            for number in range(30):
                at.send(number)
                if number % 3 == 0:
                    at.store.advance(at.bob.id, at.talk, number + 1)
                assert len(await at.stored()) == number + 2 - (number - number % 3 + 1)
            assert set(at.reads()) == {"waiting"}
            assert len(at.reads()) == 30
            assert "waiting" not in at.watched.calls

    run(story())


def test_a_read_waits_for_the_commit_of_what_was_asked_for_before(office: MakeOffice) -> None:
    async def story() -> None:
        async with office() as at:
            gate = at.watched.hold["commit"] = threading.Event()
            at.send("a")
            reading = asyncio.ensure_future(at.stored())
            await until(5, "the commit begins", lambda: "commit" in at.watched.calls)
            assert at.reads() == []
            gate.set()
            assert await reading == ["0", "a"]

    run(story())


def test_a_slow_read_holds_up_neither_commits_nor_other_reads(office: MakeOffice) -> None:
    async def story() -> None:
        async with office() as at:
            gate = threading.Event()
            for reader in at.readers:
                reader.hold["all"] = gate
            slow = asyncio.ensure_future(at.store.read(lambda tables: tables.accounts.all()))
            await until(5, "the slow read begins", lambda: "all" in at.reads())
            for number in range(5):
                at.send(number)
                assert len(await at.stored()) == number + 2
            assert len(at.answers) == 5
            assert not slow.done()
            gate.set()
            assert [name for _, name, _ in await slow] == ["alice", "bob"]

    run(story())


def test_only_reading_needs_no_transaction_and_no_pause(office: MakeOffice) -> None:
    async def story() -> None:
        async with office() as at:
            for _ in range(20):
                assert await at.stored() == ["0"]
            assert at.watched.calls == []
            assert at.store.take_commit_seconds() == []

    run(story())


def test_a_read_that_takes_too_long_is_refused_in_time(office: MakeOffice) -> None:
    async def story() -> None:
        async with office() as at:
            loop = asyncio.get_running_loop()
            gate = threading.Event()
            for reader in at.readers:
                reader.hold["all"] = gate
            begun = loop.time()
            slow = [asyncio.ensure_future(at.store.read(lambda tables: tables.accounts.all())) for _ in range(4)]
            for call in slow:
                with pytest.raises(Unavailable):
                    await within(10, "the refusal", call)
            assert loop.time() - begun >= WAIT_S
            await within(5, "nothing is waited for", at.store.settle())
            assert at.row.store_ok == 0
            gate.set()
            assert await at.stored() == ["0"]
            assert at.row.store_ok == 1
            assert at.reads().count("all") == 2, "who has been refused is not asked for"

    run(story())


def test_reads_of_a_transaction_that_failed_are_refused_with_it(office: MakeOffice, tmp_path: Path) -> None:
    async def story() -> None:
        async with office() as at:
            with write_lock(tmp_path / "chatd.db"):
                at.send("a", "fp a")
                with pytest.raises(Unavailable):
                    await within(10, "the refusal", at.stored())
            assert at.reads() == []
            assert at.outcome() == [("a", ErrorCode.UNAVAILABLE)]
            await until(5, "the store is free again", lambda: not at.store.queued)
            assert await at.stored() == ["0"]

    run(story())


def test_what_a_read_raises_is_its_caller_s(office: MakeOffice) -> None:
    def fail(tables: Tables) -> None:
        raise KeyError("a bug")

    def refuse(tables: Tables) -> None:
        raise Refused(ErrorCode.NOT_A_MEMBER)

    async def story() -> None:
        async with office(1) as at:
            calls = [asyncio.ensure_future(at.store.read(work)) for work in (fail, refuse)]
            gone = asyncio.ensure_future(at.stored())
            await asyncio.sleep(0)
            gone.cancel()
            with pytest.raises(Unavailable):
                await calls[0]
            with pytest.raises(Refused):
                await calls[1]
            assert await at.stored() == ["0"]

    run(story())


def test_close_ends_all_threads(tmp_path: Path) -> None:
    async def story() -> None:
        at = Office(tmp_path / "chatd.db", 3)
        reading = [asyncio.ensure_future(at.store.read(lambda t: t.history.waiting(at.bob.id, ANY))) for _ in range(10)]
        at.send("a")
        await at.store.settle()
        assert all(call.done() for call in reading)
        at.store.close()
        assert not {"store", "store reader"} & {thread.name for thread in threading.enumerate()}
        assert all("close" in reader.calls for reader in at.readers)

    run(story())
