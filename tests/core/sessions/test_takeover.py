"""A login that takes the place of the user's other session, on a wire that refuses a second one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chatd.core import bus_messages
from chatd.core.bus_messages import SessionChallenge
from chatd.errors import Disconnect, ErrorCode
from chatd.model import Protocol
from chatd.protocol import Kicked, Login
from tests.core.sessions.test_exclusive import grow_older, peace, quick
from tests.core.stage import Peer, Stage, Worker, play

__all__ = ["quick"]


async def take_over(worker: Worker, name: str) -> Peer:
    peer = worker.peer(Protocol.CHATSERVER)
    await peer.do(Login(name, 0, "", streaming=True, requests=True, takeover=True))
    return peer


@pytest.mark.parametrize("apart", [False, True])
def test_the_other_session_ends_and_its_client_is_told(tmp_path: Path, *, apart: bool) -> None:
    async def story(stage: Stage) -> None:
        made = [await stage.worker(), await stage.worker()]
        old = await made[0].desk("bob")
        new = await take_over(made[apart], "bob")
        assert new.logged_in
        assert old.reason is Disconnect.KICKED_DUPLICATE
        assert [told.by_admin for told in old.told(Kicked)] == [False]
        late = await made[not apart].desk("bob")
        assert late.failures == [ErrorCode.ALREADY_LOGGED_IN]
        assert new.logged_in

    play(tmp_path, story)


@pytest.mark.parametrize("took_over", [False, True])
def test_after_a_cut_the_later_session_stays_if_it_took_over(tmp_path: Path, quick: None, *, took_over: bool) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        stage.exchange.cut(1)
        first = await one.desk("bob")
        grow_older(first)
        second = await take_over(two, "bob") if took_over else await two.desk("bob")
        assert first.logged_in
        assert second.logged_in
        stage.exchange.mend(1)
        await peace(stage)
        assert (first.logged_in, second.logged_in) == (not took_over, took_over)

    play(tmp_path, story)


@pytest.mark.parametrize("first_took_over", [False, True])
def test_a_session_that_took_over_does_not_end_a_later_one_after_a_cut(
    tmp_path: Path, quick: None, *, first_took_over: bool
) -> None:
    """The later one has the lock: it logged in while the other's worker was cut off, as if that one had gone."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        stage.exchange.cut(0)
        first = await take_over(one, "bob") if first_took_over else await one.desk("bob")
        grow_older(first)
        second = await two.desk("bob")
        stage.exchange.mend(0)
        await peace(stage)
        assert (first.logged_in, second.logged_in) == (False, True)

    play(tmp_path, story)


def test_a_worker_of_an_earlier_version_is_asked_in_words_that_it_knows() -> None:
    """It refuses the new session, as it always did; and its own question never means takeover."""
    challenge = SessionChallenge(7, 1, 0, 3, 0, True, True)
    words = msgspec.msgpack.decode(bus_messages.encode(challenge))
    earlier = bus_messages.decode(msgspec.msgpack.encode(words[:-1]))
    assert isinstance(earlier, SessionChallenge)
    assert earlier == msgspec.structs.replace(challenge, takes_over=False)
