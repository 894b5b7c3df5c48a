"""One session per user and wire while the bus is cut off, locks are lost, and everybody comes at once."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from chatd.bus.contract import topic_of_user
from chatd.core import bus_messages
from chatd.core.sessions import exclusive, unlocked
from chatd.core.sessions.duplicate_login import Contender, Ruling, rule
from chatd.core.sessions.exclusive import lock_key
from chatd.errors import Disconnect, ErrorCode
from chatd.model import Protocol
from chatd.protocol import Kicked, LoginAccepted
from tests.core.stage import Peer, Stage, Worker, play

NOW = 1_700_000_000_000
FAST_CLOCK_MS = time.time_ns() // 1_000_000 + 3_600_000
"""What a host says whose clock is an hour fast."""
WIRES = [Protocol.CHATSERVER, Protocol.MOBILEIMSDK]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusive, "VERDICT_S", 0.5)
    monkeypatch.setattr(unlocked, "RETRY_S", 0.05)
    monkeypatch.setattr(exclusive, "ASK_S", (0.02, 0.1))


def locks_of(worker: Worker) -> exclusive.SessionLocks:
    return worker.core.logins.locks


def at_peace(stage: Stage) -> bool:
    """Every session has its lock, on its own worker; nothing else has one, and nobody asks for one."""
    for worker in stage.workers:
        of = locks_of(worker)
        if not of.is_idle or len(worker.core.surveys):
            return False
        sessions = worker.core.hub.sessions()
        if worker.bus.own != {topic_of_user(session.user.id) for session in sessions}:
            return False
        wanted = {lock_key(session.user, session.protocol) for session in sessions}
        if len(wanted) != len(sessions) or worker.bus.held != wanted or of.holders.keys() != wanted:
            return False
        if any(stage.exchange.locks.get(lock) != worker.slot for lock in wanted):
            return False
    return len(stage.exchange.locks) == sum(len(worker.core.hub.sessions()) for worker in stage.workers)


async def peace(stage: Stage) -> None:
    await stage.until("every session has its lock", lambda: at_peace(stage))


def grow_older(peer: Peer, seconds: float = 60.0) -> None:
    assert peer.session is not None
    peer.session.began_at -= seconds


# ---------------------------------------------------------------- the rule

LATER = [  # (later, earlier), and does the later stay, is the other told nothing
    ((0, True), (NOW, False), True, False),
    ((NOW + 1, False), (NOW, False), True, False),
    ((NOW, False), (NOW, False), True, True),
    ((NOW - 1, False), (NOW, False), False, False),
    ((NOW - 1, True), (NOW, False), True, False),
    ((NOW, True), (NOW, True), True, False),
    ((NOW, False), (NOW, True), True, True),
    ((NOW - 1, False), (NOW, True), False, False),
]


@pytest.mark.parametrize(("later", "earlier", "later_stays", "silent"), LATER)
def test_the_younger_is_judged_as_if_it_came_while_the_older_was_there(
    later: tuple[int, bool], earlier: tuple[int, bool], *, later_stays: bool, silent: bool
) -> None:
    assert rule(Contender(*later, 3.0), Contender(*earlier, 8.0)) == Ruling(later_stays, silent)
    assert rule(Contender(*earlier, 8.0), Contender(*later, 3.0)) == Ruling(not later_stays, silent)
    assert rule(Contender(*later, 0.0), Contender(*earlier, 0.0)) == Ruling(later_stays, silent)


def test_a_first_login_is_later_than_the_one_it_ends_whatever_the_clocks_say(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        fast_clock = FAST_CLOCK_MS
        old = await one.mobile("bob", fast_clock)
        for worker in (one, two, one):
            new = await worker.mobile("bob")
            await stage.until("the old one has gone", lambda old=old: old.closed)
            assert new.told(LoginAccepted)[0].first_login_time > fast_clock
            fast_clock, old = new.told(LoginAccepted)[0].first_login_time, new
        late = await two.mobile("bob", fast_clock - 1)
        assert late.reason is Disconnect.KICKED_DUPLICATE

    play(tmp_path, story)


# ---------------------------------------------------------------- the bus is cut off


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("told", [False, True])
def test_nobody_is_kept_out_while_the_bus_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: Protocol, *, told: bool
) -> None:
    """told: the worker is told that the bus is back. Else it looks now and then."""
    monkeypatch.setattr(unlocked, "RETRY_S", 1000.0 if told else 0.05)

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice = await one.mobile("alice")
        stage.exchange.cut(0)
        bob = await one.peer(wire).login("bob")
        assert bob.logged_in
        assert len(locks_of(one).unlocked) == 1
        alice.send("bob", "hello")
        await stage.until("bob has it", lambda: bob.bodies == ["hello"])
        stage.tick()
        await stage.settled()
        if not told:
            one.bus.on_gap = lambda: None
        stage.exchange.mend(0)
        await peace(stage)
        assert bob.logged_in
        other = await two.peer(wire).login("bob")
        assert other.logged_in is (wire is Protocol.MOBILEIMSDK)

    play(tmp_path, story)


def test_two_on_one_worker_are_kept_apart_without_the_bus(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one = await stage.worker()
        stage.exchange.cut(0)
        desk, mobile = await one.desk("bob"), await one.mobile("bob", NOW)
        assert (await one.desk("bob")).failures == [ErrorCode.ALREADY_LOGGED_IN]
        assert (await one.mobile("bob", NOW - 1)).reason is Disconnect.KICKED_DUPLICATE
        newer = await one.mobile("bob", NOW)
        assert mobile.reason is Disconnect.REPLACED
        stage.exchange.mend(0)
        await peace(stage)
        assert desk.logged_in
        assert newer.logged_in

    play(tmp_path, story)


@pytest.mark.parametrize("back", [(0, 1), (1, 0)])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(
    ("earlier", "later", "later_stays", "reason"),
    [
        (NOW, NOW + 1, True, Disconnect.KICKED_DUPLICATE),
        (NOW, 0, True, Disconnect.KICKED_DUPLICATE),
        pytest.param(FAST_CLOCK_MS, 0, True, Disconnect.KICKED_DUPLICATE, id="fast-clock"),
        (0, 0, True, Disconnect.KICKED_DUPLICATE),
        (NOW, NOW, True, Disconnect.REPLACED),
        (NOW, NOW - 1, False, Disconnect.KICKED_DUPLICATE),
        (0, NOW, False, Disconnect.KICKED_DUPLICATE),
    ],
)
def test_after_the_cut_it_is_as_if_they_had_come_one_after_the_other(
    tmp_path: Path,
    quick: None,
    earlier: int,
    later: int,
    reason: Disconnect,
    back: tuple[int, int],
    *,
    later_stays: bool,
    held: bool,
) -> None:
    """held: the earlier one has its lock, the other came while only its worker was cut off."""

    async def story(stage: Stage) -> None:
        made = [await stage.worker(), await stage.worker()]
        if not held:
            stage.exchange.cut(0)
        stage.exchange.cut(1)
        first = await made[0].mobile("bob", earlier)
        grow_older(first)
        second = await made[1].mobile("bob", later)
        assert first.logged_in
        assert second.logged_in
        for slot in back:
            if not stage.exchange.buses[slot].healthy:
                stage.exchange.mend(slot)
                await stage.until("it is worked off", lambda slot=slot: not len(locks_of(made[slot]).unlocked))
        await peace(stage)
        gone, stayed = (first, second) if later_stays else (second, first)
        assert stayed.logged_in
        assert gone.reason is reason
        assert len(gone.told(Kicked)) == (reason is Disconnect.KICKED_DUPLICATE)
        assert not stayed.told(Kicked)

    play(tmp_path, story)


@pytest.mark.parametrize("back", [(0, 1), (1, 0)])
def test_on_the_chatserver_wire_who_has_the_lock_stays(tmp_path: Path, quick: None, back: tuple[int, int]) -> None:
    async def story(stage: Stage) -> None:
        made = [await stage.worker(), await stage.worker()]
        for slot in (0, 1):
            stage.exchange.cut(slot)
        desks = [await worker.desk("bob") for worker in made]
        assert [desk.logged_in for desk in desks] == [True, True]
        for slot in back:
            stage.exchange.mend(slot)
            await stage.until("it is worked off", lambda slot=slot: not len(locks_of(made[slot]).unlocked))
        await peace(stage)
        stayed, gone = desks[back[0]], desks[back[1]]
        assert stayed.logged_in
        assert gone.reason is Disconnect.KICKED_DUPLICATE
        assert gone.told(Kicked) == [Kicked(False, "logged in elsewhere")]

    play(tmp_path, story)


@pytest.mark.parametrize("wire", WIRES)
def test_who_lost_the_lease_finds_another_in_its_place(tmp_path: Path, quick: None, wire: Protocol) -> None:
    """Its host was cut off for long enough that the user could log in on another one."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        old, carol = await one.peer(wire).login("bob"), await one.desk("carol")
        grow_older(old)
        stage.exchange.cut(0)
        stage.exchange.expire(0)
        new = await two.peer(wire).login("bob")
        assert old.logged_in
        assert new.logged_in
        stage.exchange.mend(0)
        await peace(stage)
        assert new.logged_in
        assert old.reason is Disconnect.KICKED_DUPLICATE
        assert carol.logged_in

    play(tmp_path, story)


def test_when_all_locks_are_forgotten_everybody_keeps_theirs(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        made = [await stage.worker() for _ in range(3)]
        peers = [await worker.peer(wire).login(f"{wire.name} {n}") for n, worker in enumerate(made) for wire in WIRES]
        for _ in range(3):
            stage.exchange.forget()
            await peace(stage)
        assert all(peer.logged_in and not peer.told(Kicked) for peer in peers)

    play(tmp_path, story)


# ---------------------------------------------------------------- nothing is left over


def test_who_leaves_while_the_bus_is_cut_off_leaves_no_lock(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        with_lock = await one.desk("bob")
        stage.exchange.cut(0)
        without_lock = await one.mobile("bob")
        with_lock.leave()
        without_lock.leave()
        await stage.settled()
        stage.exchange.mend(0)
        await peace(stage)
        assert not stage.exchange.locks
        assert (await two.desk("bob")).logged_in

    play(tmp_path, story)


@pytest.mark.parametrize("lag", [4, 3000])
def test_who_leaves_while_the_lock_is_on_its_way_leaves_none(tmp_path: Path, lag: int) -> None:
    """Short: the lock comes before its session has been freed; long: after it."""

    async def story(stage: Stage) -> None:
        one = await stage.worker()
        for steps in range(14):
            stage.exchange.cut(0)
            bob = await one.mobile("bob")
            stage.exchange.mend(0)
            stage.exchange.lag = lambda: lag
            await asyncio.sleep(0)
            stage.tick()
            assert locks_of(one).unlocked.asking
            for _ in range(steps):
                await asyncio.sleep(0)
            bob.leave()
            await peace(stage)
            assert not stage.exchange.locks
            stage.exchange.lag = lambda: 1

    play(tmp_path, story)


def test_an_answer_lost_on_its_way_leaves_a_lock_that_its_session_finds(tmp_path: Path, quick: None) -> None:
    """The bus was cut off after it had given the lock: the worker does not know that it has it, nobody else can."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        await one.mobile("bob")
        stage.exchange.lag = lambda: 3
        bob = one.peer(Protocol.CHATSERVER)
        entering = asyncio.ensure_future(bob.login("bob"))
        while 1 << 2 | Protocol.CHATSERVER not in stage.exchange.locks:  # noqa: ASYNC110 - at the very turn
            await asyncio.sleep(0)
        stage.exchange.cut(0)
        await entering
        assert bob.logged_in
        stage.exchange.mend(0)
        other = await two.desk("bob")
        assert other.failures == [ErrorCode.ALREADY_LOGGED_IN]
        await peace(stage)
        assert bob.logged_in

    play(tmp_path, story)


def test_a_lock_that_nobody_needs_is_freed_when_somebody_asks_for_it(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        await one.desk("bob")
        await one.bus.lock(lock_of_mobile := 1 << 2 | Protocol.MOBILEIMSDK)
        bob = await two.mobile("bob")
        assert bob.logged_in
        assert stage.exchange.locks[lock_of_mobile] == two.slot

    play(tmp_path, story)


def test_who_has_no_lock_answers_no_challenge(tmp_path: Path) -> None:
    """It would end the other's login, and the holder would end this one."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        stage.exchange.cut(0)
        bob = await one.mobile("bob", NOW)
        topic = topic_of_user(1)
        published = stage.exchange.published
        one.core.on_bus_message(
            topic, bus_messages.encode(bus_messages.SessionChallenge(1, Protocol.MOBILEIMSDK, NOW + 1, 7))
        )
        assert bob.logged_in
        assert stage.exchange.published == published
        assert two.core.hub.sessions() == []

    play(tmp_path, story)


def test_many_without_a_lock_are_worked_off_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlocked, "AT_ONCE", 7)
    monkeypatch.setattr(unlocked, "PER_TICK", 30)

    async def story(stage: Stage) -> None:
        one = await stage.worker()
        stage.exchange.cut(0)
        peers = [await one.mobile(f"user {number}") for number in range(100)]
        of = locks_of(one)
        assert len(of.unlocked) == 100
        stage.exchange.lag = lambda: 3
        stage.exchange.mend(0)
        await asyncio.sleep(0)
        missing, ticks = 100, 0
        while len(of.unlocked):
            stage.tick()
            ticks += 1
            for _ in range(200):
                assert of.unlocked.asking <= 7
                await asyncio.sleep(0)
            assert missing - len(of.unlocked) <= 30
            missing = len(of.unlocked)
        assert ticks == 4
        await peace(stage)
        assert all(peer.logged_in for peer in peers)

    play(tmp_path, story)


# ---------------------------------------------------------------- everybody at once, and the bus comes and goes


class Trouble:
    """Logins of one user on four workers over both wires, while the bus does what it can."""

    def __init__(self, stage: Stage, seed: int, *, fresh: bool) -> None:
        self.stage = stage
        self.fresh = fresh
        self.random = random.Random(seed)
        self.peers: list[tuple[Peer, int]] = []
        """With the firstLoginTime each named."""
        self.tasks: list[asyncio.Future[Peer]] = []
        self.left = False

    async def happen(self, steps: int, *, leaving: bool) -> None:
        deeds = [self.log_in, self.log_in, self.log_in, self.cut, self.mend, self.mend, self.expire, self.forget]
        deeds += [self.leave] * leaving
        for _ in range(steps):
            self.random.choice(deeds)()
            if self.random.random() < 0.2:
                self.stage.tick()
            for _ in range(self.random.choice((0, 1, 2, 5, 20))):
                await asyncio.sleep(0)
            if self.random.random() < 0.1:
                await asyncio.sleep(0.01)

    def log_in(self) -> None:
        worker = self.random.choice(self.stage.workers)
        peer = worker.peer(self.random.choice(WIRES))
        time = 0 if self.fresh else NOW + len(self.peers) * self.random.choice((1, -1))
        self.peers.append((peer, time))
        self.tasks.append(asyncio.ensure_future(peer.login("bob", time)))

    def leave(self) -> None:
        there = [peer for peer, _ in self.peers if peer.logged_in]
        if there:
            self.left = True
            self.random.choice(there).leave()

    def slot(self, *, healthy: bool) -> int | None:
        slots = [bus.slot for bus in self.stage.exchange.buses if bus.healthy is healthy]
        return self.random.choice(slots) if slots else None

    def cut(self) -> None:
        if (slot := self.slot(healthy=True)) is not None:
            self.stage.exchange.cut(slot)

    def mend(self) -> None:
        if (slot := self.slot(healthy=False)) is not None:
            self.stage.exchange.mend(slot)

    def expire(self) -> None:
        if (slot := self.slot(healthy=False)) is not None:
            self.stage.exchange.expire(slot)

    def forget(self) -> None:
        if self.random.random() < 0.3:
            self.stage.exchange.forget()

    async def end(self) -> None:
        stage = self.stage
        while (slot := self.slot(healthy=False)) is not None:
            stage.exchange.mend(slot)
        while not all(task.done() for task in self.tasks):
            stage.tick()
            await asyncio.wait(self.tasks, timeout=0.01)
        for task in self.tasks:
            task.result()
        await peace(stage)


def how_it_went(peer: Peer) -> str:
    """One word for each way a login may go; anything else fails."""
    kicked, reason = len(peer.told(Kicked)), peer.reason
    if peer.logged_in:
        assert (kicked, peer.failures, reason) == (0, [], None)
        return "in"
    if reason is Disconnect.KICKED_DUPLICATE:
        assert (kicked, peer.failures) == (1, [])
        return "kicked"
    if reason is Disconnect.REPLACED or reason is Disconnect.PEER_LEFT:
        assert (kicked, peer.failures) == (0, [])
        return "gone"
    assert (kicked, len(peer.failures)) == (0, 1)
    assert reason is (Disconnect.LOGIN_REFUSED if peer.protocol is Protocol.MOBILEIMSDK else None)
    (code,) = peer.failures
    return {ErrorCode.UNAVAILABLE: "unavailable", ErrorCode.ALREADY_LOGGED_IN: "refused"}[code]


@pytest.mark.parametrize(("leaving", "fresh"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("seed", range(20))
def test_in_all_trouble_one_session_per_user_and_wire_is_left(
    tmp_path: Path, quick: None, seed: int, *, leaving: bool, fresh: bool
) -> None:
    async def story(stage: Stage) -> None:
        for _ in range(4):
            await stage.worker()
        (await stage.workers[0].mobile("bob", 1)).leave()
        await stage.settled()
        trouble = Trouble(stage, seed, fresh=fresh)
        stage.exchange.lag = lambda: trouble.random.choice((0, 1, 1, 2, 6))
        await trouble.happen(60, leaving=leaving)
        await trouble.end()
        for wire in WIRES:
            of_wire = [(peer, time, how_it_went(peer)) for peer, time in trouble.peers if peer.protocol is wire]
            there = [time for peer, time, how in of_wire if how == "in"]
            assert len(there) <= 1
            if not trouble.left and of_wire and not any(how == "unavailable" for _, _, how in of_wire):
                assert there, of_wire
                if wire is Protocol.MOBILEIMSDK and not fresh:
                    assert there == [max(time for _, time, _ in of_wire)]

    play(tmp_path, story)
