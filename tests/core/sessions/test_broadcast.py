"""An operator tells all connected users something: once each, a few at a time, on all workers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from chatd.core.sessions import broadcast
from chatd.core.sessions.broadcast import Audience, BroadcastResult
from chatd.errors import ErrorCode, Refused
from chatd.protocol import Announcement, ServerMessage
from tests.core.stage import Peer, Stage, Worker, play


async def sent(stage: Stage, worker: Worker, text: str, audience: Audience) -> BroadcastResult:
    telling = asyncio.ensure_future(worker.core.broadcasts.send(text, 7, audience))
    await stage.until("all are told", telling.done)
    return telling.result()


def texts(peer: Peer) -> list[str]:
    notices = [json.loads(event.body)["text"] for event in peer.told(ServerMessage)]
    return notices + [event.text for event in peer.told(Announcement)]


def test_everybody_on_all_workers_is_told_once_though_the_question_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "SESSIONS_PER_TICK", 1)  # so that workers are asked how far they are many times
    monkeypatch.setattr(broadcast, "AGAIN_S", 0.01)

    async def story(stage: Stage) -> None:
        made = [await stage.worker() for _ in range(3)]
        there = [await one.mobile(name) for one in made for name in ("alice", "bob", "carol") if one is made[0]]
        there += [await made[1].desk("alice"), await made[2].desk("bob")]
        result = await sent(stage, made[1], "tea", Audience())
        assert result == BroadcastResult(5, 0)
        assert [texts(peer) for peer in there] == [["tea"]] * 5

    play(tmp_path, story)


def test_a_worker_tells_only_some_in_each_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "SESSIONS_PER_TICK", 2)

    async def story(stage: Stage) -> None:
        one = await stage.worker()
        there = [await one.mobile(name) for name in ("alice", "bob", "carol")]
        there += [await one.desk(name) for name in ("alice", "bob", "carol")]
        told = asyncio.ensure_future(one.core.broadcasts.send("tea", 7, Audience()))
        numbers = []
        for _ in range(4):
            await asyncio.sleep(0)
            stage.tick()
            numbers.append(sum(bool(texts(peer)) for peer in there))
        assert numbers == [2, 4, 6, 6]
        assert (await told).told == 6

    play(tmp_path, story)


def test_who_reads_too_slowly_is_passed_over_and_stays(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one = await stage.worker()
        slow, quick = await one.mobile("alice"), await one.mobile("bob")
        slow.out_bytes = stage.config.limits.outbox_bytes // 2 + 1
        assert await sent(stage, one, "tea", Audience()) == BroadcastResult(1, 1)
        assert (texts(slow), texts(quick), slow.closed) == ([], ["tea"], False)

    play(tmp_path, story)


def test_a_host_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "ANSWER_S", 0.3)
    monkeypatch.setattr(broadcast, "LIMIT_S", 0.6)

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        here, there = await one.mobile("alice"), await two.mobile("bob")
        stage.exchange.cut(1)
        assert await sent(stage, one, "tea", Audience()) == BroadcastResult(1, 0, ("host1",))
        assert (texts(here), texts(there)) == (["tea"], [])

    play(tmp_path, story)


def test_nobody_is_told_if_the_audience_does_not_exist(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one = await stage.worker()
        alice = await one.mobile("alice")
        for audience, code in (
            (Audience(user="nobody"), ErrorCode.UNKNOWN_RECIPIENT),
            (Audience(group_id=9), ErrorCode.UNKNOWN_GROUP),
        ):
            with pytest.raises(Refused) as refused:
                await one.core.broadcasts.send("tea", 7, audience)
            assert refused.value.code == code
        assert texts(alice) == []

    play(tmp_path, story)
