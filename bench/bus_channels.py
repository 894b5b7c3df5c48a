"""What a message costs on a channel per topic, and on a channel per worker with a directory: the figures of
docs/decisions/0011-a-channel-per-topic.md. Run: .venv/bin/python bench/bus_channels.py

Owns: a Redis server of its own, two processes (one publishes; all other workers' connections are in the second), the
comparison: CPU of each end and of Redis per message, so that a busy machine changes little.

A directory is a dict here, as if it cost nothing to keep. `bus` is the Redis bus as it is, between two workers.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import statistics
import struct
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import psutil
import uvloop

from chatd.bus.redis.bus import RedisBus
from chatd.bus.redis.connect import Limits, dial
from chatd.bus.redis.connection import Connection
from chatd.bus.redis.envelope import HEADER_BYTES, content, header
from chatd.bus.redis.settings import Address, read

BODY = bytes(120)
"""About an Arrived signal of a short message."""
USERS = 2000
TURNS_AHEAD = 64
HEAD = header(b"sender00")
ITEM = struct.Struct("!QI")

Deliver = Callable[[int, bytes], None]


def cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def ignore(*_: object) -> None:
    """Nothing else is expected."""


async def connect(path: str, on_message: Callable[[bytes, bytes], None] = ignore) -> Connection:
    limits = Limits(queue_bytes=64 * 1024 * 1024)
    place = read(f"unix:{path}")
    connection = await dial(
        place, limits, Address(path, 0), lambda: Connection(limits.queue_bytes, on_message, ignore, ignore, ignore)
    )
    await connection.ask("HELLO", 3)
    return connection


def framed(channel: bytes, data: bytes) -> bytes:
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b%b\r\n" % (
        len(channel), channel, len(data) + HEADER_BYTES, HEAD, data
    )  # fmt: skip


# ---------------------------------------------------------------- the two designs


class PerTopic:
    """One publish per message."""

    @staticmethod
    async def receive(path: str, workers: int, deliver: Deliver) -> None:
        topics = {b"chatd:u%d" % user: user for user in range(USERS)}

        def heard(channel: bytes, raw: bytes) -> None:
            topic = topics.get(channel)
            if topic is not None and raw[3:11] != b"myself00":
                deliver(topic, content(raw))

        for worker in range(workers):
            connection = await connect(path, heard)
            await connection.subscription(b"SUBSCRIBE", [b"chatd:u%d" % user for user in range(worker, USERS, workers)])

    def __init__(self, connection: Connection, workers: int) -> None:
        self._connection = connection

    def turn(self, users: list[int]) -> None:
        for user in users:
            self._connection.publish(framed(b"chatd:u%d" % user, BODY))


class PerWorker:
    """One publish per turn and target worker, with all of the turn's messages for it."""

    @staticmethod
    async def receive(path: str, workers: int, deliver: Deliver) -> None:
        mine = set(range(USERS))

        def heard(channel: bytes, raw: bytes) -> None:
            data = content(raw)
            at, end, unpack = 0, len(data), ITEM.unpack_from
            while at < end:
                user, size = unpack(data, at)
                at += ITEM.size
                if user in mine:
                    deliver(user, data[at : at + size])
                at += size

        for worker in range(workers):
            connection = await connect(path, heard)
            await connection.subscription(b"SUBSCRIBE", [b"chatd:w%d" % worker])

    def __init__(self, connection: Connection, workers: int) -> None:
        self._connection = connection
        self._directory = {user: user % workers for user in range(USERS)}

    def turn(self, users: list[int]) -> None:
        batches: defaultdict[int, list[bytes]] = defaultdict(list)
        for user in users:
            batches[self._directory[user]].append(ITEM.pack(user, len(BODY)) + BODY)
        for worker, items in batches.items():
            self._connection.publish(framed(b"chatd:w%d" % worker, b"".join(items)))


# ---------------------------------------------------------------- the two processes


def receiver(pipe: Pipe, path: str, workers: int, prepare: Callable[[Deliver], Awaitable[None]]) -> None:
    """Tells when it is ready; then, each time it is asked, how many arrived and its CPU time."""

    async def serve() -> None:
        arrived = 0

        def deliver(user: int, data: bytes) -> None:
            nonlocal arrived
            arrived += 1

        def asked() -> None:
            pipe.recv()
            pipe.send((arrived, cpu_s()))

        await prepare(deliver)
        asyncio.get_running_loop().add_reader(pipe.fileno(), asked)
        pipe.send("ready")
        await asyncio.get_running_loop().create_future()

    uvloop.run(serve())


async def drive(
    turn: Callable[[list[int]], None], settle: Callable[[], Awaitable[object]], messages: int, batch: int
) -> None:
    choose = random.Random(1)
    turns = [[choose.randrange(USERS) for _ in range(batch)] for _ in range(1000)]
    for number in range(messages // batch):
        turn(turns[number % 1000])
        await asyncio.sleep(0)
        if number % TURNS_AHEAD == 0:
            await settle()
    await settle()


def figures(
    server: psutil.Process,
    pipe: Pipe,
    messages: int,
    send: Callable[[], Awaitable[None]],
) -> tuple[float, float, float]:
    """µs of CPU per message: sender, receiver, Redis."""

    def redis_s() -> float:
        times = server.cpu_times()
        return float(times.user + times.system)

    pipe.send(None)
    arrived, receiver_s = pipe.recv()
    before = (cpu_s(), receiver_s, redis_s())
    uvloop.run(send())  # type: ignore[arg-type]
    sender_s = cpu_s() - before[0]
    ends = time.monotonic() + 60
    while True:
        pipe.send(None)
        now, receiver_s = pipe.recv()
        if now - arrived >= messages:
            break
        if time.monotonic() > ends:
            raise TimeoutError(f"{now - arrived} of {messages} arrived")
        time.sleep(0.05)
    per = 1e6 / messages
    return sender_s * per, (receiver_s - before[1]) * per, (redis_s() - before[2]) * per


def compare(server: psutil.Process, path: str, name: str, workers: int, batch: int, messages: int) -> list[float]:
    """workers: in all; one of them publishes."""
    others = workers - 1
    ours, theirs = multiprocessing.Pipe()
    fork = multiprocessing.get_context("fork")
    prefix = f"chatd{time.monotonic_ns()}"  # those who were killed are not to be missed
    design = {"topic": PerTopic, "worker": PerWorker}.get(name)

    async def as_it_is(deliver: Deliver) -> None:
        for slot in range(others):
            bus = RedisBus(f"unix:{path}", prefix, 5.0, 1 + slot)
            await bus.open(deliver, lambda: print("a gap: not a fair figure"), ignore)
            await bus.subscribe([user << 2 for user in range(slot, USERS, others)])

    async def prepare(deliver: Deliver) -> None:
        await (design.receive(path, others, deliver) if design else as_it_is(deliver))

    process = fork.Process(target=receiver, args=(theirs, path, others, prepare), daemon=True)
    process.start()
    try:
        assert ours.recv() == "ready"

        async def send() -> None:
            if design is not None:
                connection = await connect(path)
                await drive(design(connection, others).turn, lambda: connection.ask("PING"), messages, batch)
                connection.drop("done")
                return
            bus = RedisBus(f"unix:{path}", prefix, 5.0, 0)
            await bus.open(ignore, ignore, ignore)
            (node,) = bus._nodes.all()

            def turn(users: list[int]) -> None:
                for user in users:
                    bus.publish(user << 2, BODY)

            await drive(turn, lambda: node.ask("PING"), messages, batch)
            await bus.close()

        return list(figures(server, ours, messages, send))
    finally:
        process.kill()
        process.join()


def memory(path: str, count: int = 100_000) -> float:
    """Bytes of Redis's memory per subscription of one connection."""

    async def measure() -> float:
        connection = await connect(path)

        async def used() -> int:
            text = (await connection.ask("INFO", "memory")).decode()
            return int(next(line.split(":")[1] for line in text.split("\r\n") if line.startswith("used_memory:")))

        before = await used()
        for at in range(0, count, 1000):
            await connection.subscription(b"SUBSCRIBE", [b"chatd:u%d" % n for n in range(at, at + 1000)])
        return (await used() - before) / count

    return uvloop.run(measure())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=96_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory, "redis.sock"))
        command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory]
        redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not Path(path).exists():
                time.sleep(0.02)
            server = psutil.Process(redis.pid)
            print("us of CPU per message: publisher + receivers, and Redis beside them; the median of rounds")
            print("workers  batch  design     publisher  receivers      sum    Redis")
            for workers in (2, 8):
                for batch in (1, 4, 16):
                    for name in ("topic", "worker", "bus"):
                        rows = [
                            compare(server, path, name, workers, batch, options.messages) for _ in range(options.rounds)
                        ]
                        send, receive, other = (statistics.median(column) for column in zip(*rows, strict=True))
                        print(f"{workers:7}  {batch:5}  {name:9}  {send:9.2f}  {receive:9.2f}  {send + receive:7.2f}  "
                              f"{other:7.2f}", flush=True)  # fmt: skip
            print(f"memory of Redis per subscription: {memory(path):.0f} bytes")
        finally:
            redis.kill()
            redis.wait()


if __name__ == "__main__":
    main()
