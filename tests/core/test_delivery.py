"""From "stored" to "acknowledged": order, holes, windows, repeats, receipts, lost notifications (P3, P4, P6)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chatd.core import catch_up
from chatd.core.sessions.session import Session
from chatd.errors import Unavailable
from chatd.model import Protocol
from chatd.store.contract import HistoryTables, Tables, Waiting
from tests.core.stage import FRAME_BYTES, Peer, Stage, play


def numbers(start: int, stop: int) -> list[str]:
    return [str(number) for number in range(start, stop)]


async def pair(stage: Stage, workers: int = 2) -> tuple[Peer, Peer]:
    """alice on the first worker, bob on the last; both have accounts."""
    made = [await stage.worker() for _ in range(workers)]
    return await made[0].mobile("alice"), await made[-1].mobile("bob")


# ---------------------------------------------------------------- one after the other


@pytest.mark.parametrize("workers", [1, 2])
def test_messages_come_once_and_in_order(tmp_path: Path, workers: int) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage, workers)
        for number in range(200):
            alice.send("bob", str(number), f"fp {number}")
            if number % 7 == 0:
                await asyncio.sleep(0)
        await stage.until("bob has all", lambda: len(bob.messages) == 200)
        assert bob.bodies == numbers(0, 200)
        assert alice.accepted == list(range(1, 201))
        assert [event.fp for event in bob.given] == [f"fp {number}" for number in range(200)]
        assert alice.messages == []

    play(tmp_path, story)


def test_the_sender_is_acknowledged_before_the_recipient_has_it(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage, 1)
        order: list[str] = []
        for peer in (alice, bob):
            peer.push = lambda event, peer=peer: order.append(peer.name) or 1  # type: ignore[method-assign]
        alice.send("bob", "hello")
        await stage.until("both were told", lambda: len(order) == 2)
        assert order == ["alice", "bob"]

    play(tmp_path, story)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_talk_in_both_directions_has_one_order(tmp_path: Path, workers: int) -> None:
    """What one sends closes the numbering of what the other is given, without waiting for the store."""

    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage, workers)
        for number in range(50):
            alice.send("bob", f"a{number}")
            bob.send("alice", f"b{number}")
            if number % 5 == 0:
                await stage.settled()
        await stage.until("both have all", lambda: len(alice.messages) == len(bob.messages) == 50)
        assert alice.bodies == [f"b{number}" for number in range(50)]
        assert bob.bodies == [f"a{number}" for number in range(50)]
        seqs = sorted(message.seq for message in alice.messages + bob.messages)
        assert seqs == list(range(1, 101))

    play(tmp_path, story)


def test_who_was_away_is_given_everything_in_order_at_login(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        carol = await stage.workers[0].mobile("carol")
        bob.leave()
        for number in range(60):
            (alice, carol)[number % 2].send("bob", str(number))
        await stage.settled()
        again = await stage.workers[0].mobile("bob")
        await stage.until("bob has all", lambda: len(again.messages) == 60)
        assert again.bodies == numbers(0, 60)

    play(tmp_path, story)


def test_to_oneself_is_given_once(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, _ = await pair(stage)
        alice.send("alice", "note", "n1")
        alice.send("alice", "second note", "n2")
        await stage.until("alice has both", lambda: len(alice.messages) == 2)
        assert alice.bodies == ["note", "second note"]
        assert alice.accepted == [1, 2]
        alice.acknowledge("n1")
        alice.leave()
        again = await stage.workers[1].mobile("alice")
        await stage.until("the second again", lambda: again.messages)
        assert again.bodies == ["second note"]

    play(tmp_path, story)


def test_a_user_on_two_wires_is_given_everything_on_both(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, mobile = await pair(stage)
        desk = await stage.workers[0].desk("bob")
        for number in range(5):
            alice.send("bob", str(number))
        await stage.until("both have all", lambda: len(mobile.messages) == len(desk.messages) == 5)
        mobile.send("alice", "from the mobile")
        await stage.until("alice has it", lambda: alice.messages)
        alice.send("bob", "5")
        await stage.until("both have the next", lambda: len(mobile.messages) == len(desk.messages) == 6)
        assert mobile.bodies == desk.bodies == numbers(0, 6)

    play(tmp_path, story)


@pytest.mark.parametrize("left", [False, True])
def test_a_session_that_missed_what_another_of_the_user_has_goes_on(tmp_path: Path, left: bool) -> None:
    """The cursor is the user's: the mobile's acknowledgements pass what the desk has not seen. The desk is given that
    all the same, and does not read the store for ever."""

    async def story(stage: Stage) -> None:
        reads = [0]
        alice, mobile = await pair(stage)
        desk = await stage.workers[0].desk("bob")
        keep = desk.worker.core.delivery.catch_up.start

        def count(*arguments: Any) -> None:
            reads[0] += 1
            keep(*arguments)

        desk.worker.core.delivery.catch_up.start = count  # type: ignore[method-assign]
        alice.send("bob", "0", "fp 0")
        await stage.until("both have the first", lambda: desk.messages and mobile.messages)
        desk.read_all()
        mobile.acknowledge("fp 0")
        third = await stage.worker()
        sender = await third.desk("alice")
        stage.exchange.lost = lambda source, target, data: target == desk.worker.slot
        sender.send("bob", "1", "fp 1")
        await stage.until("the mobile has it", lambda: len(mobile.messages) == 2)
        mobile.acknowledge("fp 1")
        await mobile.worker.core.store.read(lambda tables: None)
        stage.exchange.lost = lambda source, target, data: False
        if left:
            mobile.leave()
        for number in range(2, 5):
            sender.send("bob", str(number), f"fp {number}")
        await stage.until("the desk has the rest", lambda: desk.bodies[-1] == "4")
        assert desk.bodies == numbers(0, 5)
        assert reads[0] < 10

    play(tmp_path, story)


@pytest.mark.parametrize("left", [False, True])
def test_a_full_session_is_given_what_another_of_the_user_has_acknowledged(tmp_path: Path, left: bool) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(in_flight=8)
        alice, mobile = await pair(stage)
        desk = await stage.workers[0].desk("bob")
        for number in range(50):
            alice.send("bob", str(number), str(number))
        for number in range(50):
            await stage.until("the mobile has it", lambda number=number: len(mobile.messages) > number)
            mobile.acknowledge(str(number))
        await mobile.worker.core.store.read(lambda tables: None)
        if left:
            mobile.leave()
        assert desk.bodies == numbers(0, 8)
        await stage.until("the desk has all", lambda: desk.read_all() or len(desk.messages) == 50)
        assert desk.bodies == numbers(0, 50)

    play(tmp_path, story)


# ---------------------------------------------------------------- what disturbs the order


def test_a_message_that_overtakes_another_workers_waits_for_it(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two, three = [await stage.worker() for _ in range(3)]
        alice, carol, bob = await one.mobile("alice"), await two.mobile("carol"), await three.mobile("bob")
        group = await alice.make_group()
        for peer in (carol, bob):
            await peer.join(group)
        alice.send(group, "1")
        await stage.until("both have it", lambda: bob.messages and carol.messages)
        stage.exchange.hold(one.slot, three.slot)
        alice.send(group, "2")
        await stage.until("carol has it", lambda: len(carol.messages) == 2)
        carol.send(group, "3")
        carol.send(group, "4")
        await stage.until("carol's are stored", lambda: carol.accepted == [3, 4])
        await stage.until("bob's worker holds them back", lambda: _held(bob) == [3, 4])
        assert bob.bodies == ["1"]
        stage.exchange.let_go()
        await stage.until("bob has all", lambda: len(bob.messages) == 4)
        assert bob.bodies == ["1", "2", "3", "4"]

    play(tmp_path, story)


def _held(peer: Peer) -> list[int]:
    assert peer.session is not None
    return [seq for cursor in (peer.session.cursors or {}).values() for seq in cursor.held or ()]


def test_a_lost_notification_is_made_good_by_the_next_message(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        alice.send("bob", "1")
        await stage.until("bob has it", lambda: bob.messages)
        stage.exchange.lost = lambda source, target, data: True
        for body in ("2", "3"):
            alice.send("bob", body)
        await stage.settled()
        stage.exchange.lost = lambda source, target, data: False
        assert bob.bodies == ["1"]
        alice.send("bob", "4")
        await stage.until("bob has all", lambda: len(bob.messages) == 4)
        assert bob.bodies == ["1", "2", "3", "4"]

    play(tmp_path, story)


def test_a_lost_first_notification_is_made_good_by_the_next_message(tmp_path: Path) -> None:
    """The session has been given nothing of this conversation yet: only the store knows where it begins."""

    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        stage.exchange.lost = lambda source, target, data: True
        alice.send("bob", "1")
        await stage.settled()
        stage.exchange.lost = lambda source, target, data: False
        alice.send("bob", "2")
        await stage.until("bob has both", lambda: len(bob.messages) == 2)
        assert bob.bodies == ["1", "2"]

    play(tmp_path, story)


def test_a_gap_is_made_good_from_the_store(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        others = [await stage.workers[1].mobile(f"user {number}") for number in range(150)]
        group = await alice.make_group()
        for peer in (bob, *others):
            await peer.join(group)
        stage.exchange.lost = lambda source, target, data: True
        alice.send("bob", "alone")
        alice.send(group, "together")
        await stage.settled()
        stage.exchange.lost = lambda source, target, data: False
        for _ in range(3):
            stage.exchange.gap(1)
        await stage.until("everybody has it", lambda: all("together" in peer.bodies for peer in (bob, *others)))
        assert sorted(bob.bodies) == ["alone", "together"]
        assert all(peer.bodies == ["together"] for peer in others)

    play(tmp_path, story)


@pytest.mark.parametrize(("sessions", "turns"), [(1, 1), (3, 1), (4, 2), (30, 3), (31, 4)])
def test_after_a_gap_everybody_is_read_within_a_bounded_number_of_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: int, turns: int
) -> None:
    monkeypatch.setattr(catch_up, "_GAP_SLICE", 3)
    monkeypatch.setattr(catch_up, "_GAP_TICKS", 3)

    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        for number in range(sessions):
            await worker.mobile(f"user {number}")
        read: list[Session] = []
        monkeypatch.setattr(worker.core.delivery.catch_up, "start", read.append)
        worker.core.delivery.catch_up.gap()
        taken = 0
        while len(read) < sessions:
            before = len(read)
            worker.core.delivery.catch_up.work_off_gap()
            taken += 1
            assert len(read) > before
        assert taken == turns
        assert len(set(read)) == sessions
        worker.core.delivery.catch_up.work_off_gap()
        assert len(read) == sessions

    play(tmp_path, story)


def test_a_repeat_notifies_other_workers_again(tmp_path: Path) -> None:
    """The first one may have died with the sender's worker."""

    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        stage.exchange.lost = lambda source, target, data: True
        alice.send("bob", "hello", "fp")
        await stage.settled()
        stage.exchange.lost = lambda source, target, data: False
        alice.send("bob", "hello", "fp")
        await stage.until("bob has it", lambda: bob.messages)
        alice.send("bob", "hello", "fp")
        alice.send("bob", "next", "fp 2")
        await stage.until("bob has the next", lambda: len(bob.messages) == 2)
        assert bob.bodies == ["hello", "next"]
        assert alice.accepted == [1, 1, 1, 2]
        assert stage.workers[0].row.messages_in == 2

    play(tmp_path, story)


class Failing:
    """Tables whose next reads of what waits fail."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.history = FailingHistory(tables.history)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)


class FailingHistory:
    def __init__(self, history: HistoryTables) -> None:
        self._history = history
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._history, name)

    def waiting(self, *arguments: Any) -> Waiting:
        if self.failures:
            self.failures -= 1
            raise Unavailable("out of order")
        return self._history.waiting(*arguments)


def test_a_store_that_cannot_be_read_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatd.core.catch_up._RETRY_S", 0.01)

    async def story(stage: Stage) -> None:
        failing: list[Failing] = []
        alice = await (await stage.worker()).mobile("alice")
        worker = await stage.worker(lambda tables: failing.append(Failing(tables)) or failing[0])  # type: ignore[func-returns-value]
        bob = await worker.mobile("bob")
        stage.exchange.lost = lambda source, target, data: True
        alice.send("bob", "1")
        await stage.settled()
        stage.exchange.lost = lambda source, target, data: False
        failing[0].history.failures = 3
        alice.send("bob", "2")
        await stage.until("bob has both", lambda: len(bob.messages) == 2)
        assert bob.bodies == ["1", "2"]
        assert failing[0].history.failures == 0

    play(tmp_path, story)


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("wire", [Protocol.MOBILEIMSDK, Protocol.CHATSERVER])
def test_a_full_window_waits_for_acknowledgements_and_then_catches_up(tmp_path: Path, wire: Protocol) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(in_flight=8)
        one = await stage.worker()
        alice, bob = await one.mobile("alice"), await one.peer(wire).login("bob")
        for number in range(100):
            alice.send("bob", str(number), str(number))
        await stage.until("all are stored", lambda: len(alice.accepted) == 100)
        assert bob.bodies == numbers(0, 8)
        for number in range(100):
            await stage.until("the next is given", lambda number=number: len(bob.messages) > number)
            assert bob.session is not None
            assert bob.session.unacknowledged <= 8
            if wire is Protocol.MOBILEIMSDK:
                bob.acknowledge(str(number))
            else:
                bob.kernel += FRAME_BYTES
            assert len(bob.messages) <= number + 9
        assert bob.bodies == numbers(0, 100)

    play(tmp_path, story)


def test_no_more_datagrams_at_once_than_a_socket_holds(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one = await stage.worker()
        alice, bob = await one.mobile("alice"), one.peer(Protocol.MOBILEIMSDK)
        bob.lossy = True
        await bob.login("bob")
        for number in range(200):
            alice.send("bob", str(number), str(number))
        await stage.until("all are stored", lambda: len(alice.accepted) == 200)
        assert bob.bodies == numbers(0, 64)
        for number in range(200):
            await stage.until("the next is given", lambda number=number: len(bob.messages) > number)
            bob.acknowledge(str(number))
            assert len(bob.messages) <= number + 65
        assert bob.bodies == numbers(0, 200)

    play(tmp_path, story)


def test_a_login_gives_no_more_than_the_window(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(in_flight=8)
        alice, bob = await pair(stage)
        bob.leave()
        for number in range(30):
            alice.send("bob", str(number), str(number))
        await stage.settled()
        bob = await stage.workers[1].mobile("bob")
        for number in range(30):
            await stage.until("the next is given", lambda number=number: len(bob.messages) > number)
            assert len(bob.messages) <= number + 8
            bob.acknowledge(str(number))
        alice.send("bob", "live")
        await stage.until("and then live", lambda: bob.bodies[-1] == "live")
        assert bob.bodies == [*numbers(0, 30), "live"]

    play(tmp_path, story)


def test_own_messages_fill_no_window(tmp_path: Path) -> None:
    """Somebody who has written a thousand messages into silence logs in and is given the answer behind them."""

    async def story(stage: Stage) -> None:
        stage.limit(in_flight=8)
        alice, bob = await pair(stage)
        for number in range(100):
            alice.send("bob", str(number), str(number))
        await stage.until("all are stored", lambda: len(alice.accepted) == 100)
        alice.leave()
        bob.send("alice", "enough")
        await stage.settled()
        alice = await stage.workers[0].mobile("alice")
        await stage.until("the answer is given", lambda: alice.messages)
        assert alice.bodies == ["enough"]

    play(tmp_path, story)


def test_a_full_outbox_waits_in_the_store_instead_of_cutting_the_peer(tmp_path: Path) -> None:
    """A peer with a window of long messages reads as fast as it can: it must not be cut for what we push at once."""

    async def story(stage: Stage) -> None:
        stage.limit(outbox_bytes=16384)
        alice, bob = await pair(stage)
        bob.out_bytes = 16000
        for number in range(20):
            alice.send("bob", str(number))
        await stage.until("all are stored", lambda: len(alice.accepted) == 20)
        assert bob.messages == []
        for _ in range(5):
            stage.tick()
        await stage.settled()
        assert bob.messages == []
        bob.out_bytes = 0
        await stage.until("bob has all", lambda: len(bob.messages) == 20)
        assert bob.bodies == numbers(0, 20)

    play(tmp_path, story)
