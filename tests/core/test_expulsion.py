"""An operator ends a user's sessions, wherever they are."""

from __future__ import annotations

import asyncio
from pathlib import Path

from chatd.core.expulsion import Expelled
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
            told = await asyncio.gather(*(one.core.expulsion.expel("bob", 0, "tea") for one in made[:2]))
            assert sum(one.sessions for one in told) == 2
            assert all(one.known and not one.why for one in told)
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
        assert await one.core.expulsion.expel("nobody", 0, "") == Expelled(0, known=False)
        assert await one.core.expulsion.expel("", 77, "") == Expelled(0)
        assert await one.core.expulsion.expel("", 1, "") == Expelled(1)
        assert bob.closed

    play(tmp_path, story)


def test_a_worker_that_cannot_be_asked_is_told_of(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        desk, mobile = await one.desk("bob"), await two.mobile("bob")
        stage.exchange.cut(1)
        told = await one.core.expulsion.expel("bob", 0, "")
        assert (told.sessions, told.known) == (1, True)
        assert told.why
        assert desk.closed
        assert mobile.logged_in

    play(tmp_path, story)
