"""How long somebody must wait is rounded up, never down."""

from __future__ import annotations

import pytest

from chatd.texts.waits import in_words


@pytest.mark.parametrize(
    ("wait_s", "words"),
    [
        (0.2, "1 s"),
        (60, "60 s"),
        (61, "2 minutes"),
        (179, "3 minutes"),
        (3600, "60 minutes"),
        (3601, "2 hours"),
        (604_800, "7 days"),
        (604_799, "7 days"),
        (86_400, "24 hours"),
    ],
)
def test_a_wait_in_words(wait_s: float, words: str) -> None:
    assert in_words(wait_s) == words
