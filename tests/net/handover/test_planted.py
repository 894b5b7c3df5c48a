"""Bugs planted in what moves with a session: each is noticed by the test of its promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatd.core.sessions.arrivals import Arrivals
from chatd.core.sessions.exclusive import SessionLocks
from chatd.core.sessions.moving import MovedSession
from chatd.net.handover import streams
from chatd.net.handover.messages import StreamState
from tests.harness.link import ConnectionGone
from tests.harness.peer import Peer
from tests.net.handover import test_others, test_streams

PATIENCE_S = 2.0
"""How long clients wait for what does not come; shorter than usual, because here it never does."""
replace = msgspec.structs.replace
Plant = Callable[[pytest.MonkeyPatch], None]
Story = Callable[[Path], None]


def of_session(**lost: Any) -> Plant:
    """These parts of a session do not arrive."""
    whole = Arrivals.arrive

    def arrive(self: Arrivals, session: Any, moved: MovedSession, peer: Any) -> None:
        whole(self, session, replace(moved, **lost), peer)

    return lambda patch: patch.setattr(Arrivals, "arrive", arrive)


def of_stream(change: Callable[[StreamState], StreamState]) -> Plant:
    """The state of a stream arrives like this."""
    whole = streams.resumed

    def resumed(connections: Any, listener: Any, codec: Any, sock: Any, arriving: Any) -> Any:
        return whole(connections, listener, codec, sock, (arriving[0], change(arriving[1])))

    return lambda patch: patch.setattr(streams, "resumed", resumed)


def releases_lock(patch: pytest.MonkeyPatch) -> None:
    """The lock is released, for whoever comes first."""

    async def give(self: Any, session: Any, to: Any) -> bool:
        self._bus.unlock(session.user.id << 2 | session.protocol)
        return False

    patch.setattr(SessionLocks, "give", give)


def without_rest(state: StreamState) -> StreamState:
    return replace(state, codec=replace(state.codec, rest=b""))


def without_frames(state: StreamState) -> StreamState:
    return replace(state, websocket=replace(state.websocket, rest=b"", fragments=None))


BUGS: dict[str, tuple[Plant, Story]] = {
    "cursors are forgotten": (
        of_session(cursors=()),
        test_streams.test_a_full_window_stays_full_and_opens_with_acknowledgements,
    ),
    "in-flight messages are forgotten": (
        of_session(in_flight=()),
        test_streams.test_what_is_not_acknowledged_is_sent_again_by_the_successor,
    ),
    "it is forgotten what was told": (
        of_session(told=()),
        lambda path: test_others.test_every_notice_is_told_once(path, 0.05),
    ),
    "the first part of a packet is lost": (
        of_stream(without_rest),
        lambda path: test_streams.test_a_packet_whose_first_part_was_read_is_read_to_its_end(path, 60),
    ),
    "the first part of a WebSocket message is lost": (
        of_stream(without_frames),
        test_streams.test_a_message_in_fragments_is_read_to_its_end,
    ),
    "bytes are counted from the move on": (
        of_stream(lambda state: replace(state, written=0)),
        test_streams.test_what_the_kernel_holds_for_a_client_that_does_not_read_moves_with_the_socket,
    ),
    "what waits in the connection is lost": (
        of_stream(lambda state: replace(state, out=(), paced=())),
        test_streams.test_frames_that_wait_for_their_turn_go_on_in_their_order,
    ),
    "the lock is released and not given": (
        releases_lock,
        lambda path: test_streams.test_a_lock_is_never_free(path),
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_noticed(memory_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    plant, story = BUGS[bug]
    plant(monkeypatch)
    monkeypatch.setattr(Peer.find, "__defaults__", (PATIENCE_S,))
    with pytest.raises((AssertionError, TimeoutError, ConnectionGone, ValueError)):
        story(memory_path)
