"""How long a receiver that fails is left alone."""

from __future__ import annotations

import pytest

from chatd.feeds.back_off import FIRST_S, LONGEST_S, delay_s, retry_after_s

SPREAD = 1.25


def test_waits_double_up_to_an_hour_with_some_random_time_on_top() -> None:
    waits = [delay_s(failures) for failures in range(1, 100)]
    for number, wait in enumerate(waits):
        least = min(FIRST_S * 2**number, LONGEST_S)
        assert least <= wait <= SPREAD * least
    assert len({delay_s(1) for _ in range(50)}) > 1


def test_a_receiver_may_ask_for_more_time_and_not_for_less() -> None:
    assert 30 <= delay_s(1, wanted_s=30) <= SPREAD * 30
    assert delay_s(10, wanted_s=1) >= 512
    assert delay_s(1, wanted_s=1e9) <= SPREAD * LONGEST_S


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0),
        ("120", 120),
        ("0", 0),
        ("999999", LONGEST_S),
        ("-5", 0),
        ("1.5", 0),
        ("9" * 5000, 0),
        ("\N{SUPERSCRIPT TWO}", 0),
        ("Fri, 31 Dec 2027 23:59:59 GMT", 0),
    ],
)
def test_seconds_are_read_and_whatever_else_a_server_writes_means_nothing(text: str, seconds: float) -> None:
    assert retry_after_s(text) == seconds
