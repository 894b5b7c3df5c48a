"""One server whose connection is lost: the listener is told once of the loss, and once of the return."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatd.bus.redis.channels import SubscribedChannels
from chatd.bus.redis.keys import RedisKeys
from chatd.bus.redis.node import NodeContext, RedisNode
from chatd.bus.redis.settings import RedisLimits, read_settings
from chatd.bus.redis.topology import SingleTopology
from chatd.errors import Unavailable
from tests.harness.deadline import run, until
from tests.harness.redis import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


class RecordingListener:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.messages: list[tuple[bytes, bytes]] = []

    def receiver(self, node: RedisNode) -> Callable[[bytes, bytes], None]:
        return lambda channel, raw: self.messages.append((channel, raw))

    def publishes_lost(self) -> None:
        self.events.append("publishes lost")

    def server_lost(self, node: RedisNode) -> None:
        assert not node.is_connected
        self.events.append("lost")

    async def server_back(self, node: RedisNode, remembers: bool) -> None:
        assert node.is_up
        self.events.append("back" if remembers else "back, empty")

    def subscriptions_moved(self) -> None: ...


def topology_of(server: RedisServer, listener: RecordingListener) -> tuple[SingleTopology, SubscribedChannels]:
    keys = RedisKeys("test")
    channels = SubscribedChannels(keys, keys.worker("me"))
    context = NodeContext(
        settings=read_settings(server.url),
        limits=RedisLimits(),
        client_name="test",
        scripts=(),
        channels=channels,
        listener=listener,
    )
    return SingleTopology(context), channels


def test_a_cut_connection_is_replaced_and_every_subscription_is_in_force_again(server: RedisServer) -> None:
    async def story() -> None:
        listener = RecordingListener()
        topology, channels = topology_of(server, listener)
        await topology.open()
        (node,) = topology.all()
        node.subscribe(channels.add([1 << 2]))
        assert node.confirming is not None
        await node.confirming
        for count in range(1, 4):
            server.call("CLIENT", "KILL", "TYPE", "pubsub")
            await until(10, "it is back", lambda count=count: listener.events == ["lost", "back"] * count)
            server.call("PUBLISH", "test:u1", str(count))
            await until(10, "it arrives", lambda count=count: (b"test:u1", b"%d" % count) in listener.messages)
        await topology.close()
        assert not node.is_connected
        assert listener.events == ["lost", "back"] * 3, "closing is no loss"

    run(story())


def test_a_server_that_was_restarted_does_not_remember(server: RedisServer) -> None:
    async def story() -> None:
        listener = RecordingListener()
        topology, _ = topology_of(server, listener)
        await topology.open()
        (node,) = topology.all()
        server.kill()
        await until(10, "it is lost", lambda: listener.events == ["lost"])
        with pytest.raises(Unavailable, match="is not connected"):
            await node.call("PING")
        node.publish(b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$1\r\nb\r\n")
        assert listener.events == ["lost", "publishes lost"]
        await asyncio.to_thread(server.start)
        await until(10, "it is back", lambda: listener.events[-1] == "back, empty")
        assert await node.call("PING") == b"PONG"
        await topology.close()

    run(story())
