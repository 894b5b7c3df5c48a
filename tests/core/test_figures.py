"""What a worker says of itself in the scoreboard: refusals by code, sessions by wire, and histograms where metrics are
served."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from chatd.config.metrics_options import MetricsOptions
from chatd.tallies import COMMIT, DELIVERY_DELAY, REFUSALS, SESSIONS, Histogram
from tests.core.stage import Stage, Worker, play


def count(worker: Worker, histogram: Histogram) -> int:
    return sum(getattr(worker.row, name) for name in histogram.buckets)


def serve_metrics(stage: Stage) -> None:
    metrics = MetricsOptions(address="tcp://127.0.0.1:9101")
    stage.config = msgspec.structs.replace(stage.config, metrics=metrics)


@pytest.mark.parametrize("workers", [1, 2])
def test_deliveries_are_measured_where_metrics_are_served(tmp_path: Path, workers: int) -> None:
    """On the recipient's worker: whether its message was stored there, or has come over the bus."""

    async def story(stage: Stage) -> None:
        made = [await stage.worker() for _ in range(workers)]
        alice, bob = await made[0].mobile("alice"), await made[-1].mobile("bob")
        alice.send("bob", "nobody measures")
        await stage.until("bob has it", lambda: len(bob.messages) == 1)
        made[-1].core.round()
        assert count(made[-1], DELIVERY_DELAY) == count(made[0], COMMIT) == 0
        serve_metrics(stage)
        for number in range(2, 6):
            stage.tick()
            alice.send("bob", "one", f"{number}a")
            alice.send("bob", "and another in the same turn", f"{number}b")
            await stage.until("bob has them", lambda due=2 * number - 1: len(bob.messages) == due)
            await asyncio.sleep(0.01)
        assert 1 <= count(made[-1], DELIVERY_DELAY) <= 8
        assert getattr(made[-1].row, DELIVERY_DELAY.sum) < 5e6
        made[0].core.round()
        assert count(made[0], COMMIT) > 0
        assert getattr(made[0].row, COMMIT.sum) > 0

    play(tmp_path, story)


def test_what_waited_for_its_recipient_is_not_measured(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        bob.leave()
        serve_metrics(stage)
        stage.tick()
        alice.send("bob", "hello")
        await stage.until("it is stored", lambda: alice.accepted == [1])
        bob = await worker.mobile("bob")
        await stage.until("bob has it", lambda: bob.bodies == ["hello"])
        await asyncio.sleep(0.01)
        assert count(worker, DELIVERY_DELAY) == 0

    play(tmp_path, story)


def test_refusals_are_counted_by_code_and_sessions_by_wire(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, _ = await worker.mobile("alice"), await worker.desk("bob")
        alice.send("nobody", "hello")
        await stage.until("refused", lambda: alice.failures)
        worker.core.round()
        named = {REFUSALS.cell(code.name.lower()) for code in alice.failures}
        counted = {name for name in map(REFUSALS.cell, REFUSALS.values) if getattr(worker.row, name)}
        assert counted == named
        assert [getattr(worker.row, SESSIONS.cell(wire)) for wire in ("mobileimsdk", "chatserver")] == [1, 1]
        alice.leave()
        worker.core.round()
        assert getattr(worker.row, SESSIONS.cell("mobileimsdk")) == 0

    play(tmp_path, story)
