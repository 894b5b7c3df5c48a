"""Group commit keeps its order: a read or write never overtakes what was asked for before it, however long the queue;
cursors and last-seen times survive a batch that fails; a batch is in one declared state at a time."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.store import group_commit
from chatd.store.batch import TRANSITIONS, Batch, BatchState
from chatd.store.contract import Draft, Stored, Tables
from chatd.store.group_commit import DRAFTS_PER_BATCH
from tests.harness.deadline import run, until, within
from tests.store.steps import ANY, ANYBODY, to_group
from tests.store.test_group_commit import WAIT_S, Desk, MakeDesk, desk, write_lock
from tests.store.test_group_commit_readers import MakeOffice, office

__all__ = ["desk", "office"]
MANY = DRAFTS_PER_BATCH + 1


# ---------------------------------------------------------------- a queue longer than a batch


async def last_seq(at: Desk) -> int:
    """As a read of the history finds it."""
    found = await at.store.read(lambda tables: tables.history.messages(at.bob.id, at.talk, 0, 1 << 62, 1))
    return found[-1].seq if found else 0


@pytest.mark.parametrize("readers", [0, 2])
def test_a_read_sees_every_message_asked_for_before(office: MakeOffice, readers: int) -> None:
    async def story() -> None:
        async with office(readers) as at:
            for number in range(MANY):
                at.send(number)
            assert await last_seq(at) == MANY + 1
            assert len(at.answers) == MANY

    run(story())


@pytest.mark.parametrize("readers", [0, 2])
def test_messages_to_a_group_written_before_leaving_it_are_stored(office: MakeOffice, readers: int) -> None:
    async def story() -> None:
        async with office(readers) as at:
            group = await at.store.write(lambda tables: tables.groups.create(at.bob.id, "team", "", ANY, 1))
            await at.store.write(lambda tables: tables.admission.join(at.alice.id, group, ANYBODY, 1))
            for number in range(MANY):
                at.store.append(Draft(at.alice, to_group(group, str(number))), number)
            leaving = asyncio.ensure_future(at.store.write(lambda tables: tables.groups.leave(at.alice.id, group)))
            await asyncio.sleep(0)
            at.store.append(Draft(at.alice, to_group(group, "too late")), "too late")
            await leaving
            await at.store.settle()
            assert at.outcome()[:MANY] == [(number, number + 1) for number in range(MANY)]

    run(story())


def test_cursors_go_with_what_was_asked_for_before_them(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            for number in range(MANY):
                at.send(number)
            at.store.advance(at.bob.id, at.talk, MANY + 1)
            assert await at.stored() == []

    run(story())


@pytest.mark.parametrize("readers", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_no_read_or_write_overtakes_anything(
    office: MakeOffice, monkeypatch: pytest.MonkeyPatch, readers: int, seed: int
) -> None:
    """Operations in any order, many of them in one turn of the loop, with batches of at most three messages: each read
    and write sees all messages and writes before it, and messages and writes are numbered in the order of asking."""
    monkeypatch.setattr(group_commit, "DRAFTS_PER_BATCH", 3)
    chance = random.Random(seed)

    async def story() -> None:
        async with office(readers) as at:
            messages = writes = 0
            calls: list[asyncio.Future[None]] = []

            async def check(call: Callable[..., object], seen: int, written: int) -> None:
                def work(tables: Tables) -> tuple[int, int]:
                    found = (
                        tables.history.messages(at.bob.id, at.talk, 0, 1 << 62, 1)[-1].seq,
                        len(tables.accounts.all()),
                    )
                    if call == at.store.write:
                        tables.accounts.create(f"user {written}", "", 1)
                    return found

                seq, users = await call(work)  # type: ignore[misc]
                assert seq >= seen + 1
                assert users - 2 >= written if call == at.store.read else users - 2 == written

            for _ in range(150):
                kind = chance.choice(("message", "message", "message", "read", "write", "turn"))
                if kind == "message":
                    at.send(messages)
                    messages += 1
                elif kind == "turn":
                    await asyncio.sleep(chance.choice((0, 0, 0.001)))
                else:
                    call = at.store.read if kind == "read" else at.store.write
                    calls.append(asyncio.ensure_future(check(call, messages, writes)))
                    writes += kind == "write"
                    await asyncio.sleep(0)
            await within(20, "all are answered", asyncio.gather(*calls))
            await at.store.settle()
            assert at.outcome() == [(number, number + 2) for number in range(messages)]

    run(story())


def test_a_queue_of_several_batches_is_refused_in_time_as_a_whole(desk: MakeDesk, tmp_path: Path) -> None:
    async def story() -> None:
        async with desk() as at:
            with write_lock(tmp_path / "chatd.db"):
                for number in range(2 * MANY):
                    at.send(number)
                reading = asyncio.ensure_future(at.stored())
                await until(5, "the first batch waits for the lock", lambda: "begin" in at.watched.calls)
                at.store.advance(at.bob.id, at.talk, 1)
                assert at.store.queued == 2 * MANY
                with pytest.raises(Unavailable):
                    await within(10, "the refusal", reading)
                assert at.outcome() == [(number, ErrorCode.UNAVAILABLE) for number in range(2 * MANY)]
            await at.store.settle()
            assert at.store.queued == 0
            assert await at.stored() == [], "nothing is stored after all, and the cursor is kept"

    run(story())


# ---------------------------------------------------------------- last seen


async def last_seen(at: Desk) -> list[int]:
    return await at.store.read(lambda tables: [tables.accounts.last_seen(user.id) for user in (at.alice, at.bob)])


@pytest.mark.parametrize("step", ["begin", "append", "update_last_seen", "commit"])
def test_last_seen_of_a_failed_batch_is_stored_without_being_told_again(desk: MakeDesk, step: str) -> None:
    async def story() -> None:
        async with desk() as at:
            at.watched.broken[step] = Unavailable("out of order")
            at.store.saw(at.alice.id, 5)
            at.store.saw(at.bob.id, 7)
            at.send("a")
            at.store.flush_cursors()
            await at.store.settle()
            assert at.outcome() == [("a", ErrorCode.UNAVAILABLE)]
            await until(5, "it is stored", lambda: at.watched.transactions()[1:] == [["update_last_seen", "|"]])
            assert await last_seen(at) == [5, 7]

    run(story())


def test_last_seen_does_not_go_back_when_a_batch_has_failed(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            gate = at.watched.hold["commit"] = threading.Event()
            at.watched.broken["commit"] = Unavailable("out of order")
            at.store.saw(at.alice.id, 5)
            at.store.flush_cursors()
            await until(5, "the commit begins", lambda: "commit" in at.watched.calls)
            at.store.saw(at.alice.id, 9)
            gate.set()
            await at.store.settle()
            assert await last_seen(at) == [9, 0]

    run(story())


def test_last_seen_outlives_a_store_that_does_not_answer(desk: MakeDesk, tmp_path: Path) -> None:
    """Of the batch that waits for the lock, and of the one behind it."""

    async def story() -> None:
        async with desk() as at:
            with write_lock(tmp_path / "chatd.db"):
                at.store.saw(at.alice.id, 5)
                first = asyncio.ensure_future(at.stored())
                await until(5, "it waits for the lock", lambda: "begin" in at.watched.calls)
                at.store.saw(at.bob.id, 7)
                for reading in (first, asyncio.ensure_future(at.stored())):
                    with pytest.raises(Unavailable):
                        await within(10, "the refusal", reading)
            assert await last_seen(at) == [5, 7]

    run(story())


# ---------------------------------------------------------------- states


def test_a_batch_goes_through_its_states_in_the_declared_order() -> None:
    for first in BatchState:
        for second in BatchState:
            batch = Batch()
            batch.state = first
            assert batch.move(second) is (second if second in TRANSITIONS[first] else first)
    assert TRANSITIONS.keys() == set(BatchState)


def test_of_two_states_the_first_possible_one_is_taken() -> None:
    for before, after in (
        (BatchState.SUBMITTED, BatchState.CANCELLED),
        (BatchState.COMMITTING, BatchState.OVERDUE),
        (BatchState.OVERDUE, BatchState.OVERDUE),
    ):
        batch = Batch()
        batch.state = before
        assert batch.move(BatchState.CANCELLED, BatchState.OVERDUE) is after


def test_a_transaction_begins_or_is_cancelled_never_both() -> None:
    """Two threads, as the loop and the store thread at the moment the time is up."""
    for _ in range(300):
        batch = Batch()
        batch.move(BatchState.SUBMITTED)
        start = threading.Barrier(2)
        found: list[BatchState] = []

        def begin(batch: Batch = batch, start: threading.Barrier = start, found: list[BatchState] = found) -> None:
            start.wait(10)
            found.append(batch.move(BatchState.COMMITTING))

        thread = threading.Thread(target=begin)
        thread.start()
        start.wait(10)
        outcome = batch.move(BatchState.CANCELLED, BatchState.OVERDUE)
        thread.join(10)
        assert (outcome, found) in (
            (BatchState.CANCELLED, [BatchState.CANCELLED]),
            (BatchState.OVERDUE, [BatchState.COMMITTING]),
        )


# ---------------------------------------------------------------- waiting for the end


def test_who_has_given_up_waiting_for_the_end_disturbs_nobody(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            gate = at.watched.hold["commit"] = threading.Event()
            at.send("a")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(at.store.settle(), WAIT_S / 10)
            waiting = asyncio.ensure_future(at.store.settle())
            await asyncio.sleep(0)
            gate.set()
            await within(5, "the store settles", waiting)
            assert isinstance(at.answers[-1][1], Stored)

    run(story())


def test_a_write_that_refuses_is_refused_and_leaves_the_queue_in_order(desk: MakeDesk) -> None:
    async def story() -> None:
        async with desk() as at:
            for number in range(MANY):
                at.send(number)
            with pytest.raises(Refused):
                await at.store.write(lambda tables: tables.accounts.create("alice", "", 1))
            assert len(at.answers) == MANY

    run(story())
