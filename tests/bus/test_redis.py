"""The Redis bus on one real server: the contract, and what only it has (a lease, a presence that may be in doubt)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from chatd.bus.redis import RedisBus
from tests.bus.contract import BusContract
from tests.harness.deadline import wait_until
from tests.harness.redis import RedisServer

LEASE_S = 2.0
_numbers = itertools.count(1)


class RedisPlace:
    """Buses of one prefix on one server."""

    def __init__(self, url: str, lease_s: float = LEASE_S) -> None:
        self.url = url
        self.prefix = f"test{next(_numbers)}"
        self.lease_s = lease_s
        self.arguments = ["redis", url, self.prefix, str(lease_s)]

    def bus(self, slot: int) -> RedisBus:
        return RedisBus(self.url, self.prefix, self.lease_s, slot)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Old enough that nobody waits for workers that might come back to it."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        wait_until(20, "redis is not new any more", lambda: int(server.info("server")["uptime_in_seconds"]) > LEASE_S)
        yield server


class TestContract(BusContract):
    @pytest.fixture
    def place(self, server: RedisServer) -> RedisPlace:
        return RedisPlace(server.url)
