"""Which messages are in flight, and what becomes of those that are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from chatd_client.errors import Code, Invalid, Overloaded
from chatd_client.model import Destination, PendingMessage
from chatd_client.outbox import LIMIT
from chatd_client.sender import MAX_IN_FLIGHT, Sender, lane_of_conversation, one_lane
from tests.harness.deadline import run, until


class Told:
    """A SenderUser and a connection, both of which only write down."""

    def __init__(self, lane_of: Callable[[PendingMessage], object] = lane_of_conversation, answer_s: float = 5) -> None:
        self.sent: list[str] = []
        self.happened: list[tuple[object, ...]] = []
        self.sender = Sender(answer_s, self, lane_of)
        self.connect()

    def connect(self) -> None:
        self.sender.start(lambda message: self.sent.append(message.fp))

    def stored(self, message: PendingMessage, seq: int, at_ms: int) -> None:
        self.happened.append(("stored", message.fp, seq, at_ms))

    def refused(self, message: PendingMessage, code: int, text: str) -> None:
        self.happened.append(("refused", message.fp, code, text))

    def unanswered(self) -> None:
        self.happened.append(("unanswered",))

    def add(self, *fps: str) -> None:
        """To the user whose name is the letter of the fp."""
        for fp in fps:
            self.sender.add(PendingMessage(fp, Destination(user_name=fp[0]), "x", 0))


def test_one_of_each_conversation_is_in_flight() -> None:
    async def story() -> None:
        told = Told()
        told.add("a1", "a2", "b1", "b2")
        assert told.sent == ["a1", "b1"]
        told.sender.acknowledged("b1", 7, 99)
        assert told.sent == ["a1", "b1", "b2"]
        assert told.happened == [("stored", "b1", 7, 99)]
        told.sender.acknowledged("b1")
        told.sender.acknowledged("unknown")
        assert len(told.happened) == 1
        told.sender.stop()
        told.connect()
        assert told.sent[3:] == ["a1", "b2"], "sent again, with the same fp"

    run(story())


def test_on_the_other_wire_one_of_all_is_in_flight() -> None:
    async def story() -> None:
        told = Told(one_lane)
        told.add("a1", "b1", "a2")
        assert told.sent == ["a1"]
        told.sender.answered_no(Code.UNKNOWN_RECIPIENT, "no such user")  # names no message: it is the one in flight
        assert told.happened == [("refused", "a1", 1032, "no such user")]
        told.sender.acknowledged("b1")
        assert told.sent == ["a1", "b1", "a2"]

    run(story())


def test_a_message_that_is_put_off_is_not_overtaken() -> None:
    async def story() -> None:
        told = Told()
        told.add("a1", "a2", "b1")
        told.sender.answered_no(Code.TOO_FAST, "too fast", "a1")
        told.sender.answered_no(Code.TOO_FAST, "too fast", "a1")
        told.sender.acknowledged("b1")
        assert told.sent == ["a1", "b1"]
        await until(5, "the second attempt", lambda: told.sent == ["a1", "b1", "a1"])
        told.sender.acknowledged("a1")
        assert told.sent[-1] == "a2"

    run(story())


def test_only_what_is_put_off_can_be_withdrawn() -> None:
    async def story() -> None:
        told = Told()
        told.add("a1", "a2")
        assert not told.sender.withdraw("a1"), "it may be stored"
        told.sender.answered_no(Code.MAILBOX_FULL, "full", "a1")
        assert not told.sender.withdraw("a2")
        assert told.sender.withdraw("a1")
        assert told.sent == ["a1", "a2"]
        assert told.happened == []

    run(story())


def test_in_flight_and_waiting_messages_are_bounded() -> None:
    async def story() -> None:
        told = Told()
        told.sender.stop()
        for number in range(LIMIT):
            told.sender.check_room("x")
            told.sender.add(PendingMessage(str(number), Destination(user_id=number + 1), "x", 0))
        with pytest.raises(Overloaded):
            told.sender.check_room("x")
        with pytest.raises(Invalid):
            told.sender.check_room("x" * 70_000)
        told.connect()
        assert len(told.sent) == MAX_IN_FLIGHT
        told.sender.acknowledged("0")
        assert len(told.sent) == MAX_IN_FLIGHT + 1

    run(story())


def test_a_message_without_an_answer_is_told() -> None:
    async def story() -> None:
        told = Told(answer_s=0.01)
        told.add("a1")
        await until(5, "it is told", lambda: told.happened == [("unanswered",)])
        told.sender.stop()
        await asyncio.sleep(0.03)
        assert told.happened == [("unanswered",)], "not while there is no connection"

    run(story())
