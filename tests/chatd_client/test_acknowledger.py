"""What the client tells the server it has shown."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from chatd_client.chatserver.acknowledger import Acknowledger
from chatd_client.chatserver.frames import Chat
from tests.harness.deadline import run


def chat(conversation: int, seq: int) -> Chat:
    return Chat(2, "bob", 1, 0, "x", "t", seq, conversation)


def told(frames: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(frame.rstrip(b"\0")) for frame in frames]


def test_one_frame_for_all_of_a_conversation_that_came_at_once() -> None:
    async def story() -> None:
        sent: list[bytes] = []
        acknowledger = Acknowledger()
        acknowledger.start(sent.append)
        for one in (chat(7, 1), chat(8, 5), chat(7, 2)):
            acknowledger.shown(one)
        assert sent == []
        await asyncio.sleep(0)
        assert told(sent) == [{"msgid": 15, "conv": 7, "seq": 2}, {"msgid": 15, "conv": 8, "seq": 5}]
        acknowledger.shown(chat(7, 3))
        await asyncio.sleep(0)
        assert told(sent[2:]) == [{"msgid": 15, "conv": 7, "seq": 3}]

    run(story())


def test_nothing_without_a_server_that_asks_or_a_number() -> None:
    async def story() -> None:
        sent: list[bytes] = []
        acknowledger = Acknowledger()
        acknowledger.shown(chat(7, 1))
        acknowledger.start(sent.append)
        acknowledger.shown(chat(0, 1))
        await asyncio.sleep(0)
        acknowledger.shown(chat(7, 2))
        acknowledger.stop()
        await asyncio.sleep(0)
        assert sent == []

    run(story())
