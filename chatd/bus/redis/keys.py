"""The names of all channels and keys of one cluster of hosts in Redis.

PREFIX:u17  :g4  :p17  :a5           channels: a topic by its kind (user, group, presence, answer) and id
PREFIX:all                           channel: what every worker must hear
PREFIX:own:TOKEN                     channel: one worker's own
PREFIX:workers                       hash: TOKEN -> what the worker says of itself
PREFIX:lease:{TOKEN}.EPOCH           key that expires: the worker lives
PREFIX:mark:KEY                      who holds a mark: TOKEN.EPOCH
"""

from __future__ import annotations

from chatd.bus.contract import Topic


class Names:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self._topics = tuple(b"%b:%b" % (self._prefix, kind) for kind in (b"u", b"g", b"p", b"a"))
        self.all = self._prefix + b":all"
        self.workers = self._prefix + b":workers"

    def topic(self, topic: Topic) -> bytes:
        return b"%b%d" % (self._topics[topic & 3], topic >> 2)

    def own(self, token: str) -> bytes:
        return b"%b:own:%b" % (self._prefix, token.encode())

    def owner(self, token: str, epoch: int) -> bytes:
        return b"%b.%d" % (token.encode(), epoch)

    def lease(self, owner: bytes) -> bytes:
        """In a cluster all leases of one worker are in one slot."""
        token, _, epoch = owner.partition(b".")
        return b"%b:lease:{%b}.%b" % (self._prefix, token, epoch)

    def mark(self, key: int) -> bytes:
        return b"%b:mark:%d" % (self._prefix, key)
