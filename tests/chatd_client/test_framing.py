"""Frames are kept apart however the stream is cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd_client.errors import BadFrame
from chatd_client.link import MAX_FRAME_BYTES
from chatd_client.stream_link import Framing, LengthFraming, NulFraming

FRAMES = [b"a", b"", b"b" * 300, b"{}", b"c" * 7_000, b"d"]


@pytest.mark.parametrize("make", [NulFraming, LengthFraming])
@pytest.mark.parametrize("step", [1, 2, 3, 5, 299, 65536, 10**6])
def test_frames_arrive_as_they_were_sent(make: Callable[[], Framing], step: int) -> None:
    framing = make()
    sent = [frame for frame in FRAMES if frame]
    stream = b"".join(framing.wrap(frame) for frame in sent)
    got = [frame for at in range(0, len(stream), step) for frame in framing.split(stream[at : at + step])]
    assert got == sent


def test_what_cannot_be_a_frame_is_refused() -> None:
    for length in (0, MAX_FRAME_BYTES + 1, 2**32 - 1):
        with pytest.raises(BadFrame):
            LengthFraming().split(length.to_bytes(4, "big") + b"x")
    framing = NulFraming()
    for _ in range(MAX_FRAME_BYTES // 65536):
        assert framing.split(b"x" * 65536) == []
    with pytest.raises(BadFrame):
        framing.split(b"x")
