"""The Redis bus on one real server: the whole contract, and the servers that it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.bus.redis.bus import RedisBus
from chatd.config.schema import BusOptions
from chatd.errors import Unavailable
from tests.bus.contract import BusContract, Stage, play
from tests.bus.redis.place import RedisPlace, wait_until_old
from tests.harness.daemon import free_port
from tests.harness.redis import Certificates, RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        wait_until_old(server)
        yield server


class TestContract(BusContract):
    @pytest.fixture
    def place(self, server: RedisServer) -> RedisPlace:
        return RedisPlace(server.url)


def refusal_of(url: str) -> str:
    """The one line a worker leaves with that cannot open this bus."""

    async def opened() -> None:
        bus = RedisBus(BusOptions(url=url, prefix="test", lease_s=2.0), 0)
        try:
            await bus.open(lambda topic, data: None, lambda: None, lambda key: None)
        finally:
            await bus.close()

    with pytest.raises(Unavailable) as caught:
        asyncio.run(opened())
    text = str(caught.value)
    assert "\n" not in text
    return text


class TestRefusedAtBoot:
    def test_a_server_that_does_not_listen(self, tmp_path: Path) -> None:
        port = free_port()
        text = refusal_of(f"redis://127.0.0.1:{port}/0")
        assert text.startswith(f"cannot use redis at 127.0.0.1:{port}: ")
        assert "Connect" in text or "refused" in text
        assert refusal_of(f"unix:{tmp_path}/nothing.sock").startswith(f"cannot use redis at {tmp_path}/nothing.sock: ")

    def test_a_wrong_password_which_is_not_repeated(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path, password="right") as server:
            for secret in (":wrong@", "somebody:wrong@", ""):
                text = refusal_of(f"redis://{secret}127.0.0.1:{server.port}")
                assert text.startswith(f"cannot use redis at 127.0.0.1:{server.port}: ")
                assert "WRONGPASS" in text or "NOAUTH" in text
                assert "wrong@" not in text

    def test_a_replica(self, tmp_path: Path, server: RedisServer) -> None:
        with RedisServer(tmp_path, options=(f"replicaof {server.host} {server.port}",)) as replica:
            assert refusal_of(replica.url).endswith("it is a replica, not a master")

    def test_a_certificate_of_an_unknown_authority(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path, tls=Certificates.make(tmp_path)) as server:
            text = refusal_of(f"rediss://127.0.0.1:{server.port}/0")
            assert "certificate" in text.lower() or "CERTIFICATE" in text

    def test_a_server_that_requires_a_client_certificate(self, tmp_path: Path) -> None:
        made = Certificates.make(tmp_path)
        with RedisServer(tmp_path, tls=made, options=("tls-auth-clients yes",)) as server:
            assert refusal_of(server.url).startswith("cannot use redis at 127.0.0.1")

            async def scenario(stage: Stage) -> None:
                a = await stage.member()
                assert a.bus.healthy

            proof = f"&ssl_certfile={made.certificate}&ssl_keyfile={made.key}"
            play(RedisPlace(server.url + proof), scenario)

    def test_a_server_that_never_answers(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path) as server:
            server.pause()
            assert refusal_of(server.url) == f"cannot use redis at 127.0.0.1:{server.port}: no answer in time"
