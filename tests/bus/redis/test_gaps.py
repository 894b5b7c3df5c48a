"""When a gap is told: at once, together with others that come close, and ever less often while a loss goes on."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from chatd.bus.redis import gaps as redis_gaps
from chatd.bus.redis.gaps import GapReporter
from tests.harness.deadline import run, until


class Told:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.gaps = GapReporter(self._told, lambda: True, lambda: True)
        self.gaps.open()

    def _told(self) -> None:
        self.times.append(asyncio.get_running_loop().time())

    async def until(self, count: int) -> None:
        await until(10, f"told {count} times", lambda: len(self.times) >= count)


def test_causes_that_come_together_are_reported_once() -> None:
    async def story() -> None:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        told = Told()
        for _ in range(3):
            told.gaps.report()
            told.gaps.report(lasting=True)
        await told.until(1)
        told.gaps.report()
        told.gaps.report()
        await told.until(2)
        assert told.times[1] - told.times[0] >= redis_gaps.APART_S - 0.01
        await asyncio.sleep(0)
        told.gaps.close()
        assert len(told.times) == 2

    run(story())


def test_a_new_cause_is_reported_at_once_while_another_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_gaps, "APART_S", 0.05)
    monkeypatch.setattr(redis_gaps, "LASTING_S", 30.0)

    async def story() -> None:
        told = Told()
        for count in range(1, 5):
            told.gaps.report(lasting=True)
            await told.until(count)
        told.gaps.report(lasting=True)  # would be told in a second or so
        told.gaps.report()
        await told.until(5)
        told.gaps.close()
        assert told.times[4] - told.times[3] < 0.4 < 0.05 * 2**4 * 0.8

    run(story())
