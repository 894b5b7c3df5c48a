"""A bridge whose RabbitMQ is not there, is somebody else's, or has other queues. One daemon, and TLS."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import aiormq
import pytest

from tests.bridges.house import House, options
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.rabbitmq import JavaSide, RabbitServer

QUEUES = {"incoming": "q_in_tls", "outgoing": "q_out_tls", "dead_letters": "q_dead_tls"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, rabbit: RabbitServer) -> Iterator[House]:
    """The incoming queue exists with other properties. The URL is in a file."""
    root = tmp_path_factory.mktemp("troubles")
    run(_declare(rabbit, durable=False))
    ca_file = str(rabbit.certificates.certificate)
    tables = options(
        rabbit,
        url="file:bridge.url",
        ca_file=ca_file,
        own_prefix="chatd:",
        unknown_here=True,
        return_unknown=True,
        **QUEUES,
    )
    late = root / "late"
    late.mkdir()
    entry = ("-m", "tests.upgrade.late_imports")
    daemon = Daemon(root, entry=entry, env={"LATE": str(late)}, bus={"lease_s": 2}, bridge=[tables])
    url = root / "bridge.url"
    url.touch(mode=0o600)
    url.write_text(rabbit.tls_url)
    daemon.expect_error("bridge stands still")
    try:
        yield House(daemon.start())
    finally:
        complaints = daemon.discard()
    assert complaints == []


async def _declare(rabbit: RabbitServer, *, durable: bool) -> None:
    connection = await aiormq.connect(rabbit.url)
    channel = await connection.channel()
    await channel.queue_declare(QUEUES["incoming"], durable=durable)
    await connection.close()


async def _delete(rabbit: RabbitServer, queue: str) -> None:
    connection = await aiormq.connect(rabbit.url)
    channel = await connection.channel()
    await channel.queue_delete(queue)
    await connection.close()


def test_a_queue_with_other_properties_is_a_clear_error_until_it_is_gone(house: House, rabbit: RabbitServer) -> None:
    async def story() -> None:
        bob = await house.person("bob")
        await until(15, "it is failing", lambda: house.state()["state"] == "failing")
        error = house.state()["error"]
        assert "q_in_tls" in error
        assert "other properties" in error
        assert "PRECONDITION_FAILED" in error
        assert house.daemon.logged("bridge stands still")
        assert "other properties" in (await asyncio.to_thread(house.ctl, "test", "java", code=1))["error"]
        await until(10, "check says so", lambda: '"bridge"' in house.daemon.ctl_said("check", "--json")[1])
        outcome = await bob.say("java:anna", "while nothing works")
        assert outcome is not None
        assert outcome.ok
        await _delete(rabbit, QUEUES["incoming"])
        async with JavaSide(rabbit, QUEUES["outgoing"], QUEUES["incoming"]) as java:
            packet = await java.came("while nothing works", 30)
            assert packet["from"] == f"chatd:{bob.name}"
            await until(30, "it works", lambda: house.state()["state"] == "working")
            assert (await asyncio.to_thread(house.ctl, "test", "java"))["ok"] is True
        assert house.daemon.ctl_said("bridge", "test", "nobody")[0] == 1

    run(story(), 90)


def test_names_that_nobody_has_here_are_those_of_the_other_side(house: House, rabbit: RabbitServer) -> None:
    """unknown_here; users of this side have a prefix there (own_prefix), and what is for nobody here goes back
    (return_unknown)."""

    async def story() -> None:
        async with JavaSide(rabbit, QUEUES["outgoing"], QUEUES["incoming"]) as java:
            bob, eve = await house.person("bob"), await house.person("eve")
            outcome = await bob.say("Anna-9", "by her own name")
            assert outcome is not None
            assert outcome.ok
            assert (await java.came("by her own name"))["to"] == "Anna-9"
            await java.say("Anna-9", f"chatd:{bob.name}", "an answer")
            await house.says(bob, "an answer")
            assert bob.seen[-1].sender == "java:Anna-9"
            await bob.say(eve.name, "to somebody here")
            await house.says(eve, "to somebody here")
            await java.say("Anna-9", eve.name, "without the prefix")
            returned = await java.came("without the prefix")
            assert (returned["from"], returned["to"]) == ("Anna-9", eve.name)
            assert await java.dead(QUEUES["dead_letters"]) == []
            assert all(one["dataContent"] != "to somebody here" for one in java.packets)

    run(story())


def test_a_rabbitmq_that_is_silent_delays_nobody_here(house: House, rabbit: RabbitServer) -> None:
    async def story() -> None:
        bob, eve = await house.person("bob"), await house.person("eve")
        rabbit.pause()
        try:
            for number in range(20):
                outcome = await bob.say("java:anna", f"into the silence {number}")
                assert outcome is not None
                assert outcome.ok
            await bob.say(eve.name, "meanwhile")
            await house.says(eve, "meanwhile")
        finally:
            rabbit.go_on()
        async with JavaSide(rabbit, QUEUES["outgoing"], QUEUES["incoming"]) as java:
            await java.came("into the silence 19", 30)
            told = [one["dataContent"] for one in java.packets if one["dataContent"].startswith("into")]
            assert list(dict.fromkeys(told)) == [f"into the silence {number}" for number in range(20)]

    run(story(), 90)


def test_a_bridge_that_was_removed_is_forgotten(house: House, rabbit: RabbitServer) -> None:
    async def story() -> None:
        bob = await house.person("bob")
        async with JavaSide(rabbit, QUEUES["outgoing"], QUEUES["incoming"]) as java:
            await java.say("Anna-9", f"chatd:{bob.name}", "known from here on")
            await house.says(bob, "known from here on")
        assert house.daemon.ctl_said("bridge", "forget", "java")[0] == 1, "it is configured"
        daemon = house.daemon
        assert await asyncio.to_thread(daemon.stop) == 0
        late = [path.read_text() for path in (daemon.root / "late").iterdir()]
        assert set(late) == {""}, "a worker imported something after its fork"
        kept = daemon.config.pop("bridge")
        daemon.write_config()
        await asyncio.to_thread(daemon.start)
        assert house.ctl("forget", "java")["done"] is True
        assert house.ctl("forget", "java", code=1)["done"] is False
        bob = await house.person("bob")
        outcome = await bob.say("java:Anna-9", "is anybody there?")
        assert outcome is not None
        assert (outcome.ok, outcome.code) == (False, 1049)
        daemon.config["bridge"] = kept
        daemon.write_config()
        assert (await asyncio.to_thread(daemon.ctl, "reload")).returncode == 0
        assert (await asyncio.to_thread(daemon.ctl, "restart-workers")).returncode == 0
        async with JavaSide(rabbit, QUEUES["outgoing"], QUEUES["incoming"]) as java:
            bob = await house.person("bob")
            outcome = await bob.say("java:Anna-9", "again")
            assert outcome is not None
            assert outcome.ok, outcome
            await java.came("again")

    run(story(), 90)


def test_a_server_without_a_bridge_loads_nothing_of_it() -> None:
    """In a process of its own: what a worker imports, and what a master loads for workers of the shipped file."""
    asked = (
        "import sys\nfrom chatd import preload\nfrom chatd.config.schema import Config\npreload.load(Config())\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('aio_pika', 'aiormq', 'pamqp')"
        " or name.startswith('chatd.bridges')])"
    )
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "[]"
