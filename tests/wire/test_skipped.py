"""Frames over the limit that are read past: their fp is found, and what may be skipped is bounded."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.errors import ErrorCode
from chatd.protocol import Malformed
from chatd.wire.skipped import MAX_SKIPPED_BYTES_PER_S, MAX_SKIPPED_FRAME_BYTES, FrameSkipper


def skipped(frame: bytes, step: int, skipper: FrameSkipper | None = None) -> Malformed:
    skipper = skipper or FrameSkipper()
    assert skipper.allow(len(frame))
    for at in range(0, len(frame), step):
        skipper.skip(frame[at : at + step])
    assert skipper.left == 0
    return skipper.finish(6144)


TEXT = 'he said: {"fp":"not this one"} \\ "fp": "nor this" é😀' * 300
FRAMES: list[tuple[str, bytes, str]] = [
    ("after the text", json.dumps({"type": 2, "dataContent": TEXT, "from": "a", "fp": "f-1"}).encode(), "f-1"),
    ("before the text", json.dumps({"fp": "f-1", "type": 2, "dataContent": TEXT}).encode(), "f-1"),
    ("among texts", json.dumps({"dataContent": TEXT, "fp": "f-1", "x": TEXT}, ensure_ascii=False).encode(), "f-1"),
    ("with blanks", b'{"dataContent":"%b", "fp" :\n"f-1" }' % (b"x" * 9000), "f-1"),
    ("with escapes", b'{"dataContent":"%b","fp":"\\u00e9\\"\\\\"}' % (b"x" * 9000), 'é"\\'),
    ("none", json.dumps({"type": 2, "dataContent": TEXT}).encode(), ""),
    ("null", b'{"dataContent":"%b","fp":null}' % (b"x" * 9000), ""),
    ("a number", b'{"dataContent":"%b","fp":17}' % (b"x" * 9000), ""),
    ("bad UTF-8", b'{"dataContent":"%b","fp":"\xff"}' % (b"x" * 9000), ""),
    ("not JSON", b"\xff" * 9000, ""),
]


@pytest.mark.parametrize("step", [1, 7, 1000, 4096, 10**6])
@pytest.mark.parametrize(("frame", "fp"), [row[1:] for row in FRAMES], ids=[row[0] for row in FRAMES])
def test_the_fp_is_found_however_the_frame_arrives(frame: bytes, fp: str, step: int) -> None:
    found = skipped(frame, step)
    assert (found.code, found.fp) == (ErrorCode.TOO_LONG, fp)
    assert "6144 bytes" in found.text


@given(st.text(max_size=300), st.text(max_size=60), st.integers(0, 9000), st.integers(1, 9000))
def test_any_fp_is_found_and_no_text_is_taken_for_one(text: str, fp: str, filling: int, step: int) -> None:
    for raw in (True, False):
        content = {"dataContent": text + "x" * filling + text, "from": "fp", "fp": fp}
        assert skipped(json.dumps(content, ensure_ascii=raw).encode(), step).fp == fp


def test_frames_after_each_other_are_not_mixed_up() -> None:
    skipper = FrameSkipper()
    assert [skipped(b'{"fp":"%d"}' % number, 3, skipper).fp for number in range(3)] == ["0", "1", "2"]
    assert skipped(b'{"dataContent":"x"}', 3, skipper).fp == ""


def test_what_may_be_skipped_is_bounded_per_frame_and_per_second() -> None:
    assert not FrameSkipper().allow(MAX_SKIPPED_FRAME_BYTES + 1)
    skipper = FrameSkipper()
    for _ in range(MAX_SKIPPED_BYTES_PER_S // 10_000):
        skipped(b"x" * 10_000, 10_000, skipper)
    assert not skipper.allow(10_000)
    skipper.next_second()
    assert skipper.allow(10_000)


def test_memory_is_bounded_and_time_is_linear() -> None:
    def seconds(size: int) -> float:
        skipper = FrameSkipper()
        began = time.process_time()
        assert skipper.allow(size)
        for _ in range(size):
            skipper.skip(b'"')
            assert skipper.buffered_bytes <= 4096
        return time.process_time() - began

    small = min(seconds(15_000) for _ in range(3))
    assert seconds(240_000) < 16 * 5 * max(small, 0.0005)
