"""How often, and what, an operator may tell everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chatd.errors import Exit
from chatd.master.questions import broadcast
from chatd.master.questions.broadcast import BroadcastRequests
from chatd.master.replies import BroadcastReply, ControlReply
from chatd.master.requests import BroadcastRequest
from chatd.orders import BroadcastDone, BroadcastOrder, OrderFailed


class Questions:
    """One worker, which answers at once."""

    def __init__(self, answer: Callable[[int], BroadcastDone | OrderFailed]) -> None:
        self.orders: list[BroadcastOrder] = []
        self._answer = answer

    def ask(self, order: Any, reply: Any, respond: Any, limit_s: float) -> None:
        self.orders.append(order(len(self.orders)))
        respond(reply(self._answer(len(self.orders))))


def told(ref: int) -> BroadcastDone:
    return BroadcastDone(ref=ref, told=3, skipped=1)


def asked(desk: BroadcastRequests, text: str) -> ControlReply:
    replies: list[ControlReply] = []
    desk.begin(BroadcastRequest(text=text), replies.append)
    (reply,) = replies
    return reply


def test_a_script_gone_wrong_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(broadcast.time, "monotonic", lambda: now)
    questions = Questions(told)
    desk = BroadcastRequests(questions)  # type: ignore[arg-type]
    for number in range(6):
        now += 1
        assert asked(desk, f"number {number}").ok
    refused = asked(desk, "number 7")
    assert (refused.exit, refused.error) == (Exit.TRY_AGAIN, "6 texts within 60 s are the limit: wait 55 s")
    now += 54
    assert not asked(desk, "number 8").ok
    now += 1
    assert asked(desk, "number 9").ok
    assert [order.text for order in questions.orders][-2:] == ["number 5", "number 9"]


def test_what_was_told_and_what_was_not() -> None:
    reply = asked(BroadcastRequests(Questions(told)), "tea")  # type: ignore[arg-type]
    assert isinstance(reply, BroadcastReply)
    assert (reply.ok, reply.told, reply.skipped) == (True, 3, 1)
    partly = Questions(lambda ref: BroadcastDone(ref=ref, told=3, skipped=0, unanswered=("b",), cut_off=True))
    reply = asked(BroadcastRequests(partly), "tea")  # type: ignore[arg-type]
    assert (reply.ok, reply.exit) == (False, Exit.TRY_AGAIN)
    assert str(reply.error).startswith("no answer from b and the message bus is disrupted")
    assert str(reply.error).endswith("; 3 sessions were told")
    for unknown, code in ((True, 1), (False, Exit.UNAVAILABLE)):
        failing = Questions(lambda ref, unknown=unknown: OrderFailed(ref=ref, why="why", unknown=unknown))  # type: ignore[misc]
        reply = asked(BroadcastRequests(failing), "tea")  # type: ignore[arg-type]
        assert (reply.exit, reply.error) == (code, "why")


def test_a_text_with_line_breaks_is_told_as_it_is() -> None:
    questions = Questions(told)
    assert asked(BroadcastRequests(questions), "one\r\ntwo").ok  # type: ignore[arg-type]
    assert questions.orders[0].text == "one\ntwo"
