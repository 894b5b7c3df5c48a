"""Which session stays when one user logs in twice: the rules of both wires, on one worker and across several."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from chatd.core.sessions import exclusive
from chatd.errors import Disconnect, ErrorCode
from chatd.model import Protocol
from chatd.protocol import Failed, Kicked, LoginAccepted, Logout
from tests.core.stage import Peer, Stage, play

NOW = 1_700_000_000_000


async def workers(stage: Stage, count: int) -> list:
    return [await stage.worker() for _ in range(count)]


def answer(peer: Peer) -> LoginAccepted:
    (accepted,) = peer.told(LoginAccepted)
    return accepted


async def gone(stage: Stage, *peers: Peer) -> None:
    await stage.until("the old session is over", lambda: all(peer.closed for peer in peers))


# ---------------------------------------------------------------- firstLoginTime (mobileimsdk)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "old_reason", "new_reason"),
    [
        (NOW, 0, Disconnect.KICKED_DUPLICATE, None),
        (NOW, -5, Disconnect.KICKED_DUPLICATE, None),
        (0, 0, Disconnect.KICKED_DUPLICATE, None),
        (NOW, NOW + 1, Disconnect.KICKED_DUPLICATE, None),
        (NOW, NOW, Disconnect.REPLACED, None),
        (NOW, NOW - 1, None, Disconnect.KICKED_DUPLICATE),
        (0, NOW, None, Disconnect.KICKED_DUPLICATE),
    ],
)
def test_the_first_login_time_decides_who_stays(
    tmp_path: Path, old: int, new: int, old_reason: Disconnect | None, new_reason: Disconnect | None, *, apart: bool
) -> None:
    async def story(stage: Stage) -> None:
        made = await workers(stage, 2)
        first = await made[0].mobile("bob", old)
        second = await made[apart].mobile("bob", new)
        if old_reason is not None:
            await gone(stage, first)
        assert (first.reason, second.reason) == (old_reason, new_reason)
        assert (first.logged_in, second.logged_in) == (old_reason is None, new_reason is None)
        for peer in (first, second):
            kicked = peer.told(Kicked)
            assert len(kicked) == (peer.reason is Disconnect.KICKED_DUPLICATE)
            assert not any(event.by_admin for event in kicked)
        stayed = second if new_reason is None else first
        assert sum(worker.core.logins.count for worker in made) == 1
        alice = await made[0].mobile("alice")
        alice.send("bob", "hello")
        await stage.until("who stayed has it", lambda: stayed.messages)
        third = await made[0].mobile("bob")
        await gone(stage, stayed)
        assert third.logged_in

    play(tmp_path, story)


def test_the_answer_tells_the_time_that_a_reconnect_repeats(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await workers(stage, 2)
        first = await one.mobile("bob")
        told = answer(first).first_login_time
        assert told > NOW
        second = await two.mobile("bob", told)
        await gone(stage, first)
        assert first.reason is Disconnect.REPLACED
        assert not first.told(Kicked)
        assert answer(second).first_login_time == told

    play(tmp_path, story)


def test_again_on_the_same_connection_is_answered_again_and_checks_nothing(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, _ = await workers(stage, 2)
        peer = await one.mobile("bob")
        session = peer.session
        for name, time in (("bob", 0), ("bob", 5), (str(answer(peer).user.id), 0)):
            await peer.login(name, time)
        told = peer.told(LoginAccepted)
        assert len(told) == 4
        assert len({event.first_login_time for event in told}) == 1
        assert peer.session is session
        await peer.login("somebody else")
        assert peer.failures == [ErrorCode.ALREADY_LOGGED_IN]
        assert peer.logged_in

    play(tmp_path, story)


@pytest.mark.parametrize("spelling", ["Alice", "alice", "ALICE", "\uff21lice", "1"])
def test_a_repeated_login_names_the_account_in_any_spelling(tmp_path: Path, spelling: str) -> None:
    """Names are unique without regard to case and compatibility forms, so a second spelling is the same account."""

    async def story(stage: Stage) -> None:
        one = await stage.worker()
        peer = await one.mobile("Alice")
        session = peer.session
        for _ in range(2):
            await peer.login(spelling)
        assert peer.failures == []
        assert [event.user.name for event in peer.told(LoginAccepted)] == ["Alice"] * 3
        assert peer.session is session
        assert not peer.told(Kicked)

    play(tmp_path, story)


def test_a_number_that_is_another_accounts_name_is_that_account(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one = await stage.worker()
        alice = await one.mobile("alice")
        assert answer(alice).user.id == 1
        await one.core.store.write(lambda tables: tables.accounts.create("1", "", 1))
        await alice.login("1")
        assert alice.failures == [ErrorCode.ALREADY_LOGGED_IN]

    play(tmp_path, story)


# ---------------------------------------------------------------- errno 2 (chatserver)


@pytest.mark.parametrize("apart", [False, True])
def test_a_second_login_is_refused_while_the_first_is_there(tmp_path: Path, *, apart: bool) -> None:
    async def story(stage: Stage) -> None:
        made = await workers(stage, 2)
        first = await made[0].desk("bob")
        second = await made[apart].desk("bob")
        assert second.failures == [ErrorCode.ALREADY_LOGGED_IN]
        assert not second.closed
        assert (first.logged_in, second.logged_in) == (True, False)
        await first.login("bob")
        assert first.failures == [ErrorCode.ALREADY_LOGGED_IN]
        first.leave()
        await second.login("bob")
        assert second.logged_in
        assert second.failures == [ErrorCode.ALREADY_LOGGED_IN]

    play(tmp_path, story)


def test_both_wires_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await workers(stage, 2)
        peers = [await one.desk("bob"), await one.mobile("bob"), await two.mobile("alice"), await two.desk("alice")]
        assert all(peer.logged_in for peer in peers)
        assert (one.core.logins.count, two.core.logins.count) == (2, 2)

    play(tmp_path, story)


def test_after_a_worker_died_its_users_log_in_elsewhere(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await workers(stage, 2)
        await one.desk("bob")
        await one.bus.close()
        assert (await two.desk("bob")).logged_in

    play(tmp_path, story)


# ---------------------------------------------------------------- at the same moment


@pytest.mark.parametrize("wire", [Protocol.CHATSERVER, Protocol.MOBILEIMSDK])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("held", [None, "live", "leaving"])
def test_of_simultaneous_logins_exactly_one_survives(
    tmp_path: Path, wire: Protocol, count: int, held: str | None
) -> None:
    async def story(stage: Stage) -> None:
        made = await workers(stage, count + 1)
        accounts = await made[0].mobile("bob")
        accounts.leave()
        await stage.settled()
        old = None
        if held is not None:
            old = await made[-1].peer(wire).login("bob")
            if held == "leaving":
                old.leave()
        peers = [worker.peer(wire) for worker in made[:-1]]
        await asyncio.gather(*(peer.login("bob") for peer in peers))
        everybody = [*peers, *([old] if old is not None else [])]
        await stage.until("one is there", lambda: sum(peer.logged_in for peer in everybody) == 1)
        if wire is Protocol.MOBILEIMSDK and old is not None:
            assert old.closed
        if wire is Protocol.CHATSERVER and held == "live":
            assert old is not None
            assert old.logged_in
        for peer in everybody:
            assert ErrorCode.UNAVAILABLE not in peer.failures
        alice = await made[0].mobile("alice")
        alice.send("bob", "hello")
        (stayed,) = [peer for peer in everybody if peer.logged_in]
        await stage.until("who stayed has it", lambda: stayed.messages)
        assert sum(worker.core.logins.count for worker in made) == 2

    play(tmp_path, story)


def test_logins_of_one_user_on_one_worker_at_the_same_moment(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await workers(stage, 2)
        old = await two.mobile("bob", NOW)
        peers = [one.peer() for _ in range(4)]
        await asyncio.gather(*(peer.login("bob", NOW) for peer in peers))
        await gone(stage, old)
        assert sum(peer.logged_in for peer in peers) == 1
        assert (one.core.logins.count, two.core.logins.count) == (1, 0)
        assert await two.bus.lock(next(iter(stage.exchange.locks))) is False

    play(tmp_path, story)


def test_one_that_takes_over_a_login_under_way_is_challenged_no_less(tmp_path: Path) -> None:
    """The first of this worker still waits for another worker's verdict when the second takes its place."""

    async def story(stage: Stage) -> None:
        one, two = await workers(stage, 2)
        old = await two.mobile("bob", NOW)
        stage.exchange.hold(0, 1)
        first, second = one.peer(), one.peer()
        entering = [asyncio.ensure_future(first.login("bob", NOW - 1))]
        await stage.until("the first asks", lambda: len(one.core.surveys))
        entering.append(asyncio.ensure_future(second.login("bob", NOW - 1)))
        await stage.until("the second took its place", lambda: len(one.core.surveys) == 2 or first.events)
        stage.exchange.let_go()
        await asyncio.gather(*entering)
        assert (first.logged_in, second.logged_in, old.logged_in) == (False, False, True)
        assert (second.reason, second.failures) == (Disconnect.KICKED_DUPLICATE, [])

    play(tmp_path, story)


# ---------------------------------------------------------------- the end of a session, and failures on the way


def test_the_lock_is_freed_only_when_the_cursors_are_stored(tmp_path: Path) -> None:
    """Else the next worker would give again what this one's client has acknowledged."""

    async def story(stage: Stage) -> None:
        one, two = await workers(stage, 2)
        alice, bob = await one.mobile("alice"), await one.mobile("bob")
        for number in range(5):
            alice.send("bob", str(number), str(number))
        await stage.until("bob has them", lambda: len(bob.messages) == 5)
        stored: list[int] = []
        keep = one.bus.unlock

        def release(key: int) -> None:
            with contextlib.closing(sqlite3.connect(tmp_path / "chatd.db")) as file:
                rows = file.execute("SELECT delivered FROM cursor WHERE user_id = 2").fetchall()
            stored.append(rows[0][0])
            keep(key)

        one.bus.unlock = release  # type: ignore[method-assign]
        for fp in "01234":
            bob.acknowledge(fp)
        again = await two.mobile("bob")
        assert bob.closed
        alice.send("bob", "next")
        await stage.until("the next is given", lambda: again.messages)
        assert stored == [5]
        assert again.bodies == ["next"]

    play(tmp_path, story)


def test_who_hangs_up_during_the_login_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await workers(stage, 2)
        for steps in range(12):
            peer = one.peer()
            entering = asyncio.ensure_future(peer.login("bob"))
            for _ in range(steps):
                await asyncio.sleep(0)
            peer.leave()
            await entering
            await stage.settled()
            await stage.until("nothing is left", lambda: not stage.exchange.locks)
            assert (one.core.logins.count, len(one.core.hub), one.bus.own) == (0, 0, set())
        assert (await two.mobile("bob")).logged_in

    play(tmp_path, story)


def test_a_login_that_the_holders_worker_does_not_answer_fails_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusive, "VERDICT_S", 0.1)

    async def story(stage: Stage) -> None:
        one, two = await workers(stage, 2)
        mobile, desk = await one.mobile("bob"), await one.desk("bob")
        stage.exchange.hold(two.slot, one.slot)
        new_mobile, new_desk = await two.mobile("bob"), await two.desk("bob")
        assert new_mobile.failures == [ErrorCode.UNAVAILABLE]
        assert new_mobile.reason is Disconnect.LOGIN_REFUSED
        assert new_desk.failures == [ErrorCode.ALREADY_LOGGED_IN]
        assert mobile.logged_in
        assert desk.logged_in
        stage.exchange.let_go()
        await stage.settled()
        later = await two.mobile("bob")
        assert later.logged_in

    play(tmp_path, story)


def test_a_lost_question_is_asked_again(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await workers(stage, 2)
        old = await one.mobile("bob", NOW)
        lost = [True]
        stage.exchange.lost = lambda source, target, data: source == two.slot and lost.pop() if lost else False
        new = await two.mobile("bob", NOW + 1)
        assert new.logged_in
        assert old.closed

    play(tmp_path, story)


def test_logging_out_and_in_again_on_one_connection(tmp_path: Path) -> None:
    """chatserver: the connection stays open."""

    async def story(stage: Stage) -> None:
        one, two = await workers(stage, 2)
        alice = await two.mobile("alice")
        bob = await one.desk("bob")
        for number in range(3):
            await bob.do(Logout())
            assert (bob.session, bob.closed) == (None, False)
            alice.send("bob", str(number))
            await stage.until("it is stored", lambda number=number: len(alice.accepted) == number + 1)
            bob.read_all()
            await bob.login("bob")
            await stage.until("bob has it", lambda number=number: bob.bodies[-1:] == [str(number)])
            bob.read_all()
            stage.tick()
        assert bob.bodies == ["0", "1", "2"]
        assert not bob.told(Failed)

    play(tmp_path, story)
