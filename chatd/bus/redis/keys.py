"""The names of all channels and keys that the hosts of one cluster use in Redis.

Owns: RedisKeys, which makes these names. Elsewhere: their use (every other module of bus.redis). Fails: never.

PREFIX:u17  :g4  :p17  :a5           channels: a topic by its kind (user, group, presence, answer) and id
PREFIX:all                           channel: messages for every worker
PREFIX:own:TOKEN                     channel: one worker's own, for messages to itself and counting
PREFIX:workers                       hash: TOKEN -> how the worker describes itself
PREFIX:lease:{TOKEN}.EPOCH           key that expires: the worker is alive
PREFIX:mark:KEY                      key: the holder of a lock, as TOKEN.EPOCH

TOKEN is random for each worker, EPOCH counts how often its lease was lost (bus.redis.lease). "TOKEN.EPOCH" is called a
holder name.
"""

from __future__ import annotations

from chatd.bus.contract import Topic


class RedisKeys:
    def __init__(self, prefix: str) -> None:
        """prefix: the option prefix of the bus."""
        self._prefix = prefix.encode()
        self._topic_prefixes = tuple(b"%b:%b" % (self._prefix, kind) for kind in (b"u", b"g", b"p", b"a"))
        """By the two low bits of a topic (bus.contract)."""
        self.all_workers = self._prefix + b":all"
        self.workers = self._prefix + b":workers"

    def topic(self, topic: Topic) -> bytes:
        return b"%b%d" % (self._topic_prefixes[topic & 3], topic >> 2)

    def worker(self, token: str) -> bytes:
        return b"%b:own:%b" % (self._prefix, token.encode())

    def holder(self, token: str, epoch: int) -> bytes:
        """A holder name. Not a key, but a value, and part of a key."""
        return b"%b.%d" % (token.encode(), epoch)

    def lease(self, holder: bytes) -> bytes:
        """The braces put all leases of one worker into one slot of a Redis Cluster."""
        token, _, epoch = holder.partition(b".")
        return b"%b:lease:{%b}.%b" % (self._prefix, token, epoch)

    def lock(self, key: int) -> bytes:
        return b"%b:mark:%d" % (self._prefix, key)
