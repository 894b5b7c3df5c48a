"""What one message over the local bus costs, printed: `python -m tests.bus.bench`. Nothing is asserted.

Two processes; one publishes 64 bytes `batch` times a loop turn to a topic of the other, never more than 20,000
ahead of it. CPU is user and system time of both ends, so it holds on a busy machine too.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from chatd.bus.local.bus import LocalBus

MESSAGES = 300_000
AHEAD = 20_000
DATA, COUNT, DONE = 2, 3, 5
"""Topics: the messages, the receiver's count of them now and then, the sender's farewell."""


def cpu_s() -> float:
    times = os.times()
    return times.user + times.system


async def receive(bus: LocalBus) -> None:
    done = asyncio.get_running_loop().create_future()
    received = 0

    def on_message(topic: int, data: bytes) -> None:
        nonlocal received
        if topic == DONE:
            done.set_result(None)
            return
        received += 1
        if received % (AHEAD // 10) == 0:
            bus.publish(COUNT, b"%d" % received)

    await bus.open(on_message, lambda: None, lambda key: None)
    await bus.subscribe([DATA, DONE])
    while not await bus.subscribed_elsewhere([COUNT]):  # noqa: ASYNC110 - nothing tells when it becomes true
        await asyncio.sleep(0.01)
    before = cpu_s()
    bus.publish(COUNT, b"0")
    await done
    print(f"  receiver {(cpu_s() - before) / MESSAGES * 1e6:6.2f} us of CPU per message")
    await bus.close()


async def send(bus: LocalBus, batch: int) -> None:
    counts: asyncio.Queue[int] = asyncio.Queue()
    await bus.open(
        lambda topic, data: counts.put_nowait(int(data)),
        lambda: print("  a gap: not a fair figure"),
        lambda key: None,
    )
    await bus.subscribe([COUNT])
    received = await counts.get()
    body = bytes(64)
    before, started = cpu_s(), time.monotonic()
    sent = 0
    while sent < MESSAGES:
        while sent - received > AHEAD:
            received = await counts.get()
        while not counts.empty():
            received = counts.get_nowait()
        for _ in range(batch):
            bus.publish(DATA, body)
        sent += batch
        await asyncio.sleep(0)
    while received < MESSAGES - AHEAD // 10:
        received = await counts.get()
    took = time.monotonic() - started
    print(f"  sender   {(cpu_s() - before) / MESSAGES * 1e6:6.2f} us of CPU per message")
    print(f"  {MESSAGES / took:,.0f} messages/s")
    bus.publish(DONE, b"")
    await bus.close()


async def subscriptions(bus: LocalBus, other: LocalBus, count: int) -> None:
    """Both ends in this process."""
    for one in (bus, other):
        await one.open(lambda topic, data: None, lambda: None, lambda key: None)
    before = cpu_s()
    for topic in range(count):
        await bus.subscribe([topic])
    print(f"  one by one {(cpu_s() - before) / count * 1e6:6.1f} us of CPU, both ends")
    before = cpu_s()
    await bus.subscribe(range(count, 11 * count))
    print(f"  at once    {(cpu_s() - before) / count / 10 * 1e6:6.2f} us of CPU, both ends")
    for one in (bus, other):
        await one.close()


def in_child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def main() -> None:
    for batch in (1, 10, 100):
        print(f"{MESSAGES:,} messages of 64 bytes, {batch} a turn", flush=True)
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)

            def bus(slot: int, directory: Path = directory) -> LocalBus:
                return LocalBus(directory / "bus", directory / "claims", slot)

            def receiver() -> None:
                uvloop.run(receive(bus(1)))

            pid = in_child(receiver)
            uvloop.run(send(bus(0), batch))
            os.waitpid(pid, 0)
    print("subscriptions")
    with tempfile.TemporaryDirectory() as name:
        first, second = (LocalBus(Path(name, "bus"), Path(name, "claims"), slot) for slot in (0, 1))
        uvloop.run(subscriptions(first, second, 10_000))


if __name__ == "__main__":
    main()
