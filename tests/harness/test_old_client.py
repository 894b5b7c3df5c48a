"""The model of the deployed client dies of frames that the server sends together, and not of a busy machine."""

from __future__ import annotations

import pytest

from tests.harness.chatserver import LATE_S, OldClient, OldClientDied, received_in_time

ONE, TWO = b'{"msgid":12,"errno":1}\0', b'{"msgid":12,"errno":2}\0'


def parsed(data: bytes, pause_s: float) -> list[int]:
    client = OldClient()
    client.sock.close()
    return [client.parse(read)["errno"] for read in received_in_time(data, pause_s)]


def test_a_frame_is_a_frame() -> None:
    assert parsed(ONE, 0.0) == parsed(ONE, 9.0) == [1]


def test_frames_sent_together_are_glued() -> None:
    for data, pause_s in ((ONE + TWO, LATE_S / 2), (ONE + TWO + ONE, LATE_S * 1.9), (ONE + TWO * 30, LATE_S * 10)):
        with pytest.raises(OldClientDied, match="glued"):
            parsed(data, pause_s)


def test_frames_that_waited_for_this_process_are_not() -> None:
    assert parsed(ONE + TWO, LATE_S) == [1, 2]
    assert parsed(ONE + TWO + ONE, LATE_S * 2) == [1, 2, 1]


def test_a_frame_that_is_too_long_is_cut_however_late() -> None:
    long = b'{"msg":"' + b"x" * 1100 + b'"}\0'
    for data in (long, ONE + long):
        with pytest.raises(OldClientDied):
            parsed(data, 9.0)
