"""Messages are given once, in order, and count as taken when the caller asks for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

import pytest

from chatd_client.errors import ClientClosed
from chatd_client.inbox import Inbox
from chatd_client.model import Message
from tests.harness.deadline import run


def message(seq: int) -> Message:
    return Message(conversation="bob", sender="bob", text=str(seq), seq=seq, sent_at_ms=0, fp=f"f{seq}")


class Taken(list[Hashable]):
    def __call__(self, key: Hashable, message: Message) -> None:
        self.append(key)


def test_a_message_is_taken_when_the_next_one_is_asked_for() -> None:
    async def story() -> None:
        taken = Taken()
        inbox = Inbox(10, taken)
        assert inbox.put(1, message(1))
        assert inbox.put(2, message(2))
        assert (await inbox.next()).seq == 1
        assert not taken
        assert inbox.holds(1)
        assert (await inbox.next()).seq == 2
        assert taken == [1]
        assert not inbox.holds(1)
        waiting = asyncio.create_task(inbox.next())
        await asyncio.sleep(0)
        assert taken == [1, 2], "the caller is done with 2, although there is no 3 yet"
        inbox.put(3, message(3))
        assert (await waiting).seq == 3

    run(story())


def test_a_full_inbox_says_when_it_has_room_again() -> None:
    async def story() -> None:
        inbox = Inbox(4, Taken())
        assert [inbox.put(seq, message(seq)) for seq in range(6)] == [True] * 4 + [False] * 2
        assert not inbox.has_room.is_set()
        await inbox.next()
        assert not inbox.has_room.is_set()
        await inbox.next()
        assert inbox.has_room.is_set()

    run(story())


def test_the_end_drops_what_nobody_has_and_is_raised_to_who_waits() -> None:
    async def story() -> None:
        taken = Taken()
        inbox = Inbox(4, taken)
        inbox.put(1, message(1))
        inbox.put(2, message(2))
        await inbox.next()
        inbox.end(ClientClosed("over"))
        for _ in range(2):
            with pytest.raises(ClientClosed):
                await inbox.next()
        assert taken == [1]

    run(story())


def test_a_cancelled_wait_loses_nothing() -> None:
    async def story() -> None:
        inbox = Inbox(4, Taken())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await inbox.next()
        inbox.put(1, message(1))
        assert (await inbox.next()).seq == 1

    run(story())


def test_two_readers_are_refused() -> None:
    async def story() -> None:
        inbox = Inbox(4, Taken())
        first = asyncio.create_task(inbox.next())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two places"):
            await inbox.next()
        inbox.put(1, message(1))
        assert (await first).seq == 1

    run(story())
