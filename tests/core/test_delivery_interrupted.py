"""Delivery: a client that is disconnected while it is given what waited for it loses nothing of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.errors import Disconnect
from chatd.model import Protocol
from chatd.protocol import Event, Login
from tests.core.stage import Peer, Stage, Worker, play
from tests.core.test_delivery import numbers, pair


class CutPeer(Peer):
    """Is disconnected instead of being sent event number `cut_at`, as a client whose write buffer is full."""

    def __init__(self, worker: Worker, protocol: Protocol, cut_at: int) -> None:
        super().__init__(worker, protocol)
        self.cut_at = cut_at

    def push(self, event: Event) -> int:
        if len(self.events) + 1 == self.cut_at:
            self.close(Disconnect.SLOW_CONSUMER)
        return super().push(event)


@pytest.mark.parametrize("cut_at", range(1, 6))
@pytest.mark.parametrize("acks", [False, True])
@pytest.mark.parametrize("protocol", [Protocol.CHATSERVER, Protocol.MOBILEIMSDK])
def test_messages_that_the_end_of_the_session_overtook_are_given_at_the_next_login(
    tmp_path: Path, protocol: Protocol, acks: bool, cut_at: int
) -> None:
    """Event 1 is the login answer. The messages are of two conversations."""

    async def story(stage: Stage) -> None:
        alice, _ = await pair(stage)
        carol = await stage.workers[0].mobile("carol")
        (await stage.workers[1].desk("dora")).leave()
        for number in range(3):
            alice.send("dora", str(number))
            carol.send("dora", str(number + 3))
        await stage.settled()
        dora = CutPeer(stage.workers[1], protocol, cut_at)
        await dora.do(Login("dora", 0, "", 0, acks, acks))
        await stage.settled()
        assert dora.closed
        again = await stage.workers[1].peer(protocol).login("dora")
        await stage.until("all are given", lambda: len(again.messages) >= 6)
        assert sorted(again.bodies) == numbers(0, 6)

    play(tmp_path, story)
