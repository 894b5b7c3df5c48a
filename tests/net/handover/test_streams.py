"""Stream connections that move to another worker: their clients notice nothing."""

from __future__ import annotations

from pathlib import Path

from tests.net.handover.pair import Pair, play

TEXTS = [f"text {number}" for number in range(5)]


def test_a_session_goes_on_where_it_was(memory_path: Path) -> None:
    async def story(pair: Pair) -> None:
        alice, bob = await pair.old.mobile("alice"), await pair.old.mobile("bob")
        moves = await pair.hand_over()
        assert moves == (2, 0)
        assert not pair.old.connections.members
        alice.put({"type": 2, "from": "alice", "to": "bob", "dataContent": "hello", "fp": "f1", "QoS": True})
        packet = await bob.find(type=2)
        assert packet["dataContent"] == "hello"
        assert (await alice.find(type=4))["dataContent"] == "f1"
        assert not alice.gone.is_set()

    play(memory_path, story)
