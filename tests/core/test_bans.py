"""Address bans in the store are applied by every worker: at once where the bus reaches, and otherwise soon."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.address_bans import AddressBan
from chatd.core import bans
from chatd.core.bans import BansResult
from tests.core.stage import Stage, Worker, play

BAN = AddressBan(network="192.0.2.0/24")


async def give(worker: Worker, ban: AddressBan = BAN) -> None:
    await worker.core.store.write(lambda tables: tables.address_bans.add(ban, 1))


def counted(worker: Worker, connections: int) -> list[int]:
    """The worker has so many connections that a ban is about; the list grows whenever it is to end them."""
    calls: list[int] = []

    async def end() -> int:
        calls.append(connections)
        return connections

    worker.core.bans.end_banned = end
    return calls


def test_every_worker_applies_them_once_though_it_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bans, "AGAIN_S", 0.0)

    async def story(stage: Stage) -> None:
        made = [await stage.worker() for _ in range(3)]
        calls = [counted(worker, number + 1) for number, worker in enumerate(made)]
        await give(made[0])
        assert await made[1].core.bans.apply() == BansResult(6)
        assert calls == [[1], [2], [3]]
        assert not any(topic & 3 == 3 for worker in made for topic in worker.bus.own), "no survey is left open"

    play(tmp_path, story)


def test_a_worker_that_cannot_be_told_is_named_and_finds_them_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bans, "ANSWER_S", 0.2)
    monkeypatch.setattr(bans, "CHECK_S", 0.0)

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        calls = counted(two, 1)
        stage.exchange.cut(1)
        await give(one)
        assert await one.core.bans.apply() == BansResult(0, ("host1",))
        assert calls == []
        await stage.until("it has found them", lambda: calls)
        for _ in range(5):
            stage.tick()
            await stage.settled()
        assert calls == [1], "only when they change"
        await one.core.store.write(lambda tables: tables.address_bans.remove(BAN.network, 1))
        await stage.until("it has found that, too", lambda: len(calls) == 2)

    play(tmp_path, story)
