"""Which peers are subscribed to which topic.

Owns: topic -> peers, as one bit mask per topic. 100,000 topics cost a dictionary entry each and nothing else, since the
interpreter shares the small integers that are the masks of up to eight peers. A topic without peers is absent.
Elsewhere: this worker's own subscriptions (bus.local.bus), links (bus.local.peers).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from chatd.bus.contract import Topic

P = TypeVar("P")


class Routes(Generic[P]):
    """A peer is known by its bit: a power of two, given by join()."""

    __slots__ = ("_fanouts", "_masks", "_peers")

    def __init__(self) -> None:
        self._masks: dict[Topic, int] = {}
        """The bits of the peers that are subscribed to each topic."""
        self._peers: dict[int, P] = {}
        """The peer of each bit."""
        self._fanouts: dict[int, tuple[P, ...]] = {}
        """A cache: the peers of each mask that was looked up."""

    def __len__(self) -> int:
        return len(self._masks)

    def __contains__(self, topic: Topic) -> bool:
        return topic in self._masks

    def join(self, peer: P) -> int:
        """The peer's bit. The bits of peers that have left are reused."""
        bit = 1
        while bit in self._peers:
            bit <<= 1
        self._peers[bit] = peer
        return bit

    def clear_all(self) -> None:
        """Forget every peer and topic."""
        self._masks = {}
        self._peers = {}
        self._fanouts = {}

    def leave(self, bit: int) -> None:
        """Forget the peer and its topics."""
        self.clear(bit)
        del self._peers[bit]
        self._fanouts.clear()

    def clear(self, bit: int) -> None:
        """Remove the peer from every topic. O(topics): only when a worker dies or its link breaks."""
        self._masks = {topic: left for topic, mask in self._masks.items() if (left := mask & ~bit)}

    def add(self, bit: int, topics: Iterable[Topic]) -> None:
        masks = self._masks
        for topic in topics:
            masks[topic] = masks.get(topic, 0) | bit

    def remove(self, bit: int, topics: Iterable[Topic]) -> None:
        masks = self._masks
        for topic in topics:
            left = masks.get(topic, 0) & ~bit
            if left:
                masks[topic] = left
            else:
                masks.pop(topic, None)

    def to(self, topic: Topic) -> tuple[P, ...]:
        """The peers subscribed to topic."""
        mask = self._masks.get(topic)
        if mask is None:
            return ()
        fanout = self._fanouts.get(mask)
        if fanout is None:
            fanout = tuple(peer for bit, peer in self._peers.items() if bit & mask)
            self._fanouts[mask] = fanout
        return fanout
