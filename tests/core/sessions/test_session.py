"""The states of a session: the declared transitions and no others, and what a real login and logout go through."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

from chatd.core.sessions.session import TRANSITIONS, Session, SessionState
from chatd.model import Protocol, User
from chatd.protocol import Logout
from tests.core.stage import Stage, play

ROUTES = {
    SessionState.LOGGING_IN: (),
    SessionState.LIVE: (SessionState.LIVE,),
    SessionState.CLOSING: (SessionState.LIVE, SessionState.CLOSING),
    SessionState.CLOSED: (SessionState.CLOSING, SessionState.CLOSED),
    SessionState.ARRIVING: (SessionState.ARRIVING,),
    SessionState.HANDED_OVER: (SessionState.LIVE, SessionState.HANDED_OVER),
}
"""One way from the first state to each."""


@pytest.mark.parametrize(("before", "after"), list(itertools.product(SessionState, repeat=2)))
def test_only_declared_transitions_are_possible(tmp_path: Path, before: SessionState, after: SessionState) -> None:
    async def story(stage: Stage) -> None:
        session = Session(User(1, "alice"), (await stage.worker()).peer(), 0)
        for state in ROUTES[before]:
            session.enter(state)
        if after in TRANSITIONS[before]:
            session.enter(after)
            assert session.state is after
        else:
            with pytest.raises(ValueError, match=f"{before.name} cannot become {after.name}"):
                session.enter(after)
            assert session.state is before

    play(tmp_path, story)


def test_states_only_rise_and_the_end_is_reached_from_every_one() -> None:
    assert set(TRANSITIONS) == set(SessionState)
    assert all(after > before for before, some in TRANSITIONS.items() for after in some)
    for state in SessionState:
        reached = {state}
        for before in sorted(SessionState):
            if before in reached:
                reached |= TRANSITIONS[before]
        assert SessionState.CLOSED in reached or state is SessionState.HANDED_OVER


@pytest.mark.parametrize("wire", [Protocol.CHATSERVER, Protocol.MOBILEIMSDK])
def test_a_session_is_live_from_login_to_logout_and_closed_when_its_lock_is_released(
    tmp_path: Path, wire: Protocol
) -> None:
    async def story(stage: Stage) -> None:
        peer = await (await stage.worker()).peer(wire).login("alice")
        session = peer.session
        assert session is not None
        assert session.state is SessionState.LIVE
        assert not session.is_over
        await peer.do(Logout())
        assert session.state is SessionState.CLOSING
        assert session.is_over
        assert stage.exchange.locks
        await stage.until("its lock is released", lambda: not stage.exchange.locks)
        await stage.until("it is closed", lambda: session.state is SessionState.CLOSED)

    play(tmp_path, story)


def test_an_idle_session_is_small(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        session = Session(User(1, "alice"), (await stage.worker()).peer(), 0)
        assert sys.getsizeof(session) <= 208
        assert not hasattr(session, "__dict__")

    play(tmp_path, story)
