"""Who is subscribed elsewhere, as Redis counts it, and what may be concluded from a zero.

Owns: the question and the memory of last answers. Not here: who should be there (bus.redis.membership).
Fails: never; what cannot be known is answered as it was last seen, else as subscribed (bus.contract).

A zero means "nobody" only if every worker that is alive was connected to that server at that moment: in the same
question each worker's own channel is counted, which it subscribes to last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import islice

from chatd.bus.contract import Topic
from chatd.bus.redis.connection import Reply
from chatd.bus.redis.keys import Names
from chatd.bus.redis.membership import Membership
from chatd.bus.redis.node import Node
from chatd.bus.redis.topology import Nodes
from chatd.errors import Unavailable

REMEMBERED = 100_000


class Presence:
    """own: what this worker is subscribed to. guessed: an answer was given that was not known; cleared by whoever looks
    again. sharded: the channels of topics are."""

    def __init__(
        self, nodes: Nodes, names: Names, membership: Membership, own: Collection[Topic], sharded: bool
    ) -> None:
        self._nodes = nodes
        self._names = names
        self._membership = membership
        self._own = own
        self._sharded = sharded
        self._seen: dict[Topic, bool] = {}
        self._loop = asyncio.get_running_loop()
        self.doubt_until = 0.0
        """Redis began so recently that workers we never heard of may not have found it again."""
        self.guessed = False

    async def subscribed_elsewhere(self, topics: Collection[Topic]) -> set[Topic]:
        by_node: dict[Node, dict[bytes, Topic]] = {}
        unknown: set[Topic] = set()
        for topic in topics:
            channel = self._names.topic(topic)
            try:
                by_node.setdefault(self._nodes.of(channel), {})[channel] = topic
            except Unavailable:
                unknown.add(topic)
        found: set[Topic] = set()
        answers = await asyncio.gather(*(self._ask(node, asked) for node, asked in by_node.items()))
        for asked, (present, absent) in zip(by_node.values(), answers, strict=True):
            found |= present
            unknown |= set(asked.values()) - present - absent
            self._remember(present, True)
            self._remember(absent, False)
        if unknown:
            self.guessed = True
            found |= {topic for topic in unknown if self._seen.get(topic, True)}
        return found

    async def is_settled(self) -> bool:
        """Everybody who should be is on every server."""
        if self._loop.time() < self.doubt_until or not self._nodes.is_steady(None):
            return False
        if not all(node.up for node in self._nodes.all()):
            return False
        workers = self._membership.channels()
        try:
            counts = await asyncio.gather(*(node.call("PUBSUB", "NUMSUB", *workers) for node in self._nodes.all()))
        except Unavailable:
            return False
        return all(_all_there(one, workers) for one in counts)

    async def _ask(self, node: Node, asked: dict[bytes, Topic]) -> tuple[set[Topic], set[Topic]]:
        """Those subscribed by others, and those known not to be."""
        if not node.up:
            return set(), set()
        own = {topic for topic in asked.values() if topic in self._own}
        workers = self._membership.channels()
        try:
            if not self._sharded:
                told = await node.call("PUBSUB", "NUMSUB", *asked, *workers)
                there = _all_there(told, workers)
            else:
                # Asked before and after: nobody comes back between two commands that are sent together.
                before, told, after = await asyncio.gather(
                    node.call("PUBSUB", "NUMSUB", *workers),
                    node.call("PUBSUB", "SHARDNUMSUB", *asked),
                    node.call("PUBSUB", "NUMSUB", *workers),
                )
                there = _all_there(before, workers) and _all_there(after, workers)
        except Unavailable:
            return set(), set()
        counts = _counts(told)
        absent = {channel for channel, topic in asked.items() if counts.get(channel, 0) <= (topic in own)}
        present = {topic for channel, topic in asked.items() if channel not in absent}
        if not there or self._loop.time() < self.doubt_until:
            return present, set()
        if self._sharded:
            absent = await self._still_here(node, absent)
        return present, {asked[channel] for channel in absent}

    async def _still_here(self, node: Node, channels: set[bytes]) -> set[bytes]:
        """Those whose slot is this node's, and has been for as long as a worker may need to follow it. A node counts
        subscribers without a word that the slot is not its own, but refuses a question about a key in it."""
        steady = [channel for channel in channels if self._nodes.is_steady(channel)]
        asked = (node.call("EXISTS", channel) for channel in steady)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return {channel for channel, answer in zip(steady, answers, strict=True) if not isinstance(answer, Unavailable)}

    def _remember(self, topics: set[Topic], there: bool) -> None:
        for topic in topics:
            self._seen.pop(topic, None)
            self._seen[topic] = there
        if len(self._seen) > REMEMBERED:
            for topic in list(islice(self._seen, len(self._seen) - REMEMBERED)):
                del self._seen[topic]


def _counts(reply: Reply) -> dict[bytes, int]:
    """PUBSUB NUMSUB answers with a list, or in RESP3 perhaps a map."""
    return dict(reply) if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _all_there(reply: Reply, channels: Collection[bytes]) -> bool:
    counts = _counts(reply)
    return all(counts.get(channel) for channel in channels)
