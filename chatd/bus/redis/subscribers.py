"""Which topics other workers are subscribed to, as Redis counts it, and what a count of zero means.

Owns: the question, and the last answers about each topic.
Elsewhere: which workers should be there (bus.redis.membership).
Fails: never. A topic about which nothing is known is reported as last seen, or else as subscribed (bus.contract).

Zero subscribers mean "nobody" only if every living worker was connected to that server at that moment. So the same
question counts each worker's own channel, to which it subscribes last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import islice

from chatd.bus.contract import Topic
from chatd.bus.redis.channels import SubscribedChannels
from chatd.bus.redis.connection import Reply
from chatd.bus.redis.keys import RedisKeys
from chatd.bus.redis.membership import ClusterMembership
from chatd.bus.redis.node import RedisNode
from chatd.bus.redis.topology import Topology, is_whole
from chatd.errors import Unavailable

REMEMBERED = 100_000
"""Maximum topics whose last answer is remembered."""


class RemoteSubscribers:
    def __init__(
        self,
        topology: Topology,
        keys: RedisKeys,
        membership: ClusterMembership,
        own: SubscribedChannels,
        sharded: bool,
    ) -> None:
        """own: this worker's subscriptions, which Redis counts too. sharded: topics are sharded channels."""
        self._topology = topology
        self._keys = keys
        self._membership = membership
        self._own = own
        self._sharded = sharded
        self._loop = asyncio.get_running_loop()
        self._last_seen: dict[Topic, bool] = {}
        """The last certain answer about each topic, the oldest first."""
        self.doubt_until = 0.0
        """Loop time before which zero means nothing: Redis has started so recently that workers we never heard of may
        not have come back to it."""
        self.has_guessed = False
        """An uncertain answer was given. Reset by the caller that has the question asked again."""

    async def among(self, topics: Collection[Topic]) -> set[Topic]:
        """As Bus.subscribed_elsewhere."""
        by_node: dict[RedisNode, dict[bytes, Topic]] = {}
        unknown: set[Topic] = set()
        for topic in topics:
            channel = self._keys.topic(topic)
            try:
                by_node.setdefault(self._topology.of(channel), {})[channel] = topic
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
            self.has_guessed = True
            found |= {topic for topic in unknown if self._last_seen.get(topic, True)}
        return found

    async def is_certain(self) -> bool:
        """Every living worker is on every server, so that zero means nobody."""
        if self._loop.time() < self.doubt_until or not self._topology.is_steady(None) or not is_whole(self._topology):
            return False
        workers = self._membership.worker_channels()
        try:
            counts = await asyncio.gather(*(node.call("PUBSUB", "NUMSUB", *workers) for node in self._topology.all()))
        except Unavailable:
            return False
        return all(_all_there(one, workers) for one in counts)

    async def _ask(self, node: RedisNode, asked: dict[bytes, Topic]) -> tuple[set[Topic], set[Topic]]:
        """(topics that other workers are subscribed to, topics that certainly none is subscribed to). About the rest
        nothing is known."""
        if not node.is_up:
            return set(), set()
        own = {topic for topic in asked.values() if topic in self._own.by_topic}
        try:
            counts, all_there = await self._count(node, asked)
        except Unavailable:
            return set(), set()
        zero = {channel for channel, topic in asked.items() if counts.get(channel, 0) <= (topic in own)}
        present = {topic for channel, topic in asked.items() if channel not in zero}
        if not all_there or self._loop.time() < self.doubt_until:
            return present, set()
        if self._sharded:
            zero = await self._still_here(node, zero)
        return present, {asked[channel] for channel in zero}

    async def _count(self, node: RedisNode, channels: Collection[bytes]) -> tuple[dict[bytes, int], bool]:
        """Subscribers of each channel, and whether all workers were there. Raises Unavailable."""
        workers = self._membership.worker_channels()
        if not self._sharded:
            counted = await node.call("PUBSUB", "NUMSUB", *channels, *workers)
            return _counts(counted), _all_there(counted, workers)
        # Workers are counted before and after: none comes back between commands that are sent together.
        before, counted, after = await asyncio.gather(
            node.call("PUBSUB", "NUMSUB", *workers),
            node.call("PUBSUB", "SHARDNUMSUB", *channels),
            node.call("PUBSUB", "NUMSUB", *workers),
        )
        return _counts(counted), _all_there(before, workers) and _all_there(after, workers)

    async def _still_here(self, node: RedisNode, channels: set[bytes]) -> set[bytes]:
        """Those whose slot is this node's, and has been for as long as a worker may need to follow it. A node counts
        subscribers without saying that the slot is not its own, but refuses a question about a key in it."""
        steady = [channel for channel in channels if self._topology.is_steady(channel)]
        asked = (node.call("EXISTS", channel) for channel in steady)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return {channel for channel, answer in zip(steady, answers, strict=True) if not isinstance(answer, Unavailable)}

    def _remember(self, topics: set[Topic], subscribed: bool) -> None:
        for topic in topics:
            self._last_seen.pop(topic, None)
            self._last_seen[topic] = subscribed
        if len(self._last_seen) > REMEMBERED:
            for topic in list(islice(self._last_seen, len(self._last_seen) - REMEMBERED)):
                del self._last_seen[topic]


def _counts(reply: Reply) -> dict[bytes, int]:
    """PUBSUB NUMSUB answers with a list, or in RESP3 perhaps a map."""
    return dict(reply) if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _all_there(reply: Reply, channels: Collection[bytes]) -> bool:
    counts = _counts(reply)
    return all(counts.get(channel) for channel in channels)
