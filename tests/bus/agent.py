"""A worker process of the bus tests: `python -m tests.bus.agent SLOT KIND ARGUMENT...`

Obeys one JSON list a line on standard input ([what, values...]) and answers on standard output with
["answer", value], ["message", [topic, data as latin-1]], ["gap", null] and ["lost", key]. It leaves at the end of its
input.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import uvloop

from chatd.bus.contract import Bus, Topic
from chatd.bus.local.bus import LocalBus
from chatd.bus.local.peer import LocalLimits
from chatd.bus.redis.bus import RedisBus
from chatd.config.schema import BusOptions

# One line for each twin of the bus; the arguments come from the twin's `Place`.
KINDS = {
    "local": lambda slot, directory, ping_s, silent_s, queue_bytes: LocalBus(
        Path(directory, "bus"),
        Path(directory, "claims"),
        slot,
        LocalLimits(ping_s=float(ping_s), silent_s=float(silent_s), queue_bytes=int(queue_bytes)),
    ),
    "redis": lambda slot, url, prefix, lease_s, key: RedisBus(
        BusOptions(url=url, prefix=prefix, lease_s=float(lease_s), keys=(key,)), slot
    ),
}


class Servant:
    """`known` and `keep`: see keep()."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.keep_directory: Path | None = None
        self.kept: list[Topic] = []
        self.known: set[str] = set()
        self.noted: set[str] = set()
        self.streaming: asyncio.Task[None] | None = None
        self.published = 0
        self.gaps = 0

    def on_message(self, topic: Topic, data: bytes) -> None:
        if self.keep_directory is not None:
            self.known.add(data.decode())
        else:
            tell("message", [topic, data.decode("latin-1")])

    def on_gap(self) -> None:
        self.gaps += 1
        if self.keep_directory is not None:
            self.catch_up()
        else:
            tell("gap", None)

    async def obey(self, what: str, *values: Any) -> Any:
        return await getattr(self, f"do_{what}")(*values)

    async def do_subscribe(self, topics: list[Topic]) -> None:
        await self.bus.subscribe(topics)

    async def do_unsubscribe(self, topics: list[Topic]) -> None:
        self.bus.unsubscribe(topics)

    async def do_publish(self, messages: list[tuple[Topic, str]]) -> None:
        for topic, text in messages:
            self.bus.publish(topic, text.encode("latin-1"))

    async def do_is_subscribed_elsewhere(self, topic: Topic) -> bool:
        return topic in await self.bus.subscribed_elsewhere([topic])

    async def do_lock(self, keys: list[int]) -> list[int]:
        """Yields the processor after each lock, so that racing agents interleave on any number of cores."""
        taken = []
        for key in keys:
            if await self.bus.lock(key):
                taken.append(key)
            os.sched_yield()
        return taken

    async def do_unlock(self, keys: list[int]) -> None:
        for key in keys:
            self.bus.unlock(key)

    async def do_close(self) -> None:
        await self.bus.close()

    # A store as chatd uses it: messages are first appended to a record (one file for each topic), then published. An
    # agent that keeps topics reads the record when it subscribes and at each gap, and must know everything without
    # reading again.

    async def do_keep(self, directory: str, topics: list[Topic]) -> None:
        self.keep_directory, self.kept = Path(directory), topics
        await self.bus.subscribe(topics)
        self.catch_up()

    def catch_up(self) -> None:
        assert self.keep_directory is not None
        for topic in self.kept:
            path = self.keep_directory / str(topic)
            if path.exists():
                self.known.update(whole_lines(path.read_text()))

    async def do_missing(self) -> list[str]:
        """Some of what is in the record of the kept topics and did not become known."""
        known = self.known
        self.known = set()
        self.catch_up()
        written, self.known = self.known, known
        assert written
        return sorted(written - known)[:10]

    async def do_note(self) -> int:
        """Remember what is in the record now, for `unknown`."""
        known, self.known = self.known, set()
        self.catch_up()
        self.noted, self.known = self.known, known
        return len(self.noted)

    async def do_unknown(self) -> int:
        """How much of what was marked has not become known."""
        return len(self.noted - self.known)

    async def do_stream(self, directory: str, topics: list[Topic], name: str) -> None:
        self.streaming = asyncio.create_task(self.stream(Path(directory), topics, name))

    async def stream(self, directory: Path, topics: list[Topic], name: str) -> None:
        choose = random.Random(name)
        while True:
            for _ in range(choose.randrange(1, 20)):
                topic = choose.choice(topics)
                self.published += 1
                text = f"{topic}:{name}:{self.published}:{'x' * choose.randrange(200)}"
                self.append(directory / str(topic), text)
                self.known.add(text)
                self.bus.publish(topic, text.encode())
            await asyncio.sleep(0.005)

    def append(self, path: Path, text: str) -> None:
        with path.open("a") as record:
            record.write(text + "\n")

    async def do_stop_streaming(self) -> list[int]:
        if self.streaming is not None:
            self.streaming.cancel()
            await asyncio.wait([self.streaming])
        return [self.published, self.gaps]


def whole_lines(text: str) -> list[str]:
    """Without the beginning of a line that another agent is writing: an append that crosses a page is seen in parts."""
    return text.split("\n")[:-1]


def tell(kind: str, value: object) -> None:
    sys.stdout.write(json.dumps([kind, value]) + "\n")
    sys.stdout.flush()


async def main(slot: str, kind: str, *arguments: str) -> None:
    servant = Servant(KINDS[kind](int(slot), *arguments))  # type: ignore[no-untyped-call]
    await servant.bus.open(servant.on_message, servant.on_gap, lambda key: tell("lost", key))
    tell("answer", "open")
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        tell("answer", await servant.obey(*json.loads(line)))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
