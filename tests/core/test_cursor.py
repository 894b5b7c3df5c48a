"""What becomes of a message in a session: a table of how far the session is and what comes."""

from __future__ import annotations

import pytest

from chatd.core.sessions.session import Cursor, Step
from chatd.model import Message


def message(seq: int) -> Message:
    return Message(
        conversation=1, seq=seq, sender_id=1, sender_name="a", to_id=2, to_name="b", group_id=0, body="", fp="",
        qos=True, typeu=-1, sent_at_ms=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pushed", "held", "seq", "may_hold", "step"),
    [
        (0, 0, 1, 8, Step.GIVE),
        (4, 0, 5, 8, Step.GIVE),
        (4, 0, 5, 0, Step.GIVE),
        (4, 8, 5, 8, Step.GIVE),
        (4, 0, 4, 8, Step.SKIP),
        (4, 0, 1, 8, Step.SKIP),
        (4, 3, 4, 0, Step.SKIP),
        (4, 0, 6, 8, Step.HOLD),
        (4, 7, 1000, 8, Step.HOLD),
        (4, 8, 6, 8, Step.GAP),
        (4, 9, 1000, 8, Step.GAP),
        (4, 0, 6, 0, Step.GAP),
    ],
)
def test_accept(pushed: int, held: int, seq: int, may_hold: int, step: Step) -> None:
    cursor = Cursor(pushed)
    if held:
        cursor.held = {2000 + number: message(2000 + number) for number in range(held)}
    assert cursor.accept(seq, may_hold) is step
    assert cursor.pushed == pushed, "it is pure"
