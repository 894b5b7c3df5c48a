"""Commands to Redis: scripts, and what an error of the server means.

Owns: RedisScript, RedisRefusal and the groups of error codes.
Elsewhere: sending commands (bus.redis.connection), acting on errors (bus.redis.node).
Fails: never.
"""

from __future__ import annotations

import hashlib

from chatd.errors import Unavailable

MOVES = ("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN")
"""The key or channel is, or may soon be, on another node of the cluster. Nothing was done."""
DROPS = ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "WRONGPASS")
"""The server is of no use to us any more; another one may be."""


class RedisRefusal(Unavailable):
    """The server answered with an error. `code` is its first word."""

    def __init__(self, text: str) -> None:
        super().__init__(f"redis: {text}")
        self.code = text.partition(" ")[0]


class RedisScript:
    """A Lua script on one key. It is sent once for each connection, and called by its hash."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
