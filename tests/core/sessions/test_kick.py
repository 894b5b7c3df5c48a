"""An operator ends a user's sessions, wherever they are."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from chatd.core.sessions import kick
from chatd.core.sessions.kick import KickResult, KickTarget, Repetition
from chatd.errors import Disconnect
from chatd.protocol import Kicked
from tests.core.stage import Stage, play

BOB = 1
"""The id of the first account."""


def test_sessions_on_all_workers_are_ended_and_counted_once(tmp_path: Path) -> None:
    """The workers of one host are ordered to at the same time; those of others hear it from them."""

    async def story(stage: Stage) -> None:
        made = [await stage.worker() for _ in range(4)]
        for mobile_at, desk_at in ((0, 1), (2, 3), (1, 1), (3, 0)):
            mobile, desk = await made[mobile_at].mobile("bob"), await made[desk_at].desk("bob")
            bystander = await made[3].mobile("alice")
            told = await asyncio.gather(*(one.core.kicks.kick(KickTarget("bob", 0), "tea") for one in made[:2]))
            assert sum(one.sessions for one in told) == 2
            assert all(one.known and not one.unanswered for one in told)
            for peer in (mobile, desk):
                assert peer.reason is Disconnect.KICKED_BY_ADMIN
                assert peer.told(Kicked) == [Kicked(True, "tea")]
            assert bystander.logged_in
            assert not any(topic & 3 == 3 for worker in made for topic in worker.bus.own)
            await stage.settled()

    play(tmp_path, story)


def test_by_number_and_nobody(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        bob = await two.mobile("bob")
        assert await one.core.kicks.kick(KickTarget("nobody", 0), "") == KickResult(0, known=False)
        assert await one.core.kicks.kick(KickTarget("", 77), "") == KickResult(0, user_id=77)
        assert await one.core.kicks.kick(KickTarget("", 1), "") == KickResult(1, user_id=1)
        assert bob.closed

    play(tmp_path, story)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kick, "ANSWER_S", 0.3)
    monkeypatch.setattr(kick, "REPEAT_S", 0.05)


@pytest.mark.usefixtures("quickly")
def test_a_host_that_cannot_be_asked_is_named_and_asked_when_it_is_back(tmp_path: Path) -> None:
    """Also where the bus has given it up, and says that nobody is there. A login after the order may stay."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        third = await stage.worker()
        desk = await one.desk("bob")
        stage.exchange.cut(1)
        mobile = await two.mobile("bob")  # nobody else knows of this session
        stage.exchange.expire(1)
        given_at = time.monotonic()
        told = await one.core.kicks.kick(KickTarget("bob", 0), "tea")
        assert told == KickResult(1, True, {"bus 1": "host1"}, False, BOB)
        assert desk.closed
        assert mobile.logged_in
        later = await one.desk("bob")
        age_s = time.monotonic() - given_at
        again = Repetition(age_s, 30.0, told.unanswered)
        published = stage.exchange.published
        repeated = asyncio.create_task(third.core.kicks.kick(KickTarget("", BOB), "tea", again))
        await stage.until("it asks", lambda: stage.exchange.published > published)
        assert not repeated.done()
        stage.exchange.mend(1)
        await stage.until("it is ended", lambda: mobile.closed)
        assert mobile.reason is Disconnect.KICKED_BY_ADMIN
        assert mobile.told(Kicked) == [Kicked(True, "tea")]
        assert await repeated == KickResult(1, True, {}, False, BOB)
        assert not any(topic & 3 == 3 for worker in (one, third) for topic in worker.bus.own)
        assert later.logged_in

    play(tmp_path, story)


@pytest.mark.usefixtures("quickly")
def test_who_is_cut_off_itself_says_so_and_knows_who_was_there(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        stage.exchange.cut(0)
        mobile = await two.mobile("bob")
        told = await one.core.kicks.kick(KickTarget("bob", 0), "")
        assert told == KickResult(0, True, {"bus 1": "host1"}, True, BOB)
        repeated = asyncio.create_task(one.core.kicks.kick(KickTarget("", BOB), "", Repetition(0.3, 30.0)))
        newcomer = await stage.worker()
        desk = await newcomer.desk("bob")  # on a host that came meanwhile, but after the order
        stage.exchange.mend(0)
        await stage.until("it is ended", lambda: mobile.closed)
        assert (await repeated).unanswered == {}
        assert desk.logged_in

    play(tmp_path, story)


@pytest.mark.usefixtures("quickly")
def test_a_repetition_ends_in_time_and_says_who_has_not_answered(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        mobile = await two.mobile("bob")
        stage.exchange.cut(1)
        told = await one.core.kicks.kick(KickTarget("", BOB), "", Repetition(1.0, 0.2))
        assert told == KickResult(0, True, {"bus 1": "host1"}, False, BOB)
        assert not any(topic & 3 == 3 for topic in one.bus.own)
        assert not mobile.closed

    play(tmp_path, story)


@pytest.mark.usefixtures("quickly")
def test_a_worker_that_came_later_asks_those_that_it_does_not_know(tmp_path: Path) -> None:
    """Whoever has asked before has ended; the bus does not tell a new worker who disappeared before."""

    async def story(stage: Stage) -> None:
        one = await stage.worker()
        again = Repetition(1.0, 0.2, {"bus 1": "host1", "bus 9": "host9"})
        two = await stage.worker()
        mobile = await two.mobile("bob")
        told = await one.core.kicks.kick(KickTarget("", BOB), "", again)
        assert told == KickResult(0, True, {"bus 9": "host9"}, False, BOB)
        assert mobile.logged_in, "it began after the order"

    play(tmp_path, story)


def test_sessions_that_ended_before_the_order_arrived_are_counted_with_it_once(tmp_path: Path) -> None:
    """Every worker looks in the store for changed passwords; one that finds the change before it hears of it ends the
    sessions, and the answer to whoever has changed the password says so nevertheless."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        here, there = await one.desk("bob"), await two.mobile("bob")
        stage.exchange.cut(1)
        changing = asyncio.create_task(one.core.administration.set_password("bob", "another secret"))
        await stage.until("the change is found", lambda: there.closed)
        assert not changing.done()
        stage.exchange.mend(1)
        _, told = await changing
        assert told == KickResult(2, True, {}, False, BOB)
        assert there.reason is here.reason is Disconnect.CREDENTIALS_CHANGED
        _, told = await one.core.administration.lock("bob", "", tell=False)
        assert told == KickResult(0, True, {}, False, BOB)

    play(tmp_path, story)
