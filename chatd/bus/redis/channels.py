"""The channels this worker is subscribed to.

Owns: topic <-> channel for every subscription, and the two channels that every worker has on every server.
Elsewhere: which server carries a channel (bus.redis.topology), subscribing there (bus.redis.node).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chatd.bus.contract import Topic
from chatd.bus.redis.keys import RedisKeys


class SubscribedChannels:
    """Only the bus changes it; nodes and topology read it. `in` and iteration are about the channels of topics."""

    def __init__(self, keys: RedisKeys, own_channel: bytes) -> None:
        self._keys = keys
        self.own = own_channel
        """This worker's own channel."""
        self.by_topic: dict[Topic, bytes] = {}
        self.by_channel: dict[bytes, Topic] = {}

    @property
    def everywhere(self) -> list[bytes]:
        """Plain channels that every server must carry for us. Our own comes last: a worker that finds us subscribed to
        it knows that all other subscriptions on that server are in force too."""
        return [self._keys.all_workers, self.own]

    def __contains__(self, channel: bytes) -> bool:
        return channel in self.by_channel

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.by_channel)

    def add(self, topics: Iterable[Topic]) -> list[bytes]:
        """The channels of those that are new."""
        new = []
        for topic in topics:
            if topic not in self.by_topic:
                channel = self.by_topic[topic] = self._keys.topic(topic)
                self.by_channel[channel] = topic
                new.append(channel)
        return new

    def remove(self, topics: Iterable[Topic]) -> list[bytes]:
        """The channels of those that were there."""
        gone = []
        for topic in topics:
            channel = self.by_topic.pop(topic, None)
            if channel is not None:
                del self.by_channel[channel]
                gone.append(channel)
        return gone

    def clear(self) -> None:
        self.by_topic.clear()
        self.by_channel.clear()
