"""Workers of a bus for the tests: Member in this process, Agent in a process of its own (tests.bus.agent).

Both write down what arrived and wait for a state with a deadline, never for a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

from chatd.bus.contract import Bus, Topic
from chatd.errors import Unavailable
from tests.harness import forked

DEADLINE_S = 15.0


class Watcher:
    """Something that changes: `until` waits for a condition on it."""

    def __init__(self) -> None:
        self.received: list[tuple[Topic, bytes]] = []
        self.gaps = 0
        self.lost: list[int] = []
        self._changed = asyncio.Event()

    def changed(self) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
        async with asyncio.timeout(deadline_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_received(self, count: int) -> None:
        await self.until(lambda: len(self.received) >= count)

    async def until_gap(self, more_than: int = 0) -> None:
        await self.until(lambda: self.gaps > more_than)


class Member(Watcher):
    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self.bus = bus
        self.inside = False
        """Set by a test while it is inside a method of the bus: no callback may come then."""

    async def open(self, *, patient: bool = False) -> Member:
        await self.bus.open(self._on_message, self._on_gap, self._on_lock_lost, patient=patient)
        return self

    async def sees(self, topic: Topic) -> bool:
        """Whether somebody else is subscribed."""
        return topic in await self.bus.subscribed_elsewhere([topic])

    async def until_sees(self, topic: Topic, there: bool = True, deadline_s: float = DEADLINE_S) -> None:
        async with asyncio.timeout(deadline_s):
            while await self.sees(topic) is not there:  # noqa: ASYNC110 - it can only be asked
                await asyncio.sleep(0.005)

    async def until_locks_work(self, keys: Iterable[int], deadline_s: float = DEADLINE_S) -> None:
        """Wait until the bus can tell the holders of these locks again; then this member holds them."""
        async with asyncio.timeout(deadline_s):
            for key in keys:
                while not await self._try(key):  # noqa: ASYNC110 - it can only be asked
                    await asyncio.sleep(0.02)

    async def _try(self, key: int) -> bool:
        try:
            return await self.bus.lock(key)
        except Unavailable:
            return False

    async def until_locked(self, keys: Iterable[int], deadline_s: float = DEADLINE_S) -> None:
        """A dead holder may keep its locks for a while, depending on the bus."""
        async with asyncio.timeout(deadline_s):
            for key in keys:
                while not await self.bus.lock(key):  # noqa: ASYNC110 - it can only be asked
                    await asyncio.sleep(0.005)

    def _on_message(self, topic: Topic, data: bytes) -> None:
        assert not self.inside
        assert type(data) is bytes
        self.received.append((topic, data))
        self.changed()

    def _on_gap(self) -> None:
        assert not self.inside
        self.gaps += 1
        self.changed()

    def _on_lock_lost(self, key: int) -> None:
        assert not self.inside
        self.lost.append(key)
        self.changed()


async def eventually(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """For what a bus only lets one look at (elsewhere, healthy)."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - nothing tells when it becomes true
            await asyncio.sleep(0.005)


class Agent(Watcher):
    """A worker process. `arguments` say which bus (see tests.bus.agent)."""

    def __init__(self, process: forked.Forked, orders: asyncio.WriteTransport, said: asyncio.StreamReader) -> None:
        super().__init__()
        self._process = process
        self._orders = orders
        self._said = said
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, arguments: Iterable[str], slot: int) -> Agent:
        loop, said = asyncio.get_running_loop(), asyncio.StreamReader(limit=1 << 24)
        given, gives = os.pipe()
        hears, tells = os.pipe()
        streams = [given, tells, sys.__stderr__.fileno()]
        process = forked.Forked(
            "tests.bus.agent", [str(slot), *arguments], cwd=forked.TOP, env=os.environ, streams=streams
        )
        os.close(given)
        os.close(tells)
        orders, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(gives, "wb", 0))
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(said), os.fdopen(hears, "rb", 0))
        agent = cls(process, orders, said)
        assert await agent.next_answer() == "open"
        return agent

    async def _read(self) -> None:
        while line := await self._said.readline():
            kind, value = json.loads(line)
            if kind == "message":
                self.received.append((value[0], value[1].encode("latin-1")))
            elif kind == "gap":
                self.gaps += 1
            elif kind == "lost":
                self.lost.append(value)
            else:
                self._answers.put_nowait(value)
            self.changed()

    async def next_answer(self) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await self._answers.get()

    def order(self, what: str, *values: object) -> None:
        """Without waiting: the answer is left for `answer`."""
        self._orders.write(json.dumps([what, *values]).encode() + b"\n")

    async def call(self, what: str, *values: object) -> Any:
        self.order(what, *values)
        return await self.next_answer()

    async def answer(self) -> Any:
        return await self.next_answer()

    def stop(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    async def kill(self) -> None:
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        await self._reading
        self._orders.abort()
