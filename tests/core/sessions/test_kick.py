"""An operator ends a user's sessions, wherever they are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chatd.core.sessions import kick
from chatd.core.sessions.kick import KickResult, KickTarget
from chatd.errors import Disconnect
from chatd.protocol import Kicked
from tests.core.stage import Stage, play


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
        assert await one.core.kicks.kick(KickTarget("", 77), "") == KickResult(0)
        assert await one.core.kicks.kick(KickTarget("", 1), "") == KickResult(1)
        assert bob.closed

    play(tmp_path, story)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kick, "ANSWER_S", 0.3)
    monkeypatch.setattr(kick, "KEPT_AGAIN_S", 0.05)


@pytest.mark.usefixtures("quickly")
def test_a_host_that_cannot_be_asked_is_named_and_asked_when_it_is_back(tmp_path: Path) -> None:
    """Also where the bus has given it up, and says that nobody is there. A login after the order may stay."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        await stage.worker()
        desk = await one.desk("bob")
        stage.exchange.cut(1)
        mobile = await two.mobile("bob")  # nobody else knows of this session
        stage.exchange.expire(1)
        told = await one.core.kicks.kick(KickTarget("bob", 0), "tea")
        assert told == KickResult(1, True, ("host1",), False, kick.KEPT_S)
        assert desk.closed
        assert mobile.logged_in
        later = await one.desk("bob")
        stage.exchange.mend(1)
        await stage.until("it is ended", lambda: mobile.closed)
        assert mobile.reason is Disconnect.KICKED_BY_ADMIN
        assert mobile.told(Kicked) == [Kicked(True, "tea")]
        await stage.until("nothing is kept", lambda: not one.core.kicks.kept)
        assert not any(topic & 3 == 3 for topic in one.bus.own)
        assert later.logged_in

    play(tmp_path, story)


@pytest.mark.usefixtures("quickly")
def test_who_is_cut_off_itself_says_so_and_knows_who_was_there(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        stage.exchange.cut(0)
        mobile = await two.mobile("bob")
        told = await one.core.kicks.kick(KickTarget("bob", 0), "")
        assert told == KickResult(0, True, ("host1",), True, kick.KEPT_S)
        newcomer = await stage.worker()
        desk = await newcomer.desk("bob")  # on a host that came meanwhile, but after the order
        stage.exchange.mend(0)
        await stage.until("it is ended", lambda: mobile.closed)
        await stage.until("nothing is kept", lambda: not one.core.kicks.kept)
        assert desk.logged_in

    play(tmp_path, story)


@pytest.mark.usefixtures("quickly")
def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kick, "KEPT_S", 1)
    monkeypatch.setattr(kick, "MAX_KEPT", 2)

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        mobile = await two.mobile("bob")
        stage.exchange.cut(1)
        kicks = [one.core.kicks.kick(KickTarget("bob", 0), "") for _ in range(3)]
        assert sorted(told.kept_s for told in await asyncio.gather(*kicks)) == [0, 1, 1]
        await stage.until("they are given up", lambda: not one.core.kicks.kept)
        assert (await one.core.kicks.kick(KickTarget("bob", 0), "")).kept_s == 1
        await two.bus.close()
        await stage.until("nobody is left to ask", lambda: not one.core.kicks.kept)
        assert not mobile.closed

    play(tmp_path, story)
