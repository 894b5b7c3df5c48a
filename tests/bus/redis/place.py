"""Where Redis buses of one test meet, and a server that is shared by the tests of one file.

Elsewhere: the server's own life (harness.redis).
"""

from __future__ import annotations

import itertools
import os
from dataclasses import replace

from chatd.bus.redis.bus import RedisBus
from chatd.bus.redis.keyring import Keyring
from chatd.bus.redis.settings import RedisLimits
from chatd.config.schema import BusOptions
from tests.harness.deadline import wait_until
from tests.harness.redis import RedisServer

LEASE_S = 2.0
KEY = "the key of the clusters in these tests"
_numbers = itertools.count(1)


class RedisPlace:
    """Buses of one prefix, and so apart from those of other tests on the same server."""

    def __init__(self, url: str, lease_s: float = LEASE_S, limits: RedisLimits | None = None) -> None:
        self.url = url
        self.prefix = f"test{os.getpid()}.{next(_numbers)}"
        self.lease_s = lease_s
        self.limits = limits or RedisLimits()
        self.keys = (KEY,)
        self.arguments = ["redis", url, self.prefix, str(lease_s), KEY]

    def bus(self, slot: int, keyring: Keyring | None = None) -> RedisBus:
        """keyring: instead of one with KEY alone."""
        options = BusOptions(url=self.url, prefix=self.prefix, lease_s=self.lease_s, keys=self.keys)
        return RedisBus(options, slot, keyring, self.limits)

    def with_limits(self, **limits: float) -> RedisPlace:
        self.limits = replace(self.limits, **limits)  # type: ignore[arg-type]
        return self


def wait_until_old(server: RedisServer, lease_s: float = LEASE_S) -> None:
    """Old enough that nobody waits for workers that might come back to it."""
    wait_until(20, "redis is not new any more", lambda: int(server.info("server")["uptime_in_seconds"]) > lease_s)
